"""dwave-samplers' tree decomposition, in C++; log Z comes with a sample, of which it draws one."""

import dimod
import numpy as np
from dwave.samplers import TreeDecompositionSampler
from many_graphs import read_models
from serving import Tasks, serve


def make_tasks(settings: dict) -> Tasks:
    given = read_models(settings)
    sampler = TreeDecompositionSampler()

    def built() -> list[dimod.BinaryQuadraticModel]:
        return [
            dimod.BinaryQuadraticModel.from_ising(
                dict(enumerate(-m.field.astype(float))),
                {
                    (a, b): -c
                    for (a, b), c in zip(m.edges.tolist(), m.couplings.tolist(), strict=True)
                },
            )
            for m in given
        ]

    models = built()

    def log_z(times: int) -> dict:
        for _ in range(times):
            found = [sampler.sample(model, beta=1.0, marginals=False).info for model in models]
        return {"log_z": np.array([info["log_partition_function"] for info in found])}

    def spins(times: int) -> dict:
        for _ in range(times):
            found = [sampler.sample(model, beta=1.0, marginals=True) for model in models]
        each = [
            [known.info["variable_marginals"][v] for v in range(len(known.variables))]
            for known in found
        ]
        return {"up": np.concatenate(each)}

    def build(times: int) -> None:
        for _ in range(times):
            built()

    return {"log Z": log_z, "marginals": spins, "build": build}


if __name__ == "__main__":
    serve(make_tasks, "dwave-samplers", "numpy")
