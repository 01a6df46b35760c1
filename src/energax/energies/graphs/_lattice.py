"""Regular lattices of any dimension."""

from typing import Any

import equinox as eqx
import numpy as np

from energax.energies._parameters import is_traced
from energax.energies.graphs._graph import Graph
from energax.spaces._base import shape_of, size_of


class Lattice(eqx.Module):
    """A regular lattice: sites joined to the next one along each axis.

    **Arguments:**

    - `shape`: an integer or a tuple of them, one an axis.
    - `periodic`: whether the last site along an axis is joined to the first; one boolean, or one
      an axis.

    **Raises:** `ValueError` for a periodic axis of fewer than three sites, where that bond would
    join a site to itself or two sites twice.

    ```python
    import energax as ex

    cylinder = ex.Lattice((16, 32), periodic=(True, False))
    ```
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    periodic: tuple[bool, ...] = eqx.field(static=True)
    coloured: Graph | None
    """The same lattice as a graph, where two colours are not enough to sample it by slices."""

    def __init__(self, shape: int | tuple[int, ...], periodic: Any = True):
        self.shape = shape_of(shape)
        if not self.shape:
            raise ValueError("a lattice needs at least one axis, got the shape ()")
        self.periodic = _as_flags(periodic, len(self.shape))
        _check_axes(self.shape, self.periodic)
        self.coloured = None if self.is_even else Graph(self.edges, self.n_nodes)

    def __check_init__(self):
        _check_axes(self.shape, self.periodic)
        if (self.coloured is None) != self.is_even:
            raise ValueError("only a lattice with an odd axis needs a graph beside it")
        graph = self.coloured
        if graph is None or is_traced(graph.edges):
            return
        if (graph.n_nodes, graph.n_edges) != (self.n_nodes, self.n_edges) or not np.array_equal(
            np.asarray(graph.edges), self.edges
        ):
            raise ValueError("the graph beside the lattice has other edges")

    @property
    def n_nodes(self) -> int:
        """How many sites."""
        return size_of(self.shape)

    @property
    def n_edges(self) -> int:
        """How many bonds."""
        return sum(
            self.n_nodes if wraps else self.n_nodes // n * (n - 1)
            for n, wraps in zip(self.shape, self.periodic, strict=True)
        )

    @property
    def edges(self) -> np.ndarray:
        """Pairs of sites (numbered in C order), shape (edges, 2): axis by axis, in C order."""
        sites = np.arange(self.n_nodes, dtype=np.int32).reshape(self.shape)
        pairs = []
        for axis, (n, wraps) in enumerate(zip(self.shape, self.periodic, strict=True)):
            after = np.roll(sites, -1, axis)
            kept = n if wraps else n - 1
            ends = [a.take(range(kept), axis).reshape(-1) for a in (sites, after)]
            pairs.append(np.stack(ends, 1))
        return np.concatenate(pairs)

    @property
    def is_even(self) -> bool:
        """Whether the lattice is a checkerboard whose rows come in pairs."""
        odd = any(n % 2 for n, wraps in zip(self.shape, self.periodic, strict=True) if wraps)
        return self.shape[0] % 2 == 0 and not odd


def _as_flags(periodic: Any, n_axes: int) -> tuple[bool, ...]:
    flags = (periodic,) * n_axes if isinstance(periodic, bool | np.bool_) else periodic
    try:
        flags = tuple(flags)
    except TypeError:
        flags = (None,)
    if len(flags) != n_axes or not all(isinstance(f, bool | np.bool_) for f in flags):
        raise ValueError(
            f"periodic must be True, False or one of them for each of the {n_axes} axes, got"
            f" {periodic!r}"
        )
    return tuple(bool(f) for f in flags)


def _check_axes(shape: tuple[int, ...], periodic: tuple[bool, ...]) -> None:
    if len(shape) != len(periodic):
        raise ValueError(f"periodic must have one entry an axis of {shape}, got {periodic}")
    for axis, (n, wraps) in enumerate(zip(shape, periodic, strict=True)):
        if wraps and n < 3:
            what = "to itself" if n == 1 else "to its neighbour twice"
            legal = tuple(w and m > 2 for m, w in zip(shape, periodic, strict=True))
            raise ValueError(
                f"axis {axis} of {shape} is periodic with {n} sites, which would join each {what}:"
                f" make it open, periodic={legal}"
            )
