"""Many chains as one compiled program."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from energax.energies import AbstractEnergy
from energax.kernels import AbstractKernel, energies_of, start_chains, step_chains, tune_chains
from energax.sampling._collect import AbstractCollector, Collect, outputs_of
from energax.spaces import State

TRACE = 1024
"""Energies kept of a chain whose draws are summarised on the fly: enough for an R-hat."""


class Walked(eqx.Module):
    """Where chains got to."""

    states: Any
    """The kernel's states, one a chain."""
    acceptance: Float[Array, " chains"]
    """The mean acceptance of each chain's steps."""
    energy: Float[Array, " chains"]
    """E of each chain's last state."""


class Run(eqx.Module):
    """What a run of chains leaves."""

    kept: Any
    """x of every draw, or what `collect` made of it: axes (chain, draw, ...). Of a collector its
    memory, axes (chain, ...)."""
    energy: Float[Array, "chains kept"]
    """E of every draw; with a collector of at most 1,024 draws, evenly over the run."""
    acceptance: Float[Array, " chains"]
    """The mean acceptance of each chain's steps after the warm-up."""
    start_energy: Float[Array, " chains"]
    """E where each chain started."""
    kernel: AbstractKernel
    """The kernel as the warm-up tuned it."""
    states: Any
    """The kernel's last states, one a chain."""


def walk_chains(
    energy: AbstractEnergy, kernel: AbstractKernel, states: Any, n_steps: Any, key: Key[Array, ""]
) -> Walked:
    """`n_steps` steps of every chain.

    `n_steps` may be traced: another number of steps compiles nothing.
    """
    states, acceptance = _walk(energy, kernel, states, n_steps, key)
    return Walked(states, acceptance, energies_of(energy, kernel, states))


@eqx.filter_jit
def run_chains(
    energy: AbstractEnergy,
    kernel: AbstractKernel,
    x: State,
    key: Key[Array, ""],
    *,
    n_draws: int | Int[Array, ""],
    warmup: Array,
    thin: Array,
    collect: Collect | None = None,
) -> Run:
    """Warm up, then keep every `thin`-th state, or what `collect` makes of it.

    **Arguments:**

    - `x`: where chains start, stacked on a leading axis.
    - `n_draws`: of each chain. With a collector it may be an array of at least 1,024, and the
      program is the same for every such number.
    - `warmup`, `thin`: steps, as arrays, so that other numbers compile nothing.
    - `collect`: a function of one state, or a collector.
    """
    key_init, key_warm, key_run = jax.random.split(key, 3)
    start_energy = jax.vmap(energy.energy)(x)
    states = start_chains(energy, kernel, x, key_init)
    kernel, states = tune_chains(energy, kernel, states, warmup, key_warm)
    keep = _summarise if isinstance(collect, AbstractCollector) else _keep
    states, kept, energies, acceptance = keep(
        energy, kernel, states, key_run, n_draws, thin, collect
    )
    energies = jnp.swapaxes(energies, 0, 1)
    return Run(kept, energies, acceptance, start_energy, kernel, states)


def _keep(
    energy: AbstractEnergy,
    kernel: AbstractKernel,
    states: Any,
    key: Key[Array, ""],
    n_draws: Any,
    thin: Array,
    collect: Any,
) -> tuple[Any, Any, Array, Array]:
    """Every draw, or a function of it."""

    def draw(states, index):
        walked = walk_chains(energy, kernel, states, thin, jax.random.fold_in(key, index))
        x = walked.states.x
        kept = x if collect is None else jax.vmap(lambda x: outputs_of(collect, x))(x)
        return walked.states, (kept, walked.energy, walked.acceptance)

    states, (kept, energies, acceptance) = lax.scan(draw, states, jnp.arange(n_draws))
    kept = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), kept)
    return states, kept, energies, jnp.mean(acceptance, 0)


def _summarise(
    energy: AbstractEnergy,
    kernel: AbstractKernel,
    states: Any,
    key: Key[Array, ""],
    n_draws: Any,
    thin: Array,
    collector: Any,
) -> tuple[Any, Any, Array, Array]:
    """A summary of the draws, and the energies of at most `TRACE` of them.

    The draws are cut into stretches as even as can be; of each the last energy is kept.
    """
    n_kept = min(n_draws, TRACE) if isinstance(n_draws, int) else TRACE
    n_draws = jnp.asarray(n_draws, jnp.int32)
    size, longer = jnp.divmod(n_draws, n_kept)
    update = jax.vmap(collector.update, in_axes=(0, 0, None, None))

    def draw(_, carry):
        states, memory, index, total = carry
        states, acceptance = _walk(energy, kernel, states, thin, jax.random.fold_in(key, index))
        memory = jax.tree.map(jnp.asarray, update(memory, states.x, index, n_draws))
        return states, memory, index + 1, total + acceptance

    def stretch(carry, number):
        length = size + (number < longer).astype(jnp.int32)
        carry = lax.fori_loop(0, length, draw, (*carry, jnp.zeros_like(none)))
        states, memory, index, total = carry
        return (states, memory, index), (energies_of(energy, kernel, states), total)

    none = _no_acceptance(energy, kernel, states, key)
    memory = jax.tree.map(jnp.asarray, jax.vmap(collector.init)(states.x))
    carry = (states, memory, jnp.zeros((), jnp.int32))
    carry, (energies, totals) = lax.scan(stretch, carry, jnp.arange(n_kept))
    return carry[0], carry[1], energies, jnp.sum(totals, 0) / n_draws.astype(totals.dtype)


def _walk(
    energy: AbstractEnergy, kernel: AbstractKernel, states: Any, n_steps: Any, key: Key[Array, ""]
) -> tuple[Any, Float[Array, " chains"]]:
    """`n_steps` steps of every chain, and their mean acceptance."""

    def body(i, carry):
        # What a step says of the energy is not kept, so XLA leaves it out of the loop.
        states, acceptance = carry
        states, info = step_chains(energy, kernel, states, jax.random.fold_in(key, i))
        return states, acceptance + info.acceptance

    none = _no_acceptance(energy, kernel, states, key)
    states, acceptance = lax.fori_loop(0, n_steps, body, (states, none))
    return states, acceptance / jnp.maximum(n_steps, 1).astype(acceptance.dtype)


def _no_acceptance(
    energy: AbstractEnergy, kernel: AbstractKernel, states: Any, key: Key[Array, ""]
) -> Float[Array, " chains"]:
    like = jax.eval_shape(lambda s, k: step_chains(energy, kernel, s, k)[1], states, key)
    return jnp.zeros(like.acceptance.shape, like.acceptance.dtype)
