"""Couplings: their sum over the edges of a graph, and what becomes of them in the algebra."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from energax.energies._parameters import is_traced
from energax.energies._summing import pairwise_sum
from energax.energies.graphs._graph import Graph
from energax.energies.graphs._lattice import Lattice
from energax.energies.graphs._making import per_bond


def coupled(
    graph: Lattice | Graph, coupling: Array, x: Array, aligned: Callable[[Array, Array], Array]
) -> Float[Array, ""]:
    """The sum over edges ij of J_ij aligned(x_i, x_j).

    One coupling for all is multiplied in after the sum, which is then one of whole numbers.
    """
    if isinstance(graph, Graph):
        each = aligned(x[graph.edges[:, 0]], x[graph.edges[:, 1]])
        if coupling.ndim == 0:
            return coupling * pairwise_sum(each)
        return pairwise_sum(coupling * each)
    bonds = per_bond(graph, coupling)
    total = jnp.zeros((), coupling.dtype)
    for axis, wraps in enumerate(graph.periodic):
        n = x.shape[axis]
        pieces = [((0, n - 1), (1, n))] + ([((n - 1, n), (0, 1))] if wraps else [])
        for here, there in pieces:
            each = aligned(_cut(x, here, axis), _cut(x, there, axis))
            if coupling.ndim:
                each = _cut(bonds[axis], here, axis) * each
            total = total + pairwise_sum(each.reshape(-1))
    return coupling * total if coupling.ndim == 0 else total


def _cut(a: Array, between: tuple[int, int], axis: int) -> Array:
    return jax.lax.slice_in_dim(a, *between, axis=axis)


def scaled_by(model: Any, beta: Array) -> tuple[Array, Array]:
    """A model's coupling and field, times beta."""
    return (
        beta.astype(model.coupling.dtype) * model.coupling,
        beta.astype(model.field.dtype) * model.field,
    )


def summed(a: Any, b: Any) -> tuple[Array, Array] | None:
    """The couplings and fields of two models on one graph added; `None` if the graphs differ."""
    if not _same(a.graph, b.graph):
        return None
    coupling = [a.coupling, b.coupling]
    if isinstance(a.graph, Lattice) and all(c.ndim for c in coupling):
        coupling = [per_bond(a.graph, c) for c in coupling]
    fields = [a.field, b.field]
    per_site = max(f.ndim for f in fields)
    fields = [jnp.expand_dims(f, tuple(range(per_site - f.ndim))) for f in fields]
    dtype = jnp.result_type(a.coupling, b.coupling)
    return (
        coupling[0].astype(dtype) + coupling[1].astype(dtype),
        fields[0].astype(dtype) + fields[1].astype(dtype),
    )


def _same(a: Lattice | Graph, b: Lattice | Graph) -> bool:
    if a is b:
        return True
    if isinstance(a, Lattice) or isinstance(b, Lattice):
        return (
            isinstance(a, Lattice)
            and isinstance(b, Lattice)
            and (a.shape, a.periodic) == (b.shape, b.periodic)
        )
    if a.n_nodes != b.n_nodes or is_traced(a.edges, b.edges):
        return False
    return np.array_equal(np.asarray(a.edges), np.asarray(b.edges))
