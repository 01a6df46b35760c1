"""ebmkit's `GibbsWithGradients` on its `MLPEnergy`."""

import ebm
import numpy as np
import torch
from ebm.nets import MLPEnergy
from network import SIZES, layers
from serving import Tasks, serve


def make_tasks(settings: dict) -> Tasks:
    torch.manual_seed(0)
    torch.set_num_threads(settings["threads"])
    model = MLPEnergy(SIZES[0], hidden=SIZES[1:-1])
    linear = [part for part in model.net if isinstance(part, torch.nn.Linear)]
    with torch.no_grad():
        for part, (weight, bias) in zip(linear, layers(), strict=True):
            part.weight.copy_(torch.from_numpy(weight))
            part.bias.copy_(torch.from_numpy(bias))
    sampler = ebm.GibbsWithGradients()
    x = torch.from_numpy(np.load(settings["start"]))

    def run(steps: int) -> dict:
        nonlocal x
        x = sampler.sample(model, x, steps=steps)
        with torch.no_grad():
            return {"energy": model(x)}

    return {"run": run}


if __name__ == "__main__":
    serve(make_tasks, "ebmkit", "torch")
