"""Everything, by listing every state."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from energax.energies import AbstractBipartite, AbstractEnergy, unfreeze
from energax.exact._streaming import LARGEST, log_sum_exp
from energax.spaces import AbstractDiscreteSpace, AbstractSpace, State

_BLOCK_BYTES = 4 << 20
"""States are listed in blocks of about this size: what a core's second-level cache holds a few
times over (see benchmarks/enumeration.py)."""


def n_enumerated(energy: AbstractEnergy) -> int | None:
    """How many states `log_partition_enumerated` would list; `None` if it cannot.

    For a bipartite energy that is the smaller layer's number of states.
    """
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
            f" {_count(energy.space) or 'infinitely many'} and the limit is 2^32"
        )
    if isinstance(energy, AbstractBipartite) and n == _hidden_count(energy):
        hidden, log_value = energy.hidden_space, energy.hidden_log_density
        width = _width(energy.space) + _width(hidden)
        return log_sum_exp(
            lambda i: log_value(_listed(hidden).state(i)), n, block=block or _block(width)
        )
    space = _listed(energy.space)
    return log_sum_exp(
        lambda i: energy.log_density(space.state(i)), n, block=block or _block(_width(space))
    )


def all_states(space: AbstractSpace) -> State:
    """Every state of a small discrete space, stacked on a leading axis in the order of `state`.

    **Raises:** `ValueError` for a continuous space or more than 2^24 states.
    """
    n = _count(space)
    if n is None or n > 2**24:
        raise ValueError(f"{space} has {n or 'infinitely many'} states: too many to hold at once")
    return jax.vmap(_listed(space).state)(jnp.arange(n, dtype=jnp.uint32))


def probabilities(energy: AbstractEnergy) -> Float[Array, " states"]:
    """p(x) of every state of a small discrete space, in the order of `all_states`."""
    return jax.nn.softmax(jax.vmap(energy.log_density)(all_states(energy.space)))


def expectation(energy: AbstractEnergy, function: Callable[[State], Any] | None = None) -> Any:
    """E_p[function(x)] by enumeration; the mean state if `function` is `None`.

    **Returns:** what `function` returns, averaged; integers are averaged as floats.
    """
    weights = probabilities(energy)
    values = all_states(energy.space)
    if function is not None:
        values = jax.vmap(function)(values)
    return jax.tree.map(
        lambda leaf: jnp.tensordot(weights, leaf.astype(weights.dtype), axes=1), values
    )


def draw_enumerated(energy: AbstractEnergy, n: int, *, key: Key[Array, ""]) -> State:
    """`n` exact, independent draws by listing every state, stacked on a leading axis."""
    states = all_states(energy.space)
    cumulative = jnp.cumsum(probabilities(energy))
    at = jax.random.uniform(key, (n,), cumulative.dtype) * cumulative[-1]
    index = jnp.minimum(jnp.searchsorted(cumulative, at, side="right"), cumulative.size - 1)
    return jax.tree.map(lambda leaf: leaf[index], states)


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
