"""torchebm's `LangevinDynamics` on its own double well."""

import numpy as np
import torch
from serving import Tasks, serve
from torchebm.core import DoubleWellModel
from torchebm.samplers import LangevinDynamics


def make_tasks(settings: dict) -> Tasks:
    torch.manual_seed(0)
    torch.set_num_threads(settings["threads"])
    sampler = LangevinDynamics(DoubleWellModel(), step_size=settings["step_size"])
    x = torch.from_numpy(np.load(settings["start"]))
    return {"run": lambda steps: {"x": sampler.sample(x=x, n_steps=steps)}}


if __name__ == "__main__":
    serve(make_tasks, "torchebm", "torch")
