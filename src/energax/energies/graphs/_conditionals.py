"""What the factors around a variable say of each of its states, given the others."""

from itertools import accumulate
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_FORBIDDEN = 1e30
"""Stands for +inf in sums over a variable's factors: from a state that breaks several rules, the
states that break the fewest are drawn, and one that breaks none is drawn as if there were no
others."""


_FEW = 16
"""Of tables of up to so many numbers, many chains side by side choose with arithmetic, which on a
CPU costs a fraction of a place to read for each."""


def conditional_energies(
    variables: Int[Array, "factors arity"],
    table: Float[Array, "..."],
    slots: Int[Array, "rows most"],
    x: Int[Array, "variables *chains"],
    n_states: int,
) -> Float[Array, "states rows *chains"]:
    """The sum over one group's factors around each row's variable, for every state of it.

    **Arguments:**

    - `variables`, `table`: of the group, as `FactorGraph` holds them.
    - `slots`: the places that each row's variable takes in factors; see `_slots.py`.
    """
    n_factors, arity = variables.shape
    n_axes = x.ndim - 1
    counts = np.asarray(table.shape[1:], np.int32)
    strides = np.append(np.cumprod(counts[:0:-1])[::-1], 1).astype(np.int32)
    ragged = bool((counts != n_states).any())

    def side_by_side(a: Array) -> Array:
        return a.reshape(*a.shape, *[1] * n_axes)

    def offset(states: Array, position: Array) -> Array:
        if ragged:  # values that a variable does not have are energies of no meaning
            states = jnp.minimum(states, jnp.asarray(counts)[position] - 1)
        return states * jnp.asarray(strides)[position]

    used = slots < n_factors * arity
    slot = jnp.where(used, slots, 0)
    factor, position = slot // arity, slot % arity
    start = factor * int(counts.prod()) if len(table) == n_factors else jnp.zeros_like(factor)
    own = jnp.arange(n_states, dtype=jnp.int32).reshape(-1, 1, 1)
    start = start[None] + offset(own, position[None])
    # The factor's other variables: they stand after this one, and round again.
    steps = jnp.arange(1, arity, dtype=jnp.int32).reshape(1, 1, -1)
    other = (position[..., None] + steps) % arity
    around = x[variables[factor[..., None], other]]
    flat = table.reshape(-1)
    if n_axes == 0 or arity == 1 or n_states**arity > _FEW:
        there = jnp.sum(offset(around, side_by_side(other)), 2, jnp.int32)
        found = jnp.minimum(flat[side_by_side(start) + there[None]], _FORBIDDEN)
    else:
        digits = np.indices((n_states,) * (arity - 1), np.int32).reshape(arity - 1, -1)
        radix = n_states ** np.arange(arity - 1, dtype=np.int32)[::-1].reshape(1, 1, -1)
        code = jnp.sum(around * side_by_side(jnp.asarray(radix)), 2, jnp.int32)[None]
        found = jnp.zeros((n_states, *code.shape[1:]), flat.dtype)
        for number, states in enumerate(digits.T):
            there = jnp.sum(offset(jnp.asarray(states).reshape(1, 1, -1), other), -1, jnp.int32)
            known = jnp.minimum(flat[start + there[None]], _FORBIDDEN)
            found = jnp.where(code == number, side_by_side(known), found)
    return jnp.sum(jnp.where(side_by_side(used)[None], found, 0.0), 2)


def draw_states(energies: Float[Array, "states *rows"], uniform: Any) -> Int[Array, "*rows"]:
    """A state of each row, with probability proportional to exp(-energy), from one uniform number.

    A state of energy `+inf` is never drawn, unless there is no other.
    """
    least = jnp.min(energies, 0)
    weights = [jnp.exp(least - each) for each in energies]
    last = jnp.zeros(energies.shape[1:], jnp.int32)
    for state, weight in enumerate(weights):
        last = jnp.where(weight > 0, state, last)
    return jnp.minimum(draw_by_weight(weights, uniform), last)


def draw_by_weight(weights: list[Float[Array, "*rows"]], uniform: Any) -> Int[Array, "*rows"]:
    """A state of each row, with probability proportional to its weight, from one uniform number.

    A state of weight 0 is not drawn where another has some.
    """
    # One array a state, added up in turn: XLA joins it all into one loop, which it would not do
    # with a cumulative sum along an axis, and nothing added leaves a sum as it was.
    sums = list(accumulate(weights))
    drawn = jnp.zeros(sums[0].shape, jnp.int32)
    for below in sums[:-1]:
        # A uniform number counts as the middle of its interval, as in `energax.random.bernoulli`.
        edge = below / sums[-1] - jnp.finfo(below.dtype).eps / 2
        drawn = drawn + jnp.where(uniform < edge, 0, 1).astype(jnp.int32)
    return drawn
