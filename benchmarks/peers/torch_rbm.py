"""An RBM in plain eager PyTorch, written the short way: CD-1, PCD-1, block Gibbs and annealing."""

import math
from itertools import pairwise

import torch
from serving import Tasks, batches, load_rows, serve


class RBM:
    """Weights (visible, hidden) and the two layers' biases."""

    def __init__(self, n_visible: int, n_hidden: int, scale: float, learning_rate: float = 0.01):
        self.learning_rate = learning_rate
        self.W = scale * torch.randn(n_visible, n_hidden)
        self.b = torch.zeros(n_visible)
        self.c = torch.zeros(n_hidden)

    def hidden(self, v):
        return torch.sigmoid(v @ self.W + self.c)

    def visible(self, h):
        return torch.sigmoid(h @ self.W.T + self.b)

    def learn(self, v0, h0, v1, h1):
        rate = self.learning_rate / len(v0)
        # Added where W lies, with no matrix of W's size made on the way.
        self.W.addmm_(v0.T, h0, alpha=rate)
        self.W.addmm_(v1.T, h1, alpha=-rate)
        self.b += self.learning_rate * (v0.mean(0) - v1.mean(0))
        self.c += self.learning_rate * (h0.mean(0) - h1.mean(0))


def make_tasks(settings: dict) -> Tasks:
    rows = load_rows(settings)
    torch.manual_seed(settings.get("seed", 0))
    torch.set_num_threads(settings["threads"])
    torch.set_grad_enabled(False)
    data = torch.from_numpy(rows).float()
    sizes = settings["n_visible"], settings["n_hidden"]
    n_chains = settings["batch_size"]
    next_batch = batches(data, settings)

    student = RBM(*sizes, scale=0.01)

    def cd1(steps: int) -> None:
        for _ in range(steps):
            v0 = next(next_batch)
            h0 = student.hidden(v0)
            v1 = torch.bernoulli(student.visible(torch.bernoulli(h0)))
            student.learn(v0, h0, v1, student.hidden(v1))

    persistent = RBM(*sizes, 0.01, settings.get("learning_rate", 0.01))
    chains = torch.bernoulli(torch.full((n_chains, sizes[0]), 0.5))

    def pcd1(steps: int) -> None:
        nonlocal chains
        for _ in range(steps):
            v0 = next(next_batch)
            h0 = persistent.hidden(v0)
            h = torch.bernoulli(persistent.hidden(chains))
            chains = torch.bernoulli(persistent.visible(h))
            persistent.learn(v0, h0, chains, persistent.hidden(chains))

    def parameters(_: int) -> dict:
        return {"weights": persistent.W, "visible": persistent.b, "hidden": persistent.c}

    model = RBM(*sizes, scale=0.05)
    rate = (data.sum(0) + 0.5) / (len(data) + 1)
    base = torch.log(rate) - torch.log1p(-rate)
    if settings.get("at_base_rates"):
        persistent.b = base.clone()

    drawn = data[:n_chains]

    def gibbs(steps: int) -> None:
        nonlocal drawn
        for _ in range(steps):
            drawn = torch.bernoulli(model.visible(torch.bernoulli(model.hidden(drawn))))

    def anneal(steps: int) -> None:
        betas = torch.linspace(0, 1, steps + 1).tolist()
        v = torch.bernoulli(rate.expand(n_chains, -1))
        log_weight = torch.zeros(n_chains)
        for before, beta in pairwise(betas):
            inputs = v @ model.W + model.c
            log_weight += (beta - before) * (v @ (model.b - base))
            log_weight += torch.nn.functional.softplus(beta * inputs).sum(1)
            log_weight -= torch.nn.functional.softplus(before * inputs).sum(1)
            h = torch.bernoulli(torch.sigmoid(beta * inputs))
            logits = (1 - beta) * base + beta * (h @ model.W.T + model.b)
            v = torch.bernoulli(torch.sigmoid(logits))
        assert math.isfinite(log_weight.sum().item())

    tasks = {"cd1": cd1, "pcd1": pcd1, "gibbs": gibbs, "anneal": anneal}
    return {**tasks, "parameters": parameters}


if __name__ == "__main__":
    serve(make_tasks, "torch", "numpy")
