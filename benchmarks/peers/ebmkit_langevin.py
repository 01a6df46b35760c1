"""ebmkit's `LangevinDynamics`."""

import ebm
import numpy as np
import torch
from serving import Tasks, serve
from targets import double_well


def make_tasks(settings: dict) -> Tasks:
    torch.manual_seed(0)
    torch.set_num_threads(settings["threads"])
    sampler = ebm.LangevinDynamics(step_size=settings["step_size"])
    x = torch.from_numpy(np.load(settings["start"]))
    return {"run": lambda steps: {"x": sampler.sample(double_well, x, steps=steps)}}


if __name__ == "__main__":
    serve(make_tasks, "ebmkit", "torch")
