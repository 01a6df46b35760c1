"""Annealed importance sampling."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Key

from energax.diagnostics import check_level, log_mean_weight
from energax.energies import AbstractEnergy, AbstractPath, AbstractTractable, path
from energax.kernels import (
    AbstractKernel,
    retemper_chains,
    start_chains,
    step_chains,
    terms_of,
)
from energax.partition._estimate import LogPartition
from energax.random import as_count
from energax.sampling import default_kernel

_LEAST_SHARE, _LARGEST_SHARE = 0.05, 0.25
"""Trust ends below this effective share of the chains, or above this share in one chain."""


def log_partition_annealed(
    energy: AbstractEnergy,
    base: AbstractTractable,
    *,
    key: Key[Array, ""],
    n_chains: int = 100,
    n_temperatures: int = 1000,
    betas: ArrayLike | None = None,
    kernel: AbstractKernel | None = None,
    level: float = 0.95,
) -> LogPartition:
    """log Z by annealing chains from `base`, whose Z is known, to the model.

    exp(log weight) is an unbiased estimate of Z / Z_base, so log Z itself is underestimated on
    average: by little where the weights agree, by much where chains missed a mode, and then the
    interval cannot know. The weights' effective number and the largest one's share are checked. A
    weight of 0, of a chain that went where the model excludes, counts like any other.

    **Arguments:**

    - `base`: drawn from exactly, over the same space; for an RBM its base rates,
      `ex.Bernoulli.from_data(rows)`.
    - `n_chains`: independent weights.
    - `n_temperatures`: steps of beta from 0 to 1, even unless `betas` says otherwise.
    - `betas`: increasing from 0 to 1, shape (n_temperatures + 1,).
    - `kernel`: one step a temperature; must be exact; chosen if `None`.

    **Raises:** `ValueError` for numbers out of range, a kernel that is not exact, or a base over
    another space.

    Source: R. Neal, "Annealed importance sampling" (2001), equations 3 to 11.
    """
    n_chains = as_count(n_chains, "n_chains", least=2)
    n_temperatures = as_count(n_temperatures, "n_temperatures", least=2)
    check_level(level)
    ladder = _ladder(betas, n_temperatures)
    start = path(base, energy)
    kernel = default_kernel(start) if kernel is None else kernel
    kernel.check(start)
    if not kernel.is_exact:
        raise ValueError(f"annealing needs an exact kernel, got {type(kernel).__name__}")
    log_weights, acceptance = anneal(start, kernel, jnp.asarray(ladder), key, n_chains=n_chains)
    weights = np.asarray(log_weights, np.float64)
    base_value = float(base.log_normaliser())
    method = f"annealed importance sampling, {type(kernel).__name__}"
    facts: dict[str, Any] = {
        "n_chains": n_chains,
        "n_temperatures": len(ladder) - 1,
        "log_weights": weights,
        "acceptance": float(np.mean(acceptance)),
        "base": type(base).__name__,
    }
    largest = float(weights.max())  # NaN if any is
    if not np.isfinite(largest):
        reason = (
            "every chain ended where the model has no probability: choose a base that draws where"
            " it has"
            if largest == -np.inf
            else f"{int((np.isnan(weights) | (weights == np.inf)).sum())} of {n_chains} chains met"
            " an energy that is NaN or -inf: look at E where they went, or choose another base"
        )
        return LogPartition(
            base_value + largest,
            -np.inf,
            np.inf,
            np.inf,
            False,
            method,
            False,
            reason,
            level,
            facts,
        )
    mean = log_mean_weight(weights, level=level)
    facts |= {"ess": mean.ess, "largest_weight": mean.largest}
    reason = ""
    if mean.ess < _LEAST_SHARE * n_chains or mean.largest > _LARGEST_SHARE:
        reason = (
            f"the weights are worth {mean.ess:.1f} of {n_chains} chains and the largest holds"
            f" {100 * mean.largest:.0f}% of the sum: use more temperatures"
        )
    elif not np.isfinite(mean.lower):
        reason = "the interval is open below: use more chains or more temperatures"
    return LogPartition(
        value=base_value + mean.value,
        lower=base_value + mean.lower,
        upper=np.inf if reason else base_value + mean.upper,
        std_error=mean.std_error,
        exact=False,
        method=method,
        trusted=not reason,
        reason=reason,
        level=level,
        diagnostics=facts,
    )


@eqx.filter_jit
def anneal(
    start: AbstractPath,
    kernel: AbstractKernel,
    betas: Float[Array, " temperatures"],
    key: Key[Array, ""],
    *,
    n_chains: int,
) -> tuple[Float[Array, " chains"], Float[Array, " chains"]]:
    """log weights of chains annealed along `betas`, and their mean acceptance.

    Held in memory: the chains, their weights, and the ladder. The weights are summed with
    Neumaier's compensation, so 100,000 temperatures lose nothing in float32.
    """
    # Accelerators multiply in fewer bits unless told otherwise.
    with jax.default_matmul_precision("highest"):
        return _anneal(start, kernel, betas, key, n_chains)


def _anneal(
    start: AbstractPath, kernel: AbstractKernel, betas: Array, key: Key[Array, ""], n_chains: int
) -> tuple[Array, Array]:
    key_draw, key_init, key_walk = jax.random.split(key, 3)
    x = jax.vmap(start.base.draw)(jax.random.split(key_draw, n_chains))
    states = start_chains(start.at(betas[0]), kernel, x, key_init)
    zero = jnp.zeros((n_chains,), betas.dtype)

    def increments(model: AbstractPath, states: Any, beta: Array) -> Float[Array, " chains"]:
        return jax.vmap(lambda terms: model.log_increment(terms, beta))(terms_of(model, states))

    def step(carry, inputs):
        states, total, error, accepted = carry
        index, beta, before = inputs
        part = increments(start.at(before), states, beta)
        raised = total + part
        bigger = jnp.abs(total) >= jnp.abs(part)
        lost = jnp.where(bigger, (total - raised) + part, (part - raised) + total)
        # A weight of zero stays one: inf - inf is no rounding error.
        error = error + jnp.where(jnp.isfinite(raised), lost, 0.0)
        model = start.at(beta)
        states = retemper_chains(model, kernel, states)
        states, info = step_chains(model, kernel, states, jax.random.fold_in(key_walk, index))
        return (states, raised, error, accepted + info.acceptance), None

    # The last temperature only weighs: a move there would change no weight.
    n = betas.shape[0] - 1
    inputs = (jnp.arange(n - 1), betas[1:-1], betas[:-2])
    (states, total, error, accepted), _ = lax.scan(step, (states, zero, zero, zero), inputs)
    last = increments(start.at(betas[-2]), states, betas[-1])
    return (total + last) + error, accepted / max(n - 1, 1)


def _ladder(betas: ArrayLike | None, n_temperatures: int) -> np.ndarray:
    dtype = jnp.zeros(()).dtype
    if betas is None:
        return np.linspace(0.0, 1.0, n_temperatures + 1).astype(dtype)
    ladder = np.asarray(betas, dtype)
    if ladder.ndim != 1 or ladder.size < 3 or ladder[0] != 0 or ladder[-1] != 1:
        raise ValueError("betas must be a vector of at least 3 numbers from 0 to 1")
    if not (np.diff(ladder) > 0).all():
        raise ValueError("betas must increase")
    return ladder
