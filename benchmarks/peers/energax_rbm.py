"""energax's block Gibbs sampling of an RBM."""

import jax
import jax.numpy as jnp
from keys import keys_from
from serving import Tasks, load_rows, serve

import energax as ex
from energax.sampling import run_chains


def make_tasks(settings: dict) -> Tasks:
    sizes = {"n_visible": settings["n_visible"], "n_hidden": settings["n_hidden"]}
    rbm, kernel = ex.RBM.init(ex.key(0), scale=0.05, **sizes), ex.BlockGibbs()
    x = jnp.asarray(load_rows(settings)[: settings["batch_size"]], jnp.float32)
    keys = keys_from(ex.key(1))

    def gibbs(steps: int) -> None:
        nonlocal x
        run = run_chains(
            rbm,
            kernel,
            x,
            next(keys),
            n_draws=1,
            warmup=jnp.asarray(0, jnp.int32),
            thin=jnp.asarray(steps, jnp.int32),
        )
        x = jax.block_until_ready(run.kept[:, -1])

    return {"gibbs": gibbs}


if __name__ == "__main__":
    serve(make_tasks, "energax", "jax")
