"""Many chains at once: `jax.vmap` over a kernel, or an ensemble kernel's own step."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels._base import (
    AbstractEnsembleKernel,
    AbstractKernel,
    AbstractTermsState,
    AbstractTunableKernel,
    Info,
)
from energax.spaces import State


def start_chains(
    energy: AbstractEnergy, kernel: AbstractKernel, x: State, key: Key[Array, ""]
) -> Any:
    """Kernel states of chains that start at the rows of `x`."""
    if isinstance(kernel, AbstractEnsembleKernel):
        return kernel.init(energy, x, key)
    keys = jax.random.split(key, len(jax.tree.leaves(x)[0]))
    return jax.vmap(kernel.init, in_axes=(None, 0, 0))(energy, x, keys)


def step_chains(
    energy: AbstractEnergy, kernel: AbstractKernel, states: Any, key: Key[Array, ""]
) -> tuple[Any, Info]:
    """One step of every chain, each with randomness of its own."""
    if isinstance(kernel, AbstractEnsembleKernel):
        return kernel.step(energy, states, key)
    keys = jax.random.split(key, len(jax.tree.leaves(states)[0]))
    return jax.vmap(kernel.step, in_axes=(None, 0, 0))(energy, states, keys)


def refresh_chains(energy: AbstractEnergy, kernel: AbstractKernel, states: Any) -> Any:
    """The same chains where the energy's parameters have changed."""
    if isinstance(kernel, AbstractEnsembleKernel):
        return kernel.refresh(energy, states)
    return jax.vmap(kernel.refresh, in_axes=(None, 0))(energy, states)


def retemper_chains(energy: AbstractEnergy, kernel: AbstractKernel, states: Any) -> Any:
    """The same chains where only the energy's `beta` has changed."""
    if isinstance(kernel, AbstractEnsembleKernel):
        return kernel.retemper(energy, states)
    return jax.vmap(kernel.retemper, in_axes=(None, 0))(energy, states)


def motion_of(kernel: AbstractKernel, states: Any) -> Any:
    """Of every chain, what has to be kept beside x; `None` if x is all."""
    if isinstance(kernel, AbstractEnsembleKernel):
        return kernel.motion(states)
    return jax.vmap(kernel.motion)(states)


def moving_chains(kernel: AbstractKernel, states: Any, motion: Any) -> Any:
    """The chains where they are, with that motion."""
    if isinstance(kernel, AbstractEnsembleKernel):
        return kernel.moving(states, motion)
    return jax.vmap(kernel.moving)(states, motion)


def energies_of(
    energy: AbstractEnergy, kernel: AbstractKernel, states: Any
) -> Float[Array, " chains"]:
    """E at every chain's x."""
    if isinstance(kernel, AbstractEnsembleKernel):
        return kernel.energy_at(energy, states)
    return jax.vmap(kernel.energy_at, in_axes=(None, 0))(energy, states)


def tune_chains(
    energy: AbstractEnergy,
    kernel: AbstractKernel,
    states: Any,
    n_steps: Array,
    key: Key[Array, ""],
) -> tuple[AbstractKernel, Any]:
    """Warm-up: `n_steps` of every chain, in which a tunable kernel finds its settings.

    `n_steps` may be traced. With no step nothing is tuned.
    """
    if isinstance(kernel, AbstractTunableKernel):
        return kernel.tune(energy, states, n_steps, key)
    return kernel, walk(energy, kernel, states, n_steps, key)[0]


def walk(
    energy: AbstractEnergy, kernel: AbstractKernel, states: Any, n_steps: Any, key: Key[Array, ""]
) -> tuple[Any, Float[Array, " chains"]]:
    """`n_steps` of every chain, which may be traced: where they got to, their mean acceptance."""

    def body(i, carry):
        # What a step says of the energy is not kept, so XLA leaves it out of the loop.
        states, total = carry
        states, info = step_chains(energy, kernel, states, jax.random.fold_in(key, i))
        return states, total + info.acceptance

    none = no_acceptance(energy, kernel, states, key)
    states, total = lax.fori_loop(0, n_steps, body, (states, none))
    return states, total / jnp.maximum(n_steps, 1).astype(total.dtype)


def no_acceptance(
    energy: AbstractEnergy, kernel: AbstractKernel, states: Any, key: Key[Array, ""]
) -> Float[Array, " chains"]:
    """Zeros of the dtype in which every chain's acceptance is added up."""
    like = jax.eval_shape(lambda s, k: step_chains(energy, kernel, s, k)[1], states, key)
    return jnp.zeros(like.acceptance.shape, like.acceptance.dtype)


def terms_of(energy: AbstractEnergy, states: Any) -> Any:
    """The energy's terms at every chain's x: from its state if that keeps them."""
    if isinstance(states, AbstractTermsState):
        return states.terms
    return jax.vmap(energy.terms)(states.x)
