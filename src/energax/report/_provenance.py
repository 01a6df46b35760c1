"""Where every number comes from."""

from typing import NamedTuple

from energax.report._report import Report
from energax.report._wording import DASH, MINUS, count, duration, plural, seed_in


class Source(NamedTuple):
    """How one quantity was made."""

    quantity: str
    method: str
    size: str = DASH
    time: str = DASH
    seed: str = DASH


def provenance(report: Report) -> list[Source]:
    """Method, sizes, time and seed of every number on the page."""
    return [_parameters(report), *_log_z(report), *_likelihoods(report), *_draws(report)]


def _parameters(report: Report) -> Source:
    steps = report.history[-1].get("step") if report.history else None
    size = plural(len(report.train_rows), "training row")
    objective = report.settings.get("objective")
    described = "see the settings" if objective is None else f"objective {objective}"
    return Source(
        "Parameters",
        f"training; {described}",
        size if steps is None else f"{size}, {plural(int(steps), 'step')}",
        duration(report.fit_seconds),
        seed_in(report.settings),
    )


def _log_z(report: Report) -> list[Source]:
    evaluation = report.evaluation
    z, exact = evaluation.log_partition, evaluation.exact_log_partition
    sizes = [
        f"{count(z.diagnostics[name])} {label}"
        for name, label in (("n_chains", "chains"), ("n_temperatures", "temperatures"))
        if name in z.diagnostics
    ]
    seed = seed_in(report.environment)
    size = ", ".join(sizes) or DASH
    found = [Source("log Z", z.method, size, duration(z.diagnostics.get("seconds")), seed)]
    if exact is not None:
        n_states = exact.diagnostics.get("n_states")
        size = DASH if n_states is None else plural(n_states, "state")
        time = duration(exact.diagnostics.get("seconds"))
        found.append(Source("log Z, exact", exact.method, size, time, "none needed"))
    return found


def _likelihoods(report: Report) -> list[Source]:
    evaluation, best = report.evaluation, report.best_log_partition
    known = "exact" if best.exact else "bracketed" if best.parts else "annealed"
    scored = f"mean of {MINUS}E(x) {MINUS} log Z, with log Z {known}"
    if not best.exact:
        scored += "; its interval is log Z's, turned round"
    test = plural(evaluation.test.n_rows, "test row")
    return [
        Source("Test log-likelihood", scored, test),
        Source("Training log-likelihood", scored, plural(evaluation.train.n_rows, "training row")),
        Source(
            "Standard errors over rows",
            f"standard deviation of {MINUS}E(x) over the rows, divided by the root of their number",
            test,
        ),
        Source("Baseline", f"{evaluation.baseline}, fitted to the training rows; its Z is 1", test),
        Source(
            "Bits per dimension",
            f"{MINUS}log-likelihood / log 2, divided by the entries of a row",
            plural(report.n_entries, "entry", "entries"),
        ),
    ]


def _draws(report: Report) -> list[Source]:
    draws, seed = report.evaluation.samples, seed_in(report.environment)
    time = duration(report.evaluation.seconds.get("samples"))
    size = plural(draws.energy.size, "draw")
    if not draws.independent:
        size = f"{plural(draws.n_chains, 'chain')} from noise, {size}"
    noise = report.evaluation.energies.get("noise")
    found = [Source("Samples", draws.method, size, time, seed)]
    if noise is not None:
        method = "draws of the space's base distribution"
        found.append(Source("Noise", method, plural(noise.size, "row"), DASH, seed))
    return found
