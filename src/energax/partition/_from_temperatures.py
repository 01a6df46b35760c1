"""log Z from draws at several temperatures: MBAR, bridges, thermodynamic integration."""

from typing import Any

import numpy as np
from jaxtyping import Array, Key

from energax.diagnostics import check_level
from energax.energies import AbstractEnergy, AbstractTractable
from energax.partition._estimate import LogPartition, timed
from energax.partition._multistate import Multistate, multistate
from energax.partition._tempered import TemperedRun, tempered_run


@timed
def log_partition_mbar(
    energy: AbstractEnergy,
    base: AbstractTractable,
    *,
    key: Key[Array, ""],
    level: float = 0.95,
    **options: Any,
) -> LogPartition:
    """log Z from all draws of replica exchange together, each weighed on every rung.

    The multistate Bennett acceptance ratio: of all estimates from these draws it has the smallest
    variance (M. Shirts and J. Chodera, 2008). Errors come from independent ladders. It holds if
    the replicas have mixed, which is checked.

    **Arguments:** `options` as in `tempered_run`.

    **Raises:** `ValueError` as `tempered_run`.

    ```python
    import energax as ex
    from energax.partition import log_partition_mbar

    ising = ex.Ising(6, 0.4)
    log_partition_mbar(ising, ex.Uniform(ising.space), key=ex.key(0)).summary
    ```
    """
    check_level(level)
    return mbar_of(tempered_run(energy, base, key=key, **options), level=level)


@timed
def log_partition_bridge(
    energy: AbstractEnergy,
    base: AbstractTractable,
    *,
    key: Key[Array, ""],
    level: float = 0.95,
    **options: Any,
) -> LogPartition:
    """log Z by bridge sampling from each rung of replica exchange to the next.

    With `n_replicas=2` it is one bridge between the base and the model (X. Meng and W. Wong,
    "Simulating ratios of normalizing constants via a simple identity", 1996, with the optimal
    bridge, which is C. Bennett's acceptance ratio).

    **Arguments:** `options` as in `tempered_run`.

    **Raises:** `ValueError` as `tempered_run`.

    ```python
    import energax as ex
    from energax.partition import log_partition_bridge

    ising = ex.Ising(6, 0.4)
    log_partition_bridge(ising, ex.Uniform(ising.space), key=ex.key(0), n_replicas=2).summary
    ```
    """
    check_level(level)
    run = tempered_run(energy, base, key=key, **options)
    n_rungs = len(run.betas)
    parts = [_solved(run, [k, k + 1]) for k in range(n_rungs - 1)]
    value = sum(part.log_z[1] for part in parts)
    influence = sum(part.influence[:, 1] for part in parts)
    together = Multistate(np.array([0.0, value]), np.stack([0 * influence, influence], 1))
    return _estimate(run, together, f"bridge sampling over {n_rungs} rungs", level)


