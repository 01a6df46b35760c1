"""The Ising model on a lattice or any graph."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from energax.energies._base import AbstractBlocked
from energax.energies._parameters import finite_array
from energax.energies._summing import pairwise_sum
from energax.energies.graphs._checkerboard import couplings, join, neighbours, split
from energax.energies.graphs._graph import Graph
from energax.energies.graphs._lattice import Lattice
from energax.energies.graphs._making import as_graph, check_values, per_bond
from energax.random import bernoulli
from energax.spaces import Numbers, Spin


class Ising(AbstractBlocked):
    """Spins of -1 and +1 on the sites of a lattice or the nodes of a graph:

    E(s) = - sum over edges ij of J_ij s_i s_j - sum over nodes i of h_i s_i

    Positive couplings J favour equal neighbours. An inverse temperature is a power:
    `ex.Ising((64, 64)) ** 0.44`.

    **Arguments:**

    - `graph`: a shape (an integer or a tuple, for a lattice), a `Lattice`, a `Graph`, an array of
      edges, a networkx graph (its edges' `weight` are the couplings), or a symmetric scipy.sparse
      matrix (its entries are the couplings).
    - `coupling`: J, one number, one per edge in the order of `graph.edges`, or on a lattice an
      array of shape (axes, *shape): the bonds to the next site along each axis (entries that
      lead out of an open end are not looked at). 1 if `None`.
    - `field`: h, one number or one a node.
    - `periodic`: of a lattice given by its shape, whether it wraps; one boolean, or one an axis.

    **Raises:** `ValueError` if the graph is not valid, or the couplings and fields do not fit it.

    ```python
    import energax as ex

    torus = ex.Ising((16, 16), coupling=0.4)
    glass = ex.Ising([(0, 1), (1, 2), (2, 0)], coupling=[1.0, -0.5, 0.3], field=0.1)
    ```

    Source: E. Ising, "Beitrag zur Theorie des Ferromagnetismus" (1925).
    """

    graph: Lattice | Graph
    coupling: Float[Array, "..."]
    field: Float[Array, "..."]

    def __init__(
        self,
        graph: Any,
        coupling: Numbers | None = None,
        field: Numbers = 0.0,
        periodic: Any = True,
    ):
        self.graph, weights = as_graph(graph, periodic)
        if weights is not None and coupling is not None:
            raise ValueError("coupling must be left out: the matrix or graph holds the couplings")
        given = coupling if weights is None else weights
        self.coupling = finite_array(1.0 if given is None else given, "coupling")
        self.field = finite_array(field, "field").astype(self.coupling.dtype)

    def __check_init__(self):
        check_values(self.graph, self.coupling, self.field, ())

    @property
    def space(self) -> Spin:
        return Spin(self.graph.shape)

    def energy(self, x: Float[Array, "..."]) -> Float[Array, ""]:
        coupling, field = self.coupling.astype(x.dtype), self.field.astype(x.dtype)
        # Equal values are multiplied in after the sum, which is then one of whole numbers.
        linear = pairwise_sum((x if field.ndim == 0 else field * x).reshape(-1))
        linear = linear * field if field.ndim == 0 else linear
        if isinstance(self.graph, Graph):
            i, j = self.graph.edges[:, 0], self.graph.edges[:, 1]
            aligned = x[i] * x[j]
            if coupling.ndim == 0:
                return -coupling * pairwise_sum(aligned) - linear
            return -pairwise_sum(coupling * aligned) - linear
        total = jnp.zeros((), x.dtype)
        bonds = per_bond(self.graph, coupling)
        for axis, wraps in enumerate(self.graph.periodic):
            n = x.shape[axis]
            pieces = [((0, n - 1), (1, n))] + ([((n - 1, n), (0, 1))] if wraps else [])
            for here, there in pieces:
                aligned = _cut(x, here, axis) * _cut(x, there, axis)
                if coupling.ndim:
                    aligned = _cut(bonds[axis], here, axis) * aligned
                total = total + pairwise_sum(aligned.reshape(-1))
        return -(coupling * total if coupling.ndim == 0 else total) - linear

    def sweep(
        self,
        x: Float[Array, "..."],
        key: Key[Array, ""],
        held: Bool[Array, "..."] | None = None,
    ) -> Float[Array, "..."]:
        if isinstance(self.graph, Graph):
            return self._sweep_blocks(self.graph, x, key, held)
        if self.graph.coloured is not None:
            flat = None if held is None else held.reshape(-1)
            return self._sweep_blocks(self.graph.coloured, x.reshape(-1), key, flat).reshape(
                x.shape
            )
        return self._sweep_checkerboard(self.graph, x, key, held)

    def _sweep_checkerboard(
        self, lattice: Lattice, x: Array, key: Key[Array, ""], held: Array | None
    ) -> Array:
        halves = list(split(lattice, x))
        fields = None if self.field.ndim == 0 else split(lattice, self.field.astype(x.dtype))
        kept = None if held is None else split(lattice, held)
        coupling = self.coupling.astype(x.dtype)
        for colour, key_colour in enumerate(jax.random.split(key, 2)):
            around = neighbours(lattice, halves[1 - colour], colour)
            if coupling.ndim == 0:
                total = coupling * sum(around[1:], around[0])
            else:
                bonds = couplings(lattice, per_bond(lattice, coupling), colour)
                total = sum(
                    (k * s for k, s in zip(bonds[1:], around[1:], strict=True)),
                    bonds[0] * around[0],
                )
            total = total + (self.field.astype(x.dtype) if fields is None else fields[colour])
            new = _drawn(total, key_colour)
            halves[colour] = new if kept is None else jnp.where(kept[colour], halves[colour], new)
        return join(lattice, *halves)

    def _sweep_blocks(
        self, graph: Graph, x: Array, key: Key[Array, ""], held: Array | None
    ) -> Array:
        n = graph.n_nodes
        coupling = self.coupling.astype(x.dtype)
        if coupling.ndim and isinstance(self.graph, Lattice):
            coupling = _by_edge(self.graph, per_bond(self.graph, coupling))
        none = jnp.zeros((1,), x.dtype)
        if coupling.ndim:
            coupling = jnp.concatenate([coupling, none])
        field = self.field.astype(x.dtype).reshape(-1)
        field = jnp.concatenate([jnp.broadcast_to(field, (n,)), none])
        padded = jnp.concatenate([x, none])
        for each, tables in enumerate(graph.blocks):
            key_level = jax.random.fold_in(key, each)

            def update(padded, block, key_level=key_level):
                index, (nodes, around, leading) = block
                spins = padded[around]
                if coupling.ndim:
                    total = jnp.sum(coupling[leading] * spins, -1)
                else:
                    total = coupling * jnp.sum(spins, -1)
                new = _drawn(total + field[nodes], jax.random.fold_in(key_level, index))
                free = nodes < n
                if held is not None:
                    free = free & ~held[jnp.minimum(nodes, n - 1)]
                return padded.at[jnp.where(free, nodes, n + 1)].set(new, mode="drop"), None

            padded, _ = jax.lax.scan(update, padded, (jnp.arange(len(tables[0])), tables))
        return padded[:n]


def _drawn(field: Array, key: Key[Array, ""]) -> Array:
    """Spins given their fields: +1 with probability 1 / (1 + exp(-2 f))."""
    return 2 * bernoulli(key, jax.nn.sigmoid(2 * field)).astype(field.dtype) - 1


def _cut(a: Array, between: tuple[int, int], axis: int) -> Array:
    return jax.lax.slice_in_dim(a, *between, axis=axis)


def _by_edge(lattice: Lattice, bonds: Array) -> Array:
    """Bonds of shape (axes, *shape) in the order of `lattice.edges`."""
    parts = [
        _cut(bonds[axis], (0, n if wraps else n - 1), axis).reshape(-1)
        for axis, (n, wraps) in enumerate(zip(lattice.shape, lattice.periodic, strict=True))
    ]
    return jnp.concatenate(parts)
