"""Warm-up step by step: a kernel's settings learnt from every step of all chains together."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from energax.energies import AbstractEnergy
from energax.kernels._base import AbstractKernel, AbstractTunableKernel
from energax.kernels._chains import walk


class AbstractTuning(eqx.Module):
    """What a warm-up has learnt so far of a kernel's settings.

    Chains step one by one, so that each may have an energy of its own, as the parts of a `Joint`
    have; what is learnt is pooled over all of them.
    """

    @abc.abstractmethod
    def step(self, energy: AbstractEnergy, state: Any, key: Key[Array, ""]) -> tuple[Any, Any]:
        """One move of one chain by the kernel as it stands, and what there is to learn from it."""

    @abc.abstractmethod
    def after(self, states: Any, told: Any) -> "AbstractTuning":
        """With one more step of all chains: where they are, and what each told."""

    @abc.abstractmethod
    def found(self) -> AbstractKernel:
        """The kernel with the settings found."""


class AbstractStepwiseTunableKernel(AbstractTunableKernel):
    """A kernel that is tuned step by step, alone or as a part of another kernel."""

    @abc.abstractmethod
    def tuning(self, energy: AbstractEnergy, n_steps: Array) -> AbstractTuning | None:
        """What is known before the first of `n_steps` steps; `None` if there is nothing to tune.

        Of `energy` only its space may be asked.
        """

    def tunes(self, energy: AbstractEnergy) -> bool:
        return self.tuning(energy, jnp.zeros((), jnp.int32)) is not None

    def tune(
        self, energy: AbstractEnergy, states: Any, n_steps: Array, key: Key[Array, ""]
    ) -> tuple[AbstractKernel, Any]:
        tuning = self.tuning(energy, n_steps)
        if tuning is None:
            return self, walk(energy, self, states, n_steps, key)[0]
        # What is no array, such as a function, is no part of what a loop carries.
        learnt, rest = eqx.partition(tuning, eqx.is_array)

        def body(i, carry):
            states, learnt = carry
            states, tuning = learning_step(
                energy, eqx.combine(learnt, rest), states, jax.random.fold_in(key, i)
            )
            return states, eqx.filter(tuning, eqx.is_array)

        states, learnt = jax.lax.fori_loop(0, n_steps, body, (states, learnt))
        return eqx.combine(learnt, rest).found(), states


def learning_step(
    energy: AbstractEnergy, tuning: AbstractTuning, states: Any, key: Key[Array, ""]
) -> tuple[Any, AbstractTuning]:
    """One step of every chain, and what is known after it."""
    keys = jax.random.split(key, len(jax.tree.leaves(states)[0]))
    states, told = jax.vmap(tuning.step, in_axes=(None, 0, 0))(energy, states, keys)
    return states, tuning.after(states, told)
