"""Ising models in thrml, or in hamon, which grew out of it and has its interface.

Block Gibbs with one block a colour, chains by `jax.vmap`, all steps in one compiled program, keys
as the package's own documentation makes them.
"""

import importlib
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from ising_graph import correlation_of, read_graph
from keys import keys_from
from serving import Tasks, serve


def make_tasks(settings: dict) -> Tasks:
    package = importlib.import_module(settings["package"])
    models = importlib.import_module(f"{settings['package']}.models")
    graph = read_graph(settings)
    members = [np.flatnonzero(graph.colours == c) for c in range(graph.colours.max() + 1)]

    def build(times: int) -> tuple:
        for _ in range(times):
            nodes = [package.SpinNode() for _ in range(graph.n_nodes)]
            model = models.IsingEBM(
                nodes,
                [(nodes[i], nodes[j]) for i, j in graph.edges.tolist()],
                jnp.zeros(graph.n_nodes),
                jnp.asarray(graph.couplings, jnp.float32),
                jnp.asarray(graph.beta, jnp.float32),
            )
            blocks = [package.Block([nodes[i] for i in some]) for some in members]
            program = models.IsingSamplingProgram(model, blocks, clamped_blocks=[])
        return blocks, program

    jax.block_until_ready(jnp.zeros(3))  # JAX itself is not part of a build
    began = time.perf_counter()
    blocks, program = jax.block_until_ready(build(1))
    built = time.perf_counter() - began

    @eqx.filter_jit
    def run(program, state, key, schedule):
        def chain(key, state):
            kept = package.sample_states(key, program, schedule, state, [], blocks)
            return [leaf[-1] for leaf in kept]

        return jax.vmap(chain)(jax.random.split(key, len(state[0])), state)

    start = graph.start.reshape(len(graph.start), -1) > 0
    state = [jnp.asarray(start[:, some]) for some in members]
    keys = keys_from(jax.random.key(0))

    def sweep(steps: int) -> None:
        nonlocal state
        schedule = package.SamplingSchedule(n_warmup=steps, n_samples=1, steps_per_sample=1)
        state = jax.block_until_ready(run(program, state, next(keys), schedule))

    def correlation(rounds: int) -> dict:
        seen = []
        for _ in range(rounds):
            sweep(settings["steps"])
            x = np.empty((len(start), graph.n_nodes), np.int8)
            for some, values in zip(members, state, strict=True):
                x[:, some] = 2 * np.asarray(values, np.int8) - 1
            seen.append(correlation_of(graph, x))
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
    serve(make_tasks, "jax", "equinox")
