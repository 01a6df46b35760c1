"""Chains warmed up by a kernel that tunes itself, and steps of what it became."""

import equinox as eqx
import jax

from energax.kernels import start_chains, step_chains, tune_chains


@eqx.filter_jit
def warmed_up(energy, kernel, x, n_steps, key, n_after: int = 1):
    """The kernel after a warm-up, the chains after more steps, and of these x and `Info`, with axes
    (step, chain)."""
    key_init, key_tune, key_run = jax.random.split(key, 3)
    chains = start_chains(energy, kernel, x, key_init)
    kernel, chains = tune_chains(energy, kernel, chains, n_steps, key_tune)

    def body(chains, key):
        chains, info = step_chains(energy, kernel, chains, key)
        return chains, (chains.x, info)

    chains, seen = jax.lax.scan(body, chains, jax.random.split(key_run, n_after))
    return kernel, chains, seen
