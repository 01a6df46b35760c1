"""The order in which the nodes of a sparse graph are updated: blocks without edges inside.

Nodes of a colour are independent given the rest, and so are those of any part of it. Blocks all
have the same width, so that one small program, looped over tables, updates a graph of any size;
tables are made apart for low and high degrees, so that a few hubs do not pad every row.
"""

from typing import TypeAlias

import numpy as np

Blocks: TypeAlias = tuple[tuple[np.ndarray, ...], ...]
"""For each range of degrees, integer arrays with a leading axis of blocks:

- nodes, shape (blocks, width), filled up with `n_nodes`;
- their neighbours, shape (blocks, width, degree), filled up with `n_nodes`;
- the edges that lead there, the same shape, filled up with `n_edges`.
"""

_OVERHEAD = 512
"""What a block costs beside its nodes, in nodes."""


def make_blocks(edges: np.ndarray, n_nodes: int, colours: np.ndarray) -> Blocks:
    """Tables of blocks from edges and a colouring."""
    n_edges = len(edges)
    ends = np.concatenate([edges[:, 0], edges[:, 1]])
    order = np.argsort(ends, kind="stable")
    others = np.concatenate([edges[:, 1], edges[:, 0]])[order]
    names = np.concatenate([np.arange(n_edges)] * 2)[order] if n_edges else order
    degree = np.bincount(ends, minlength=n_nodes)
    start = np.concatenate([[0], np.cumsum(degree)])
    # Ranges of degrees: up to 4, and from there on each up to twice the one before.
    level = np.ceil(np.log2(np.maximum(degree, 4) / 4)).astype(np.int64)
    tables = []
    for each in np.unique(level):
        nodes = _in_rows(np.flatnonzero(level == each), colours, n_nodes)
        width = max(int(degree[level == each].max()), 1)
        known = nodes < n_nodes
        at = np.where(known, nodes, 0)
        slot = np.arange(width)
        used = known[..., None] & (slot < degree[at][..., None])
        place = np.where(used, start[at][..., None] + slot, 0)
        if n_edges:
            neighbours = np.where(used, others[place], n_nodes)
            leading = np.where(used, names[place], n_edges)
        else:
            neighbours, leading = np.full(used.shape, n_nodes), np.full(used.shape, n_edges)
        tables.append(tuple(t.astype(np.int32) for t in (nodes, neighbours, leading)))
    return tuple(tables)


def _in_rows(nodes: np.ndarray, colours: np.ndarray, n_nodes: int) -> np.ndarray:
    """Nodes in rows of one width and one colour each."""
    nodes = nodes[np.argsort(colours[nodes], kind="stable")]
    _, sizes = np.unique(colours[nodes], return_counts=True)
    widths = np.unique(-(-sizes.max() // np.arange(1, 65)))
    n_rows = -(-sizes[:, None] // widths)
    width = int(widths[np.argmin(n_rows.sum(0) * (widths + _OVERHEAD))])
    rows = np.full((int((-(-sizes // width)).sum()), width), n_nodes)
    first_row = np.concatenate([[0], np.cumsum(-(-sizes // width))[:-1]])
    within = np.arange(len(nodes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows.reshape(-1)[np.repeat(first_row * width, sizes) + within] = nodes
    return rows


def check_blocks(blocks: Blocks, edges: np.ndarray, n_nodes: int) -> None:
    """Raise `ValueError` unless every node is in one block, with its neighbours and their edges."""
    n_edges = len(edges)
    if sum(nodes.size for nodes, _, _ in blocks) < n_nodes:
        raise ValueError("the blocks do not hold every node once")
    block_of = np.full(n_nodes + 1, -1)
    n_seen, n_blocks = 0, 0
    slots = []
    for nodes, neighbours, leading in blocks:
        if (
            nodes.ndim != 2
            or neighbours.shape != leading.shape
            or (neighbours.shape[:2] != nodes.shape)
        ):
            raise ValueError("the tables of blocks do not have one shape")
        for table, top in ((nodes, n_nodes), (neighbours, n_nodes), (leading, n_edges)):
            if table.size and not (table.min() >= 0 and table.max() <= top):
                raise ValueError("the tables of blocks point outside the graph")
        names = n_blocks + np.arange(len(nodes))
        block_of[nodes] = names[:, None]
        n_seen += int((nodes < n_nodes).sum())
        n_blocks += len(nodes)
        used = leading < n_edges
        owner = np.broadcast_to(nodes[..., None], leading.shape)[used]
        slots.append((owner, neighbours[used], leading[used]))
        if (neighbours[~used] != n_nodes).any():
            raise ValueError("the tables of blocks hold neighbours without an edge")
    if n_seen != n_nodes or (block_of[:n_nodes] < 0).any():
        raise ValueError("the blocks do not hold every node once")
    if (block_of[edges[:, 0]] == block_of[edges[:, 1]]).any():
        raise ValueError("an edge lies inside a block")
    owner, other, name = (np.concatenate(part) for part in zip(*slots, strict=True))
    first = owner == edges[name, 0]
    right = np.where(
        first, other == edges[name, 1], (owner == edges[name, 1]) & (other == edges[name, 0])
    )
    both = np.bincount(2 * name + first, minlength=2 * n_edges)
    if not (right.all() and (both == 1).all()):
        raise ValueError("the tables of blocks do not hold the edges")
