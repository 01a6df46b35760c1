"""Checkerboard Gibbs sweeps of the torus in plain JAX, the short way: rolls and JAX's own keys.

What a user would write without a package. Both colours' conditionals are computed on the whole
lattice and half of each is thrown away.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from ising_graph import correlation_of, read_graph
from keys import keys_from
from serving import Tasks, serve


def make_tasks(settings: dict) -> Tasks:
    graph = read_graph(settings)
    rows, columns = np.indices(graph.shape)
    black = jnp.asarray((rows + columns) % 2 == 0)
    beta = jnp.asarray(graph.beta, jnp.float32)

    def update(x, key, mask):
        around = sum(jnp.roll(x, shift, axis) for shift in (1, -1) for axis in (1, 2))
        up = jax.random.bernoulli(key, jax.nn.sigmoid(2 * beta * around))
        return jnp.where(mask, jnp.where(up, 1.0, -1.0), x)

    @partial(jax.jit, static_argnums=2)
    def run(x, key, steps):
        def body(x, key):
            first, second = jax.random.split(key)
            return update(update(x, first, black), second, ~black), None

        return jax.lax.scan(body, x, jax.random.split(key, steps))[0]

    x = jnp.asarray(graph.start, jnp.float32)
    keys = keys_from(jax.random.key(0))

    def sweep(steps: int) -> None:
        nonlocal x
        x = jax.block_until_ready(run(x, next(keys), steps))

    def correlation(rounds: int) -> dict:
        seen = []
        for _ in range(rounds):
            sweep(settings["steps"])
            seen.append(correlation_of(graph, np.asarray(x)))
        return {"correlation": np.mean(seen, 0)}

    return {"sweep": sweep, "correlation": correlation}


if __name__ == "__main__":
    serve(make_tasks, "jax")
