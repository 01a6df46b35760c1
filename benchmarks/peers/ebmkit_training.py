"""ebmkit's `Trainer` with `ContrastiveDivergence` from its `ReplayBuffer`."""

import ebm
import numpy as np
import torch
from ebm.buffer import ReplayBuffer
from ebm.losses.cd import ContrastiveDivergence
from ebm.training import Trainer
from serving import Tasks, serve
from torch_energies import energy_for


def make_tasks(settings: dict) -> Tasks:
    torch.manual_seed(0)
    torch.set_num_threads(settings["threads"])
    rows = torch.from_numpy(np.load(settings["rows"]))
    energy = energy_for(settings)
    sampler = ebm.LangevinDynamics(
        step_size=settings["step_size"],
        steps=settings["n_steps"],
        noise_scale=settings["noise_scale"],
    )
    buffer = ReplayBuffer(settings["size"], tuple(rows.shape[1:]), settings["fresh"])
    loss = ContrastiveDivergence(sampler, buffer)
    optimizer = torch.optim.Adam(energy.parameters(), lr=settings["learning_rate"])
    trainer = Trainer(energy, loss, optimizer, device="cpu")

    def run(steps: int) -> dict:
        trainer.fit(rows, steps=steps, batch_size=settings["batch_size"], verbose=False)
        return {"gap": trainer.history[-1]["energy_gap"]}

    return {"run": run}


if __name__ == "__main__":
    serve(make_tasks, "ebmkit", "torch")
