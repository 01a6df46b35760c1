"""Chains inside a training step: their steps, and what these say."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels import (
    AbstractKernel,
    RandomWalkMetropolis,
    ReplicaExchange,
    step_chains,
)
from energax.kernels._base import as_kernel
from energax.sampling import default_kernel
from energax.spaces import State, float_dtype

_LOOKED_AT = 32
"""Chains that are asked whether they have moved."""


def advance(
    energy: AbstractEnergy, kernel: AbstractKernel, chains: Any, n_steps: int, key: Key[Array, ""]
) -> tuple[Any, dict[str, Float[Array, ""]]]:
    """`n_steps` steps of every chain, and measures of them; the last step stands outside the loop.

    `acceptance` is that of the last step; `dead_chains` the share of chains that are at the end
    where they were before: those that are stuck, if `n_steps` are enough to move.

    Outside, the compiler sees that the gradient needs the very products which the last step has
    just made for the chains' new states, and makes them once.
    """
    before = chains.x

    def key_of(i: Any) -> Key[Array, ""]:
        return jax.random.fold_in(key, i)

    if n_steps > 1:

        def body(i: Array, chains: Any) -> Any:
            return step_chains(energy, kernel, chains, key_of(i))[0]

        chains = lax.fori_loop(0, n_steps - 1, body, chains)
    chains, info = step_chains(energy, kernel, chains, key_of(n_steps - 1))
    measures = {"acceptance": info.acceptance.mean(), "dead_chains": _unmoved(before, chains.x)}
    return chains, measures


def _unmoved(before: State, after: State) -> Float[Array, ""]:
    """The share of states of which not one entry differs, of at most `_LOOKED_AT`, evenly spread.

    Not of all: the compiler makes the states it compares a second time, random numbers included.
    """

    def same(a: Array, b: Array) -> Array:
        stride = -(-len(a) // _LOOKED_AT)
        a, b = a[::stride], b[::stride]
        return jnp.all((a == b).reshape(len(a), -1), -1)

    leaves = jax.tree.leaves(jax.tree.map(same, before, after))
    return jnp.mean(jnp.all(jnp.stack(leaves), 0), dtype=float_dtype())


def calmed(
    energy: AbstractEnergy,
    objective: Any,
    factor: Float[Array, ""],
    default: Callable[[AbstractEnergy], AbstractKernel] = default_kernel,
) -> Any:
    """An objective whose field `kernel` takes steps `factor` times as long."""
    kernel = default(energy) if objective.kernel is None else objective.kernel
    moves = kernel.kernel if isinstance(kernel, ReplicaExchange) else kernel
    if energy.space.is_discrete and isinstance(moves, RandomWalkMetropolis):
        return objective  # whose steps have no size there
    shorter = kernel.calmed(factor)
    if shorter is kernel:
        return objective
    return eqx.tree_at(lambda o: o.kernel, objective, shorter, is_leaf=lambda node: node is None)


def check_moves(energy: AbstractEnergy, kernel: AbstractKernel | None) -> None:
    """Raise `ValueError` if the kernel cannot move on the energy."""
    as_kernel(default_kernel(energy) if kernel is None else kernel).check(energy)
