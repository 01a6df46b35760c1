"""blackjax's MALA, HMC and NUTS, with settings that are given and with its window adaptation.

Chains by `jax.vmap`, draws by `jax.lax.scan`, JAX's usual keys; each chain adapts for itself.
"""

import itertools
from functools import partial

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from keys import keys_from
from serving import Tasks, draw_for, serve
from targets import funnel, gaussian


def make_tasks(settings: dict) -> Tasks:
    inverse = jnp.asarray(np.load(settings["inverse"]))
    start = jnp.asarray(np.load(settings["start"]))
    wide = jnp.asarray(np.load(settings["wide_starts"]))
    starts = itertools.cycle(wide)
    n_leapfrog, warmup, chunk = (settings[k] for k in ("n_leapfrog", "warmup", "funnel_draws"))
    keys = keys_from(jax.random.key(0))

    def on_gaussian(x):
        return -gaussian(x, inverse)

    def on_funnel(x):
        return -funnel(x, jnp.exp)

    def walk(algorithm, state, key, steps):
        def body(state, key):
            state, _ = algorithm.step(key, state)
            return state, state.position

        return jax.lax.scan(body, state, jax.random.split(key, steps))

    def fixed(algorithm):
        @partial(jax.jit, static_argnums=1)
        def run(key, steps):
            def chain(key, x):
                return walk(algorithm, algorithm.init(x), key, steps)[1]

            return jax.vmap(chain)(jax.random.split(key, len(start)), start)

        return lambda steps: {"x": jax.block_until_ready(run(next(keys), steps))}

    def adapt(method, log_density, key, x, **more):
        adaptation = blackjax.window_adaptation(method, log_density, **more)
        (state, found), _ = adaptation.run(key, x, warmup)
        return state, found

    def tuned(method, **more):
        @partial(jax.jit, static_argnums=1)
        def run(key, steps):
            def chain(key, x):
                key_warm, key_run = jax.random.split(key)
                state, found = adapt(method, on_gaussian, key_warm, x, **more)
                return walk(method(on_gaussian, **found), state, key_run, steps)[1]

            return jax.vmap(chain)(jax.random.split(key, len(start)), 2 * start)

        return lambda steps: {"x": jax.block_until_ready(run(next(keys), steps))}

    @jax.jit
    def warm_up_funnel(key, x):
        keys = jax.random.split(key, len(x))
        return jax.vmap(partial(adapt, blackjax.nuts, on_funnel))(keys, x)

    @jax.jit
    def walk_funnel(states, found, key):
        def chain(state, found, key):
            return walk(blackjax.nuts(on_funnel, **found), state, key, chunk)

        keys = jax.random.split(key, wide.shape[1])
        states, x = jax.vmap(chain)(states, found, keys)
        return states, x[..., 0]

    def run_funnel(milliseconds: int) -> dict:
        states, found = jax.block_until_ready(warm_up_funnel(next(keys), next(starts)))

        def draw() -> jax.Array:
            nonlocal states
            states, v = walk_funnel(states, found, next(keys))
            return v

        return draw_for(milliseconds, draw)

    unit = jnp.ones(start.shape[1])
    return {
        "MALA": fixed(blackjax.mala(on_gaussian, settings["mala_step_size"])),
        "HMC": fixed(blackjax.hmc(on_gaussian, settings["step_size"], unit, n_leapfrog)),
        "NUTS": fixed(blackjax.nuts(on_gaussian, settings["step_size"], unit)),
        "tuned HMC": tuned(blackjax.hmc, num_integration_steps=n_leapfrog),
        "tuned NUTS": tuned(blackjax.nuts),
        "funnel": run_funnel,
    }


if __name__ == "__main__":
    serve(make_tasks, "blackjax", "jax")