@timed
def log_partition_thermodynamic(
    energy: AbstractEnergy,
    base: AbstractTractable,
    *,
    key: Key[Array, ""],
    level: float = 0.95,
    **options: Any,
) -> LogPartition:
    """log Z by integrating the mean of -dE/dbeta over the rungs of replica exchange.

        log Z = log Z_base + integral from 0 to 1 of E_beta[-dE_beta(x)/d beta] d beta

    The mean's own slope in beta is known, the variance of -dE/dbeta, so the integral is that of a
    cubic in each gap; how far the trapezoid rule is from it, a bound on what the rungs miss, is
    added to both sides of the interval, and shrinks with more replicas.

    **Arguments:** `options` as in `tempered_run`; 16 replicas if nothing is said.

    **Raises:** `ValueError` as `tempered_run`.

    ```python
    import energax as ex
    from energax.partition import log_partition_thermodynamic

    ising = ex.Ising(6, 0.4)
    log_partition_thermodynamic(ising, ex.Uniform(ising.space), key=ex.key(0), n_replicas=4).summary
    ```

    Source: A. Gelman and X. Meng, "Simulating normalizing constants: from importance sampling to
    bridge sampling to path sampling" (1998), section 2.3.
    """
    from scipy.special import stdtrit  # takes a while to import: only who needs it pays

    check_level(level)
    options.setdefault("n_replicas", 16)
    run = tempered_run(energy, base, key=key, **options)
    by_ladder = run.slopes.mean(1)
    method = f"thermodynamic integration over {len(run.betas)} rungs"
    facts = facts_of(run)
    problems = run.problems
    if not np.isfinite(by_ladder).all():
        problems = ["E or its slope in beta is not finite somewhere on the ladder: use annealing"]
        return LogPartition(
            np.nan, -np.inf, np.inf, np.inf, False, method, False, problems[0], level, facts
        )

    gaps = np.diff(run.betas)

    def integral(means: np.ndarray, steepness: np.ndarray) -> tuple[float, float]:
        """Of cubics that meet means and their slopes, and the trapezoid rule's."""
        trapezoid = (gaps * (means[1:] + means[:-1])).sum() / 2
        return trapezoid - (gaps**2 * np.diff(steepness)).sum() / 12, trapezoid

    spread = run.slopes.reshape(-1, len(run.betas)).var(0)
    steepness = spread + run.bends.mean((0, 1))
    # Of each ladder about the common mean, so that the error holds that of the variance too.
    around = ((run.slopes - by_ladder.mean(0)) ** 2 + run.bends).mean(1)
    each = np.array([integral(*one)[0] for one in zip(by_ladder, around, strict=True)])
    means = by_ladder.mean(0)
    rest, coarse = integral(means, steepness)
    off = abs(rest - coarse)
    std_error = float(each.std(ddof=1) / np.sqrt(len(each)))
    facts |= {"discretisation": off}
    value = run.base_log_normaliser + rest
    reach = float(stdtrit(len(each) - 1, 0.5 + level / 2)) * std_error + off
    return LogPartition(
        value,
        value - reach,
        value + reach,
        float(np.hypot(std_error, off)),
        False,
        method,
        not problems,
        "; ".join(problems),
        level,
        facts,
    )


def mbar_of(run: TemperedRun, *, level: float = 0.95) -> LogPartition:
    """`log_partition_mbar` of a run already made."""
    n_rungs = len(run.betas)
    found = _solved(run, list(range(n_rungs)))
    return _estimate(run, found, f"MBAR over {n_rungs} rungs", level)


def facts_of(run: TemperedRun) -> dict[str, Any]:
    """What replica exchange measured."""
    n_ladders, n_draws = run.energy.shape
    rhat, limit = run.rhat
    return {
        "n_ladders": n_ladders,
        "n_draws": n_draws,
        "n_steps": run.n_steps,
        "betas": run.betas,
        "swap_rates": run.report.swap_rates,
        "barrier": float(run.report.barrier[-1]),
        "round_trips": int(run.report.round_trips.sum()),
        "rhat": rhat,
        "rhat_limit": limit,
        "slopes": run.slopes.mean((0, 1)),
    }


def _solved(run: TemperedRun, rungs: list[int]) -> Multistate:
    n_ladders, n_draws = run.energy.shape
    part = run.log_ratios[:, :, rungs][..., rungs]
    by_rung = np.moveaxis(part, 2, 0).reshape(-1, len(rungs))
    counts = np.full(len(rungs), n_ladders * n_draws)
    sources = np.tile(np.repeat(np.arange(n_ladders), n_draws), len(rungs))
    if np.isnan(by_rung).any() or not np.isfinite(by_rung.max(1)).all():
        nothing = np.full((n_ladders, len(rungs)), np.nan)
        return Multistate(np.full(len(rungs), np.nan), nothing)
    return multistate(by_rung, counts, sources)


def _estimate(run: TemperedRun, found: Multistate, method: str, level: float) -> LogPartition:
    from scipy.special import stdtrit  # takes a while to import: only who needs it pays

    value = run.base_log_normaliser + float(found.log_z[-1])
    std_error = float(found.std_error[-1])
    reach = float(stdtrit(max(run.n_ladders - 1, 1), 0.5 + level / 2)) * std_error
    problems = run.problems
    if not np.isfinite(value):
        problems = problems or ["E is not finite somewhere on the ladder: look at E there"]
        std_error = reach = np.inf
    return LogPartition(
        value,
        value - reach if np.isfinite(value) else -np.inf,
        value + reach if np.isfinite(value) else np.inf,
        std_error,
        False,
        method,
        not problems,
        "; ".join(problems),
        level,
        facts_of(run),
    )
