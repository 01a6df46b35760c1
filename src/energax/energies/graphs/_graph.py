"""A graph of any kind, coloured once, when it is made."""

import sys
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Int
from scipy.sparse import coo_array, issparse

from energax.energies._parameters import is_traced
from energax.energies.graphs._blocks import check_blocks, make_blocks
from energax.energies.graphs._colouring import colour
from energax.random import as_count


class Graph(eqx.Module):
    """Nodes 0 to `n_nodes - 1` and undirected edges between them.

    Making a graph colours its nodes and lists them in blocks without edges inside, which is how
    Gibbs sampling updates many at once. A million edges take a few seconds; energies on the same
    graph share the work.

    **Arguments:**

    - `edges`: pairs of nodes, an integer array of shape (edges, 2).
    - `n_nodes`: how many nodes; by default as many as the largest index asks for.

    **Raises:** `ValueError` for indices that are no integers or out of range, an edge from a node
    to itself, and an edge given twice (in whatever direction), naming the first.

    ```python
    import energax as ex

    triangle_with_tail = ex.Graph([(0, 1), (1, 2), (2, 0), (2, 3)])
    ```
    """

    edges: Int[Array, "edges 2"]
    n_nodes: int = eqx.field(static=True)
    blocks: Any
    """Tables of nodes that are updated together; see `_blocks.py`."""

    def __init__(self, edges: Any, n_nodes: int | None = None):
        pairs = _as_pairs(edges)
        if n_nodes is None:
            n_nodes = int(pairs.max(initial=-1)) + 1
        self.n_nodes = as_count(n_nodes, "n_nodes")
        if self.n_nodes >= 2**31:
            raise ValueError(
                f"a graph has fewer than 2^31 nodes, numbered from 0, got {self.n_nodes}: number"
                " the nodes that have edges anew"
            )
        _check_pairs(pairs, self.n_nodes)
        # `jnp.asarray` would compile a program for each shape.
        self.edges = jax.device_put(pairs.astype(np.int32))
        dense = _is_dense(len(pairs), self.n_nodes)
        colours = np.arange(self.n_nodes) if dense else colour(pairs, self.n_nodes)
        tables = make_blocks(pairs, self.n_nodes, colours)
        self.blocks = tuple(tuple(jax.device_put(t) for t in table) for table in tables)

    def __check_init__(self):
        if not is_traced(self.edges):
            edges = np.asarray(self.edges)
            _check_pairs(edges, self.n_nodes)
            tables = tuple(tuple(np.asarray(t) for t in table) for table in self.blocks)
            check_blocks(tables, edges, self.n_nodes)

    @classmethod
    def from_networkx(cls, graph: Any) -> "Graph":
        """The graph of a `networkx.Graph`: its nodes get the numbers of their order in it.

        **Raises:** `ValueError` if it is no such graph, is directed or has parallel edges.
        """
        return from_networkx(graph)[0]

    @classmethod
    def from_sparse(cls, matrix: Any) -> "Graph":
        """The graph whose edges are the non-zero entries of a symmetric matrix: a `scipy.sparse`
        one, or an array.

        **Raises:** `ValueError` if it is not finite, square and symmetric, or its diagonal is not
        zero.
        """
        return from_sparse(matrix)[0]

    @property
    def n_edges(self) -> int:
        """How many edges."""
        return self.edges.shape[0]

    @property
    def is_dense(self) -> bool:
        """Whether so many nodes are joined that fields are better found by matrix products."""
        return _is_dense(self.n_edges, self.n_nodes)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a value a node."""
        return (self.n_nodes,)


def _is_dense(n_edges: int, n_nodes: int) -> bool:
    # A quarter of all pairs, and a matrix of at most 256 MiB.
    return 8 * n_edges >= n_nodes**2 and n_edges >= 2 * n_nodes and n_nodes <= 2**13


def from_networkx(graph: Any) -> tuple[Graph, np.ndarray]:
    """The graph, and the `weight` of each edge, 1 where it has none."""
    if not is_networkx(graph):
        raise ValueError(f"the graph must be a networkx.Graph, got {type(graph).__name__}")
    if graph.is_directed() or graph.is_multigraph():
        raise ValueError(
            "the graph must be undirected with at most one edge between two nodes, got a"
            f" {type(graph).__name__}"
        )
    number = {node: i for i, node in enumerate(graph.nodes)}
    listed = [(number[a], number[b], w) for a, b, w in graph.edges(data="weight", default=1.0)]
    pairs = np.array([(i, j) for i, j, _ in listed], np.int64).reshape(-1, 2)
    try:
        weights = np.array([w for *_, w in listed], float)
    except (TypeError, ValueError):
        raise ValueError("the weight of every edge must be a number") from None
    return Graph(pairs, len(number)), weights


def is_networkx(graph: Any) -> bool:
    """Whether it is a graph of networkx, which is not imported for that."""
    networkx = sys.modules.get("networkx")
    return networkx is not None and isinstance(graph, networkx.Graph)


def from_sparse(matrix: Any) -> tuple[Graph, np.ndarray]:
    """The graph, and the matrix's entry at each edge."""
    try:
        entries: Any = matrix.tocoo() if issparse(matrix) else coo_array(np.asarray(matrix))
    except (TypeError, ValueError):
        got = type(matrix).__name__
        raise ValueError(f"the matrix must be one of scipy.sparse or an array, got {got}") from None
    if entries.dtype.kind not in "buif":
        raise ValueError(f"the matrix must hold real numbers, got {entries.dtype}")
    if len(entries.shape) != 2 or entries.shape[0] != entries.shape[1]:
        raise ValueError(f"the matrix must be square, got shape {entries.shape}")
    entries = entries.tocsr().tocoo()  # adds entries given twice
    i, j, value = (np.asarray(part) for part in (entries.row, entries.col, entries.data))
    if not np.isfinite(value).all():
        raise ValueError(
            f"the matrix must be finite, got {int((~np.isfinite(value)).sum())} entries that are"
            " not"
        )
    there = value != 0
    i, j, value = i[there].astype(np.int64), j[there].astype(np.int64), value[there]
    if (i == j).any():
        raise ValueError(f"the diagonal must be zero, got an entry at {int(i[i == j][0])}")
    n_nodes = entries.shape[0]
    upper = i < j
    above, below = i * n_nodes + j, j * n_nodes + i
    a, b = np.argsort(above[upper]), np.argsort(below[~upper])
    if not (
        np.array_equal(above[upper][a], below[~upper][b])
        and np.array_equal(value[upper][a], value[~upper][b])
    ):
        raise ValueError("the matrix must be symmetric: give both (i, j) and (j, i)")
    pairs = np.stack([i[upper][a], j[upper][a]], 1)
    return Graph(pairs, n_nodes), value[upper][a]


