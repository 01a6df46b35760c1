"""Sequential Monte Carlo: annealing with resampling, and ladders chosen by what weights tell."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, Key

from energax.diagnostics import check_level
from energax.energies import AbstractEnergy, AbstractPath, AbstractTractable, path, unfreeze
from energax.kernels import (
    AbstractEnsembleKernel,
    AbstractKernel,
    retemper_chains,
    start_chains,
    step_chains,
    terms_of,
)
from energax.partition._anneal import added, as_ladder
from energax.partition._annealed import check_exact, from_weights
from energax.partition._estimate import LogPartition, timed
from energax.random import as_count
from energax.sampling import default_kernel

_MOST_TEMPERATURES = 20_000
"""Where choosing a ladder gives up."""

_RESAMPLE_BELOW = 0.5
"""The share of a run's particles below which their effective number leads to resampling."""


@timed
def log_partition_smc(
    energy: AbstractEnergy,
    base: AbstractTractable,
    *,
    key: Key[Array, ""],
    n_chains: int = 1000,
    n_runs: int = 20,
    betas: ArrayLike | None = None,
    cess: float = 0.95,
    kernel: AbstractKernel | None = None,
    level: float = 0.95,
) -> LogPartition:
    """log Z by sequential Monte Carlo from `base` to the model.

    As annealed importance sampling, but chains whose weights have become small are given up for
    copies of those with large ones. The chains form independent runs, each an unbiased estimate
    of Z / Z_base, and what resampling joins within a run it joins nowhere else: the interval is
    that of the runs. Twenty runs have no tail that could be looked at: a bracket is checked by
    more than this is.

    **Arguments:**

    - `base`: drawn from exactly, over the same space.
    - `n_chains`: in all runs together.
    - `n_runs`: how many independent ones; at least 5.
    - `betas`: a ladder from 0 to 1; `adaptive_ladder` with chains of their own if `None`, so that
      the estimate stays unbiased.
    - `cess`: of that ladder.
    - `kernel`: one step a temperature; exact and of single chains; chosen if `None`.

    **Raises:** `ValueError` for numbers out of range, a kernel that is not exact, or a base over
    another space.

    ```python
    import energax as ex
    from energax.partition import log_partition_smc

    ising = ex.Ising(6, 0.4)
    log_partition_smc(ising, ex.Uniform(ising.space), key=ex.key(0), n_chains=200).summary
    ```

    Source: P. Del Moral, A. Doucet and A. Jasra, "Sequential Monte Carlo samplers" (2006),
    section 3.3.2.3; Y. Zhou, A. Johansen and J. Aston, "Toward automatic model comparison" (2016).
    """
    n_runs = as_count(n_runs, "n_runs", least=5)
    n_chains = as_count(n_chains, "n_chains", least=2 * n_runs)
    check_level(level)
    if n_chains % n_runs:
        raise ValueError(f"n_chains must be a multiple of n_runs, got {n_chains} and {n_runs}")
    start, kernel = _path_and_kernel(energy, base, kernel)
    key_ladder, key_run = jax.random.split(key)
    if betas is None:
        ladder = adaptive_ladder(
            energy, base, key=key_ladder, cess=cess, n_chains=n_chains, kernel=kernel
        )
    else:
        ladder = as_ladder(betas, 0)
    log_z, resampled = _runs(start, kernel, jnp.asarray(ladder), key_run, n_runs, n_chains)
    facts: dict[str, Any] = {
        "n_chains": n_chains,
        "n_runs": n_runs,
        "n_temperatures": len(ladder) - 1,
        "n_steps": n_chains * (len(ladder) - 1) * (2 if betas is None else 1),
        "betas": np.asarray(ladder, np.float64),
        "resampled": float(np.mean(resampled)),
        "base": type(base).__name__,
    }
    method = f"sequential Monte Carlo, {type(kernel).__name__}"
    return from_weights(base, log_z, method, level, facts)


