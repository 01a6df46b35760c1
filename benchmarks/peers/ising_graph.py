"""What every worker of `ising.py` is given: the graph, its couplings, colours and first states."""

from typing import NamedTuple

import numpy as np


class Graph(NamedTuple):
    """An Ising model at inverse temperature `beta`, E(s) = -beta * sum_ij J_ij s_i s_j."""

    n_nodes: int
    shape: tuple[int, ...] | None
    """The sides of the torus, or `None`: not a lattice."""
    edges: np.ndarray
    couplings: np.ndarray
    colours: np.ndarray
    beta: float
    start: np.ndarray
    """The chains' first states, int8, axes (chain, *shape) or (chain, node).

    Where there are more chains than states in the file, they are given out in turn."""


def read_graph(settings: dict) -> Graph:
    """The graph from the file and numbers in the settings."""
    with np.load(settings["graph"]) as file:
        start = file["start"]
        n_chains = settings["n_chains"]
        return Graph(
            n_nodes=int(np.prod(start.shape[1:])),
            shape=start.shape[1:] if start.ndim > 2 else None,
            edges=file["edges"],
            couplings=file["couplings"],
            colours=file["colours"],
            beta=settings["beta"],
            start=start[np.arange(n_chains) % len(start)],
        )


def correlation_of(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The mean over edges of J_ij s_i s_j in each chain; x has axes (chain, ...) of -1 and 1."""
    if graph.shape is not None:
        x = x.reshape(-1, *graph.shape)
        return np.mean([(x * np.roll(x, 1, a)).mean((1, 2), np.float64) for a in (1, 2)], 0)
    bonds = x[:, graph.edges[:, 0]] * x[:, graph.edges[:, 1]]
    return bonds @ graph.couplings.astype(np.float64) / len(graph.edges)
