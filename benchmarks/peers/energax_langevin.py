"""energax's unadjusted Langevin, all chains and steps in its own compiled run."""

import jax.numpy as jnp
import numpy as np
from energax_runs import advanced
from keys import keys_from
from serving import Tasks, serve
from targets import double_well

import energax as ex


def make_tasks(settings: dict) -> Tasks:
    model = ex.NeuralEnergy(lambda x: -double_well(x), ex.Real(2))
    kernel = ex.UnadjustedLangevin(step_size=settings["step_size"])
    x = jnp.asarray(np.load(settings["start"]))
    keys = keys_from(ex.key(0))

    def run(steps: int) -> dict:
        return {"x": advanced(model, kernel, x, next(keys), steps)[0]}

    return {"run": run}


if __name__ == "__main__":
    serve(make_tasks, "energax", "jax")
