"""Colours of a graph's nodes: two neighbours never share one."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_BITS = 64


def colour(edges: np.ndarray, n_nodes: int) -> np.ndarray:
    """A colour for each node, from 0 up, different at the two ends of every edge.

    Two colours where two are enough, otherwise a greedy colouring, largest degree first, of all
    nodes at once that come before their uncoloured neighbours. The same edges always get the
    same colours.

    Source: M. Jones and P. Plassmann, "A parallel graph coloring heuristic" (1993); the order:
    D. Welsh and M. Powell (1967).
    """
    two = _two_colours(edges, n_nodes)
    return _greedy(edges, n_nodes) if two is None else two


def _two_colours(edges: np.ndarray, n_nodes: int) -> np.ndarray | None:
    # Every node twice, each edge from one copy to the other: the copies of a node are connected
    # to each other exactly where its component holds an odd cycle.
    i, j = edges[:, 0], edges[:, 1]
    rows, columns = np.concatenate([i, i + n_nodes]), np.concatenate([j + n_nodes, j])
    ones = np.ones(len(rows), np.int8)
    doubled = coo_array((ones, (rows, columns)), shape=(2 * n_nodes, 2 * n_nodes))
    _, part = connected_components(doubled, directed=False)
    first, second = part[:n_nodes], part[n_nodes:]
    return None if (first == second).any() else (first > second).astype(np.int32)


def _greedy(edges: np.ndarray, n_nodes: int) -> np.ndarray:
    degree = np.bincount(edges.reshape(-1), minlength=n_nodes)
    shuffled = np.random.default_rng(0).permutation(n_nodes)
    rank = np.empty(n_nodes, np.int64)
    rank[shuffled[np.argsort(-degree[shuffled], kind="stable")]] = np.arange(n_nodes)
    swap = rank[edges[:, 0]] > rank[edges[:, 1]]
    # Each edge from the node that is coloured first to the one that has to differ from it.
    before, after = np.where(swap[:, None], edges[:, ::-1], edges).T
    colours = np.zeros(n_nodes, np.int32)
    taken = np.zeros((n_nodes, 1), np.uint64)
    waiting = np.ones(n_nodes, bool)
    while len(before):
        blocked = np.zeros(n_nodes, bool)
        blocked[after] = True
        ready = np.flatnonzero(waiting & ~blocked)
        colours[ready] = _lowest_free(taken[ready])
        waiting[ready] = False
        done = ~waiting[before]
        taken = _take(taken, after[done], colours[before[done]])
        before, after = before[~done], after[~done]
    rest = np.flatnonzero(waiting)
    colours[rest] = _lowest_free(taken[rest])
    return colours


def _take(taken: np.ndarray, nodes: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Mark colours as taken at nodes, one bit a colour, in as many words as there are."""
    words = int(colours.max(initial=0)) // _BITS + 1
    if words > taken.shape[1]:
        more = np.zeros((len(taken), words - taken.shape[1]), np.uint64)
        taken = np.concatenate([taken, more], 1)
    bits = np.uint64(1) << (colours % _BITS).astype(np.uint64)
    np.bitwise_or.at(taken, (nodes, colours // _BITS), bits)
    return taken


def _lowest_free(taken: np.ndarray) -> np.ndarray:
    """The lowest bit that is not set in each row."""
    full = taken == np.uint64(0xFFFFFFFFFFFFFFFF)
    word = np.where(full.all(1), taken.shape[1], full.argmin(1))
    padded = np.concatenate([taken, np.zeros((len(taken), 1), np.uint64)], 1)
    value = padded[np.arange(len(taken)), word]
    lowest = ~value & (value + np.uint64(1))  # a power of two: exact as a float
    return (_BITS * word + np.log2(lowest.astype(np.float64))).astype(np.int32)
