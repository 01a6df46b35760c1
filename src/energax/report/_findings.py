"""What speaks against the results: shown before anything that rests on them."""

from typing import Literal, NamedTuple

import numpy as np

from energax.report._report import Report
from energax.report._wording import contains, count, estimator, nats, percent, plural, sentence

_FEW_DRAWS = 50
"""Fewer draws a chain, and R-hat of perfect draws of many coordinates exceeds 1.01 by chance."""


class Finding(NamedTuple):
    """One thing a reader must know."""

    kind: Literal["problem", "note"]
    """A `problem` means that a number below is not a result; a `note` that it needs care."""
    title: str
    text: str


def findings(report: Report) -> list[Finding]:
    """Problems first, then notes."""
    found = [
        *_source(report),
        *_training(report),
        *_log_z(report),
        *_rows(report),
        *_gain(report),
        *_draws(report),
    ]
    return sorted(found, key=lambda finding: finding.kind != "problem")


def _source(report: Report) -> list[Finding]:
    if not report.rows_problem:
        return []
    return [Finding("problem", "Test rows may have been trained on", sentence(report.rows_problem))]


def _training(report: Report) -> list[Finding]:
    message = sentence(report.fit_message or report.fit_status)
    if report.fit_status == "unknown":
        return [
            Finding("note", "Whether training finished is not known", sentence(report.fit_message))
        ]
    if report.fit_status != "finished":
        return [Finding("problem", "Training did not finish", message)]
    found = []
    if report.fit_alarms:
        text = " ".join(sentence(alarm.get("text", "")) for alarm in report.fit_alarms)
        found.append(Finding("note", "Training went back to a healthy state", text))
    # `fit` puts what an objective complains of after the number of steps and the alarms.
    complaint = report.fit_message.partition("; ")[2]
    for alarm in report.fit_alarms:
        complaint = complaint.removeprefix(alarm.get("text", "")).removeprefix("; ")
    if complaint:
        found.append(Finding("note", "Training ended with a complaint", sentence(complaint)))
    return found


def _log_z(report: Report) -> list[Finding]:
    estimate, exact = report.evaluation.log_partition, report.evaluation.exact_log_partition
    found = []
    if not estimate.trusted and exact is not None and exact.trusted:
        text = sentence(estimate.reason) + " Likelihoods on this page rest on the exact value."
        found.append(Finding("note", "The estimated log Z is not trusted", text))
    elif not report.best_log_partition.trusted:
        text = sentence(report.best_log_partition.reason)
        text += " No likelihood on this page is to be relied on."
        found.append(Finding("problem", "log Z is not trusted", text))
    if exact is not None and estimate.trusted and not contains(estimate, exact):
        text = (
            f"The {percent(estimate.level)} interval of the estimate does not hold the exact value."
            " Likelihoods on this page rest on the exact value."
        )
        found.append(Finding("note", f"{estimator(estimate)} missed the exact log Z", text))
    return found


def _rows(report: Report) -> list[Finding]:
    found = []
    for name in ("train", "test"):
        energies = np.asarray(report.evaluation.energies[name])
        broken, excluded = int(np.isnan(energies).sum()), int(np.isposinf(energies).sum())
        if broken:
            text = f"{count(broken)} of {count(energies.size)} have an energy that is no number."
            found.append(Finding("problem", f"The model fails on {name} rows", text))
        if excluded:
            text = (
                f"{count(excluded)} of {count(energies.size)} have infinite energy, so their mean"
                " log-likelihood is minus infinity."
            )
            found.append(Finding("problem", f"The model excludes {name} rows", text))
    return found


def _gain(report: Report) -> list[Finding]:
    test, baseline = report.evaluation.test, report.evaluation.baseline_test
    numbers = f"{nats(test.mean)} nats against {nats(baseline.mean)}."
    if test.upper < baseline.mean:
        return [Finding("problem", "The model is worse than the baseline", numbers)]
    if test.lower <= baseline.mean:
        text = f"{numbers} The interval of log Z reaches to the baseline or below."
        return [Finding("note", "The model is not shown to beat the baseline", text)]
    return []


def _draws(report: Report) -> list[Finding]:
    draws = report.evaluation.samples
    if draws.converged:
        return []
    text = " ".join(sentence(problem) for problem in draws.problems)
    n = draws.energy.shape[1]
    if not draws.independent and n < _FEW_DRAWS:
        text += f" With {plural(n, 'draw')} a chain R-hat is coarse: perfect chains could fail too."
    text += " Likelihoods do not rest on these draws."
    return [Finding("note", "The samples have not converged", text)]
