"""Annealed importance sampling, up from a base and down from the model."""

import math
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Key

from energax.diagnostics import check_level, log_mean_weight, pareto_k
from energax.energies import AbstractEnergy, AbstractPath, AbstractTractable, path, unfreeze
from energax.kernels import AbstractKernel
from energax.partition._anneal import Annealed, anneal, as_ladder
from energax.partition._estimate import LogPartition, timed
from energax.random import as_count
from energax.sampling import default_kernel
from energax.spaces import State

_LEAST_SHARE, _LARGEST_SHARE = 0.05, 0.25
"""Trust ends below this effective share of the chains, or above this share in one chain."""

_HEAVIEST_TAIL = 0.7
"""Above this Pareto k-hat no practical number of weights gives a dependable mean (A. Vehtari et
al., "Pareto smoothed importance sampling", 2024)."""

_NEARLY_EQUAL = 0.8
"""Weights worth more than this share of the chains have no tail to speak of, and k-hat of a few of
them is noise."""

_FEWEST_WEIGHTS = 10
"""Of fewer, the ones that happen to agree would be the ones trusted."""

_FEWEST_FOR_A_TAIL = 25
"""Of fewer weights the tail that k-hat looks at is less than five of them."""

_FEWEST_POSSIBLE = 20
"""Fewer draws that the model allows say too little of their share."""

_N_SHARE = 4096
"""Draws of the base by which is found what share of them the model excludes."""


@timed
def log_partition_annealed(
    energy: AbstractEnergy,
    base: AbstractTractable,
    *,
    key: Key[Array, ""],
    n_chains: int = 100,
    n_temperatures: int | None = None,
    betas: ArrayLike | None = None,
    kernel: AbstractKernel | None = None,
    settings: Any = None,
    level: float = 0.95,
) -> LogPartition:
    """log Z by annealing chains from `base`, whose Z is known, to the model.

    exp(log weight) is an unbiased estimate of Z / Z_base, so log Z itself is underestimated on
    average: by little where the weights agree, by much where chains missed a mode, and then the
    interval cannot know. The weights' effective number, the largest one's share and their tail
    (`pareto_k`) are checked. A weight of 0, of a chain that went where the model excludes, counts
    like any other.

    **Arguments:**

    - `base`: drawn from exactly, over the same space; for an RBM its base rates,
      `ex.Bernoulli.from_data(rows)`.
    - `n_chains`: independent weights.
    - `n_temperatures`: even steps of beta from 0 to 1; 1,000 if neither it nor `betas` is given.
    - `betas`: increasing from 0 to 1, shape (n_temperatures + 1,), instead.
    - `kernel`: one step a temperature; must be exact; chosen if `None`.
    - `settings`: the kernel's arrays at each of `betas`, with a leading axis, where they differ.

    **Raises:** `ValueError` for numbers out of range, a kernel that is not exact, or a base over
    another space.

    Source: R. Neal, "Annealed importance sampling" (2001), equations 3 to 11.
    """
    n_chains = as_count(n_chains, "n_chains", least=2)
    start, kernel, ladder = _checked(energy, base, n_temperatures, betas, settings, kernel, level)
    run = anneal(start, kernel, jnp.asarray(ladder), key, n_chains=n_chains, settings=settings)
    method = f"annealed importance sampling, {type(kernel).__name__}"
    facts = facts_of(run, ladder, base)
    return from_weights(base, run.log_weights, method, level, facts)


