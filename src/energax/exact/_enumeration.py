"""Everything, by listing every state."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from energax.energies import AbstractBipartite, AbstractEnergy, unfreeze
from energax.energies._streaming import LARGEST, log_sum_exp
from energax.spaces import AbstractDiscreteSpace, AbstractSpace, State

_BLOCK_BYTES = 4 << 20
"""States are listed in blocks of about this size: what a core's second-level cache holds a few
times over (see benchmarks/enumeration.py)."""


def n_enumerated(energy: AbstractEnergy) -> int | None:
    """How many states `log_partition_enumerated` would list; `None` if it cannot.

    For a bipartite energy that is the smaller layer's number of states.
    """
    energy = unfreeze(energy)
    counts = [n for n in (_count(energy.space), _hidden_count(energy)) if n is not None]
    counts = [n for n in counts if n <= LARGEST]
    return min(counts) if counts else None


def log_partition_enumerated(
    energy: AbstractEnergy, *, block: int | None = None
) -> Float[Array, ""]:
    """log Z = log sum_x exp(-E(x)) over every state, block by block.

    A bipartite energy (an RBM) is summed over its smaller layer. Differentiable in the energy's
    parameters: the gradient is minus the expected gradient of E, exactly.

    **Arguments:**

    - `energy`: over a discrete space of at most 2^32 states (or with such a hidden layer).
    - `block`: states at a time; chosen by their size if `None`.

    **Returns:** a scalar, in nats.

    **Raises:** `ValueError` if there are too many states or infinitely many.
    """
    if block is not None and block < 1:
        raise ValueError(f"block must be a positive number of states, got {block}")
    energy = unfreeze(energy)
    n = n_enumerated(energy)
    if n is None:
        raise ValueError(
            f"the states of {type(energy).__name__} cannot be listed: there are"
            f" {_in_words(_count(energy.space))} and the limit is 2^32"
        )
    log_value, listed, width = energy.log_density, energy.space, _width(energy.space)
    if isinstance(energy, AbstractBipartite) and n == _hidden_count(energy):
        log_value, listed = energy.hidden_log_density, energy.hidden_space
        width += _width(listed)
    space = _listed(listed)
    # Accelerators multiply in fewer bits unless told otherwise.
    with jax.default_matmul_precision("highest"):
        return log_sum_exp(lambda i: log_value(space.state(i)), n, block=block or _block(width))


def all_states(space: AbstractSpace) -> State:
    """Every state of a small discrete space, stacked on a leading axis in the order of `state`.

    **Raises:** `ValueError` for a continuous space or more than 2^24 states.
    """
    n = _count(space)
    if n is None or n > 2**24:
        raise ValueError(f"{space} has {_in_words(n)} states: too many to hold at once")
    return jax.vmap(_listed(space).state)(jnp.arange(n, dtype=jnp.uint32))


def probabilities(energy: AbstractEnergy) -> Float[Array, " states"]:
    """p(x) of every state of a small discrete space, in the order of `all_states`."""
    with jax.default_matmul_precision("highest"):
        return jax.nn.softmax(jax.vmap(energy.log_density)(all_states(energy.space)))


def expectation(energy: AbstractEnergy, function: Callable[[State], Any] | None = None) -> Any:
    """E_p[function(x)] by enumeration; the mean state if `function` is `None`.

    States of probability 0 do not count, even where the function is infinite, as the energy is.

    **Returns:** what `function` returns, averaged; integers are averaged as floats.
    """
    weights = probabilities(energy)
    values = all_states(energy.space)
    if function is not None:
        values = jax.vmap(function)(values)

    def mean(leaf: Array) -> Array:
        leaf = leaf.astype(weights.dtype)
        possible = jnp.expand_dims(weights != 0, tuple(range(1, leaf.ndim)))  # NaN is no 0
        return jnp.tensordot(weights, jnp.where(possible, leaf, 0.0), axes=1)

    return jax.tree.map(mean, values)


def draw_enumerated(energy: AbstractEnergy, n: int, *, key: Key[Array, ""]) -> State:
    """`n` independent draws by listing every state, stacked on a leading axis.

    Exact apart from rounding: a state's probability is off by about 2^-23 of that of its row, the
    states being drawn in two stages, a row of a square table and then a state in it. Where the
    energy of some state is NaN or `-inf` there is no distribution, and that state is every draw,
    for whoever looks at its energy to see.
    """
    states = all_states(energy.space)
    with jax.default_matmul_precision("highest"):
        log_p = jax.vmap(energy.log_density)(states)
    failed = jnp.isnan(log_p) | (log_p == jnp.inf)
    n_columns = 1 << ((log_p.size - 1).bit_length() + 1) // 2
    n_rows = -(-log_p.size // n_columns)
    padded = (
        jnp.zeros((n_rows * n_columns,), log_p.dtype).at[: log_p.size].set(jax.nn.softmax(log_p))
    )
    within = _running_sums(padded.reshape(n_rows, n_columns))
    rows = _running_sums(within[None, :, -1])[0]
    key_row, key_column = jax.random.split(key)
    row = _first_above(rows, jnp.zeros((n,), jnp.int32), n_rows, key_row)
    column = _first_above(within.reshape(-1), row * n_columns, n_columns, key_column)
    drawn, first_failed = row * n_columns + column, jnp.argmax(failed).astype(row.dtype)
    index = jnp.where(jnp.any(failed), first_failed, drawn)
    return jax.tree.map(lambda leaf: leaf[index], states)


def _running_sums(table: Float[Array, "rows columns"]) -> Float[Array, "rows columns"]:
    """Along each row, one entry after another: nothing added leaves a sum exactly as it was."""

    def step(sums: Array, column: Array) -> tuple[Array, Array]:
        sums = sums + column
        return sums, sums

    return lax.scan(step, jnp.zeros_like(table[:, 0]), table.T)[1].T


def _first_above(
    cumulative: Float[Array, " entries"], first: Int[Array, " n"], length: int, key: Key[Array, ""]
) -> Int[Array, " n"]:
    """An entry of each stretch of `cumulative`, drawn by the stretch's increments.

    The stretches are `length` long and start at `first`. An entry without an increment is never
    drawn, whatever the rounding.
    """
    end = cumulative[first + length - 1]
    at = jax.random.uniform(key, first.shape, cumulative.dtype) * end
    at = jnp.minimum(at, jnp.nextafter(end, jnp.zeros_like(end)))
    found = jnp.zeros_like(first)
    step = 1 << max(length - 1, 0).bit_length()
    while step := step // 2:
        probe = jnp.minimum(found + step, length)
        found = jnp.where(cumulative[first + probe - 1] <= at, probe, found)
    return found


def _in_words(count: int | None) -> str:
    if count is None:
        return "infinitely many (or not known while compiling)"
    return str(count) if count < 10**15 else f"about 10^{math.log10(count):.0f}"


def _count(space: AbstractSpace) -> int | None:
    return space.cardinality if space.is_discrete else None


def _hidden_count(energy: AbstractEnergy) -> int | None:
    return _count(energy.hidden_space) if isinstance(energy, AbstractBipartite) else None


def _listed(space: AbstractSpace) -> AbstractDiscreteSpace:
    if not isinstance(space, AbstractDiscreteSpace) or not space.is_discrete:
        raise ValueError(f"the states of {space} cannot be listed")
    return space


def _width(space: AbstractSpace) -> int:
    return sum(
        int(np.prod(leaf.shape, dtype=int)) or 1 for leaf in jax.tree.leaves(space.structure)
    )


def _block(width: int) -> int:
    return max(256, min(1 << 16, _BLOCK_BYTES // (4 * width)))
