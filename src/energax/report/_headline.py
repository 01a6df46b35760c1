"""The answer, before anything else."""

import math
from typing import Any

from energax.plots import format_number
from energax.report._report import Report
from energax.report._wording import interval, nats, percent, plural, sentence


def headline(report: Report) -> dict[str, Any]:
    """The test log-likelihood and the three numbers that put it in its place."""
    evaluation, log_z = report.evaluation, report.best_log_partition
    test, train, baseline = evaluation.test, evaluation.train, evaluation.baseline_test
    if log_z.exact and log_z.trusted:
        certainty = "no interval: log Z is exact"
    else:
        certainty = (
            f"{percent(log_z.level)} interval, from log Z: {interval(test.lower, test.upper)}"
        )
    gain = test.mean - baseline.mean
    gain_note = f"{evaluation.baseline}: {nats(baseline.mean)} nats"
    if not log_z.exact:
        ends = interval(test.lower - baseline.mean, test.upper - baseline.mean)
        gain_note = f"{percent(log_z.level)} interval {ends}. {sentence(gain_note)}"
    return {
        "value": nats(test.mean),
        "trusted": test.trusted,
        "certainty": certainty,
        "spread": (
            f"standard error over {plural(test.n_rows, 'test row')}: {nats(test.row_error)}"
        ),
        "reason": "" if test.trusted else sentence(log_z.reason),
        "tiles": [
            {
                "label": "Gain over the baseline",
                "value": nats(gain, sign=True),
                "unit": "nats a row",
                "note": sentence(gain_note),
            },
            {
                "label": "Bits per dimension",
                "value": format_number(test.bits_per_dimension, 4),
                "unit": "bits",
                "note": f"Baseline: {format_number(baseline.bits_per_dimension, 4)}."
                f" A row has {plural(report.n_entries, 'dimension')}.",
            },
            {
                "label": "Train\N{EN DASH}test gap",
                "value": nats(train.mean - test.mean, sign=True),
                "unit": "nats a row",
                "note": _gap(report),
            },
        ],
    }


def _gap(report: Report) -> str:
    test, train = report.evaluation.test, report.evaluation.train
    gap = train.mean - test.mean
    error = math.hypot(train.row_error, test.row_error)
    start = f"Training rows: {nats(train.mean)} nats. log Z cancels in the gap."
    if not (math.isfinite(gap) and math.isfinite(error) and error > 0):
        return start
    if abs(gap) < 2 * error:
        verdict = "within what chance gives"
    elif gap > 0:
        verdict = "more than chance gives: the model knows the rows it saw better"
    else:
        verdict = "more than chance gives: the test rows are easier"
    return f"{start} It is {abs(gap) / error:.1f} standard errors, {verdict}."
