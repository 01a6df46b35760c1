"""The Ising model on a lattice or any graph."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

from energax.energies._base import AbstractBlocked, AbstractSitewise
from energax.energies._parameters import as_floats, finite_array, one_state
from energax.energies._summing import pairwise_sum
from energax.energies.algebra._rules import POWER, PRODUCT
from energax.energies.graphs._couplings import coupled, scaled_by, summed
from energax.energies.graphs._graph import Graph
from energax.energies.graphs._lattice import Lattice
from energax.energies.graphs._making import as_graph, check_values, couplings_of
from energax.energies.graphs._site_rule import SiteRule
from energax.energies.graphs._sweeping import sweep
from energax.spaces import Numbers, Spin


class Ising(AbstractBlocked, AbstractSitewise):
    """Spins of -1 and +1 on the sites of a lattice or the nodes of a graph:

    E(s) = - sum over edges ij of J_ij s_i s_j - sum over nodes i of h_i s_i

    Positive couplings J favour equal neighbours. An inverse temperature is a power:
    `ex.Ising((64, 64)) ** 0.44`.

    **Arguments:**

    - `graph`: a shape (an integer or a tuple, for a lattice), a `Lattice`, a `Graph`, an array of
      edges, a networkx graph (its edges' `weight` are the couplings), or a symmetric matrix, of
      scipy.sparse or an array (its entries are the couplings).
    - `coupling`: J, one number, one per edge in the order of `graph.edges`, or on a lattice one
      an axis or an array of shape (axes, *shape): the bonds to the next site along each axis
      (entries that lead out of an open end are not looked at). 1 if `None`.
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
        self.coupling = couplings_of(self.graph, coupling, weights)
        self.field = finite_array(field, "field", dtype=self.coupling.dtype)

    def __check_init__(self):
        check_values(self.graph, self.coupling, self.field, ())

    @property
    def space(self) -> Spin:
        return Spin(self.graph.shape)

    def energy(self, x: Num[Array, "..."]) -> Float[Array, ""]:
        x = as_floats(one_state(x, self.graph.shape), self.coupling.dtype)
        coupling, field = self.coupling.astype(x.dtype), self.field.astype(x.dtype)
        if field.ndim == 0:
            linear = field * pairwise_sum(x.reshape(-1))
        else:
            linear = pairwise_sum((field * x).reshape(-1))
        return -coupled(self.graph, coupling, x, jnp.multiply) - linear

    def site_changes(self, x: Num[Array, "..."], site: Int[Array, ""]) -> Float[Array, "2"]:
        # E is linear in every spin: its gradient is minus the spin's field.
        x = as_floats(x, self.coupling.dtype)
        slope = jax.grad(self.energy)(x).reshape(-1)[site]
        values = jnp.array([-1.0, 1.0], x.dtype)
        return (values - x.reshape(-1)[site]) * slope

    def sweep(
        self,
        x: Num[Array, "..."],
        key: Key[Array, ""],
        held: Bool[Array, "..."] | None = None,
    ) -> Float[Array, "..."]:
        x = as_floats(x, self.coupling.dtype)
        coupling, field = self.coupling.astype(x.dtype), self.field.astype(x.dtype)
        field = field.reshape((1,) * x.ndim) if field.ndim == 0 else field
        return sweep(_SPINS, self.graph, coupling, field, x, key, held)


def _chance(field: Array) -> Array:
    """Of a spin of +1, given its field: 1 / (1 + exp(-2 f))."""
    # A uniform number counts as the middle of its interval, as in `energax.random.bernoulli`.
    return jax.nn.sigmoid(2 * field) - jnp.finfo(field.dtype).eps / 2


def _picked(chance: Array, uniform: Any) -> Array:
    return jnp.where(uniform < chance, 1.0, -1.0).astype(chance.dtype)


_SPINS = SiteRule(
    message=lambda s: s, weigh=_chance, pick=_picked, nothing=0.0, two_values=(-1.0, 1.0)
)


def _product(a: Ising, b: Ising) -> Ising | None:
    terms = summed(a, b)
    return None if terms is None else Ising(a.graph, *terms)


def _power(a: Ising, beta: Array) -> Ising:
    return Ising(a.graph, *scaled_by(a, beta))


PRODUCT[Ising, Ising] = _product
POWER[Ising] = _power
