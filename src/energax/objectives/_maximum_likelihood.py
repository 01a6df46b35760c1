"""Maximum likelihood with the exact gradient."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from energax.energies import AbstractEnergy, AbstractTractable
from energax.exact import (
    elimination_plan,
    log_partition_eliminated,
    log_partition_enumerated,
    n_enumerated,
)
from energax.exact._elimination import MEMORY
from energax.exact._log_tables import log_tables
from energax.objectives._base import AbstractObjective, Step, value_and_gradient
from energax.spaces import State


class MaximumLikelihood(AbstractObjective):
    """Mean negative log-likelihood, mean E(x) + log Z, with log Z exact.

    log Z is the closed form of a normalised energy, a sum over every state (an RBM: of its
    smaller layer), or, of a factor graph with more than 65,536 states, found by eliminating its
    variables. So the gradient is exact: `loss` is the likelihood itself, in nats a row.

    Another energy with some entries observed has no list of its states inside a compiled step (but
    a conditioned RBM has its hidden layer's): train it without and condition it afterwards.
    """

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        # Whether log Z can be had inside a compiled step: said before training.
        if _is_eliminated(energy):
            plan = elimination_plan(energy)
            if plan.bytes + plan.bytes_kept > MEMORY:
                raise ValueError(
                    f"exact maximum likelihood would take too much memory: {plan.summary}. Use"
                    " ex.PersistentContrastiveDivergence"
                )
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


_FEW = 1 << 16
"""States that are rather listed, inside the compiled step."""


def _is_eliminated(energy: AbstractEnergy) -> bool:
    listed = n_enumerated(energy)
    return (listed is None or listed > _FEW) and log_tables(energy) is not None


def _log_z(energy: AbstractEnergy) -> Array:
    if isinstance(energy, AbstractTractable):
        return energy.log_normaliser()
    if _is_eliminated(energy):
        return jnp.asarray(log_partition_eliminated(energy))
    return log_partition_enumerated(energy)
