"""Gaussian Markov random fields: normal vectors with a sparse precision."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num
from scipy.sparse import coo_array, csr_array

from energax.energies._base import AbstractBlocked, AbstractEnergy, AbstractTractable
from energax.energies._parameters import as_floats, finite_array, is_traced, one_state
from energax.energies._summing import pairwise_sum
from energax.energies.algebra._rules import POWER, PRODUCT
from energax.energies.algebra._shifted import Shifted
from energax.energies.graphs._gaussian_sweeping import sweep_normal
from energax.energies.graphs._graph import Graph
from energax.energies.graphs._lattice import Lattice
from energax.energies.graphs._making import (
    as_graph,
    by_edge,
    couplings_of,
    from_precision,
    per_bond,
)
from energax.energies.graphs._precision import (
    Factor,
    backward,
    check_band,
    eigenvalues,
    factor,
    forward,
    is_positive_definite,
    known_eigenvalues,
    known_factor,
    known_log_determinant,
    log_determinant,
    lowest_eigenvalue,
    narrow_order,
    transform,
    without_lost_digits,
)
from energax.random import normal
from energax.spaces import Numbers, Real

_LOG_2PI = math.log(2 * math.pi)


class GaussianMRF(AbstractTractable, AbstractBlocked):
    """A normal vector whose precision Q is as sparse as a graph:

    E(x) = 1/2 sum over nodes i of a_i (x_i - m_i)^2
           + 1/2 sum over edges ij of w_ij ((x_i - m_i) - (x_j - m_j))^2

    that is Q = diag(a) + the weighted Laplacian of the graph, and with equal masses a = kappa^2
    and weights of 1 the free field. log Z and draws are exact: on a lattice with one mass and one
    weight by Fourier and cosine transforms, otherwise by a Cholesky factor of the banded Q.

    **Arguments:**

    - `graph`: as of `Ising`: a shape (for a lattice), a `Lattice`, a `Graph`, an array of edges,
      a networkx graph or a symmetric matrix (its entries are the weights w).
    - `coupling`: w, one number, one per edge in the order of `graph.edges`, or on a lattice one
      an axis or an array of shape (axes, *shape), as of `Ising`. 1 if `None`.
    - `mass`: a, the sum of each row of Q, one number or one a node.
    - `mean`: m, one number or one a node.
    - `periodic`: of a lattice given by its shape, whether it wraps; one boolean, or one an axis.

    **Raises:** `ValueError` if the graph is not valid, the numbers do not fit it, or Q is not
    positive definite.

    ```python
    import energax as ex

    field = ex.GaussianMRF((32, 32), mass=0.1)
    ex.log_partition(field, key=ex.key(0)).value
    ```

    Source: H. Rue and L. Held, "Gaussian Markov random fields" (2005).
    """

    graph: Lattice | Graph
    coupling: Float[Array, "..."]
    mass: Float[Array, "..."]
    mean: Float[Array, "..."]
    position: Int[Array, " nodes"] | None
    """Each node's place in the band that is factored; `None` where transforms do it."""
    width: int = eqx.field(static=True)
    """Of a block of the band."""

    def __init__(
        self,
        graph: Any,
        coupling: Numbers | None = None,
        mass: Numbers = 1.0,
        mean: Numbers = 0.0,
        periodic: Any = True,
    ):
        self.graph, weights = as_graph(graph, periodic)
        self.coupling = couplings_of(self.graph, coupling, weights)
        dtype = self.coupling.dtype
        self.mass = finite_array(mass, "mass", dtype=dtype)
        self.mean = finite_array(mean, "mean", dtype=dtype)
        self.position, self.width = None, 0
        if not self._is_uniform:
            position, self.width = narrow_order(np.asarray(self.graph.edges), self.graph.n_nodes)
            self.position = jnp.asarray(position)

    def __check_init__(self):
        n, shape = self.graph.n_nodes, self.graph.shape
        fitting = [(), (self.graph.n_edges,)]
        if isinstance(self.graph, Lattice):
            fitting.append((len(shape), *shape))
        for name, array, shapes in (
            ("coupling", self.coupling, fitting),
            ("mass", self.mass, [(), shape]),
            ("mean", self.mean, [(), shape]),
        ):
            if array.shape not in shapes:
                listed = ", ".join(map(str, shapes))
                raise ValueError(f"{name} must have one of the shapes {listed}, got {array.shape}")
        if (self.position is None) != self._is_uniform:
            raise ValueError("a band is for graphs, and for lattices with more than one weight")
        if is_traced(*jax.tree.leaves(self)):
            return
        if self.position is None:
            definite = lowest_eigenvalue(self._lattice, *self._known_numbers()) > 0
        else:
            edges, position = np.asarray(self.graph.edges), np.asarray(self.position)
            check_band(edges, position, self.width, n)
            off, mass, _ = self._known_entries()
            definite = is_positive_definite(edges, off, mass, position)
        if not definite:
            raise ValueError(
                "the precision must be positive definite, got one with an eigenvalue of 0 or less:"
                " raise mass"
            )

    @classmethod
    def from_precision(cls, matrix: Any, mean: Numbers = 0.0) -> "GaussianMRF":
        """The field with this precision: a symmetric matrix, scipy.sparse or dense.

        Of entries that differ from those across the diagonal by no more than rounding, as those of
        an inverse do, the mean is taken: by 1e-10 of the largest, or 1e-5 in single precision.

        **Raises:** `ValueError` if it is not symmetric positive definite.

        ```python
        import energax as ex
        import numpy as np

        covariance = np.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.5], [0.2, 0.5, 1.0]])
        field = ex.GaussianMRF.from_precision(np.linalg.inv(covariance))
        ```
        """
        graph, weights, mass = from_precision(matrix)
        return cls(graph, weights, mass, mean)

    @property
    def space(self) -> Real:
        return Real(self.graph.shape)

    @property
    def _is_uniform(self) -> bool:
        one = self.coupling.ndim == self.mass.ndim == 0
        return one and isinstance(self.graph, Lattice)

    def _by_edge(self) -> Array:
        """Weights in the order of `graph.edges`, or the one they share."""
        if isinstance(self.graph, Lattice) and self.coupling.ndim > 1:
            return by_edge(self.graph, self.coupling)
        return self.coupling

    def energy(self, x: Num[Array, "..."]) -> Float[Array, ""]:
        x = as_floats(one_state(x, self.graph.shape), self.coupling.dtype)
        coupling, mass = self.coupling.astype(x.dtype), self.mass.astype(x.dtype)
        d = x - self.mean.astype(x.dtype)
        total = pairwise_sum((mass * jnp.square(d)).reshape(-1))
        if isinstance(self.graph, Graph):
            i, j = self.graph.edges[:, 0], self.graph.edges[:, 1]
            return 0.5 * (total + pairwise_sum(coupling * jnp.square(d[i] - d[j])))
        bonds = per_bond(self.graph, coupling)
        for axis, wraps in enumerate(self.graph.periodic):
            n = d.shape[axis]
            pieces = [((0, n - 1), (1, n))] + ([((n - 1, n), (0, 1))] if wraps else [])
            for here, there in pieces:
                apart = jnp.square(_cut(d, here, axis) - _cut(d, there, axis))
                weight = coupling if coupling.ndim == 0 else _cut(bonds[axis], here, axis)
                total = total + pairwise_sum((weight * apart).reshape(-1))
        return 0.5 * total

    @property
    def precision(self) -> csr_array:
        """Q as a `scipy.sparse` matrix, in double precision.

        **Raises:** `ValueError` inside a compiled program.
        """
        if self._is_traced:
            raise ValueError("the precision as a scipy.sparse matrix is made outside of jit")
        off, _, diagonal = self._known_entries()
        n, (i, j) = self.graph.n_nodes, np.asarray(self.graph.edges).T
        rows, columns = np.concatenate([i, j, np.arange(n)]), np.concatenate([j, i, np.arange(n)])
        values = np.concatenate([off, off, diagonal])
        return coo_array((values, (rows, columns)), shape=(n, n)).tocsr()

    @property
    def _is_traced(self) -> bool:
        return is_traced(*jax.tree.leaves(self))

    def _known_numbers(self) -> tuple[float, float]:
        return float(np.asarray(self.coupling)), float(np.asarray(self.mass))

    def _known_entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of Q, in double precision: beside the diagonal, sums of rows, and the diagonal."""
        edges, n = np.asarray(self.graph.edges), self.graph.n_nodes
        with jax.ensure_compile_time_eval():
            off = np.broadcast_to(-np.asarray(self._by_edge(), float), (len(edges),))
        mass = np.broadcast_to(np.asarray(self.mass, float), self.graph.shape).reshape(-1)
        sums = np.bincount(edges.reshape(-1), np.repeat(off, 2), minlength=n)
        return off, mass, mass - sums

    def _entries(self) -> tuple[Array, Array, Array]:
        """Edges, Q beside the diagonal, and the diagonal."""
        edges = jnp.asarray(self.graph.edges)
        weights = jnp.broadcast_to(self._by_edge(), edges.shape[:1])
        mass = jnp.broadcast_to(self.mass, self.graph.shape).reshape(-1)
        return edges, -weights, mass + _sums_at_nodes(edges, weights, self.graph.n_nodes)

    def _factor(self) -> tuple[Factor, Array]:
        assert self.position is not None
        if not self._is_traced:
            made = self._known_factor()
            return jax.tree.map(lambda a: jnp.asarray(a, self.mass.dtype), made), self.position
        edges, off, diagonal = self._entries()
        made = factor(edges, self.position, self.width, off, diagonal)
        return without_lost_digits(made, self.position, diagonal), self.position

    def _known_factor(self) -> Factor:
        edges, position = np.asarray(self.graph.edges), np.asarray(self.position)
        off, _, diagonal = self._known_entries()
        return known_factor(edges, position, self.width, off, diagonal)

    def log_normaliser(self) -> Float[Array, ""]:
        # Where neighbours are held together much more strongly than to the mean, single precision
        # loses the mass: what is known is factored in double precision.
        if not self._is_traced:
            if self.position is None:
                values = known_eigenvalues(self._lattice, *self._known_numbers())
                known = np.log(values).sum()
            else:
                known = known_log_determinant(self._known_factor())
            return jnp.asarray(0.5 * (self.graph.n_nodes * _LOG_2PI - known), self.mass.dtype)
        with jax.default_matmul_precision("highest"):
            if self.position is None:
                values = eigenvalues(self._lattice, self.coupling, self.mass)
                log_det = pairwise_sum(jnp.log(values).reshape(-1))
            else:
                log_det = log_determinant(self._factor()[0])
        return 0.5 * (self.graph.n_nodes * _LOG_2PI - log_det)

    def draw(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        with jax.default_matmul_precision("highest"):
            if self.position is None:
                values = eigenvalues(self._lattice, self.coupling, self.mass)
                z = normal(key, values.shape, values.dtype)
                return self.mean + transform(self._lattice, z / jnp.sqrt(values), inverse=True)
            made, position = self._factor()
            z = normal(key, made.diagonal.shape[:2], made.diagonal.dtype)
            return self.mean + backward(made, z, position).reshape(self.graph.shape)

    @property
    def _lattice(self) -> Lattice:
        assert isinstance(self.graph, Lattice)
        return self.graph

    def _solved(self, b: Array) -> Array:
        """Q^-1 b."""
        if self.position is None:
            values = eigenvalues(self._lattice, self.coupling, self.mass)
            return transform(self._lattice, transform(self._lattice, b) / values, inverse=True)
        made, position = self._factor()
        return backward(made, forward(made, b.reshape(-1), position), position).reshape(b.shape)

    def _times(self, x: Array) -> Array:
        """Q x: the gradient of the energy about 0."""
        about_zero = eqx.tree_at(lambda e: e.mean, self, jnp.zeros_like(self.mean))
        return jax.grad(about_zero.energy)(x)

    def sweep(
        self,
        x: Num[Array, "..."],
        key: Key[Array, ""],
        held: Bool[Array, "..."] | None = None,
    ) -> Float[Array, "..."]:
        x = as_floats(x, self.coupling.dtype)
        mean, mass = self.mean.astype(x.dtype), self.mass.astype(x.dtype)
        new = sweep_normal(self.graph, self.coupling.astype(x.dtype), mass, x - mean, key, held)
        return new + mean if held is None else jnp.where(held, x, new + mean)


def _cut(a: Array, between: tuple[int, int], axis: int) -> Array:
    return jax.lax.slice_in_dim(a, *between, axis=axis)


def _sums_at_nodes(edges: Array, weights: Array, n: int) -> Array:
    sums = jnp.zeros((n,), weights.dtype)
    return sums.at[edges[:, 0]].add(weights).at[edges[:, 1]].add(weights)


def _product(a: GaussianMRF, b: GaussianMRF) -> AbstractEnergy | None:
    if not _same_graph(a.graph, b.graph):
        return None
    with_band = b if a.position is None else a
    shapes = {w.shape for w in (a.coupling, b.coupling)}
    if len(shapes - {()}) > 1:  # in two of the ways to give weights
        return None
    shape = a.graph.shape
    right = sum(e._times(jnp.broadcast_to(e.mean, shape)) for e in (a, b))
    merged = eqx.tree_at(
        lambda e: (e.coupling, e.mass), with_band, (a.coupling + b.coupling, a.mass + b.mass)
    )
    mean = merged._solved(right)
    merged = eqx.tree_at(lambda e: e.mean, merged, mean)
    return Shifted(merged, a.energy(mean) + b.energy(mean))


def _same_graph(a: Lattice | Graph, b: Lattice | Graph) -> bool:
    if isinstance(a, Lattice) or isinstance(b, Lattice):
        return (
            isinstance(a, Lattice)
            and isinstance(b, Lattice)
            and ((a.shape, a.periodic) == (b.shape, b.periodic))
        )
    if a.edges is b.edges or is_traced(a.edges, b.edges):
        return a.edges is b.edges
    return a.n_nodes == b.n_nodes and np.array_equal(a.edges, b.edges)


def _power(a: GaussianMRF, beta: Array) -> GaussianMRF | None:
    if not is_traced(beta) and np.asarray(beta) == 0:
        return None  # flat: no Gaussian
    return eqx.tree_at(lambda e: (e.coupling, e.mass), a, (beta * a.coupling, beta * a.mass))


PRODUCT[GaussianMRF, GaussianMRF] = _product
POWER[GaussianMRF] = _power
