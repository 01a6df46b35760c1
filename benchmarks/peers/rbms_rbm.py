"""The package rbms: an update of its training loop, its block Gibbs, and annealed sampling.

The update is what the loop in `rbms.training.pcd.train` does, less its progress bar and the
file it opens at each update, with gradients that are not centred.
"""

import math

import torch
from rbms.bernoulli_bernoulli.classes import BBRBM
from rbms.partition_function.ais import compute_partition_function_ais
from rbms.sampling.gibbs import sample_state
from rbms.training.pcd import fit_batch_pcd
from serving import Tasks, batches, load_rows, serve


def make_tasks(settings: dict) -> Tasks:
    rows = load_rows(settings)
    torch.manual_seed(settings.get("seed", 0))
    torch.set_num_threads(settings["threads"])
    torch.set_grad_enabled(False)
    data = torch.from_numpy(rows).float()
    n_visible, n_hidden = settings["n_visible"], settings["n_hidden"]
    n_chains = settings["batch_size"]
    rate = (data.sum(0) + 0.5) / (len(data) + 1)
    base = torch.log(rate) - torch.log1p(-rate)
    next_batch = batches(data, settings)
    even = torch.ones(n_chains)

    def training(contrastive: bool):
        rbm = BBRBM(0.01 * torch.randn(n_visible, n_hidden), base.clone(), torch.zeros(n_hidden))
        rbm.init_grad()
        learning_rate = settings.get("learning_rate", 0.01)
        optimizer = torch.optim.SGD(rbm.parameters(), lr=learning_rate, maximize=True)
        chains = rbm.init_chains(n_chains)

        def task(steps: int) -> None:
            nonlocal chains
            for _ in range(steps):
                batch = next(next_batch), even
                if contrastive:
                    chains = rbm.init_chains(n_chains, weights=even, start_v=batch[0])
                optimizer.zero_grad(set_to_none=False)
                chains, _ = fit_batch_pcd(batch, chains, rbm, 1, 1.0, centered=False)
                optimizer.step()

        return task, rbm

    model = BBRBM(0.05 * torch.randn(n_visible, n_hidden), base.clone(), torch.zeros(n_hidden))

    drawn = model.init_chains(n_chains, weights=even, start_v=data[:n_chains])

    def gibbs(steps: int) -> None:
        nonlocal drawn
        drawn = sample_state(steps, drawn, model)

    def anneal(steps: int) -> None:
        assert math.isfinite(compute_partition_function_ais(n_chains, steps + 1, model))

    pcd1, learned = training(False)

    def parameters(_: int) -> dict:
        biases = {"visible": learned.vbias, "hidden": learned.hbias}
        return {"weights": learned.weight_matrix, **biases}

    tasks = {"cd1": training(True)[0], "pcd1": pcd1, "gibbs": gibbs, "anneal": anneal}
    return {**tasks, "parameters": parameters}


if __name__ == "__main__":
    serve(make_tasks, "rbms", "torch", "numpy")
