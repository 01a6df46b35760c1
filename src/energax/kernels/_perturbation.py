"""Small symmetric changes of a state, for every space."""

from functools import singledispatch
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from energax.random import normal
from energax.spaces import (
    AbstractSpace,
    Binary,
    Box,
    Categorical,
    Clamped,
    Count,
    Joint,
    Real,
    Spin,
    State,
)


@singledispatch
def perturb(
    space: AbstractSpace, x: State, step_size: Float[Array, ""], key: Key[Array, ""]
) -> State:
    """A state near x, as likely to lead from y to x as from x to y.

    Normal noise of standard deviation `step_size` on real entries; one entry changed to another
    value on discrete ones; one part, chosen at random, of a `Joint`. A change may leave the
    space (a `Box`, a `Count` below zero): the caller rejects it.
    """
    raise ValueError(f"no perturbation is known for {type(space).__name__}")


@perturb.register(Real)
@perturb.register(Box)
def _(space: Any, x: Array, step_size: Array, key: Key[Array, ""]) -> Array:
    return x + step_size * normal(key, x.shape, x.dtype)


@perturb.register
def _(space: Binary, x: Array, step_size: Array, key: Key[Array, ""]) -> Array:
    return _at_one_entry(x, key, lambda value, _: 1 - value)


@perturb.register
def _(space: Spin, x: Array, step_size: Array, key: Key[Array, ""]) -> Array:
    return _at_one_entry(x, key, lambda value, _: -value)


@perturb.register
def _(space: Categorical, x: Array, step_size: Array, key: Key[Array, ""]) -> Array:
    def other(value, key):
        jump = jax.random.randint(key, (), 1, max(space.n_states, 2), value.dtype)
        return (value + jump) % space.n_states

    return _at_one_entry(x, key, other)


@perturb.register
def _(space: Count, x: Array, step_size: Array, key: Key[Array, ""]) -> Array:
    if space.total is None:

        def up_or_down(value, key):
            return value + jax.random.rademacher(key, (), value.dtype)

        return _at_one_entry(x, key, up_or_down)
    # The sum is fixed: a unit moves from one cell to another.
    key_from, key_to = jax.random.split(key)
    flat = x.reshape(-1)
    source = jax.random.randint(key_from, (), 0, flat.size)
    target = (source + jax.random.randint(key_to, (), 1, max(flat.size, 2))) % flat.size
    return flat.at[source].add(-1).at[target].add(1).reshape(x.shape)


@perturb.register
def _(space: Clamped, x: State, step_size: Array, key: Key[Array, ""]) -> State:
    return space.clamp(perturb(space.space, x, step_size, key))


@perturb.register
def _(space: Joint, x: dict[str, Any], step_size: Array, key: Key[Array, ""]) -> dict[str, Any]:
    key_part, *keys = jax.random.split(key, len(space.parts) + 1)
    chosen = jax.random.randint(key_part, (), 0, len(space.parts))
    changed = {}
    for i, ((name, part), part_key) in enumerate(zip(space.parts.items(), keys, strict=True)):
        moved = perturb(part, x[name], step_size, part_key)
        changed[name] = jax.tree.map(
            lambda new, old, here=(chosen == i): jnp.where(here, new, old), moved, x[name]
        )
    return changed


def _at_one_entry(x: Array, key: Key[Array, ""], change: Any) -> Array:
    key_site, key_value = jax.random.split(key)
    flat = x.reshape(-1)
    site = jax.random.randint(key_site, (), 0, flat.size)
    return flat.at[site].set(change(flat[site], key_value)).reshape(x.shape)
