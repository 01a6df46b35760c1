"""Warm-up of gradient kernels: a step size and a diagonal mass from all chains together."""

from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from energax.energies import AbstractEnergy
from energax.energies._parameters import finite_array, is_traced
from energax.kernels._base import AbstractKernel, Info
from energax.kernels._chains import step_chains

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

_RANGE = 1e15
"""A step size stays within this factor of the one given, whatever the acceptance says."""


class _Spread(eqx.Module):
    """Running mean and sum of squared deviations of positions (Welford, 1962)."""

    count: Float[Array, ""]
    mean: Float[Array, " coordinates"]
    squares: Float[Array, " coordinates"]


class _Warmup(eqx.Module):
    """What the warm-up carries from step to step."""

    states: Any
    step_size: Float[Array, ""]
    inverse_mass: Float[Array, " coordinates"]
    spread: _Spread
    averaging: Any
    """Of blackjax's dual averaging."""
    direction: Float[Array, ""]
    """While the step size doubles or halves, which of them, +1 or -1; 0 before the first step."""
    searching: Bool[Array, ""]


def as_inverse_mass(value: ArrayLike) -> Array:
    """One positive number, or one a coordinate."""
    return finite_array(value, "inverse_mass", positive=True)


def as_fraction(value: ArrayLike, name: str, *, least: float | None = None) -> Array:
    """A number between 0 and 1, neither of them unless 0 is the `least`."""
    fraction = finite_array(value, name, shape=(), positive=least is None)
    if not is_traced(fraction) and not (least or 0.0) <= float(fraction) < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {float(fraction):g}")
    return fraction


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


def adapted(
    energy: AbstractEnergy, kernel: _K, states: Any, n_steps: Array, key: Key[Array, ""]
) -> tuple[_K, Any]:
    """`n_steps` of every chain, and the kernel with the step size and inverse mass found.

    The step size doubles or halves until the acceptance, averaged over chains, crosses its
    target, and is then found by dual averaging (M. D. Hoffman and A. Gelman, "The No-U-Turn
    sampler", 2014, section 3.2). The inverse mass is the variance of each coordinate over chains
    and steps of a window, after which the search for the step size starts again.

    `n_steps` may be traced. With no step nothing is tuned.
    """
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    given: Any = kernel
    dtype = states.position.dtype
    first = given.step_size.astype(dtype)
    target = given.target_acceptance.astype(dtype)
    start, update, average = dual_averaging_adaptation(target)
    ends = _ends(n_steps)

    def settled(step_size):
        """Dual averaging from here, shrinking to here: the search has come near already."""
        begun = start(step_size)._replace(mu=jnp.log(step_size))
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), begun)

    def within(step_size):
        return jnp.clip(step_size, first / _RANGE, first * _RANGE)

    def body(i, warm):
        moved, info = step_chains(
            energy,
            with_settings(kernel, warm.step_size, warm.inverse_mass),
            warm.states,
            jax.random.fold_in(key, i),
        )
        acceptance = _pooled(info, target, worst=i < ends[0])
        # The search: doubled or halved until the acceptance is on the other side of its target.
        direction = jnp.where(acceptance > target, 1.0, -1.0).astype(dtype)
        crossed = warm.searching & (warm.direction != 0) & (direction != warm.direction)
        searching = warm.searching & ~crossed
        averaging = _select(crossed, settled(warm.step_size), update(warm.averaging, acceptance))
        step_size = within(
            jnp.where(
                searching,
                warm.step_size * 2.0**direction,
                jnp.where(crossed, warm.step_size, jnp.exp(averaging.log_step_size)),
            )
        )
        # The mass.
        spread = _including(warm.spread, moved.position, info, collecting=i >= ends[0])
        at_end = jnp.any(i + 1 == ends)
        inverse_mass = jnp.where(at_end, _variance(spread, warm.inverse_mass), warm.inverse_mass)
        return _Warmup(
            moved,
            step_size,
            inverse_mass,
            _select(at_end, _nothing(inverse_mass), spread),
            averaging,
            jnp.where(at_end, 0.0, direction).astype(dtype),
            searching | at_end,
        )

    inverse_mass = spread_over(given.inverse_mass, energy)
    warm = _Warmup(
        states,
        first,
        inverse_mass,
        _nothing(inverse_mass),
        settled(first),
        jnp.zeros((), dtype),
        jnp.ones((), bool),
    )
    warm = jax.lax.fori_loop(0, n_steps, body, warm)
    # An average of nothing, where the search was still on, is no step size.
    known = ~warm.searching & (warm.averaging.step > 1)
    step_size = jnp.where(known, within(average(warm.averaging)), warm.step_size)
    return with_settings(kernel, step_size, warm.inverse_mass), warm.states


def with_settings(kernel: _K, step_size: Array, inverse_mass: Array) -> _K:
    """The kernel with another step size and inverse mass."""
    return eqx.tree_at(lambda k: (k.step_size, k.inverse_mass), kernel, (step_size, inverse_mass))


def _ends(n_steps: Array) -> Int[Array, " windows"]:
    fractions = jnp.asarray(_WINDOW_ENDS, jnp.float32)
    return (fractions * jnp.asarray(n_steps).astype(jnp.float32)).astype(jnp.int32)


def _pooled(info: Info, target: Array, worst: Array) -> Float[Array, ""]:
    """The mean acceptance over the chains that have not failed.

    An acceptance that is not a number counts as 0. Where every chain failed there is nothing to
    learn: the target itself stands for it. The `worst` chains are given the say by a harmonic
    mean: in the first stretch steps become short enough for all of them to reach the typical set
    (M. D. Hoffman and P. Sountsov, "Tuning-free generalized Hamiltonian Monte Carlo", 2022).
    """
    sound = jnp.isfinite(info.energy)
    least = jnp.finfo(target.dtype).tiny
    acceptance = jnp.where(jnp.isfinite(info.acceptance), info.acceptance, 0.0)
    n = jnp.sum(sound, dtype=acceptance.dtype)
    mean = jnp.sum(jnp.where(sound, acceptance, 0.0)) / jnp.maximum(n, 1.0)
    harmonic = n / jnp.sum(jnp.where(sound, 1 / jnp.maximum(acceptance, least), 0.0))
    return jnp.where(n > 0, jnp.where(worst, harmonic, mean), target)


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


def _select(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)
