"""What matching of scores rests on: continuous spaces, weights that vanish at their ends."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels._coordinates import is_continuous
from energax.spaces import Box, Clamped, Joint, State


def check_continuous(objective: Any, energy: AbstractEnergy) -> None:
    """Raise `ValueError` unless every coordinate of the energy's space is a real number."""
    if not is_continuous(energy.space):
        raise ValueError(
            f"{type(objective).__name__} needs a continuous space (Real, Box, or a Joint of them),"
            f" got {energy.space}: on discrete states take ex.PersistentContrastiveDivergence or"
            " ex.EnergyDiscrepancy"
        )


def weighted_score(energy: AbstractEnergy) -> Callable[[State], tuple[State, State]]:
    """Of one state: the field h(x) s(x), s the score, and sqrt(h(x)) s(x), whose square counts.

    With d, d' the distances of an entry to its ends, its weight h is d d' / (d + d'): d where
    there is one end, 1 where there is none, 0 where the entry is held at an observed value.
    """

    def field(x: State) -> tuple[State, State]:
        score = jax.grad(energy.log_density)(x)
        h = _weights(energy.space, x)
        root = jax.tree.map(lambda h, s: jnp.sqrt(h) * s, h, score)
        return jax.tree.map(jnp.multiply, h, score), root

    return field


def slope_along(
    field: Callable[[State], tuple[State, State]], x: State, direction: State
) -> tuple[Float[Array, ""], State]:
    """v . (dF/dx) v of a field F by one forward derivative, and the field's second value."""
    _, moved, root = jax.jvp(field, (x,), (direction,), has_aux=True)
    return dot(direction, moved), root


def dot(a: State, b: State) -> Float[Array, ""]:
    """The sum of products, entry by entry."""
    products = jax.tree.map(lambda a, b: jnp.sum(a * b), a, b)
    return jnp.sum(jnp.stack(jax.tree.leaves(products)))


def signs_like(x: State, key: Key[Array, ""]) -> State:
    """Independent signs for every entry of x, one key a part."""
    leaves, rebuild = jax.tree.flatten(x)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.rademacher(k, leaf.shape, leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(rebuild, drawn)


def _weights(space: Any, x: Any) -> Any:
    if isinstance(space, Joint):
        return {name: _weights(part, x[name]) for name, part in space.parts.items()}
    if isinstance(space, Clamped):
        inner = _weights(space.space, x)
        return jax.tree.map(lambda held, h: jnp.where(held, 0.0, h), space.mask, inner)
    if not isinstance(space, Box):
        return jnp.ones_like(x)
    has_low, has_high = jnp.isfinite(space.low), jnp.isfinite(space.high)
    low, high = jnp.where(has_low, space.low, 0.0), jnp.where(has_high, space.high, 0.0)
    width = jnp.where(has_low & has_high, high - low, 1.0)
    one_end = jnp.where(has_low, x - low, jnp.where(has_high, high - x, 1.0))
    return jnp.where(has_low & has_high, (x - low) * (high - x) / width, one_end)
