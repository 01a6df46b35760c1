"""A trained model's results as one page that needs nothing else."""

from energax.report._report import Report as Report
from energax.report._write import write_report as write_report
