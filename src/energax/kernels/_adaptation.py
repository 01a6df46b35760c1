"""Warm-up of gradient kernels: a step size and a diagonal mass from all chains together."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int, Key

from energax.energies import AbstractEnergy
from energax.energies._parameters import finite_array
from energax.kernels._base import AbstractKernel, Info
from energax.kernels._step_size import StepSizeSearch, parts_of, select
from energax.kernels._tuning import AbstractTuning

_K = TypeVar("_K", bound=AbstractKernel)

_WINDOW_ENDS = (0.1, 0.25, 0.45, 0.85)
"""Parts of the warm-up at whose ends the mass is set, as Stan's ("HMC algorithm parameters" in
its Reference Manual): a stretch to reach the typical set, where only the step size is found,
windows that double, and a last stretch for the step size alone."""

_STUCK = 0.05
"""Where a chain's step was accepted with less than this chance, its position is no part of the
spread: a chain that starts far out and cannot move yet would stretch the mass of all."""

_PRIOR_COUNT = 5.0
"""How many draws the mass a window starts from counts for, after Stan, which shrinks to 1e-3."""


class _Spread(eqx.Module):
    """Running mean and sum of squared deviations of positions (Welford, 1962)."""

    count: Float[Array, ""]
    mean: Float[Array, " coordinates"]
    squares: Float[Array, " coordinates"]


def as_inverse_mass(value: ArrayLike) -> Array:
    """One positive number, or one a coordinate."""
    return finite_array(value, "inverse_mass", positive=True)


def spread_over(inverse_mass: Array, energy: AbstractEnergy) -> Float[Array, " coordinates"]:
    """The mass of each coordinate of the energy's space."""
    leaves = jax.tree.leaves(energy.space.structure)
    n = sum(int(np.prod(leaf.shape)) for leaf in leaves)
    if inverse_mass.size not in (1, n):
        raise ValueError(
            f"inverse_mass must be one number or {n}, one a coordinate of {energy.space}, got"
            f" {inverse_mass.size}"
        )
    dtype = jnp.result_type(*leaves)
    return jnp.broadcast_to(inverse_mass.reshape(-1).astype(dtype), (n,))


class GradientTuning(AbstractTuning):
    """The step size and inverse mass of a kernel that follows the gradient.

    The inverse mass is the variance of each coordinate over chains and steps of a window, after
    which the search for the step size starts again.
    """

    kernel: Any
    """With the inverse mass of the present window."""
    search: StepSizeSearch
    spread: _Spread
    ends: Int[Array, " windows"]
    n_done: Int[Array, ""]

    def __init__(self, kernel: Any, energy: AbstractEnergy, n_steps: Array):
        inverse_mass = spread_over(kernel.inverse_mass, energy)
        dtype = inverse_mass.dtype
        self.search = StepSizeSearch(
            kernel.step_size.astype(dtype), kernel.target_acceptance.astype(dtype)
        )
        self.kernel = with_settings(kernel, self.search.step_size, inverse_mass)
        self.spread = _nothing(inverse_mass)
        self.ends = parts_of(n_steps, _WINDOW_ENDS)
        self.n_done = jnp.zeros((), jnp.int32)

    def step(self, energy: AbstractEnergy, state: Any, key: Key[Array, ""]) -> tuple[Any, Info]:
        return self.kernel.step(energy, state, key)

    def after(self, states: Any, told: Info) -> "GradientTuning":
        # In the first stretch all chains are to reach the typical set.
        first = self.n_done < self.ends[0]
        at_end = jnp.any(self.n_done + 1 == self.ends)
        search = self.search.after(told, worst=first, restart=at_end)
        spread = _including(self.spread, states.position, told, collecting=~first)
        before = self.kernel.inverse_mass
        inverse_mass = jnp.where(at_end, _variance(spread, before), before)
        return eqx.tree_at(
            lambda t: (t.kernel, t.search, t.spread, t.n_done),
            self,
            (
                with_settings(self.kernel, search.step_size, inverse_mass),
                search,
                select(at_end, _nothing(inverse_mass), spread),
                self.n_done + 1,
            ),
        )

    def found(self) -> AbstractKernel:
        return with_settings(self.kernel, self.search.found(), self.kernel.inverse_mass)


def with_settings(kernel: _K, step_size: Array, inverse_mass: Array) -> _K:
    """The kernel with another step size and inverse mass."""
    return eqx.tree_at(lambda k: (k.step_size, k.inverse_mass), kernel, (step_size, inverse_mass))


def _nothing(like: Array) -> _Spread:
    return _Spread(jnp.zeros((), like.dtype), jnp.zeros_like(like), jnp.zeros_like(like))


def _including(spread: _Spread, positions: Array, info: Info, collecting: Array) -> _Spread:
    """With one more position of every chain that moves (Chan's update)."""
    moves = jnp.isfinite(info.energy) & (info.acceptance > _STUCK)
    sound = (moves & collecting)[:, None]
    n = jnp.sum(sound, dtype=positions.dtype)
    mean = jnp.sum(jnp.where(sound, positions, 0.0), 0) / jnp.maximum(n, 1.0)
    squares = jnp.sum(jnp.where(sound, (positions - mean[None]) ** 2, 0.0), 0)
    count = spread.count + n
    share = n / jnp.maximum(count, 1.0)
    gap = mean - spread.mean
    return _Spread(
        count,
        spread.mean + share * gap,
        spread.squares + squares + gap**2 * spread.count * share,
    )


def _variance(spread: _Spread, before: Array) -> Array:
    """The variance of a window, shrunk to the one before where there were few draws."""
    variance = spread.squares / jnp.maximum(spread.count - 1, 1.0)
    share = spread.count / (spread.count + _PRIOR_COUNT)
    shrunk = share * variance + (1 - share) * before
    # A coordinate that never moved (one held at an observed value) tells nothing.
    return jnp.where(jnp.isfinite(shrunk) & (variance > 0), shrunk, before)
