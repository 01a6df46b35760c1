"""ebmkit's MALA, HMC and NUTS, with settings that are given and with its warm-up, as they come."""

import itertools

import ebm
import numpy as np
import torch
from serving import Tasks, draw_for, serve
from targets import funnel, gaussian


def make_tasks(settings: dict) -> Tasks:
    torch.manual_seed(0)
    torch.set_num_threads(settings["threads"])
    inverse = torch.from_numpy(np.load(settings["inverse"]))
    start = torch.from_numpy(np.load(settings["start"]))
    starts = itertools.cycle(torch.from_numpy(np.load(settings["wide_starts"])))
    n_leapfrog, warmup = settings["n_leapfrog"], settings["warmup"]
    step_size, mala_step_size = settings["step_size"], settings["mala_step_size"]

    def on_gaussian(x):
        return gaussian(x, inverse)

    def on_funnel(x):
        return funnel(x, torch.exp)

    def task(make, x):
        def run(steps: int) -> dict:
            draws = make().sample(on_gaussian, x, steps=steps, return_trajectory=True)
            return {"x": draws[1:].movedim(0, 1)}

        return run

    def run_funnel(milliseconds: int) -> dict:
        sampler = ebm.NUTS(warmup=warmup)
        state = sampler.sample(on_funnel, next(starts), steps=1)
        sampler.warmup = 0

        def draw() -> torch.Tensor:
            nonlocal state
            state = sampler.sample(on_funnel, state, steps=1)
            return state[:, :1]

        return draw_for(milliseconds, draw)

    return {
        "MALA": task(lambda: ebm.MALA(mala_step_size), start),
        "HMC": task(lambda: ebm.HMC(step_size, n_leapfrog), start),
        "NUTS": task(lambda: ebm.NUTS(step_size, warmup=0), start),
        "tuned MALA": task(lambda: ebm.AdaptiveMALA(warmup=warmup, precondition=True), 2 * start),
        "tuned NUTS": task(lambda: ebm.NUTS(warmup=warmup), 2 * start),
        "funnel": run_funnel,
    }


if __name__ == "__main__":
    serve(make_tasks, "ebmkit", "torch")
