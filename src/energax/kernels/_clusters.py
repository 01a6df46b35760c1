"""Clusters of equal neighbours: what Swendsen-Wang and Wolff move as one."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from energax.energies import AbstractEnergy, Ising, Potts, unfreeze
from energax.energies._parameters import is_traced
from energax.energies.algebra import AbstractConditioned
from energax.energies.graphs import Lattice
from energax.energies.graphs._making import by_edge, per_bond
from energax.kernels._base import AbstractKernel, AbstractKernelState, Info
from energax.kernels._graph_models import graph_model
from energax.random import bernoulli
from energax.spaces import Clamped, State


class ClusterState(AbstractKernelState):
    """x alone: clusters are made anew at every step."""

    x: State


class AbstractClusterKernel(AbstractKernel):
    """A kernel that moves clusters: all but the step."""

    is_exact: ClassVar[bool] = True

    def check(self, energy: AbstractEnergy) -> None:
        check_ferromagnet(energy, type(self).__name__)

    def init(self, energy: AbstractEnergy, x: State, key: Key[Array, ""]) -> ClusterState:
        return ClusterState(energy.space.clamp(x))

    def refresh(self, energy: AbstractEnergy, state: ClusterState) -> ClusterState:
        return ClusterState(energy.space.clamp(state.x))

    def energy_at(self, energy: AbstractEnergy, state: ClusterState) -> Float[Array, ""]:
        # Traced or trained couplings may come to repel: nothing could refuse them before.
        repels = jnp.any(ferromagnet(energy).coupling < 0)
        return jnp.where(repels, jnp.nan, energy.energy(state.x))

    def told(self, energy: AbstractEnergy, new: ClusterState, probability: Array) -> Info:
        """What a step tells; NaN where neighbours have come to repel."""
        value = self.energy_at(energy, new)
        return Info(jnp.where(jnp.isnan(value), jnp.nan, probability), value)


class Ferromagnet(NamedTuple):
    """Nodes of the states k = 0 to q - 1, where equal neighbours attract:

    E = - sum over edges ij of J_ij [k_i = k_j] - sum over nodes i of h_i(k_i)
    """

    edges: Int[Array, "edges 2"]
    coupling: Float[Array, " edges"]
    """J."""
    field: Float[Array, "nodes q"]
    """h."""
    held: Bool[Array, " nodes"]
    """Nodes that stay as they are."""


def check_ferromagnet(energy: AbstractEnergy, name: str) -> None:
    """Raise `ValueError` unless the energy is a ferromagnet, as far as one can see."""
    model = _model(energy)
    if model is None:
        raise ValueError(
            f"{name} needs an Ising or Potts model, got {type(energy).__name__}: for others take"
            " a kernel that moves entries one by one"
        )
    coupling = _per_edge(model)
    if not is_traced(coupling) and (np.asarray(coupling) < 0).any():
        lowest = float(np.asarray(coupling).min())
        raise ValueError(
            f"{name} needs couplings of at least 0, got {lowest:.6g}: neighbours that repel form"
            " no clusters, use ex.BlockGibbs() or ex.ReplicaExchange"
        )


def ferromagnet(energy: AbstractEnergy) -> Ferromagnet:
    """An Ising or Potts model, with what of it is held, as a `Ferromagnet`."""
    model = _model(energy)
    assert model is not None
    n, dtype = model.graph.n_nodes, model.coupling.dtype
    edges = jnp.asarray(model.graph.edges)
    coupling = jnp.broadcast_to(_per_edge(model), (len(edges),))
    if isinstance(model, Potts):
        q = model.n_states
        field = jnp.broadcast_to(model.field.reshape(-1, q), (n, q))
    else:  # s_i s_j = 2 [s_i = s_j] - 1
        coupling = 2 * coupling
        up = jnp.broadcast_to(model.field.reshape(-1), (n,))
        field = jnp.stack([-up, up], 1)
    space = energy.space
    held = space.mask.reshape(-1) if isinstance(space, Clamped) else jnp.zeros((n,), bool)
    return Ferromagnet(edges, coupling, field.astype(dtype), held)


def as_states(x: Array) -> Int[Array, " nodes"]:
    """x as states 0, 1, ..., one a node."""
    flat = x.reshape(-1)
    labels = flat if jnp.issubdtype(flat.dtype, jnp.integer) else flat > 0
    return labels.astype(jnp.int32)


def from_states(states: Int[Array, " nodes"], like: Array) -> Array:
    """The other way, with the shape and dtype of an x."""
    flat = states.astype(like.dtype)
    spins = not jnp.issubdtype(like.dtype, jnp.integer)
    return (2 * flat - 1 if spins else flat).reshape(like.shape)


def draw_clusters(
    magnet: Ferromagnet, states: Int[Array, " nodes"], key: Key[Array, ""]
) -> Int[Array, " nodes"]:
    """Bonds between equal neighbours, each with probability 1 - exp(-J); for every node the
    smallest number of those it is connected to."""
    i, j = magnet.edges[:, 0], magnet.edges[:, 1]
    bonded = (states[i] == states[j]) & bernoulli(key, -jnp.expm1(-magnet.coupling))
    return connected(len(states), i, j, bonded)


def connected(
    n_nodes: int,
    i: Int[Array, " edges"],
    j: Int[Array, " edges"],
    bonded: Bool[Array, " edges"],
) -> Int[Array, " nodes"]:
    """For every node the smallest number in its connected component.

    Each node points at a smaller one of its component. A round makes, for every bond, the larger
    of the two pointed at point at the smaller, and then each node point where what it points at
    does, twice. There are about log n rounds.

    Source: Y. Zhang, A. Azad and Z. Hu, "FastSV: a distributed-memory connected component
    algorithm with fast convergence" (2020), simplified.
    """

    def round_(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        points, a, b = carry
        larger = jnp.where(bonded, jnp.maximum(a, b), n_nodes)
        points = points.at[larger].min(jnp.minimum(a, b), mode="drop")
        points = points[points]
        points = points[points]
        return points, points[i], points[j]

    def apart(carry: tuple[Array, Array, Array]) -> Bool[Array, ""]:
        return jnp.any(bonded & (carry[1] != carry[2]))

    start = jnp.arange(n_nodes, dtype=i.dtype)
    return jax.lax.while_loop(apart, round_, (start, i, j))[0]


def _model(energy: AbstractEnergy) -> Ising | Potts | None:
    model = unfreeze(energy)
    if isinstance(model, AbstractConditioned):
        return _model(model.inner)
    return graph_model(model)


def _per_edge(model: Any) -> Array:
    """J, one for all or in the order of the graph's edges."""
    if isinstance(model.graph, Lattice) and model.coupling.ndim > 1:
        return by_edge(model.graph, per_bond(model.graph, model.coupling))
    return model.coupling
