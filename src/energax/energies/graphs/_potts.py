"""The Potts model on a lattice or any graph."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from energax.energies._base import AbstractBlocked, AbstractSitewise
from energax.energies._parameters import finite_array, one_state
from energax.energies._summing import pairwise_sum
from energax.energies.algebra._rules import POWER, PRODUCT
from energax.energies.graphs._conditionals import draw_by_weight
from energax.energies.graphs._couplings import coupled, scaled_by, summed
from energax.energies.graphs._graph import Graph
from energax.energies.graphs._lattice import Lattice
from energax.energies.graphs._making import as_graph, check_values, couplings_of
from energax.energies.graphs._site_rule import SiteRule
from energax.energies.graphs._sweeping import sweep
from energax.random import as_count
from energax.spaces import Categorical, Numbers


class Potts(AbstractBlocked, AbstractSitewise):
    """Labels 0 to q - 1 on the sites of a lattice or the nodes of a graph:

    E(x) = - sum over edges ij of J_ij [x_i = x_j] - sum over nodes i of h_i(x_i)

    Positive couplings J favour equal neighbours. With two labels and J / 2 it is `Ising`, but for
    a constant.

    **Arguments:**

    - `graph`, `coupling`, `periodic`: as for `Ising`.
    - `n_states`: q, how many labels.
    - `field`: h, shape (n_states,), or (*shape, n_states) for one a node; 0 if `None`.

    **Raises:** `ValueError` if the graph is not valid, or the couplings and fields do not fit it.

    ```python
    import energax as ex

    potts = ex.Potts((6, 6), 3, coupling=1.005)
    ```

    Source: R. Potts, "Some generalized order-disorder transformations" (1952).
    """

    graph: Lattice | Graph
    n_states: int = eqx.field(static=True)
    coupling: Float[Array, "..."]
    field: Float[Array, "..."]

    def __init__(
        self,
        graph: Any,
        n_states: int,
        coupling: Numbers | None = None,
        field: Numbers | None = None,
        periodic: Any = True,
    ):
        self.graph, weights = as_graph(graph, periodic)
        self.n_states = as_count(n_states, "n_states", least=2)
        self.coupling = couplings_of(self.graph, coupling, weights)
        given = jnp.zeros((self.n_states,)) if field is None else field
        self.field = finite_array(given, "field", dtype=self.coupling.dtype)

    def __check_init__(self):
        check_values(self.graph, self.coupling, self.field, (self.n_states,))

    @property
    def space(self) -> Categorical:
        return Categorical(self.graph.shape, self.n_states)

    def energy(self, x: Int[Array, "..."]) -> Float[Array, ""]:
        x, dtype = one_state(x, self.graph.shape), self.coupling.dtype
        if self.field.ndim == 1:
            linear = self.field[x]
        else:
            linear = jnp.take_along_axis(self.field, x[..., None], axis=-1)
        total = coupled(self.graph, self.coupling, x, lambda a, b: (a == b).astype(dtype))
        return -total - pairwise_sum(linear.reshape(-1))

    def site_changes(self, x: Int[Array, "..."], site: Int[Array, ""]) -> Float[Array, " states"]:
        dtype = self.coupling.dtype

        def of_marks(marks: Float[Array, "*shape states"]) -> Float[Array, ""]:
            """E, linear in the marks of every site."""
            total = coupled(self.graph, self.coupling, marks, lambda a, b: jnp.sum(a * b, -1))
            field = jnp.broadcast_to(self.field, marks.shape)
            return -total - jnp.sum(field * marks)

        energies = jax.grad(of_marks)(jax.nn.one_hot(x, self.n_states, dtype=dtype))
        energies = energies.reshape(-1, self.n_states)[site]
        return energies - energies[x.reshape(-1)[site]]

    @property
    def floats_a_site(self) -> int:
        return self.n_states

    def sweep(
        self, x: Int[Array, "..."], key: Key[Array, ""], held: Bool[Array, "..."] | None = None
    ) -> Int[Array, "..."]:
        # Of numpy: a sweep may be batched after it was traced, and must hold nothing traced.
        labels, dtype = np.arange(self.n_states, dtype=x.dtype), self.coupling.dtype

        def message(s: Array) -> Array:
            each = labels.reshape(-1, *[1] * s.ndim)
            return (each == s[None]).astype(dtype)

        field = jnp.moveaxis(self.field, -1, 0)
        if field.ndim == 1:
            field = field.reshape(-1, *[1] * x.ndim)
        rule = SiteRule(message, weigh=_log_odds, pick=_picked, nothing=-1)
        return sweep(rule, self.graph, self.coupling, field, x, key, held)


def _log_odds(total: Array) -> Array:
    return total


def _picked(log_odds: Array, uniform: Any) -> Array:
    """Labels given their log-probabilities, up to a constant, along the first axis."""
    top = jnp.max(log_odds, 0)
    return draw_by_weight([jnp.exp(each - top) for each in log_odds], uniform)


def _product(a: Potts, b: Potts) -> Potts | None:
    terms = summed(a, b)
    return None if terms is None else Potts(a.graph, a.n_states, *terms)


def _power(a: Potts, beta: Array) -> Potts:
    return Potts(a.graph, a.n_states, *scaled_by(a, beta))


PRODUCT[Potts, Potts] = _product
POWER[Potts] = _power
