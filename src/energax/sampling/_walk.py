"""Steps of many chains, of which nothing is kept but where they got to."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels import AbstractKernel, energies_of, step_chains


class Walked(eqx.Module):
    """Where chains got to."""

    states: Any
    """The kernel's states, one a chain."""
    acceptance: Float[Array, " chains"]
    """The mean acceptance of each chain's steps."""
    energy: Float[Array, " chains"]
    """E of each chain's last state."""


def walk_chains(
    energy: AbstractEnergy, kernel: AbstractKernel, states: Any, n_steps: Any, key: Key[Array, ""]
) -> Walked:
    """`n_steps` steps of every chain.

    `n_steps` may be traced: another number of steps compiles nothing.
    """
    states, acceptance = walk(energy, kernel, states, n_steps, key)
    return Walked(states, acceptance, energies_of(energy, kernel, states))


def walk(
    energy: AbstractEnergy, kernel: AbstractKernel, states: Any, n_steps: Any, key: Key[Array, ""]
) -> tuple[Any, Float[Array, " chains"]]:
    """`n_steps` steps of every chain, and their mean acceptance."""

    def body(i, carry):
        # What a step says of the energy is not kept, so XLA leaves it out of the loop.
        states, acceptance = carry
        states, info = step_chains(energy, kernel, states, jax.random.fold_in(key, i))
        return states, acceptance + info.acceptance

    none = no_acceptance(energy, kernel, states, key)
    states, acceptance = lax.fori_loop(0, n_steps, body, (states, none))
    return states, acceptance / jnp.maximum(n_steps, 1).astype(acceptance.dtype)


def no_acceptance(
    energy: AbstractEnergy, kernel: AbstractKernel, states: Any, key: Key[Array, ""]
) -> Float[Array, " chains"]:
    """Zeros, as a step's acceptance is."""
    like = jax.eval_shape(lambda s, k: step_chains(energy, kernel, s, k)[1], states, key)
    return jnp.zeros(like.acceptance.shape, like.acceptance.dtype)
