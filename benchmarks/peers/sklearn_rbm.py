"""scikit-learn's BernoulliRBM, one minibatch of its `fit` at a time: PCD-1 in float32."""

import numpy as np
from serving import Tasks, batches, load_rows, serve
from sklearn.neural_network import BernoulliRBM


def make_tasks(settings: dict) -> Tasks:
    rows = load_rows(settings)
    data = rows.astype(np.float32)
    size = settings["batch_size"]
    rbm = BernoulliRBM(
        n_components=settings["n_hidden"],
        batch_size=size,
        learning_rate=settings.get("learning_rate", 0.01),
        n_iter=1,
        random_state=settings.get("seed", 0),
    )
    rbm.fit(data[: 10 * size])  # makes the parameters and chains, all float32 like the data
    if settings.get("at_base_rates"):
        rate = (data.sum(0) + 0.5) / (len(data) + 1)
        rbm.intercept_visible_[:] = np.log(rate) - np.log1p(-rate)
    next_batch = batches(data, settings)
    generator = np.random.RandomState(settings.get("seed", 0))

    def pcd1(steps: int) -> None:
        # `partial_fit` would turn the batch to float64; `fit` loops over this.
        for _ in range(steps):
            rbm._fit(next(next_batch), generator)

    def parameters(_: int) -> dict:
        biases = {"visible": rbm.intercept_visible_, "hidden": rbm.intercept_hidden_}
        return {"weights": rbm.components_.T, **biases}

    return {"pcd1": pcd1, "parameters": parameters}


if __name__ == "__main__":
    serve(make_tasks, "scikit-learn", "numpy", "scipy")
