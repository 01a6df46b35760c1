"""Continuous spaces for moves that follow a gradient: coordinates without ends, and walls."""

from functools import singledispatch
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Key

from energax.energies import AbstractEnergy
from energax.random import normal
from energax.spaces import AbstractSpace, Box, Clamped, Joint, Real, State


def require_continuous(kernel: Any, energy: AbstractEnergy) -> None:
    """Raise `ValueError` unless every coordinate of the energy's space is a real number."""
    if not is_continuous(energy.space):
        raise ValueError(
            f"{type(kernel).__name__} follows a gradient and needs a continuous space (Real, Box,"
            f" or a Joint of them), got {energy.space}: take RandomWalkMetropolis, which moves on"
            " every space, or BlockGibbs where units have two layers"
        )


def is_continuous(space: AbstractSpace) -> bool:
    """Whether every coordinate of the space is a real number."""
    if isinstance(space, Joint):
        return all(map(is_continuous, space.parts.values()))
    if isinstance(space, Clamped):
        return is_continuous(space.space)
    return isinstance(space, Real | Box)


def holds_entries(space: AbstractSpace) -> bool:
    """Whether some coordinates of the space may be held at observed values."""
    if isinstance(space, Joint):
        return any(holds_entries(part) for part in space.parts.values())
    return isinstance(space, Clamped)


def free_entries(space: AbstractSpace) -> Bool[Array, " coordinates"]:
    """True where a coordinate moves, False where it is held at an observed value."""
    return ravel_pytree(_free(space))[0]


def unbounded(space: AbstractSpace, x: State) -> Float[Array, " coordinates"]:
    """The real coordinates u of a state x, as one vector. Held entries are 0."""
    return ravel_pytree(_unbounded(space, x))[0]


def bounded(
    space: AbstractSpace, u: Float[Array, " coordinates"]
) -> tuple[State, Float[Array, ""]]:
    """The state x(u), and the logarithm of |dx/du|, to which held entries add a constant.

    An entry between two ends is low + (high - low) sigmoid(u), one above or below a single end
    low + exp(u) or high - exp(u), and one without ends u itself: the transforms of the Stan
    Reference Manual, "Constraint transforms".
    """
    _, unravel = ravel_pytree(jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), space.structure))
    return _bounded(space, unravel(u.astype(jnp.result_type(*jax.tree.leaves(space.structure)))))


def reflected(space: AbstractSpace, x: State) -> tuple[State, State]:
    """`x` reflected at the walls of its boxes until it is inside, and for each entry 1, or -1
    where the way is then walked backwards. Held entries are put back to their values."""
    return _reflected(space, x)


@singledispatch
def _free(space: Any) -> Any:
    return jnp.ones(space.shape, bool)


@_free.register
def _(space: Clamped) -> Any:
    return jax.tree.map(lambda free, held: free & ~held, _free(space.space), space.mask)


@_free.register
def _(space: Joint) -> Any:
    return {name: _free(part) for name, part in space.parts.items()}


@singledispatch
def _unbounded(space: Any, x: Any) -> Any:
    return x


@_unbounded.register
def _(space: Box, x: Array) -> Array:
    has_low, has_high, low, high = _ends(space)
    # A state on a wall is infinitely far away in u: it starts as near to the wall as rounding.
    least = jnp.finfo(x.dtype).eps * jnp.where(has_low & has_high, high - low, 1.0)
    above = jnp.log(jnp.where(x > low, x - low, least))
    under = jnp.log(jnp.where(x < high, high - x, least))
    one_end = jnp.where(has_low, above, jnp.where(has_high, under, x))
    return jnp.where(has_low & has_high, above - under, one_end)


@_unbounded.register
def _(space: Clamped, x: State) -> State:
    return jax.tree.map(
        lambda held, u: jnp.where(held, 0.0, u), space.mask, _unbounded(space.space, x)
    )


@_unbounded.register
def _(space: Joint, x: dict[str, Any]) -> dict[str, Any]:
    return {name: _unbounded(part, x[name]) for name, part in space.parts.items()}


@singledispatch
def _bounded(space: Any, u: Any) -> tuple[Any, Float[Array, ""]]:
    return u, jnp.zeros((), jnp.result_type(u))


