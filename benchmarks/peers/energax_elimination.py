"""energax's variable elimination on many small graphs."""

import numpy as np
from many_graphs import read_models
from serving import Tasks, serve

import energax as ex
from energax.exact import log_partition_eliminated, marginals


def make_tasks(settings: dict) -> Tasks:
    given = read_models(settings)

    def built() -> list[ex.Ising]:
        return [ex.Ising(ex.Graph(m.edges, m.field.size), m.couplings, m.field) for m in given]

    models = built()

    def log_z(times: int) -> dict:
        for _ in range(times):
            found = [log_partition_eliminated(model) for model in models]
        return {"log_z": np.array(found)}

    def spins(times: int) -> dict:
        for _ in range(times):
            found = [np.asarray(marginals(model))[:, 1] for model in models]
        return {"up": np.concatenate(found)}

    def build(times: int) -> None:
        for _ in range(times):
            built()

    return {"log Z": log_z, "marginals": spins, "build": build}


if __name__ == "__main__":
    serve(make_tasks, "energax", "numpy")
