"""energax's block Gibbs sampling of an RBM."""

import jax.numpy as jnp
from energax_runs import advanced
from keys import keys_from
from serving import Tasks, load_rows, serve

import energax as ex


def make_tasks(settings: dict) -> Tasks:
    sizes = {"n_visible": settings["n_visible"], "n_hidden": settings["n_hidden"]}
    rbm, kernel = ex.RBM.init(ex.key(0), scale=0.05, **sizes), ex.BlockGibbs()
    x = jnp.asarray(load_rows(settings)[: settings["batch_size"]], jnp.float32)
    keys = keys_from(ex.key(1))

    def gibbs(steps: int) -> None:
        nonlocal x
        x, _ = advanced(rbm, kernel, x, next(keys), steps)

    return {"gibbs": gibbs}


if __name__ == "__main__":
    serve(make_tasks, "energax", "jax")
