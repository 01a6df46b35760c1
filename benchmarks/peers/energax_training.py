"""energax's `fit` by `ReplayBuffer`, and the same network with XLA's own convolutions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from serving import Tasks, serve

import energax as ex


class Convolutions(eqx.Module):
    """A `ResidualNetwork` whose products are XLA's convolutions."""

    network: ex.ResidualNetwork

    def __call__(self, x):
        h = x[None, ..., None]
        for stem, (block,) in zip(self.network.stems, self.network.blocks, strict=True):
            h = _convolution(h, stem.reshape(2, 2, h.shape[-1], -1), 2)
            inner = _convolution(jax.nn.silu(h), _nine(block.first)) + block.first_bias
            h = h + _convolution(jax.nn.silu(inner), _nine(block.second)) + block.second_bias
        return (jnp.sum(jax.nn.silu(h), (0, 1, 2)) @ self.network.readout)[0]


def _nine(matrix):
    return matrix.reshape(3, 3, -1, matrix.shape[-1])


def _convolution(x, kernel, stride=1):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def make_tasks(settings: dict) -> Tasks:
    rows = np.load(settings["rows"])
    space = ex.Real(rows.shape[1:])
    if settings["network"] == "dense":
        networks = {"run": ex.DenseNetwork.init(ex.key(0), space, width=settings["width"], depth=2)}
    else:
        network = ex.ResidualNetwork.init(ex.key(0), rows.shape[1:], channels=settings["channels"])
        networks = {"run": network, "native": Convolutions(network)}
    kernel = ex.UnadjustedLangevin(settings["step_size"], settings["noise_scale"])
    objective = ex.ReplayBuffer(
        size=settings["size"],
        n_chains=settings["batch_size"],
        n_steps=settings["n_steps"],
        fresh=settings["fresh"],
        kernel=kernel,
    )
    # One optimiser for all calls: another one would be another program.
    optimizer = optax.adam(settings["learning_rate"])

    def task(network):
        def run(steps: int) -> dict:
            fitted = ex.fit(
                ex.NeuralEnergy(network, space),
                rows,
                objective,
                key=ex.key(1),
                optimizer=optimizer,
                batch_size=settings["batch_size"],
                steps=steps,
                log_every=max(1, steps // 2),
            )
            assert fitted.ok, fitted.message
            return {"gap": fitted.history[-1]["energy_gap"]}

        return run

    return {name: task(network) for name, network in networks.items()}


if __name__ == "__main__":
    serve(make_tasks, "energax", "jax")
