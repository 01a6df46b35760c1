"""Swendsen-Wang: every cluster of bonded neighbours redrawn as one."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from energax.energies import AbstractEnergy
from energax.kernels._base import Info
from energax.kernels._clusters import (
    AbstractClusterKernel,
    ClusterState,
    as_states,
    draw_clusters,
    ferromagnet,
    from_states,
)
from energax.random import bernoulli


class SwendsenWang(AbstractClusterKernel):
    """Equal neighbours are bonded with probability 1 - exp(-2 J) (for `Potts` 1 - exp(-J)); then
    every cluster of nodes that bonds connect is given a new state at once.

    The new state is drawn with the weight that the fields of all the cluster's nodes give it:
    without a field an Ising cluster turns with probability 1/2. Near the critical point of a
    ferromagnet, where moves of single spins take longer the larger the lattice, this takes a few
    steps. Nothing is refused. Of a conditioned model, a cluster with an observed node keeps its
    state.

    For Ising and Potts models with couplings of at least 0, on any lattice or graph, with any
    fields. Fields that pull against each other make it slow: clusters then straddle them. Couplings
    below 0 are refused; where they are traced or trained and become so, the energy is NaN.

    ```python
    import energax as ex

    critical = ex.Ising((8, 8), 0.4407)
    draws = ex.sample(critical, 64, key=ex.key(0), kernel=ex.SwendsenWang(), warmup=10)
    ```

    Source: R. Swendsen and J.-S. Wang, "Nonuniversal critical dynamics in Monte Carlo
    simulations" (1987).
    """

    def step(
        self, energy: AbstractEnergy, state: ClusterState, key: Key[Array, ""]
    ) -> tuple[ClusterState, Info]:
        magnet = ferromagnet(energy)
        key_bonds, key_states = jax.random.split(key)
        states = as_states(state.x)
        cluster = draw_clusters(magnet, states, key_bonds)
        weight = jnp.zeros_like(magnet.field).at[cluster].add(magnet.field)
        held = jnp.zeros_like(magnet.held).at[cluster].max(magnet.held)
        drawn = jnp.where(held[cluster], states, _draw(weight, key_states)[cluster])
        new = ClusterState(from_states(drawn, like=state.x))
        return new, self.told(energy, new, jnp.ones((), weight.dtype))


def _draw(weight: Float[Array, "n q"], key: Key[Array, ""]) -> Int[Array, " n"]:
    """A state for each row, by exp(weight): each in turn is taken or passed on."""
    from_here = jax.lax.cumlogsumexp(weight, axis=1, reverse=True)
    taken = bernoulli(key, jnp.exp(weight - from_here)[:, :-1])
    last = jnp.ones((len(weight), 1), bool)
    return jnp.argmax(jnp.concatenate([taken, last], 1), 1).astype(jnp.int32)