def adaptive_ladder(
    energy: AbstractEnergy,
    base: AbstractTractable,
    *,
    key: Key[Array, ""],
    cess: float = 0.95,
    n_temperatures: int | None = None,
    n_chains: int = 200,
    kernel: AbstractKernel | None = None,
) -> Float[np.ndarray, " rungs"]:
    """A ladder from 0 to 1 each of whose steps costs as much of the weights' effective number.

    Chains go from the base to the model, and every next beta is the one at which the conditional
    effective share of their weights, (sum W w)^2 / sum W w^2 for weights W so far and increments
    w, falls to `cess`.

    **Arguments:**

    - `cess`: a share between 0 and 1; nearer to 1 means more temperatures.
    - `n_temperatures`: spreads as many over the same path, as densely in proportion; as many as
      there are if `None`.
    - `n_chains`, `kernel`: what is annealed to find out.

    **Returns:** the betas, for `log_partition_annealed` and `log_partition_smc`.

    **Raises:** `ValueError` for numbers out of range, or where the path needs too many steps.

    ```python
    import energax as ex
    from energax.partition import adaptive_ladder

    ising = ex.Ising(6, 0.4)
    betas = adaptive_ladder(ising, ex.Uniform(ising.space), key=ex.key(0), n_temperatures=100)
    ```

    Source: Y. Zhou, A. Johansen and J. Aston, "Toward automatic model comparison: an adaptive
    sequential Monte Carlo approach" (2016), section 3.3.
    """
    n_chains = as_count(n_chains, "n_chains", least=10)
    if not isinstance(cess, int | float | np.floating) or not 0 < cess < 1:
        raise ValueError(f"cess must lie between 0 and 1, got {cess!r}")
    start, kernel = _path_and_kernel(energy, base, kernel)
    n, betas = _choose(start, kernel, jnp.asarray(cess), key, n_chains)
    n = int(n)
    ladder = np.asarray(betas[: n + 1])
    if ladder[-1] != 1:
        raise ValueError(
            f"after {n} temperatures beta has come to {ladder[-1]:.3g} only: take a base nearer to"
            " the model, a smaller cess, or a ladder of your own"
        )
    if n_temperatures is None:
        # At least one temperature between the ends.
        n_temperatures = max(n, 2)
        if n_temperatures == n:
            return ladder
    n_temperatures = as_count(n_temperatures, "n_temperatures", least=2)
    return spread_along(ladder, n_temperatures)


def spread_along(rungs: np.ndarray, n_temperatures: int) -> np.ndarray:
    """A ladder of `n_temperatures` steps with as many between any two neighbouring rungs."""
    dtype = jnp.zeros(()).dtype
    at = np.linspace(0, len(rungs) - 1, n_temperatures + 1)
    ladder = np.interp(at, np.arange(len(rungs)), np.asarray(rungs, np.float64)).astype(dtype)
    ladder[0], ladder[-1] = 0, 1
    if (np.diff(ladder) > 0).all():
        return ladder
    # Rungs nearer together than this precision tells apart: what is left of them.
    kept = np.unique(ladder)
    return kept if len(kept) > 2 else np.array([0, 0.5, 1], dtype)


def _path_and_kernel(
    energy: AbstractEnergy, base: AbstractTractable, kernel: AbstractKernel | None
) -> tuple[AbstractPath, AbstractKernel]:
    start = path(base, unfreeze(energy))
    kernel = default_kernel(start) if kernel is None else kernel
    check_exact(kernel, start)
    if isinstance(kernel, AbstractEnsembleKernel):
        raise ValueError(
            f"resampling needs a kernel of single chains, got {type(kernel).__name__}: use"
            " ex.BlockGibbs()"
        )
    return start, kernel


