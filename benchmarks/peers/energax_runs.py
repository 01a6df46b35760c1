"""One run of energax's chains, as its workers time it."""

from typing import Any

import jax
import jax.numpy as jnp

import energax as ex
from energax.sampling import Run, run_chains


def advanced(
    model: ex.AbstractEnergy, kernel: ex.AbstractKernel, x: Any, key: jax.Array, steps: int
) -> tuple[Any, Run]:
    """Where chains that start at x are after so many steps, without warm-up, and the run."""
    run = run_chains(
        model,
        kernel,
        x,
        key,
        n_draws=1,
        warmup=jnp.asarray(0, jnp.int32),
        thin=jnp.asarray(steps, jnp.int32),
    )
    return jax.block_until_ready(run.kept[:, -1]), run
