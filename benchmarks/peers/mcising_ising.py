"""mcising: Metropolis in Rust, one simulation a chain, on a pool of threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from ising_graph import correlation_of, read_graph
from mcising._core import IsingSimulation
from serving import Tasks, serve


def make_tasks(settings: dict) -> Tasks:
    graph = read_graph(settings)
    temperature = 1 / graph.beta
    chains = []
    for seed, spins in enumerate(graph.start):
        chain = IsingSimulation(graph.shape[0], 1.0, 0.0, 0.0, 0.0, seed, "metropolis", "square")
        chain.set_spins(spins)
        chains.append(chain)
    pool = ThreadPoolExecutor(settings["threads"])

    def sweep(steps: int) -> None:
        # `production_sweeps` lets other threads run meanwhile; `sweep` does not.
        def one(chain) -> None:
            chain.production_sweeps(1, steps, temperature=temperature, store_configs=False)

        list(pool.map(one, chains))

    def correlation(rounds: int) -> dict:
        seen = []
        for _ in range(rounds):
            sweep(settings["steps"])
            seen.append(correlation_of(graph, np.stack([chain.get_spins() for chain in chains])))
        return {"correlation": np.mean(seen, 0)}

    return {"sweep": sweep, "correlation": correlation}


if __name__ == "__main__":
    serve(make_tasks, "mcising")
