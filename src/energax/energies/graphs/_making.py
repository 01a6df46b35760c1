"""Graphs and couplings from whatever a user has."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.sparse import coo_array, issparse

from energax.energies._parameters import finite_array, is_traced
from energax.energies.graphs._graph import Graph, from_networkx, from_sparse, is_networkx
from energax.energies.graphs._lattice import Lattice
from energax.spaces import Numbers


def as_graph(graph: Any, periodic: Any) -> tuple[Lattice | Graph, np.ndarray | None]:
    """A graph, and its edges' own couplings where it came with some."""
    if _is_shape(graph):
        return Lattice(graph, periodic), None
    if periodic is not True:
        raise ValueError("periodic is for a lattice given by its shape: leave it out")
    if isinstance(graph, Lattice | Graph):
        return graph, None
    if is_networkx(graph):
        made, weights = from_networkx(graph)
        return made, None if (weights == 1).all() else weights
    if issparse(graph) or _is_matrix(graph):
        return from_sparse(graph)
    return Graph(graph), None


def _is_matrix(graph: Any) -> bool:
    """Whether it is a square array, and not two edges."""
    if is_traced(graph):
        return False
    try:
        array = np.asarray(graph)
    except (TypeError, ValueError):  # no array at all, which `Graph` says better
        return False
    square = array.ndim == 2 and array.shape[0] == array.shape[1]
    return square and array.dtype.kind in "buif" and (array.dtype.kind == "f" or len(array) > 2)


def _is_shape(graph: Any) -> bool:
    if isinstance(graph, int | np.integer):
        return True
    return isinstance(graph, tuple) and all(isinstance(n, int | np.integer) for n in graph)


def from_precision(matrix: Any) -> tuple[Graph, np.ndarray, np.ndarray]:
    """The graph of a precision's entries beside the diagonal, the weights of its edges, and the
    sum of each row."""
    entries: Any
    try:
        entries = coo_array(matrix if issparse(matrix) else np.asarray(matrix))
    except (TypeError, ValueError):
        raise ValueError("the precision must be a matrix of numbers") from None
    if entries.dtype.kind not in "buif":
        raise ValueError(f"the precision must hold real numbers, got {entries.dtype}")
    if len(entries.shape) != 2 or entries.shape[0] != entries.shape[1]:
        raise ValueError(f"the precision must be square, got shape {entries.shape}")
    if not np.isfinite(entries.data).all():
        raise ValueError("the precision must be finite")
    share = 1e-5 if entries.dtype.itemsize < 8 else 1e-10
    entries = entries.astype(float).tocsr()
    apart, largest = abs(entries - entries.T).max(), abs(entries).max()
    if apart > share * largest:
        raise ValueError(
            f"the precision must be symmetric, got entries that differ by {apart:.3g} from"
            f" those across the diagonal, where the largest is {largest:.3g}"
        )
    entries = ((entries + entries.T) / 2).tocoo()
    beside = entries.row != entries.col
    i, j, value = (a[beside] for a in (entries.row, entries.col, entries.data))
    graph, weights = from_sparse(coo_array((value, (i, j)), shape=entries.shape))
    rows = np.asarray(entries.sum(1), float).reshape(-1)
    return graph, -weights.astype(float), rows


def couplings_of(
    graph: Lattice | Graph, coupling: Numbers | None, weights: np.ndarray | None
) -> Array:
    """The couplings given, those the graph came with, or 1; not both.

    On a lattice one an axis is spread over the bonds along it; of an array with a bond each, what
    leads out of an open end becomes 0.
    """
    if weights is not None and coupling is not None:
        raise ValueError("coupling must be left out: the graph came with couplings of its own")
    given: Any = weights if weights is not None else 1.0 if coupling is None else coupling
    if isinstance(graph, Lattice) and not is_traced(given):
        given = _used_bonds(graph, given)
    array = finite_array(given, "coupling")
    if not isinstance(graph, Lattice):
        return array
    n_axes = len(graph.shape)
    if array.shape == (n_axes,) != (graph.n_edges,):
        array = jnp.broadcast_to(array.reshape(-1, *[1] * n_axes), (n_axes, *graph.shape))
    return array


def _used_bonds(lattice: Lattice, coupling: Any) -> Any:
    try:
        bonds = np.array(coupling)
    except (TypeError, ValueError):  # no array at all, which `finite_array` says better
        return coupling
    if bonds.shape != (len(lattice.shape), *lattice.shape):
        return coupling
    for axis, wraps in enumerate(lattice.periodic):
        if not wraps:
            np.moveaxis(bonds[axis], axis, 0)[-1] = 0
    return bonds


def check_values(
    graph: Lattice | Graph, coupling: Array, field: Array, states: tuple[int, ...]
) -> None:
    """Raise `ValueError` unless couplings and fields fit the graph."""
    shapes = [(), (graph.n_edges,)]
    if isinstance(graph, Lattice):
        shapes.append((len(graph.shape), *graph.shape))
    if coupling.shape not in shapes:
        raise ValueError(f"coupling must have the shape {_either(shapes)}, got {coupling.shape}")
    fitting = [states, (*graph.shape, *states)]
    if field.shape not in fitting:
        raise ValueError(f"field must have the shape {_either(fitting)}, got {field.shape}")


def _either(shapes: list[tuple[int, ...]]) -> str:
    return " or ".join(map(str, shapes))


def per_bond(lattice: Lattice, coupling: Array) -> Array:
    """Couplings of shape (axes, *shape), zeros where a bond would lead out of an open end."""
    if coupling.ndim != 1:
        return coupling
    bonds, start = [], 0
    for axis, (n, wraps) in enumerate(zip(lattice.shape, lattice.periodic, strict=True)):
        shape = list(lattice.shape)
        shape[axis] = n if wraps else n - 1
        size = int(np.prod(shape))
        part = coupling[start : start + size].reshape(shape)
        start += size
        bonds.append(jnp.pad(part, [(0, m - k) for m, k in zip(lattice.shape, shape, strict=True)]))
    return jnp.stack(bonds)


def by_edge(lattice: Lattice, bonds: Any) -> Any:
    """Couplings of shape (axes, *shape), of numpy or JAX, in the order of `lattice.edges`."""
    parts = []
    for axis, (n, wraps) in enumerate(zip(lattice.shape, lattice.periodic, strict=True)):
        kept = n if wraps else n - 1
        parts.append(bonds[(axis, *[slice(None)] * axis, slice(kept))].reshape(-1))
    return (np if isinstance(bonds, np.ndarray) else jnp).concatenate(parts)
