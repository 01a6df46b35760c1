"""Maximum likelihood with the exact gradient."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from energax.energies import AbstractEnergy, AbstractTractable
from energax.exact import log_partition_enumerated
from energax.objectives._base import AbstractObjective, Step, value_and_gradient
from energax.spaces import State


class MaximumLikelihood(AbstractObjective):
    """Mean negative log-likelihood, mean E(x) + log Z, with log Z exact.

    log Z is the closed form of a normalised energy, or a sum over every state (an RBM: of its
    smaller layer), so the gradient is exact: `loss` is the likelihood itself, in nats a row.

    An energy with some entries observed has no list of its states inside a compiled step (but a
    conditioned RBM has its hidden layer's): train it without and condition it afterwards.
    """

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        # Whether log Z can be had inside a compiled step: said before training.
        eqx.filter_eval_shape(_log_z, energy)
        return AbstractObjective.prepare(self, energy, data)

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> None:
        return None

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        def loss(energy: AbstractEnergy) -> Array:
            return jnp.mean(jax.vmap(energy.energy)(batch)) + _log_z(energy)

        value, gradient = value_and_gradient(energy, loss)
        return Step(gradient, None, {"loss": value})


def _log_z(energy: AbstractEnergy) -> Array:
    if isinstance(energy, AbstractTractable):
        return energy.log_normaliser()
    return log_partition_enumerated(energy)
