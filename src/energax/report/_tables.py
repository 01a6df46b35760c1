"""The page's tables, as rows of strings."""

import numpy as np

from energax.diagnostics import Convergence
from energax.partition import LogPartition
from energax.plots import format_number
from energax.report._report import Report
from energax.report._wording import (
    DASH,
    count,
    duration,
    interval,
    nats,
    percent,
    sentence,
)
from energax.sampling import Draws


def log_z_rows(report: Report) -> list[tuple[str, str, str]]:
    """What is known of log Z: label, by annealing, exactly."""
    z, exact = report.evaluation.log_partition, report.evaluation.exact_log_partition
    seconds, facts = report.evaluation.seconds, z.diagnostics
    rows = [
        ("log Z (nats)", nats(z.value), "" if exact is None else nats(exact.value)),
        (f"{percent(z.level)} interval", interval(z.lower, z.upper), DASH),
        ("Standard error", nats(z.std_error), DASH),
        ("Method", z.method, "" if exact is None else exact.method),
    ]
    if "n_chains" in facts:
        rows.append(("Chains", count(facts["n_chains"]), DASH))
    if "n_temperatures" in facts:
        rows.append(("Temperatures", count(facts["n_temperatures"]), DASH))
    if "base" in facts:
        base = f"{facts['base']}: {report.evaluation.baseline}"
        rows.append(("Annealed from", base, DASH))
    if "ess" in facts:
        worth = f"{facts['ess']:.1f} of {count(facts['n_chains'])}"
        rows.append(("Weights' effective number", worth, DASH))
    if "largest_weight" in facts:
        rows.append(("Largest weight's share", f"{100 * facts['largest_weight']:.1f}%", DASH))
    if "acceptance" in facts:
        rows.append(("Mean acceptance", f"{facts['acceptance']:.3f}", DASH))
    rows.append(("Trusted", _trusted(z), "" if exact is None else _trusted(exact)))
    rows.append(("Time", duration(seconds.get("annealing")), duration(seconds.get("enumeration"))))
    return rows


def sample_rows(report: Report) -> list[tuple[str, str]]:
    """How the samples were made and how well the chains mixed."""
    draws = report.evaluation.samples
    shown = report.shown_samples
    rows = [("Made by", draws.method)]
    if draws.independent:
        rows.append(("Draws", f"{count(draws.energy.size)}, exact and independent"))
        return rows
    rows.append(("Chains", count(draws.n_chains)))
    rows.append(("Draws", f"{count(draws.energy.size)}, {draws.energy.shape[1]} a chain"))
    rows.append(("Chains start from", "noise: draws of the space's base distribution"))
    if report.sample_steps is not None:
        rows.append(("Steps before the first draw is kept", f"{count(report.sample_steps)}"))
    if shown is not None:
        rows.append(("Shown", "the last draw of each of the first chains"))
    rows.append(("Mean acceptance", f"{float(np.mean(draws.acceptance)):.3f}"))
    worst = _worst(draws)
    if worst is not None:
        rhat, ess = worst
        rows.append(("Largest R-hat", format_number(rhat, 3)))
        rows.append(("Smallest effective number of draws", format_number(ess, 0)))
    rows.append(("Converged", "yes" if draws.converged else "no"))
    return rows


def energy_rows(report: Report) -> list[tuple[str, ...]]:
    """Kind, rows, mean, least and largest E of each kind of rows."""
    groups = {**report.evaluation.energies, "draws": np.asarray(report.evaluation.samples.energy)}
    rows = []
    for name, values in groups.items():
        values = np.asarray(values, np.float64).ravel()
        finite = values[np.isfinite(values)]
        ends = (
            [format_number(f, 1) for f in (finite.mean(), finite.min(), finite.max())]
            if finite.size
            else [DASH] * 3
        )
        rows.append((name, count(values.size), *ends, count(values.size - finite.size)))
    return rows


def data_rows(report: Report) -> list[tuple[str, str]]:
    """The data's sizes."""
    rows = [
        ("Training rows", count(len(report.train_rows))),
        ("Test rows", count(len(report.test_rows))),
        ("Entries of a row", count(report.n_entries)),
    ]
    if report.image_shape is not None:
        rows.append(("Shown as images of", " x ".join(map(str, report.image_shape))))
    return rows


def training_rows(report: Report) -> list[tuple[str, str]]:
    """How training ended, and what was logged last."""
    rows = [
        ("Ended", report.fit_status),
        ("Message", report.fit_message or DASH),
        ("Time", duration(report.fit_seconds)),
    ]
    for name, value in (report.history[-1] if report.history else {}).items():
        if name == "seconds":
            continue
        label = name.replace("_", " ").capitalize() + ("" if name == "step" else ", last logged")
        text = f"{value:,.5g}" if np.isfinite(value) else nats(value)
        rows.append((label, text.replace("-", "\N{MINUS SIGN}")))
    return rows


def _trusted(z: LogPartition) -> str:
    return "yes" if z.trusted else f"no. {sentence(z.reason)}"


def _worst(draws: Draws) -> tuple[float, float] | None:
    """The largest R-hat and smallest effective number over coordinates and energy."""
    if draws.energy.shape[1] < 4 or not np.isfinite(np.asarray(draws.energy)).all():
        return None
    parts: list[Convergence] = [draws.energy_diagnostics]
    parts += draws.diagnostics.values() if isinstance(draws.x, dict) else [draws.diagnostics]
    rhat = np.concatenate([np.ravel(part.rhat) for part in parts])
    ess = np.concatenate([np.ravel(part.ess_bulk) for part in parts])
    if np.isnan(rhat).all():
        return None
    return float(np.nanmax(rhat)), float(np.nanmin(ess))
