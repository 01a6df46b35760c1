"""Modules of flax are energies like any callable: they train, are saved, and come back."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import energax as ex

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("flax")
    from flax import linen, nnx

PLANE = ex.Box(2, -4.0, 4.0)
ROWS = np.random.default_rng(0).normal([1.0, -1.0], 0.5, (1000, 2)).clip(-4, 4)


class Dense(linen.Module):
    width: int

    @linen.compact
    def __call__(self, x):
        return linen.Dense(1)(jnp.tanh(linen.Dense(self.width)(x)))[0]


class Layers(nnx.Module):
    def __init__(self, width, rngs):
        self.first = nnx.Linear(2, width, rngs=rngs)
        self.last = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.tanh(self.first(x)))[0]


def of_linen(seed):
    module = Dense(16)
    params = module.init(jax.random.key(seed), jnp.zeros(2))
    return ex.NeuralEnergy(jax.tree_util.Partial(module.apply, params), PLANE)


def of_nnx(seed):
    graph, state = nnx.split(Layers(16, nnx.Rngs(seed)))
    return ex.NeuralEnergy(jax.tree_util.Partial(functools.partial(_applied, graph), state), PLANE)


def _applied(graph, state, x):
    return nnx.merge(graph, state)(x)


@pytest.mark.parametrize("make", [of_linen, of_nnx])
def test_a_flax_module_trains_and_is_saved(make, tmp_path):
    # Flax mixes ranks and dtypes as it likes.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        run = ex.fit(
            make(0),
            ROWS,
            ex.NoiseContrastiveEstimation(),
            key=ex.key(1),
            optimizer=optax.adam(0.02),
            steps=300,
        )
        assert run.ok, run.message
        near, far = jnp.array([1.0, -1.0]), jnp.array([-2.0, 2.0])
        assert float(run.energy.log_ratio(near, far)) > 3
        ex.save(run.energy, tmp_path / "model")
        loaded = ex.load(tmp_path / "model", like=make(2))
        for x in (near, far):
            assert float(loaded.energy(x)) == float(run.energy.energy(x))
