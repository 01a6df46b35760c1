"""Dense graphs: the fields of a block of nodes by one matrix product, the nodes in turn."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from energax.energies.graphs._graph import Graph
from energax.energies.graphs._site_rule import SiteRule

_WIDTH = 32
"""Nodes a block: what is added between them is small beside the product."""


def sweep_dense(
    rule: SiteRule,
    graph: Graph,
    coupling: Array,
    field: Array,
    x: Array,
    key: Key[Array, ""],
    held: Array | None,
) -> Array:
    """Every node redrawn once, in the order of their numbers. Arguments as for `sweep`.

    A block's fields are those at its start; what its nodes change is added as they change, from
    the part of the matrix that joins them to each other. Many chains share the products.
    """
    n = graph.n_nodes
    width = min(_WIDTH, n)
    n_blocks = -(-n // width)
    more = n_blocks * width - n
    # The same at every step: XLA moves it out of a loop of steps.
    matrix = coupling_matrix(graph, coupling, n + more)
    padded = jnp.pad(x, (0, more), constant_values=rule.nothing)
    field = jnp.broadcast_to(field, (*field.shape[:-1], n))
    field = jnp.pad(field, [(0, 0)] * (field.ndim - 1) + [(0, more)])
    still = jnp.arange(n + more) >= n
    still = still if held is None else still | jnp.pad(held, (0, more))

    def block(padded: Array, index: Array) -> tuple[Array, None]:
        def part(a: Array, axis: int = -1) -> Array:
            return jax.lax.dynamic_slice_in_dim(a, index * width, width, axis)

        rows = part(matrix, 0)
        total = jnp.matmul(rule.message(padded), rows.T) + part(field)
        key_block = jax.random.fold_in(key, index)

        def node(total: Array, each: Any) -> tuple[Array, Array]:
            place, old, row, stays = each
            here = jax.lax.dynamic_index_in_dim(total, place, total.ndim - 1, keepdims=False)
            uniform = jax.random.uniform(jax.random.fold_in(key_block, place), (), total.dtype)
            new = jnp.where(stays, old, rule.pick(rule.weigh(here), uniform))
            change = rule.message(new) - rule.message(old)
            row = row.reshape((1,) * change.ndim + row.shape)
            return total + change[..., None] * row, new

        each = (jnp.arange(width), part(padded), part(rows, 1), part(still))
        _, new = jax.lax.scan(node, total, each)
        return jax.lax.dynamic_update_slice_in_dim(padded, new, index * width, 0), None

    padded, _ = jax.lax.scan(block, padded, jnp.arange(n_blocks))
    return padded[:n]


def coupling_matrix(graph: Graph, coupling: Array, size: int) -> Array:
    """The couplings as a symmetric matrix, with zeros where there is no edge."""
    i, j = graph.edges[:, 0], graph.edges[:, 1]
    upper = jnp.zeros((size, size), coupling.dtype).at[i, j].set(coupling)
    return upper.at[j, i].set(coupling)
