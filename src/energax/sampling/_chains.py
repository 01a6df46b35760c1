"""Many chains as one compiled program."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels import AbstractKernel, energies_of, start_chains, step_chains, tune_chains
from energax.spaces import State


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
    like = jax.eval_shape(lambda s, k: step_chains(energy, kernel, s, k)[1], states, key)

    def body(i, carry):
        # What a step says of the energy is not kept, so XLA leaves it out of the loop.
        states, acceptance = carry
        states, info = step_chains(energy, kernel, states, jax.random.fold_in(key, i))
        return states, acceptance + info.acceptance

    none = jnp.zeros(like.acceptance.shape, like.acceptance.dtype)
    states, acceptance = lax.fori_loop(0, n_steps, body, (states, none))
    acceptance = acceptance / jnp.maximum(n_steps, 1).astype(acceptance.dtype)
    return Walked(states, acceptance, energies_of(energy, kernel, states))


@eqx.filter_jit
def run_chains(
    energy: AbstractEnergy,
    kernel: AbstractKernel,
    x: State,
    key: Key[Array, ""],
    *,
    n_draws: int,
    warmup: Array,
    thin: Array,
) -> tuple[State, Array, Array, State]:
    """Warm up, then keep every `thin`-th state.

    **Returns:** draws with axes (chain, draw, *shape), energies (chain, draw), acceptance
    (chain,), and the last states (chain, *shape).
    """
    key_init, key_warm, key_run = jax.random.split(key, 3)
    states = start_chains(energy, kernel, x, key_init)
    kernel, states = tune_chains(energy, kernel, states, warmup, key_warm)

    def keep(states, key):
        walked = walk_chains(energy, kernel, states, thin, key)
        return walked.states, (walked.states.x, walked.energy, walked.acceptance)

    states, (draws, energies, acceptance) = lax.scan(
        keep, states, jax.random.split(key_run, n_draws)
    )
    draws, energies = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), (draws, energies))
    return draws, energies, jnp.mean(acceptance, 0), states.x
