"""ebmkit's `GibbsSampler` on its `RBM`."""

import torch
from ebm import GibbsSampler
from ebm.nets import RBM
from serving import Tasks, load_rows, serve


def make_tasks(settings: dict) -> Tasks:
    torch.manual_seed(0)
    torch.set_num_threads(settings["threads"])
    model, sampler = RBM(settings["n_visible"], settings["n_hidden"]), GibbsSampler(steps=1)
    drawn = torch.from_numpy(load_rows(settings)[: settings["batch_size"]]).float()

    def gibbs(steps: int) -> None:
        nonlocal drawn
        drawn = sampler.sample(model, drawn, steps=steps)

    return {"gibbs": gibbs}


if __name__ == "__main__":
    serve(make_tasks, "ebmkit", "torch")
