"""torchebm's `ContrastiveDivergence` with persistent chains, in the loop of its documentation."""

import numpy as np
import torch
from serving import Tasks, batches, serve
from torch_energies import energy_for
from torchebm.core import BaseModel
from torchebm.losses import ContrastiveDivergence
from torchebm.samplers import LangevinDynamics


class Model(BaseModel):
    """A network as torchebm takes one."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)


def make_tasks(settings: dict) -> Tasks:
    torch.manual_seed(0)
    torch.set_num_threads(settings["threads"])
    model = Model(energy_for(settings))
    sampler = LangevinDynamics(
        model, step_size=settings["step_size"], noise_scale=settings["noise_scale"]
    )
    loss_fn = ContrastiveDivergence(
        model,
        sampler,
        k_steps=settings["n_steps"],
        persistent=True,
        buffer_size=settings["size"],
        init_steps=0,
        new_sample_ratio=settings["fresh"],
        energy_reg_weight=0.0,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["learning_rate"])
    stream = batches(torch.from_numpy(np.load(settings["rows"])), settings)

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            loss, _ = loss_fn(next(stream))
            loss.backward()
            optimizer.step()

    return {"run": run}


if __name__ == "__main__":
    serve(make_tasks, "torchebm", "torch")
