"""Unadjusted Langevin by blackjax's `sgld` with a full gradient, and in plain JAX.

Chains by `jax.vmap`, steps by `jax.lax.scan`, JAX's usual keys.
"""

from functools import partial

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from keys import keys_from
from serving import Tasks, serve
from targets import double_well


def make_tasks(settings: dict) -> Tasks:
    step_size = settings["step_size"]
    x = jnp.asarray(np.load(settings["start"]))
    score = jax.grad(lambda x: -double_well(x))
    sgld = blackjax.sgld(lambda x, _: score(x))

    @partial(jax.jit, static_argnums=2)
    def run_blackjax(x, key, steps):
        def body(x, key):
            keys = jax.random.split(key, len(x))
            step = jax.vmap(lambda key, x: sgld.step(key, x, (), step_size))
            return step(keys, x), None

        return jax.lax.scan(body, x, jax.random.split(key, steps))[0]

    @partial(jax.jit, static_argnums=2)
    def run_plain(x, key, steps):
        def body(x, key):
            noise = jax.random.normal(key, x.shape)
            return x + step_size * jax.vmap(score)(x) + jnp.sqrt(2 * step_size) * noise, None

        return jax.lax.scan(body, x, jax.random.split(key, steps))[0]

    keys = keys_from(jax.random.key(0))

    def task(run):
        return lambda steps: {"x": jax.block_until_ready(run(x, next(keys), steps))}

    return {"run": task(run_blackjax), "plain": task(run_plain)}


if __name__ == "__main__":
    serve(make_tasks, "blackjax", "jax")
