"""Annealing an RBM in a plain NumPy loop, float32 throughout."""

from itertools import pairwise

import numpy as np
from serving import Tasks, load_rows, serve


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def make_tasks(settings: dict) -> Tasks:
    rows = load_rows(settings)
    random = np.random.default_rng(0)
    n_visible, n_hidden = settings["n_visible"], settings["n_hidden"]
    n_chains = settings["batch_size"]
    W = (0.05 * random.standard_normal((n_visible, n_hidden))).astype(np.float32)
    b, c = np.zeros(n_visible, np.float32), np.zeros(n_hidden, np.float32)
    rate = ((rows.sum(0) + 0.5) / (len(rows) + 1)).astype(np.float32)
    base = np.log(rate) - np.log1p(-rate)

    def bernoulli(p):
        return (random.random(p.shape, np.float32) < p).astype(np.float32)

    def anneal(steps: int) -> None:
        betas = np.linspace(0, 1, steps + 1).tolist()
        v = bernoulli(np.broadcast_to(rate, (n_chains, n_visible)))
        log_weight = np.zeros(n_chains)
        for before, beta in pairwise(betas):
            inputs = v @ W + c
            log_weight += (beta - before) * (v @ (b - base))
            log_weight += np.log1p(np.exp(beta * inputs)).sum(1)
            log_weight -= np.log1p(np.exp(before * inputs)).sum(1)
            h = bernoulli(sigmoid(beta * inputs))
            logits = (1 - beta) * base + beta * (h @ W.T + b)
            v = bernoulli(sigmoid(logits))
        assert np.isfinite(log_weight).all()

    return {"anneal": anneal}


if __name__ == "__main__":
    serve(make_tasks, "numpy")
