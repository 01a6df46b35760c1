"""Small symmetric changes of a state, for every space."""

import math
from functools import singledispatch
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from energax.random import categorical, normal
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

Held = Any
"""Where observed values are held, an array of the shape of x; of a `Joint` a dictionary, and
`None` where nothing is."""


def perturb(
    space: AbstractSpace, x: State, step_size: Float[Array, ""], key: Key[Array, ""]
) -> State:
    """A state near x, as likely to lead from y to x as from x to y.

    Normal noise of standard deviation `step_size` on real entries; one entry changed to another
    value on discrete ones; one part, chosen at random, of a `Joint`. What is held at an observed
    value is never chosen. A change may leave the space (a `Box`, a `Count` below zero): the caller
    rejects it.
    """
    return space.clamp(_changed(space, x, None, step_size, key))


def entries_changed(space: AbstractSpace, x: State, y: State) -> Bool[Array, ""]:
    """Whether y differs from x in a discrete entry."""
    if isinstance(space, Joint):
        each = [entries_changed(part, x[name], y[name]) for name, part in space.parts.items()]
        return jnp.any(jnp.stack(each))
    if isinstance(space, Clamped):
        return entries_changed(space.space, x, y)
    return jnp.any(x != y) if space.is_discrete else jnp.zeros((), bool)


def real_dimensions(space: AbstractSpace) -> list[Int[Array, ""]]:
    """Of every array of real entries, how many are free."""
    return _real_dimensions(space, None)


def _real_dimensions(space: Any, held: Held) -> list[Int[Array, ""]]:
    if isinstance(space, Joint):
        parts = space.parts.items()
        return [n for name, part in parts for n in _real_dimensions(part, _part(held, name))]
    if isinstance(space, Clamped):
        return _real_dimensions(space.space, _both(held, space.mask))
    if space.is_discrete:
        return []
    free = jnp.ones(space.structure.shape, bool) if held is None else ~held
    return [jnp.sum(free, dtype=jnp.int32)]


@singledispatch
def _changed(space: Any, x: State, held: Held, step_size: Array, key: Key[Array, ""]) -> State:
    raise ValueError(f"no perturbation is known for {type(space).__name__}")


@_changed.register(Real)
@_changed.register(Box)
def _(space: Any, x: Array, held: Held, step_size: Array, key: Key[Array, ""]) -> Array:
    return x + step_size.astype(x.dtype) * normal(key, x.shape, x.dtype)


@_changed.register
def _(space: Binary, x: Array, held: Held, step_size: Array, key: Key[Array, ""]) -> Array:
    return _at_one_entry(x, held, key, lambda value, _: 1 - value)


@_changed.register
def _(space: Spin, x: Array, held: Held, step_size: Array, key: Key[Array, ""]) -> Array:
    return _at_one_entry(x, held, key, lambda value, _: -value)


@_changed.register
def _(space: Categorical, x: Array, held: Held, step_size: Array, key: Key[Array, ""]) -> Array:
    def other(value, key):
        jump = jax.random.randint(key, (), 1, max(space.n_states, 2), value.dtype)
        return (value + jump) % space.n_states

    return _at_one_entry(x, held, key, other)


@_changed.register
def _(space: Count, x: Array, held: Held, step_size: Array, key: Key[Array, ""]) -> Array:
    if space.total is None:

        def up_or_down(value, key):
            return value + jax.random.rademacher(key, (), value.dtype)

        return _at_one_entry(x, held, key, up_or_down)
    # The sum is fixed: a unit moves from one cell to another.
    key_from, key_to = jax.random.split(key)
    flat = x.reshape(-1)
    source = jax.random.randint(key_from, (), 0, flat.size)
    target = (source + jax.random.randint(key_to, (), 1, max(flat.size, 2))) % flat.size
    return flat.at[source].add(-1).at[target].add(1).reshape(x.shape)


@_changed.register
def _(space: Clamped, x: State, held: Held, step_size: Array, key: Key[Array, ""]) -> State:
    return _changed(space.space, x, _both(held, space.mask), step_size, key)


@_changed.register
def _(space: Joint, x: dict, held: Held, step_size: Array, key: Key[Array, ""]) -> dict[str, Any]:
    key_part, *keys = jax.random.split(key, len(space.parts) + 1)
    movable = [_may_move(part, _part(held, name)) for name, part in space.parts.items()]
    free = None if all(m is True for m in movable) else jnp.stack([jnp.asarray(m) for m in movable])
    chosen, _ = _one_of(free, len(movable), key_part)
    changed = {}
    for i, ((name, part), part_key) in enumerate(zip(space.parts.items(), keys, strict=True)):
        moved = _changed(part, x[name], _part(held, name), step_size, part_key)
        changed[name] = jax.tree.map(
            lambda new, old, here=(chosen == i): jnp.where(here, new, old), moved, x[name]
        )
    return changed


def _at_one_entry(x: Array, held: Held, key: Key[Array, ""], change: Any) -> Array:
    key_site, key_value = jax.random.split(key)
    flat = x.reshape(-1)
    site, free = _one_of(None if held is None else ~held.reshape(-1), flat.size, key_site)
    value = change(flat[site], key_value)
    value = value if free is None else jnp.where(free, value, flat[site])
    return flat.at[site].set(value).reshape(x.shape)


def _one_of(
    free: Bool[Array, " choices"] | None, n: int, key: Key[Array, ""]
) -> tuple[Int[Array, ""], Bool[Array, ""] | None]:
    """One of the free choices, and whether there is one; `None` says that all are."""
    if free is None:
        return jax.random.randint(key, (), 0, n), None
    chosen = categorical(key, jnp.where(free, 0.0, -jnp.inf))
    return chosen, free[chosen]  # of no free choice it is the first


def _may_move(space: Any, held: Held) -> Bool[Array, ""] | bool:
    """Whether any entry is free, and has another value to go to."""
    if isinstance(space, Joint):
        each = [_may_move(part, _part(held, name)) for name, part in space.parts.items()]
        known = any(m is True for m in each)
        return True if known else jnp.any(jnp.stack([jnp.asarray(m) for m in each]))
    if isinstance(space, Clamped):
        return _may_move(space.space, _both(held, space.mask))
    if isinstance(space, Categorical) and space.n_states == 1:
        return False
    if isinstance(space, Count) and space.total is not None and math.prod(space.shape) < 2:
        return False
    return True if held is None else jnp.any(~held)


def _both(held: Held, mask: Held) -> Held:
    return mask if held is None else jax.tree.map(jnp.logical_or, held, mask)


def _part(held: Held, name: str) -> Held:
    return None if held is None else held[name]
