"""log Z: exact when it can be, estimated when it cannot, and what follows from it."""

from energax.partition._annealed import anneal as anneal
from energax.partition._annealed import log_partition_annealed as log_partition_annealed
from energax.partition._bases import base_rates as base_rates
from energax.partition._bases import default_base as default_base
from energax.partition._estimate import LogPartition as LogPartition
from energax.partition._evaluation import Evaluation as Evaluation
from energax.partition._evaluation import evaluate as evaluate
from energax.partition._held_out import LogLikelihood as LogLikelihood
from energax.partition._held_out import energies_of as energies_of
from energax.partition._held_out import log_likelihood as log_likelihood
from energax.partition._log_partition import AFFORDABLE as AFFORDABLE
from energax.partition._log_partition import exact_method as exact_method
from energax.partition._log_partition import log_partition as log_partition
