"""The page's tables, as rows of strings."""

import numpy as np

from energax.diagnostics import Convergence
from energax.partition import LogPartition
from energax.plots import format_number
from energax.report._report import Report
from energax.report._wording import (
    DASH,
    MINUS,
    PARTS,
    WAYS,
    count,
    duration,
    interval,
    nats,
    percent,
    sentence,
)
from energax.sampling import Draws


def log_z_rows(report: Report) -> list[tuple[str, ...]]:
    """What is known of log Z: label, as estimated, and exactly where that was possible."""
    z, exact = report.evaluation.log_partition, report.evaluation.exact_log_partition
    rows: list[tuple[str, ...]] = [
        ("log Z (nats)", nats(z.value)),
        (f"{percent(z.level)} interval", interval(z.lower, z.upper)),
        ("Standard error", nats(z.std_error)),
        *(
            (PARTS[name], f"{nats(part.value)} ({interval(part.lower, part.upper)})")
            for name, part in z.parts.items()
        ),
        ("Method", z.method),
        ("Cost", z.cost or "not recorded"),
        ("Trusted", _trusted(z)),
    ]
    if exact is None:
        return rows
    column = (
        nats(exact.value),
        "none needed",
        "0",
        *[DASH] * len(z.parts),
        exact.method,
        exact.cost or "not recorded",
        _trusted(exact),
    )
    return [(*row, cell) for row, cell in zip(rows, column, strict=True)]


def annealing_rows(report: Report) -> list[tuple[str, str]]:
    """The ladder, the chains, and the health of their weights; empty if nothing was annealed."""
    z = report.evaluation.log_partition
    facts = z.diagnostics
    rows = []
    if "n_chains" in facts:
        rows.append(("Chains", count(facts["n_chains"])))
    if "n_temperatures" in facts:
        rows.append(("Temperatures", count(facts["n_temperatures"])))
    if "base" in facts:
        rows.append(("Annealed from", f"{facts['base']}: {report.evaluation.baseline}"))
    ways = {f", {way}": z.parts[n] for n, way in WAYS.items() if n in z.parts} or {"": z}
    for way, part in ways.items():
        of = part.diagnostics
        if "ess" in of:
            # The chains of a ladder are dependent: its weights count as one.
            worth = f"{of['ess']:.1f} of {count(of.get('n_sources', of['n_chains']))}"
            rows.append((f"Weights' effective number{way}", worth))
        if "largest_weight" in of:
            rows.append((f"Largest weight's share{way}", f"{100 * of['largest_weight']:.1f}%"))
        if "acceptance" in of:
            rows.append((f"Mean acceptance{way}", f"{of['acceptance']:.3f}"))
    replicas = facts.get("replicas")
    if replicas:
        rungs = f"{count(replicas['n_ladders'])} ladders of {len(replicas['betas'])}"
        rows.append(("Replica exchange", rungs))
        rows.append(("Round trips of replicas", count(replicas["round_trips"])))
        limit = format_number(replicas["rhat_limit"], 2)
        rows.append(("Replicas' largest R-hat", f"{replicas['rhat']:.2f}, by chance below {limit}"))
    return rows


def sample_rows(report: Report) -> list[tuple[str, str]]:
    """How the samples were made and how well the chains mixed."""
    draws = report.evaluation.samples
    rows = [("Made by", draws.method)]
    if draws.independent:
        rows.append(("Draws", f"{count(draws.energy.size)}, exact and independent"))
        return rows
    rows.append(("Chains", count(draws.n_chains)))
    rows.append(("Draws", f"{count(draws.energy.size)}, {draws.energy.shape[1]} a chain"))
    rows.append(("Chains start from", "noise: draws of the space's base distribution"))
    if report.sample_steps is not None:
        rows.append(("Steps thrown away first", count(report.sample_steps)))
    if report.shown_samples is not None:
        rows.append(("Shown", "the last draw of each chain, from the first chain on"))
    rows.append(("Mean acceptance", f"{float(np.mean(draws.acceptance)):.3f}"))
    worst = _worst(draws)
    if worst is not None:
        rhat, ess = worst
        rows.append(("Largest R-hat", format_number(rhat, 3)))
        rows.append(("Smallest effective number of draws", format_number(ess, 0)))
    rows.append(("Converged", "yes" if draws.converged else "no"))
    return rows


def energy_rows(report: Report) -> list[tuple[str, ...]]:
    """A header, then number, mean, least and largest E of each kind of rows.

    A last column counts energies that are not finite, where there are any.
    """
    groups = {**report.evaluation.energies, "draws": np.asarray(report.evaluation.samples.energy)}
    flat = {name: np.asarray(values, np.float64).ravel() for name, values in groups.items()}
    finite = {name: values[np.isfinite(values)] for name, values in flat.items()}
    broken = any(flat[name].size > finite[name].size for name in flat)
    rows: list[tuple[str, ...]] = [
        ("Rows", "Number", "Mean", "Least", "Largest", *(["Not finite"] if broken else []))
    ]
    for name, values in finite.items():
        ends = [DASH] * 3
        if values.size:
            ends = [format_number(f, 1) for f in (values.mean(), values.min(), values.max())]
        missing = [count(flat[name].size - values.size)] if broken else []
        rows.append((name, count(flat[name].size), *ends, *missing))
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
    """How training ended."""
    return [
        ("Ended", report.fit_status),
        ("Message", report.fit_message or DASH),
        ("Time", duration(report.fit_seconds)),
        *(
            (f"Alarm {i}: {alarm.get('cause', '')}", sentence(alarm.get("text", "")))
            for i, alarm in enumerate(report.fit_alarms, 1)
        ),
    ]


def last_logged(report: Report) -> list[tuple[str, str]]:
    """The last row of the history; empty if there is none."""
    rows = []
    for name, value in (report.history[-1] if report.history else {}).items():
        if name != "seconds":
            text = f"{value:,.5g}" if np.isfinite(value) else nats(value)
            rows.append((name.replace("_", " ").capitalize(), text.replace("-", MINUS)))
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
