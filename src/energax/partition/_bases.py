"""Where annealing starts: the simplest normalised models."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from energax.energies import (
    AbstractEnergy,
    AbstractNormalised,
    Bernoulli,
    ConditionedSoftmax,
    Gaussian,
    Softmax,
    Uniform,
)
from energax.kernels import AbstractKernel, BlockGibbs, PackedGibbs
from energax.partition._starts import dispersed_starts
from energax.sampling import default_kernel, run_chains
from energax.spaces import AbstractSpace, Binary, Categorical, Clamped, Real, State

_FARTHEST = 1e15
"""Where a chain is said to have run away: its square still is a single-precision number."""


def base_rates(space: AbstractSpace, rows: State) -> tuple[AbstractNormalised, str]:
    """Every entry's own distribution in rows of data, and what to call that.

    The uniform distribution where no family of independent entries is known.

    **Raises:** `ValueError` where there is neither.
    """
    if isinstance(space, Binary):
        return Bernoulli.from_data(rows), "independent pixels, each with its own rate"
    if isinstance(space, Real):
        return Gaussian.from_data(rows), "independent normal entries"
    if isinstance(space, Categorical):
        return Softmax.from_data(rows, space), "independent labels, each with its own rates"
    return _uniform(space), "every state equally likely"


def default_base(energy: AbstractEnergy, *, key: Key[Array, ""]) -> AbstractNormalised:
    """A base to anneal from, fitted to a short run of chains of the model itself.

    Base rates for binary states and labels (of labels some of which are observed, too), a diagonal
    Gaussian for real ones, the uniform distribution on other bounded spaces. How near the base is
    changes the cost of annealing, not its validity.

    **Raises:** `ValueError` if no family covers the space.
    """
    space = energy.space
    labels = space.space if isinstance(space, Clamped) else space
    if not isinstance(space, Binary | Real) and not isinstance(labels, Categorical):
        return _uniform(space)
    key_draw, key_run = jax.random.split(key)
    x = dispersed_starts(energy, key_draw, 100)
    run = run_chains(
        energy,
        chains_kernel(energy),
        x,
        key_run,
        n_draws=5,
        warmup=jnp.asarray(200, jnp.int32),
        thin=jnp.asarray(20, jnp.int32),
    )
    flat: Any = np.asarray(run.kept).reshape(-1, *space.structure.shape)
    if isinstance(space, Clamped):
        assert isinstance(labels, Categorical)
        return ConditionedSoftmax(Softmax.from_data(flat, labels), space.values, space.mask)
    if not (np.abs(flat) < _FARTHEST).all():
        raise ValueError(
            "chains of the model ran away, so that no base can be fitted to them: does exp(-E) have"
            " a finite integral? If it has, give log_partition a base"
        )
    base, _ = base_rates(space, flat)
    if isinstance(base, Gaussian):  # wider than the model
        return Gaussian(base.mean, 1.5 * jnp.maximum(base.scale, 1e-3))
    return base


def chains_kernel(energy: AbstractEnergy) -> AbstractKernel:
    """What moves single chains of an energy best, once it is warmed up."""
    kernel = default_kernel(energy, warmed_up=True)
    return BlockGibbs() if isinstance(kernel, PackedGibbs) else kernel


def _uniform(space: AbstractSpace) -> Uniform:
    try:
        return Uniform(space)
    except ValueError:
        raise ValueError(
            f"no base to anneal from is known for {space}: give log_partition one"
        ) from None
