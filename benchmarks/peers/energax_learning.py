"""energax's training of an RBM by persistent chains, as `fit` runs it."""

import time

import optax
from serving import Tasks, load_rows, serve

import energax as ex


def make_tasks(settings: dict) -> Tasks:
    rows = load_rows(settings)
    base = ex.Bernoulli.from_data(rows)
    sizes = {"n_visible": settings["n_visible"], "n_hidden": settings["n_hidden"]}
    rbm = ex.RBM.init(ex.key(2 * settings["seed"]), base=base, **sizes)
    objective = ex.PersistentContrastiveDivergence(n_chains=settings["batch_size"])
    optimizer = optax.sgd(settings["learning_rate"])

    def learned(steps: int) -> ex.Fitted:
        return ex.fit(
            rbm,
            rows,
            objective,
            key=ex.key(2 * settings["seed"] + 1),
            optimizer=optimizer,
            steps=steps,
            batch_size=settings["batch_size"],
        )

    start = time.perf_counter()
    learned(100)
    compiling = time.perf_counter() - start
    done, taken, energy = 0, 0.0, rbm

    def pcd1(steps: int) -> dict:
        """A run of its own from the start, which comes to where one that went on would, bit for
        bit. The seconds are those that `fit` counts: without checking rows."""
        nonlocal done, taken, energy
        done += steps
        run = learned(done)
        before, taken, energy = taken, float(run.history[-1]["seconds"]), run.energy
        return {"taken": taken - before, "first": compiling}

    def parameters(_: int) -> dict:
        biases = {"visible": energy.visible_bias, "hidden": energy.hidden_bias}
        return {"weights": energy.weights, **biases}

    return {"pcd1": pcd1, "parameters": parameters}


if __name__ == "__main__":
    serve(make_tasks, "energax", "jax")
