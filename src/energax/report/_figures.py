"""The page's figures, drawn twice: for a wide page and for a narrow one."""

import base64
import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from energax.partition import LogPartition
from energax.plots import (
    annealing_path,
    annealing_weights,
    energy_histograms,
    filters,
    learning_curves,
    row_sheet,
    sample_sheet,
)
from energax.report._report import Report
from energax.report._wording import MINUS, count, interval, nats, percent

_WIDE, _NARROW = 7.5, 3.7
"""Inches: the width of a page, and of a telephone's."""
_DPI = 200
_N_ROWS, _N_SAMPLES, _N_FILTERS = 16, 36, 64


class Picture(NamedTuple):
    """A figure as `data:` addresses of PNG files."""

    wide: str
    narrow: str
    alt: str
    caption: str


def pictures(report: Report) -> dict[str, Picture]:
    """Every figure the record has the numbers for, by the name the template knows."""
    evaluation, shape = report.evaluation, report.image_shape
    found: dict[str, Picture] = {}
    if _has_curves(report):
        found["learning"] = _picture(
            lambda width: learning_curves(report.history, width=width),
            "Curves of the training measures against the step.",
            "Each point is the mean over the steps since the last. A validation gap that keeps"
            " growing means overfitting.",
        )
    z, exact = evaluation.log_partition, evaluation.exact_log_partition
    weighed = z.parts.get("forward", z)
    if "path" in weighed.diagnostics:
        found["path"] = _picture(
            lambda width: annealing_path(z, width=width), _path_alt(weighed), _path_caption(z)
        )
    if np.isfinite(np.asarray(weighed.diagnostics.get("log_weights", ()), float)).sum() >= 2:
        found["weights"] = _picture(
            lambda width: annealing_weights(weighed, exact, width=width),
            _weights_alt(weighed, exact),
            "Log weights of the chains that went up from the base. log Z is the logarithm of the"
            " mean weight. The narrower the histogram, the safer the estimate.",
        )
    rbm = report.rbm
    if rbm is not None:
        n = rbm.n_hidden
        shown = f"all {count(n)}" if n <= _N_FILTERS else f"{_N_FILTERS} of {count(n)}"
        found["filters"] = _picture(
            lambda width: filters(np.asarray(rbm.weights), shape, n=_N_FILTERS, width=width),
            f"Weights of {shown} hidden units, one scale, white at zero.",
            f"Weights of {shown} hidden units, the largest norm first. Red: an entry that speaks"
            " for the unit. Blue: one that speaks against it.",
        )
    samples = report.shown_samples
    if samples is not None:
        verdict = "converged" if evaluation.samples.converged else "not converged"
        n = min(_N_SAMPLES, len(samples))
        found["samples"] = _picture(
            lambda width: sample_sheet(
                samples,
                report.test_rows,
                shape,
                n=_N_SAMPLES,
                captions=("Test rows", f"Draws of the model ({verdict})"),
                width=width,
            ),
            f"{min(_N_SAMPLES, len(report.test_rows))} test rows beside {n} draws of the model.",
            "The first test rows and one draw from each of the first chains. None was picked.",
        )
    energies = {**evaluation.energies, "draws": np.asarray(evaluation.samples.energy)}
    found["energies"] = _picture(
        lambda width: energy_histograms(energies, width=width),
        "Histograms of E. " + " ".join(_mean_energy(name, e) for name, e in energies.items()),
        "Lower E is likelier. Test rows should lie where training rows lie, draws of a good model"
        " too, and noise far to the right.",
    )
    found |= _extremes(report)
    return found


def _extremes(report: Report) -> dict[str, Picture]:
    energies, shape = report.evaluation.energies["test"], report.image_shape
    hardest = report.evaluation.hardest
    # Energies that are no numbers are neither hard nor easy.
    hardest = hardest[~np.isnan(energies[hardest])]
    row_numbers = report.test_numbers
    found = {}
    for name, order in (("hardest", hardest), ("easiest", hardest[::-1])):
        if not order.size:
            continue
        chosen = order[:_N_ROWS]
        named = chosen if row_numbers is None else np.asarray(row_numbers)[chosen]
        numbers = ", ".join(str(number) for number in named[:3])
        first, last = float(energies[chosen[0]]), float(energies[chosen[-1]])
        word = "least" if name == "hardest" else "most"
        found[name] = _picture(
            lambda width, chosen=chosen: row_sheet(
                report.test_rows[chosen], energies[chosen], shape, n=_N_ROWS, width=width
            ),
            f"The {len(chosen)} {word} likely test rows: E is {interval(first, last)} nats.",
            f"The {word} likely test rows, with E in nats. The first are rows {numbers} of"
            f" {report.test_source}, counted from 0.",
        )
    return found


def _picture(draw: Callable[[float], Any], alt: str, caption: str) -> Picture:
    return Picture(_png(draw(_WIDE)), _png(draw(_NARROW)), alt, caption)


def _png(figure: Any) -> str:
    file = io.BytesIO()
    # matplotlib's version would make equal pages differ by machine.
    figure.savefig(file, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _has_curves(report: Report) -> bool:
    skipped = ("step", "epoch", "seconds")
    return any(
        np.isfinite(value)
        for row in report.history
        for name, value in row.items()
        if name not in skipped
    )


def _weights_alt(z: LogPartition, exact: LogPartition | None) -> str:
    text = (
        f"Histogram of {count(z.diagnostics['log_weights'].size)} log weights. log Z is estimated"
        f" at {nats(z.value)} nats, {percent(z.level)} interval {interval(z.lower, z.upper)}."
    )
    return text if exact is None else f"{text} The exact value is {nats(exact.value)}."


def _path_alt(z: LogPartition) -> str:
    path = z.diagnostics["path"]
    slopes = np.asarray(path["gain"]) / np.diff(path["beta"])
    return (
        f"Along {count(z.diagnostics['n_temperatures'])} temperatures the mean of {MINUS}dE/dbeta"
        f" goes from {nats(slopes[0])} to {nats(slopes[-1])} nats, and the spread of the log"
        f" weights ends at {nats(path['spread'][-1])} nats."
    )


def _path_caption(z: LogPartition) -> str:
    text = (
        "From the base (beta 0) to the model (beta 1). The area under the first curve is log Z less"
        " that of the base. The less the weights spread, the safer the estimate."
    )
    return f"{text} Where up and down part, chains lag behind." if z.parts else text


def _mean_energy(name: str, energies: Any) -> str:
    values = np.asarray(energies, np.float64)
    values = values[np.isfinite(values)]
    return f"{name.capitalize()}: mean {nats(values.mean())}." if values.size else ""
