"""peapods: sequential Metropolis in Rust, one replica a chain, replicas side by side.

It cannot be given first states, so its correlation is its own mean energy after a warm-up from
random spins. It measures at each sweep after the warm-up, so the timed runs are nearly all warm-up.
"""

import numpy as np
from ising_graph import read_graph
from peapods import Ising
from serving import Tasks, serve


def make_tasks(settings: dict) -> Tasks:
    graph = read_graph(settings)
    model = Ising(graph.shape, temperatures=np.array([1 / graph.beta]), n_replicas=len(graph.start))

    def sweep(steps: int) -> None:
        model.sample(steps, sweep_mode="metropolis", warmup_ratio=0.99)

    def correlation(rounds: int) -> dict:
        model.sample(2 * rounds * settings["steps"], sweep_mode="metropolis", warmup_ratio=0.5)
        return {"correlation": np.abs(model.energies_avg) / 2}

    return {"sweep": sweep, "correlation": correlation}


if __name__ == "__main__":
    serve(make_tasks, "peapods")
