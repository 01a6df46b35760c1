"""What replicas would gain by swapping places, and how likely they are to."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from energax.energies import AbstractEnergy, AbstractPath
from energax.kernels._base import Info
from energax.kernels._chains import terms_of
from energax.kernels._rungs import Rungs


class Gains(eqx.Module):
    """Of each replica, should it go to its partner's rung."""

    here: Float[Array, " replicas"]
    """The energy of each replica on its rung."""
    there: Float[Array, " replicas"]
    """The same on its partner's rung."""
    gain: Float[Array, " replicas"]
    """The first less the second."""

    def swap_probability(self, at: Int[Array, " replicas"]) -> Float[Array, " pairs"]:
        """Of the replicas at each two neighbouring rungs; `at` says which stand there."""
        together = self.gain[at[:-1]] + self.gain[at[1:]]
        probability = jnp.exp(jnp.minimum(together, 0.0))
        probability = jnp.where(jnp.isnan(together), 0.0, probability)
        # A failure is carried to beta = 1 and stays there, where whoever looks at x sees it.
        failed = _is_failure(self.here) | _is_failure(self.there)
        return jnp.where(failed[at[1:]], 0.0, jnp.where(failed[at[:-1]], 1.0, probability))


def gains(
    rungs: Rungs,
    energy: AbstractEnergy,
    level: Int[Array, " replicas"],
    partner: Int[Array, " replicas"],
    replicas: Any,
    info: Info,
) -> Gains:
    """What each replica would gain on its partner's rung, from what is kept."""
    betas = rungs.betas.astype(info.energy.dtype)
    here_beta, there_beta = betas[level], betas[partner]
    if rungs.base is None:
        here, there = info.energy, info.energy * (there_beta / here_beta)
        # Formed as a difference of betas, not of two large energies.
        gain = info.energy * ((here_beta - there_beta) / here_beta)
    else:
        model = rungs.at(energy, 0.5)
        assert isinstance(model, AbstractPath)
        terms = terms_of(model, replicas)

        def both(here, there, terms):
            on_rung = model.at(here)
            gain = on_rung.log_increment(terms, there)
            return on_rung.energy_of(terms), model.at(there).energy_of(terms), gain

        here, there, gain = jax.vmap(both)(here_beta, there_beta, terms)
    # A replica outside the support belongs where it is hot, wherever that may end.
    outward = jnp.where(there_beta > here_beta, -jnp.inf, jnp.inf)
    gain = jnp.where(here == jnp.inf, jnp.where(there == jnp.inf, outward, jnp.inf), gain)
    gain = jnp.where((there == jnp.inf) & (here < jnp.inf), -jnp.inf, gain)
    return Gains(here, there, gain)


def _is_failure(energy: Float[Array, "..."]) -> Bool[Array, "..."]:
    return jnp.isnan(energy) | (energy == -jnp.inf)