@_bounded.register
def _(space: Box, u: Array) -> tuple[Array, Float[Array, ""]]:
    has_low, has_high, low, high = _ends(space)
    both = has_low & has_high
    # Written from the nearer end, so that nothing is rounded beyond it.
    from_low = low + (high - low) * jax.nn.sigmoid(u)
    from_high = high - (high - low) * jax.nn.sigmoid(-u)
    # exp overflows beyond this; no density that can be summed has mass there.
    exponent = jnp.minimum(u, 0.9 * jnp.log(jnp.finfo(u.dtype).max))
    distance = jnp.exp(jnp.where(both, 0.0, exponent))
    one_end = jnp.where(has_low, low + distance, jnp.where(has_high, high - distance, u))
    x = jnp.where(both, jnp.where(u < 0, from_low, from_high), one_end)
    width = jnp.where(both, high - low, 1.0)
    two_ends = jnp.log(width) - jnp.abs(u) - 2 * jnp.log1p(jnp.exp(-jnp.abs(u)))
    slope = jnp.where(both, two_ends, jnp.where(has_low | has_high, exponent, 0.0))
    return x, jnp.sum(slope)


@_bounded.register
def _(space: Clamped, u: State) -> tuple[State, Float[Array, ""]]:
    # A held entry is a constant: no gradient reaches its u.
    u = jax.tree.map(lambda held, leaf: jnp.where(held, 0.0, leaf), space.mask, u)
    x, log_jacobian = _bounded(space.space, u)
    return space.clamp(x), log_jacobian


@_bounded.register
def _(space: Joint, u: dict[str, Any]) -> tuple[dict[str, Any], Float[Array, ""]]:
    parts = {name: _bounded(part, u[name]) for name, part in space.parts.items()}
    log_jacobian = sum(value for _, value in parts.values())
    return {name: x for name, (x, _) in parts.items()}, jnp.asarray(log_jacobian)


@singledispatch
def _reflected(space: Any, x: Any) -> tuple[Any, Any]:
    return x, jnp.ones_like(x)


@_reflected.register
def _(space: Box, x: Array) -> tuple[Array, Array]:
    has_low, has_high, low, high = _ends(space)
    width = jnp.where(has_low & has_high, high - low, 1.0)
    # Between two walls the way is a triangular wave: up for one width, down for the next.
    phase = jnp.mod(x - low, 2 * width)
    back = phase > width
    between = jnp.clip(low + jnp.where(back, 2 * width - phase, phase), low, high)
    crossed = (has_low & (x < low)) | (has_high & (x > high))
    mirror = jnp.where(has_low, 2 * low - x, 2 * high - x)
    folded = jnp.where(has_low & has_high, between, mirror)
    turned = crossed & (back | ~(has_low & has_high))
    # NaN has crossed nothing, and stays.
    return jnp.where(crossed, folded, x), jnp.where(turned, -1.0, 1.0).astype(x.dtype)


@_reflected.register
def _(space: Clamped, x: State) -> tuple[State, State]:
    inside, turned = _reflected(space.space, x)
    return space.clamp(inside), turned


@_reflected.register
def _(space: Joint, x: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = {name: _reflected(part, x[name]) for name, part in space.parts.items()}
    inside = {name: pair[0] for name, pair in parts.items()}
    return inside, {name: pair[1] for name, pair in parts.items()}


def _ends(space: Box) -> tuple[Array, Array, Array, Array]:
    """Which entries have a lower and an upper end, and the ends, 0 where there is none."""
    has_low, has_high = jnp.isfinite(space.low), jnp.isfinite(space.high)
    low, high = jnp.where(has_low, space.low, 0.0), jnp.where(has_high, space.high, 0.0)
    return has_low, has_high, low, high


def noise_like(x: State, key: Key[Array, ""]) -> State:
    """Standard normal noise for every entry of x, one key a part."""
    leaves, rebuild = jax.tree.flatten(x)
    keys = [key] if len(leaves) == 1 else list(jax.random.split(key, len(leaves)))
    drawn = [normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(rebuild, drawn)