@timed
def log_partition_reverse(
    energy: AbstractEnergy,
    base: AbstractTractable,
    x: State,
    *,
    key: Key[Array, ""],
    n_temperatures: int | None = None,
    betas: ArrayLike | None = None,
    kernel: AbstractKernel | None = None,
    settings: Any = None,
    n_sources: int | None = None,
    level: float = 0.95,
) -> LogPartition:
    """log Z by annealing chains from draws of the model down to `base`, whose Z is known.

    exp(log weight) is an unbiased estimate of Z_base / Z, so log Z is overestimated on average,
    as annealing upwards underestimates it: `upper` of this and `lower` of that are a bracket. It
    holds *if `x` are draws of the model*, made without the chains that annealed upwards. Draws
    that leave out a mode give an upper end that is too low, and neither bound knows. Where the
    model excludes states that the base draws, their share is estimated and taken off.

    **Arguments:**

    - `x`: draws of the model, stacked on a leading axis.
    - `n_sources`: of how many independent chains they are, where they are as many from each, one
      chain after another. The means of each chain's weights are what the interval is made of.
    - the rest: as in `log_partition_annealed`; the ladder is walked from 1 to 0.

    **Raises:** `ValueError` as there, for states that are not of the model's space, and for draws
    where the base has no probability.

    ```python
    import energax as ex
    from energax.partition import log_partition_reverse

    ising = ex.Ising(6, 0.4)
    x = ex.exact.draw_enumerated(ising, 50, key=ex.key(0))
    log_partition_reverse(ising, ex.Uniform(ising.space), x, key=ex.key(1)).upper
    ```

    Source: Y. Burda, R. Grosse and R. Salakhutdinov, "Accurate and conservative estimates of MRF
    log-likelihood using reverse annealing" (2015); R. Grosse, Z. Ghahramani and R. Adams,
    "Sandwiching the marginal likelihood using bidirectional Monte Carlo" (2015).
    """
    start, kernel, ladder = _checked(energy, base, n_temperatures, betas, settings, kernel, level)
    x = energy.space.convert(jax.tree.map(np.asarray, x), name="x")
    n_chains = len(jax.tree.leaves(x)[0])
    if n_chains < 2:
        raise ValueError(f"x must hold at least 2 draws of the model, got {n_chains}")
    n_sources = as_count(n_chains if n_sources is None else n_sources, "n_sources", least=2)
    if n_chains % n_sources:
        raise ValueError(f"x must hold as many draws of each of {n_sources} chains, got {n_chains}")
    outside = ~np.isfinite(np.asarray(jax.vmap(start.base.energy)(x)))
    if outside.any():
        raise ValueError(
            f"{int(outside.sum())} of {n_chains} draws of the model lie where the base has no"
            " probability: annealing from this base would miss them. Take a base that is positive"
            " wherever the model is"
        )
    key, key_share = jax.random.split(key)
    possible = int(np.asarray(_possible(start, key_share, _N_SHARE)).sum())
    down = jnp.asarray(ladder[::-1].copy())
    if settings is not None:
        settings = jax.tree.map(lambda leaf: leaf[::-1], settings)
    run = anneal(start, kernel, down, key, x=x, settings=settings)
    method = f"reverse annealed importance sampling, {type(kernel).__name__}"
    facts = facts_of(run, ladder[::-1], base)
    found = from_weights(
        base, run.log_weights, method, level, facts, down=True, n_sources=n_sources
    )
    return found if possible == _N_SHARE else _less_excluded(found, possible)


def _less_excluded(found: LogPartition, possible: int) -> LogPartition:
    """Chains that come down never leave the model's support, and estimate the base's Z over it:
    the share of the base's draws that the model allows has to be taken off. Its interval is
    Clopper's and Pearson's (1934)."""
    from scipy.special import betaincinv  # takes a while to import: only who needs it pays

    share, rest = possible / _N_SHARE, (1 - found.level) / 2
    least = float(betaincinv(possible, _N_SHARE - possible + 1, rest)) if possible else 0.0
    most = float(betaincinv(possible + 1, _N_SHARE - possible, 1 - rest))
    facts = found.diagnostics | {"possible": share}
    if possible < _FEWEST_POSSIBLE:
        reason = (
            f"the model excludes all but {possible} of {_N_SHARE} draws of the base: choose a base"
            " nearer to the model"
        )
        return replace(found, upper=np.inf, trusted=False, reason=reason, diagnostics=facts)
    return replace(
        found,
        value=found.value + math.log(share),
        lower=found.lower + math.log(least),
        upper=found.upper + math.log(most),
        std_error=math.hypot(found.std_error, math.sqrt((1 - share) / possible)),
        diagnostics=facts,
    )


@eqx.filter_jit
def _possible(start: AbstractPath, key: Key[Array, ""], n: int) -> Array:
    """Which of `n` draws of the base the model allows."""
    model = start.at(1.0)

    def one(key):
        return model.energy(start.base.draw(key)) < jnp.inf

    return jax.lax.map(one, jax.random.split(key, n), batch_size=256)


def _checked(
    energy: AbstractEnergy,
    base: AbstractTractable,
    n_temperatures: int | None,
    betas: ArrayLike | None,
    settings: Any,
    kernel: AbstractKernel | None,
    level: float,
) -> tuple[AbstractPath, AbstractKernel, np.ndarray]:
    if n_temperatures is not None and betas is not None:
        raise ValueError("give betas or n_temperatures, not both: betas say how many there are")
    n_temperatures = 1000 if n_temperatures is None else n_temperatures
    check_level(level)
    ladder = as_ladder(betas, as_count(n_temperatures, "n_temperatures", least=2))
    for leaf in jax.tree.leaves(settings):
        if np.shape(leaf)[:1] != ladder.shape:
            raise ValueError(
                f"settings must hold one row for each of the {len(ladder)} betas, got shape"
                f" {np.shape(leaf)}"
            )
    energy = unfreeze(energy)
    start = path(base, energy)
    kernel = default_kernel(start) if kernel is None else kernel
    check_exact(kernel, start)
    return start, kernel, ladder


