"""What the factors around a variable say of each of its states, given the others."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

_FORBIDDEN = 1e30
"""Stands for +inf in sums over a variable's factors: from a state that breaks several rules, the
states that break the fewest are drawn, and one that breaks none is drawn as if there were no
others."""


def conditional_energies(
    variables: Int[Array, "factors arity"],
    table: Float[Array, "..."],
    slots: Int[Array, "rows most"],
    x: Int[Array, " variables"],
    n_states: int,
) -> Float[Array, "rows states"]:
    """The sum over one group's factors around each row's variable, for every state of it.

    **Arguments:**

    - `variables`, `table`: of the group, as `FactorGraph` holds them.
    - `slots`: the places that each row's variable takes in factors; see `_slots.py`.
    """
    n_factors, arity = variables.shape
    counts = np.asarray(table.shape[1:], np.int32)
    strides = np.append(np.cumprod(counts[:0:-1])[::-1], 1).astype(np.int32)
    ragged = bool((counts != n_states).any())

    def offset(states: Array, position: Array) -> Array:
        if ragged:  # values that a variable does not have are energies of no meaning
            states = jnp.minimum(states, jnp.asarray(counts)[position] - 1)
        return states * jnp.asarray(strides)[position]

    used = slots < n_factors * arity
    slot = jnp.where(used, slots, 0)
    factor, position = slot // arity, slot % arity
    start = factor * int(counts.prod()) if len(table) == n_factors else jnp.zeros_like(factor)
    own = jnp.arange(n_states, dtype=jnp.int32).reshape(1, 1, -1)
    start = start[..., None] + offset(own, position[..., None])
    # The factor's other variables: they stand after this one, and round again.
    steps = jnp.arange(1, arity, dtype=jnp.int32).reshape(1, 1, -1)
    other = (position[..., None] + steps) % arity
    around = x[variables[factor[..., None], other]]
    place = start + jnp.sum(offset(around, other), -1, jnp.int32)[..., None]
    found = jnp.minimum(table.reshape(-1)[place], _FORBIDDEN)
    return jnp.sum(jnp.where(used[..., None], found, 0.0), 1)


def draw_states(energies: Float[Array, "rows states"], key: Key[Array, ""]) -> Int[Array, " rows"]:
    """A state of each row, with probability proportional to exp(-energy), from one uniform number.

    A state of energy `+inf` is never drawn, unless there is no other.
    """
    weights = jnp.exp(jnp.min(energies, -1, keepdims=True) - energies)
    sums = [weights[:, 0]]
    for state in range(1, energies.shape[-1]):  # in order: nothing added leaves a sum as it was
        sums.append(sums[-1] + weights[:, state])
    uniform = jax.random.uniform(key, sums[0].shape, sums[0].dtype)
    drawn = jnp.zeros(sums[0].shape, jnp.int32)
    for below in sums[:-1]:
        # A uniform number counts as the middle of its interval, as in `energax.random.bernoulli`.
        edge = below / sums[-1] - jnp.finfo(below.dtype).eps / 2
        drawn = drawn + jnp.where(uniform < edge, 0, 1).astype(jnp.int32)
    last = energies.shape[-1] - 1 - jnp.argmax(weights[:, ::-1] > 0, -1).astype(jnp.int32)
    return jnp.minimum(drawn, last)
