"""Two models on the same rows."""

from dataclasses import dataclass

import numpy as np

from energax.energies import AbstractEnergy, check_same_space
from energax.partition._estimate import LogPartition
from energax.partition._held_out import check_log_z, error_of_mean, minus_energies
from energax.spaces import State


@dataclass(frozen=True)
class LikelihoodRatio:
    """How much likelier rows are under one model than under another, in nats a row."""

    mean: float
    """Mean over rows of log p_a(x) - log p_b(x): positive if the first is better."""
    lower: float
    """Lower end, from both log Z's alone; may be `-inf`."""
    upper: float
    """Upper end, from both log Z's alone; may be `inf`."""
    row_error: float
    """Standard error of the mean over rows, of the differences row by row."""
    n_rows: int
    """How many rows."""
    trusted: bool
    """Whether both log Z's are, and the mean is a number."""
    level: float
    """The interval's nominal coverage."""


def likelihood_ratio(
    model_a: AbstractEnergy,
    model_b: AbstractEnergy,
    rows: State,
    log_z_a: LogPartition,
    log_z_b: LogPartition,
) -> LikelihoodRatio:
    """Mean log p_a(x) - log p_b(x) over rows: which of two models the data speak for.

    Two errors are kept apart. How well the models are known: the ends of both log Z's are added,
    so that the interval holds wherever both of theirs do. And how far other rows would differ:
    `row_error` is that of the *differences*, in which cancels whatever makes a row easy or hard for
    both. The first is better beyond chance if `lower` exceeds 0 by some `row_error`s.

    **Arguments:**

    - `model_a`, `model_b`: over one space.
    - `rows`: states of it, stacked on a leading axis, that neither model was trained on.
    - `log_z_a`, `log_z_b`: what `ex.log_partition` found of each, at one level.

    **Returns:** `LikelihoodRatio`; a row that one model excludes makes the mean infinite.

    **Raises:** `ValueError` if the spaces or levels differ, rows are not states of the space, or
    both models exclude one: a ratio of zeros is none.

    ```python
    import energax as ex

    strong, weak = ex.Ising(6, 0.4), ex.Ising(6, 0.1)
    rows = ex.exact.draw_enumerated(strong, 100, key=ex.key(0))
    found = ex.likelihood_ratio(
        strong,
        weak,
        rows,
        ex.log_partition(strong, key=ex.key(1)),
        ex.log_partition(weak, key=ex.key(2)),
    )
    found.mean, found.row_error
    ```

    Source: Q. Vuong, "Likelihood ratio tests for model selection and non-nested hypotheses" (1989),
    equation 4.2 for the variance of the differences.
    """
    check_log_z(log_z_a, "log_z_a")
    check_log_z(log_z_b, "log_z_b")
    check_same_space(model_a, model_b)
    levels = {z.level for z in (log_z_a, log_z_b) if not z.exact} or {log_z_a.level}
    if len(levels) > 1:
        raise ValueError(
            f"both log Z's must have one level, got {log_z_a.level:g} and {log_z_b.level:g}"
        )
    minus_a, minus_b = (minus_energies(model, rows, "rows") for model in (model_a, model_b))
    neither = int((np.isneginf(minus_a) & np.isneginf(minus_b)).sum())
    if neither:
        raise ValueError(
            f"{neither} of {minus_a.size} rows are excluded by both models, whose ratio is that of"
            " zeros: leave these rows out"
        )
    with np.errstate(invalid="ignore"):
        each = minus_a - minus_b
        mean = float(each.mean())
    return LikelihoodRatio(
        mean=mean - log_z_a.value + log_z_b.value,
        lower=mean - log_z_a.upper + log_z_b.lower,
        upper=mean - log_z_a.lower + log_z_b.upper,
        row_error=error_of_mean(each),
        n_rows=int(each.size),
        trusted=log_z_a.trusted and log_z_b.trusted and not np.isnan(mean),
        level=levels.pop(),
    )