def check_exact(kernel: AbstractKernel, start: AbstractPath) -> None:
    """Raise `ValueError` unless the kernel moves on the path and leaves its energies invariant."""
    if not isinstance(kernel, AbstractKernel):
        raise ValueError(f"kernel must be a kernel such as ex.HMC(), got {type(kernel).__name__}")
    kernel.check(start)
    if not kernel.is_exact:
        raise ValueError(f"annealing needs an exact kernel, got {type(kernel).__name__}")


def facts_of(run: Annealed, betas: np.ndarray, base: AbstractEnergy) -> dict[str, Any]:
    """What a run of annealing measured."""
    weights = np.asarray(run.log_weights, np.float64)
    return {
        "n_chains": weights.size,
        "n_temperatures": len(betas) - 1,
        "n_steps": weights.size * (len(betas) - 2),
        "log_weights": weights,
        "acceptance": float(np.mean(run.acceptance)),
        "base": type(base).__name__,
        "path": {
            "beta": np.asarray(betas, np.float64),
            "gain": np.asarray(run.gains, np.float64),
            "spread": np.asarray(run.spread, np.float64),
            "acceptance": np.asarray(run.accepted, np.float64)[:-1],
        },
    }


def from_weights(
    base: AbstractTractable,
    log_weights: Any,
    method: str,
    level: float,
    facts: dict[str, Any],
    *,
    down: bool = False,
    n_sources: int | None = None,
) -> LogPartition:
    """log Z, its interval and whether to trust it, from log weights.

    `down` says that they are of Z_base / Z. Weights of one source are dependent: `n_sources` means
    of them are not.
    """
    sign, base_value = (-1.0 if down else 1.0), float(base.log_normaliser())
    weights = np.asarray(log_weights, np.float64)
    n = weights.size
    largest = float(weights.max())  # NaN if any is
    if not np.isfinite(largest):
        reason = (
            "every chain ended where the model has no probability: choose a base that draws where"
            " it has"
            if largest == -np.inf
            else f"{int((np.isnan(weights) | (weights == np.inf)).sum())} of {n} chains met"
            " an energy that is NaN or -inf: look at E where they went, or choose another base"
        )
        value = base_value + sign * largest
        return LogPartition(
            value, -np.inf, np.inf, np.inf, False, method, False, reason, level, facts
        )
    tail = pareto_k(weights) if n >= _FEWEST_FOR_A_TAIL else np.nan
    if n_sources is not None and n_sources < n:
        by_source = weights.reshape(n_sources, -1)
        weights = np.logaddexp.reduce(by_source, axis=1) - np.log(by_source.shape[1])
    mean = log_mean_weight(weights, level=level)
    facts |= {
        "n_sources": weights.size,
        "ess": mean.ess,
        "largest_weight": mean.largest,
        "pareto_k": tail,
    }
    reason = _doubt(mean, tail, weights.size)
    ends = sorted((sign * mean.lower, sign * mean.upper))
    # Which end an untrusted estimate leaves open: weights that were missed would add to Z going
    # up, and take from it going down.
    lower = -np.inf if reason and down else base_value + ends[0]
    upper = np.inf if reason and not down else base_value + ends[1]
    return LogPartition(
        value=base_value + sign * mean.value,
        lower=lower,
        upper=upper,
        std_error=mean.std_error,
        exact=False,
        method=method,
        trusted=not reason,
        reason=reason,
        level=level,
        diagnostics=facts,
    )


def _doubt(mean: Any, tail: float, n: int) -> str:
    if n < _FEWEST_WEIGHTS:
        return f"{n} independent weights are too few to judge: use {_FEWEST_WEIGHTS} chains or more"
    if mean.ess < _LEAST_SHARE * n or mean.largest > _LARGEST_SHARE:
        return (
            f"the weights are worth {mean.ess:.1f} of {n} chains and the largest holds"
            f" {100 * mean.largest:.0f}% of the sum: use more temperatures"
        )
    if tail > _HEAVIEST_TAIL and mean.ess < _NEARLY_EQUAL * n:
        return (
            f"the weights' tail is too heavy (Pareto k-hat {tail:.2f}, more than"
            f" {_HEAVIEST_TAIL}): use more temperatures"
        )
    if not np.isfinite(mean.lower):
        return "the interval is open below: use more chains or more temperatures"
    return ""
