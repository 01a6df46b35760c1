"""torchebm's HMC, as it comes; it has no MALA, no NUTS and no warm-up of its own."""

import itertools

import numpy as np
import torch
from serving import Tasks, draw_for, serve
from targets import funnel, gaussian
from torchebm.core import BaseModel
from torchebm.samplers import HamiltonianMonteCarlo


class Gaussian(BaseModel):
    """As torchebm's `GaussianModel`, with one product for the batch, which is faster."""

    def __init__(self, inverse: torch.Tensor):
        super().__init__()
        self.inverse = inverse

    def forward(self, x):
        return gaussian(x, self.inverse)


class Funnel(BaseModel):
    """Neal's funnel."""

    def forward(self, x):
        return funnel(x, torch.exp)


def make_tasks(settings: dict) -> Tasks:
    torch.manual_seed(0)
    torch.set_num_threads(settings["threads"])
    start = torch.from_numpy(np.load(settings["start"]))
    starts = itertools.cycle(torch.from_numpy(np.load(settings["wide_starts"])))
    step_size, n_leapfrog = settings["step_size"], settings["n_leapfrog"]
    model = Gaussian(torch.from_numpy(np.load(settings["inverse"])))
    sampler = HamiltonianMonteCarlo(model, step_size, n_leapfrog)
    on_funnel = HamiltonianMonteCarlo(Funnel(), step_size, n_leapfrog)

    def run(steps: int) -> dict:
        return {"x": sampler.sample(x=start, n_steps=steps, return_trajectory=True)}

    def run_funnel(milliseconds: int) -> dict:
        # As many steps as the others' warm-up take it from the first states; they tune nothing.
        state = on_funnel.sample(x=next(starts), n_steps=settings["warmup"])

        def draw() -> torch.Tensor:
            nonlocal state
            seen = on_funnel.sample(x=state, n_steps=5, return_trajectory=True)
            state = seen[:, -1]
            return seen[..., 0]

        return draw_for(milliseconds, draw)

    return {"HMC": run, "funnel": run_funnel}


if __name__ == "__main__":
    serve(make_tasks, "torchebm", "torch")
