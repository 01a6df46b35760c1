"""A run of chains as rows that are filled one after the other, in one go or in several.

What fills a row depends on the row's number and on where the chains stand, and not on where the
filling last stopped: chunks of any length give the bits that one go gives.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from energax.energies import AbstractEnergy
from energax.kernels import (
    AbstractKernel,
    energies_of,
    no_acceptance,
    start_chains,
    tune_chains,
    walk,
)
from energax.sampling._collect import AbstractCollector, outputs_of
from energax.sampling._walk import walk_chains
from energax.spaces import State

TRACE = 1024
"""Energies kept of a chain whose draws are summarised on the fly: enough for an R-hat."""


class Rows(eqx.Module):
    """What is kept, a row a draw; with a collector a row a stretch of draws."""

    kept: Any
    """x of every draw, or a function of it: axes (chain, row, ...); `None` with a collector."""
    energy: Float[Array, "chains rows"]
    """E of every row's last draw."""
    acceptance: Float[Array, "chains rows"]
    """Of every row's draws, summed."""


class Begun(eqx.Module):
    """A run of chains after its warm-up, or after some of its rows."""

    start_energy: Float[Array, " chains"]
    """E where each chain started."""
    kernel: AbstractKernel
    """The kernel as the warm-up tuned it."""
    states: Any
    """The kernel's states, one a chain."""
    memory: Any
    """A collector's, else `None`."""
    key: Key[Array, ""]
    """Of the draws to come: draw i has `fold_in(key, i)`."""


def n_rows_of(n_draws: int | Int[Array, ""], collect: Any) -> int:
    """How many rows a run of so many draws a chain has."""
    if isinstance(collect, AbstractCollector):
        return min(n_draws, TRACE) if isinstance(n_draws, int) else TRACE
    assert isinstance(n_draws, int), "without a collector the number of draws is known"
    return n_draws


def draws_in(n_rows: Any, n_draws: Any, n_rows_in_all: int) -> Any:
    """How many draws a chain the first rows stand for: stretches are as even as can be, the first
    ones longer."""
    size, longer = n_draws // n_rows_in_all, n_draws % n_rows_in_all
    least = jnp.minimum if isinstance(n_draws, jax.Array) else np.minimum
    return n_rows * size + least(n_rows, longer)


def begin(
    energy: AbstractEnergy,
    kernel: AbstractKernel,
    x: State,
    key: Key[Array, ""],
    *,
    n_rows: int,
    warmup: Array,
    collect: Any,
) -> tuple[Begun, Rows]:
    """Start chains at `x`, warm them up, and make room for rows."""
    key_init, key_warm, key_run = jax.random.split(key, 3)
    start_energy = jax.vmap(energy.energy)(x)
    states = start_chains(energy, kernel, x, key_init)
    kernel, states = tune_chains(energy, kernel, states, warmup, key_warm)
    memory = kept = None
    if isinstance(collect, AbstractCollector):
        memory = jax.tree.map(jnp.asarray, jax.vmap(collect.init)(states.x))
    else:
        kept = jax.eval_shape(lambda x: _kept(collect, x), states.x)
    like = jax.eval_shape(lambda states: energies_of(energy, kernel, states), states)
    none = no_acceptance(energy, kernel, states, key_run)

    def room(leaf: Any) -> Array:
        return jnp.zeros((leaf.shape[0], n_rows, *leaf.shape[1:]), leaf.dtype)

    rows = Rows(jax.tree.map(room, kept), room(like), room(none))
    # Types as they come out of a loop: going on is then the program that beginning was.
    states, memory = jax.tree.map(_strong, (states, memory))
    return Begun(start_energy, kernel, states, memory, key_run), rows


def fill(
    energy: AbstractEnergy,
    begun: Begun,
    rows: Rows,
    first: Any,
    last: Any,
    *,
    n_draws: Any,
    thin: Array,
    collect: Any,
) -> tuple[Begun, Rows]:
    """Fill the rows from `first` up to `last`, both of which may be traced."""
    row = _summarise if isinstance(collect, AbstractCollector) else _keep
    kernel, key = begun.kernel, begun.key
    n_rows = rows.energy.shape[1]

    def body(number, carry):
        states, memory, rows = carry
        states, memory, one = row(
            energy, kernel, states, memory, key, number, n_draws, n_rows, thin, collect
        )
        every = rows.kept, rows.energy, rows.acceptance
        every = jax.tree.map(
            lambda leaf, new: lax.dynamic_update_index_in_dim(leaf, new, number, 1), every, one
        )
        return states, memory, Rows(*every)

    carry = begun.states, begun.memory, rows
    states, memory, rows = lax.fori_loop(first, last, body, carry)
    return Begun(begun.start_energy, kernel, states, memory, key), rows


def _keep(
    energy, kernel, states, memory, key, number, n_draws, n_rows, thin, collect
) -> tuple[Any, Any, tuple[Any, Array, Array]]:
    """A draw, or a function of it."""
    walked = walk_chains(energy, kernel, states, thin, jax.random.fold_in(key, number))
    kept = _kept(collect, walked.states.x)
    return walked.states, memory, (kept, walked.energy, walked.acceptance)


def _summarise(
    energy, kernel, states, memory, key, number, n_draws, n_rows, thin, collector
) -> tuple[Any, Any, tuple[Any, Array, Array]]:
    """A stretch of draws, of which the last energy is kept."""
    n_draws = jnp.asarray(n_draws, jnp.int32)
    update = jax.vmap(collector.update, in_axes=(0, 0, None, None))

    def draw(index, carry):
        states, memory, total = carry
        states, acceptance = walk(energy, kernel, states, thin, jax.random.fold_in(key, index))
        memory = jax.tree.map(jnp.asarray, update(memory, states.x, index, n_draws))
        return states, memory, total + acceptance

    first, last = (draws_in(n, n_draws, n_rows) for n in (number, number + 1))
    none = no_acceptance(energy, kernel, states, key)
    states, memory, total = lax.fori_loop(first, last, draw, (states, memory, none))
    return states, memory, (None, energies_of(energy, kernel, states), total)


def _kept(collect: Any, x: State) -> Any:
    return x if collect is None else jax.vmap(lambda x: outputs_of(collect, x))(x)


def _strong(leaf: Array) -> Array:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return leaf if is_key else jnp.asarray(leaf, leaf.dtype)