@eqx.filter_jit
def _choose(
    start: AbstractPath, kernel: AbstractKernel, cess: Array, key: Key[Array, ""], n_chains: int
) -> tuple[Int[Array, ""], Float[Array, " most"]]:
    """How many temperatures, and the betas."""
    key_draw, key_init, key_walk = jax.random.split(key, 3)
    x = jax.vmap(start.base.draw)(jax.random.split(key_draw, n_chains))
    states = start_chains(start.at(0.0), kernel, x, key_init)
    dtype = jnp.zeros(()).dtype
    betas = jnp.zeros((_MOST_TEMPERATURES + 1,), dtype)
    cess = cess.astype(dtype)

    def share(log_w: Array, gains: Array) -> Array:
        each = log_w + gains
        top = jax.nn.logsumexp(each)
        squares = jax.nn.logsumexp(log_w + 2 * gains)
        found = jnp.exp(2 * top - squares - jax.nn.logsumexp(log_w))
        return jnp.where(jnp.isfinite(top), found, 0.0)

    def gains(model, states, beta):
        return jax.vmap(lambda t: model.log_increment(t, beta))(terms_of(model, states))

    def going(carry):
        index, betas, *_ = carry
        return (betas[index] < 1) & (index < _MOST_TEMPERATURES)

    def step(carry):
        index, betas, states, log_w = carry
        here = betas[index]
        model = start.at(here)

        def narrow(_, ends):
            low, high = ends
            middle = (low + high) / 2
            enough = share(log_w, gains(model, states, middle)) >= cess
            return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

        one = jnp.ones((), dtype)
        at_once = share(log_w, gains(model, states, one)) >= cess
        low, _ = lax.fori_loop(0, 24, narrow, (here, one))
        least = jnp.maximum(here * (1 + 4 * jnp.finfo(dtype).eps), here + 1e-9)
        beta = jnp.where(at_once, one, jnp.minimum(jnp.maximum(low, least), one))
        log_w = log_w + gains(model, states, beta)
        log_w = log_w - jax.nn.logsumexp(log_w)
        ess = jnp.exp(-jax.nn.logsumexp(2 * log_w))
        key_move, key_pick = jax.random.split(jax.random.fold_in(key_walk, index))
        poor = ess < _RESAMPLE_BELOW * n_chains
        picked = jnp.where(poor, _systematic(log_w, key_pick), jnp.arange(n_chains))
        states = jax.tree.map(lambda leaf: leaf[picked], states)
        log_w = jnp.where(poor, -jnp.log(jnp.asarray(n_chains, dtype)), log_w)
        model = start.at(beta)
        moved, _ = step_chains(model, kernel, retemper_chains(model, kernel, states), key_move)
        moved = jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), moved, states)
        return index + 1, betas.at[index + 1].set(beta), moved, log_w

    log_w = jnp.full((n_chains,), -float(np.log(n_chains)), dtype)
    first = jnp.zeros((), jnp.int32), betas, states, log_w
    with jax.default_matmul_precision("highest"):
        n, betas, *_ = lax.while_loop(going, step, first)
    return n, betas


@eqx.filter_jit
def _runs(
    start: AbstractPath,
    kernel: AbstractKernel,
    betas: Float[Array, " rungs"],
    key: Key[Array, ""],
    n_runs: int,
    n_chains: int,
) -> tuple[Float[Array, " runs"], Float[Array, " runs"]]:
    """log (Z / Z_base) of each run, and how often each resampled."""
    key_draw, key_init, key_walk = jax.random.split(key, 3)
    x = jax.vmap(start.base.draw)(jax.random.split(key_draw, n_chains))
    states = start_chains(start.at(betas[0]), kernel, x, key_init)
    size = n_chains // n_runs
    none = jnp.zeros((n_runs,), betas.dtype)
    even = jnp.full((n_runs, size), -float(np.log(size)), betas.dtype)

    def step(carry, inputs):
        states, log_w, log_z, error, times = carry
        index, beta, before = inputs
        model = start.at(before)
        part = jax.vmap(lambda t: model.log_increment(t, beta))(terms_of(model, states))
        log_w = log_w + part.astype(betas.dtype).reshape(n_runs, size)
        gained = jax.nn.logsumexp(log_w, axis=1)
        log_w = log_w - jnp.where(jnp.isfinite(gained), gained, 0.0)[:, None]
        raised, error = added(log_z, error, gained)
        poor = jnp.exp(-jax.nn.logsumexp(2 * log_w, axis=1)) < _RESAMPLE_BELOW * size
        key_move, key_pick = jax.random.split(jax.random.fold_in(key_walk, index))
        picked = jax.vmap(_systematic)(log_w, jax.random.split(key_pick, n_runs))
        kept = jnp.arange(size)[None]
        own = jnp.where(poor[:, None], picked, kept) + size * jnp.arange(n_runs)[:, None]
        states = jax.tree.map(lambda leaf: leaf[own.reshape(-1)], states)
        log_w = jnp.where(poor[:, None], even, log_w)
        model = start.at(beta)
        moved, _ = step_chains(model, kernel, retemper_chains(model, kernel, states), key_move)
        moved = jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), moved, states)
        return (moved, log_w, raised, error, times + poor.astype(betas.dtype)), None

    inputs = (jnp.arange(betas.shape[0] - 1), betas[1:], betas[:-1])
    with jax.default_matmul_precision("highest"):
        carry, _ = lax.scan(step, (states, even, none, none, none), inputs)
    _, _, log_z, error, times = carry
    return log_z + error, times


def _systematic(log_w: Float[Array, " n"], key: Key[Array, ""]) -> Int[Array, " n"]:
    """Which particles to go on with: each on average as often as its weight says."""
    n = log_w.shape[0]
    weights = jax.nn.softmax(log_w)
    at = (jnp.arange(n, dtype=weights.dtype) + jax.random.uniform(key, (), weights.dtype)) / n
    cumulative = jnp.cumsum(weights)
    found = jnp.searchsorted(cumulative / cumulative[-1], at)
    return jnp.minimum(found, n - 1)