def _as_pairs(edges: Any) -> np.ndarray:
    if is_traced(edges):
        raise ValueError("edges must be known when a graph is made: make it outside of jit")
    try:
        pairs = np.asarray(edges)
    except (TypeError, ValueError):
        raise ValueError("edges must be an array of shape (edges, 2)") from None
    if pairs.size == 0 and pairs.ndim <= 2:
        return np.zeros((0, 2), np.int64)
    if pairs.dtype.kind not in "iu":
        raise ValueError(f"edges must be pairs of integers, got dtype {pairs.dtype}")
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        hint = ""
        if pairs.ndim == 1:
            shape = tuple(int(n) for n in pairs)
            hint = f": a lattice of this shape is given by a tuple, {shape}"
        raise ValueError(f"edges must have shape (edges, 2), got {pairs.shape}{hint}")
    if pairs.max() >= 2**63:
        raise ValueError(f"edges must be numbers of nodes below 2^31, got {int(pairs.max())}")
    return pairs.astype(np.int64)


def _check_pairs(pairs: np.ndarray, n_nodes: int) -> None:
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"edges must have shape (edges, 2), got {pairs.shape}")
    outside = np.any((pairs < 0) | (pairs >= n_nodes), axis=1)
    if outside.any():
        raise ValueError(f"edge {_named(pairs, outside)} leaves the nodes 0 to {n_nodes - 1}")
    loops = pairs[:, 0] == pairs[:, 1]
    if loops.any():
        raise ValueError(f"edge {_named(pairs, loops)} joins a node to itself")
    wide = pairs.astype(np.int64)
    code = wide.min(1, initial=n_nodes) * n_nodes + wide.max(1, initial=0)
    order = np.argsort(code, kind="stable")
    again = np.zeros(len(pairs), bool)
    again[order[1:]] = code[order[1:]] == code[order[:-1]]
    if again.any():
        raise ValueError(f"edge {_named(pairs, again)} was given before")


def _named(pairs: np.ndarray, which: Any) -> str:
    at = int(np.argmax(which))
    return f"{at}, ({int(pairs[at, 0])}, {int(pairs[at, 1])}),"
