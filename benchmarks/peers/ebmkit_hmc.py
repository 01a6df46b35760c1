"""ebmkit's MALA, HMC and NUTS, with settings that are given and with its warm-up, as they come."""

import ebm
import numpy as np
import torch
from serving import Tasks, serve
from targets import funnel, gaussian


def make_tasks(settings: dict) -> Tasks:
    torch.manual_seed(0)
    torch.set_num_threads(settings["threads"])
    inverse = torch.from_numpy(np.load(settings["inverse"]))
    start = torch.from_numpy(np.load(settings["start"]))
    wide = torch.from_numpy(np.load(settings["wide_start"]))
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

    sampler, state = ebm.NUTS(warmup=warmup), wide

    def run_funnel(draws: int) -> dict:
        nonlocal state
        if sampler.warmup:
            state = sampler.sample(on_funnel, state, steps=1)
            sampler.warmup = 0
        v = []
        for _ in range(draws):
            state = sampler.sample(on_funnel, state, steps=1)
            v.append(state[:, 0])
        return {"v": torch.stack(v, 1)}

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
