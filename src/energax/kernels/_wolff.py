"""Wolff: one cluster of bonded neighbours turned."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

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


class Wolff(AbstractClusterKernel):
    """The cluster of a random node, of neighbours bonded as in `SwendsenWang`, is turned: an Ising
    cluster to the other spin, a Potts cluster to one of the other labels.

    A random node is more likely in a large cluster, so that large ones turn more often. Fields
    decide by the ratio of probabilities whether it turns; a cluster with an observed node does
    not. For the same models as `SwendsenWang`. A step finds all clusters, as one of
    `SwendsenWang` does, and costs the same.

    ```python
    import energax as ex

    critical = ex.Ising((8, 8), 0.4407)
    draws = ex.sample(critical, 64, key=ex.key(0), kernel=ex.Wolff(), warmup=10)
    ```

    Source: U. Wolff, "Collective Monte Carlo updating for spin systems" (1989).
    """

    def step(
        self, energy: AbstractEnergy, state: ClusterState, key: Key[Array, ""]
    ) -> tuple[ClusterState, Info]:
        magnet = ferromagnet(energy)
        key_bonds, key_seed, key_turn, key_accept = jax.random.split(key, 4)
        states = as_states(state.x)
        n, q = magnet.field.shape
        cluster = draw_clusters(magnet, states, key_bonds)
        seed = jax.random.randint(key_seed, (), 0, n, jnp.int32)
        chosen = cluster == cluster[seed]
        old = states[seed]
        turned = (old + jax.random.randint(key_turn, (), 1, q, jnp.int32)) % q
        weight = jnp.sum(jnp.where(chosen[:, None], magnet.field, 0), 0)
        probability = jnp.exp(jnp.minimum(weight[turned] - weight[old], 0))
        probability = jnp.where(jnp.any(chosen & magnet.held), 0, probability)
        accept = bernoulli(key_accept, probability)
        new = ClusterState(from_states(jnp.where(chosen & accept, turned, states), like=state.x))
        return new, self.told(energy, new, probability)
