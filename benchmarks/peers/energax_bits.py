"""energax's Gibbs with gradients on a network."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from energax_runs import advanced
from keys import keys_from
from network import SIZES, layers
from serving import Tasks, serve

import energax as ex


def make_tasks(settings: dict) -> Tasks:
    network = eqx.nn.MLP(SIZES[0], "scalar", SIZES[1], 2, activation=jax.nn.silu, key=ex.key(0))
    for i, (weight, bias) in enumerate(layers()):
        parts = jnp.asarray(weight), jnp.asarray(bias)
        network = eqx.tree_at(lambda n, i=i: (n.layers[i].weight, n.layers[i].bias), network, parts)
    # The network is the energy itself in ebmkit, minus the energy here.
    model = ex.NeuralEnergy(_Negative(network), ex.Binary(SIZES[0]))
    kernel = ex.GibbsWithGradients()
    x = jnp.asarray(np.load(settings["start"]))
    keys = keys_from(ex.key(1))

    def run(steps: int) -> dict:
        nonlocal x
        x, ran = advanced(model, kernel, x, next(keys), steps)
        return {"energy": ran.energy[:, -1], "moved": ran.acceptance}

    return {"run": run}


class _Negative(eqx.Module):
    network: eqx.nn.MLP

    def __call__(self, x):
        return -self.network(x)


if __name__ == "__main__":
    serve(make_tasks, "energax", "jax")
