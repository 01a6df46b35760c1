"""energax's Ising models under the kernel that the settings name."""

import time

import jax
import jax.numpy as jnp
import numpy as np
from energax_runs import advanced
from ising_graph import correlation_of, read_graph
from keys import keys_from
from serving import Tasks, serve

import energax as ex
from energax import kernels


def make_tasks(settings: dict) -> Tasks:
    graph = read_graph(settings)

    def build(times: int) -> tuple[ex.Ising, ex.AbstractKernel]:
        for _ in range(times):
            if graph.shape is not None:
                model = ex.Ising(graph.shape, coupling=graph.beta)
            else:
                model = ex.Ising(graph.edges, coupling=graph.beta * graph.couplings)
            kernel = getattr(kernels, settings["kernel"])()
            kernel.check(model)
        return jax.block_until_ready((model, kernel))

    jax.block_until_ready(jnp.zeros(3))  # JAX itself is not part of a build
    began = time.perf_counter()
    model, kernel = build(1)
    built = time.perf_counter() - began
    x = jnp.asarray(graph.start, jnp.float32)
    keys = keys_from(ex.key(0))

    def sweep(steps: int) -> None:
        nonlocal x
        x, _ = advanced(model, kernel, x, next(keys), steps)

    def correlation(rounds: int) -> dict:
        seen = []
        for _ in range(rounds):
            sweep(settings["steps"])
            seen.append(correlation_of(graph, np.asarray(x)))
        return {"correlation": np.mean(seen, 0)}

    def rebuild(times: int) -> None:
        build(times)

    return {
        "sweep": sweep,
        "correlation": correlation,
        "build": rebuild,
        "first build": lambda _: {"built": built},
    }


if __name__ == "__main__":
    serve(make_tasks, "energax", "jax")
