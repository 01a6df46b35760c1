"""energax's MALA, HMC and NUTS, with settings that are given and with its warm-up."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from keys import keys_from
from serving import Tasks, draw_for, serve
from targets import funnel, gaussian

import energax as ex
from energax.sampling import run_chains


def make_tasks(settings: dict) -> Tasks:
    inverse = jnp.asarray(np.load(settings["inverse"]))
    start = jnp.asarray(np.load(settings["start"]))
    wide = jnp.asarray(np.load(settings["wide_starts"]))
    starts = itertools.cycle(wide)
    n_leapfrog, warmup, chunk = (settings[k] for k in ("n_leapfrog", "warmup", "funnel_draws"))
    step_size, mala_step_size = settings["step_size"], settings["mala_step_size"]
    keys = keys_from(ex.key(0))
    on_gaussian = ex.NeuralEnergy(lambda x: -gaussian(x, inverse), ex.Real(start.shape[1:]))
    on_funnel = ex.NeuralEnergy(lambda x: -funnel(x, jnp.exp), ex.Real(wide.shape[2:]))

    def run(model, kernel, x, warmup, draws):
        return run_chains(
            model,
            kernel,
            x,
            next(keys),
            n_draws=draws,
            warmup=jnp.asarray(warmup, jnp.int32),
            thin=jnp.asarray(1, jnp.int32),
        )

    def task(kernel, warmup, x):
        def draw(steps: int) -> dict:
            return {"x": jax.block_until_ready(run(on_gaussian, kernel, x, warmup, steps).kept)}

        return draw

    def run_funnel(milliseconds: int) -> dict:
        ran = jax.block_until_ready(run(on_funnel, ex.NUTS(), next(starts), warmup, chunk))

        def draw() -> jax.Array:
            nonlocal ran
            ran = run(on_funnel, ran.kernel, ran.states.x, 0, chunk)
            return ran.kept[..., 0]

        return draw_for(milliseconds, draw)

    return {
        "MALA": task(ex.MALA(mala_step_size), 0, start),
        "HMC": task(ex.HMC(step_size, n_leapfrog, jitter=0.0), 0, start),
        "NUTS": task(ex.NUTS(step_size), 0, start),
        "tuned MALA": task(ex.MALA(), warmup, 2 * start),
        "tuned HMC": task(ex.HMC(n_leapfrog=n_leapfrog), warmup, 2 * start),
        "tuned NUTS": task(ex.NUTS(), warmup, 2 * start),
        "funnel": run_funnel,
    }


if __name__ == "__main__":
    serve(make_tasks, "energax", "blackjax", "jax")
