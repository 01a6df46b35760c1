"""NumPyro's HMC and NUTS, chains vectorised, with settings that are given and with its warm-up.

`MCMC.run` compiles its loop anew whenever it is called, so each whole run is under one `jax.jit`
here, and compiled once.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from keys import keys_from
from numpyro.infer import HMC, MCMC, NUTS
from serving import Tasks, draw_for, serve
from targets import funnel, gaussian


def make_tasks(settings: dict) -> Tasks:
    inverse = jnp.asarray(np.load(settings["inverse"]))
    start = jnp.asarray(np.load(settings["start"]))
    starts = itertools.cycle(jnp.asarray(np.load(settings["wide_starts"])))
    n_leapfrog, warmup, chunk = (settings[k] for k in ("n_leapfrog", "warmup", "funnel_draws"))
    step_size = settings["step_size"]
    length = n_leapfrog * step_size
    keys = keys_from(jax.random.key(0))
    given = {"step_size": step_size, "adapt_step_size": False, "adapt_mass_matrix": False}

    def on_gaussian(x):
        return gaussian(x, inverse)

    def on_funnel(x):
        return funnel(x, jnp.exp)

    def runner(kernel, warmup, steps, x):
        return MCMC(
            kernel,
            num_warmup=warmup,
            num_samples=steps,
            num_chains=len(x),
            chain_method="vectorized",
            progress_bar=False,
        )

    def task(kernel, warmup, x):
        @partial(jax.jit, static_argnums=1)
        def draws(key, steps):
            mcmc = runner(kernel(), warmup, steps, x)
            mcmc.run(key, init_params=x)
            return mcmc.get_samples(group_by_chain=True)

        return lambda steps: {"x": jax.block_until_ready(draws(next(keys), steps))}

    @jax.jit
    def walk_funnel(key, x, state):
        mcmc = runner(NUTS(potential_fn=on_funnel), warmup, chunk, x)
        if state is not None:
            # A kernel is set up by its first run, which XLA leaves out: nothing uses its draws.
            mcmc.run(key, init_params=x)
            mcmc.post_warmup_state = state
        mcmc.run(key, init_params=x)
        return mcmc.last_state, mcmc.get_samples(group_by_chain=True)[..., 0]

    def run_funnel(milliseconds: int) -> dict:
        x = next(starts)
        state, _ = jax.block_until_ready(walk_funnel(next(keys), x, None))

        def draw() -> jax.Array:
            nonlocal state
            state, v = walk_funnel(next(keys), x, state)
            return v

        return draw_for(milliseconds, draw)

    def hmc(**more):
        return lambda: HMC(potential_fn=on_gaussian, trajectory_length=length, **more)

    def nuts(**more):
        return lambda: NUTS(potential_fn=on_gaussian, **more)

    return {
        "HMC": task(hmc(**given), 0, start),
        "NUTS": task(nuts(**given), 0, start),
        "tuned HMC": task(hmc(), warmup, 2 * start),
        "tuned NUTS": task(nuts(), warmup, 2 * start),
        "funnel": run_funnel,
    }


if __name__ == "__main__":
    serve(make_tasks, "numpyro", "jax")
