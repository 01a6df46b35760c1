"""Energies of blurred data: which noise is whose, and what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
from energax.energies import trainable


def blurred(x, noise):
    return -0.5 * jnp.sum(x**2) / (1 + noise**2)


def test_each_noise_has_its_energy(x64):
    energy = ex.NoiseConditional(blurred, ex.Real(2), [1.0, 0.1, 3.0])
    np.testing.assert_allclose(energy.noises, [3.0, 1.0, 0.1])
    x = jnp.array([1.0, -2.0])
    for noise in (3.0, 0.1, 0.37):
        there = energy.at(noise)
        assert float(there.energy(x)) == pytest.approx(2.5 / (1 + noise**2), rel=1e-12)
        np.testing.assert_allclose(there.score(x), -x / (1 + noise**2), rtol=1e-12)
        np.testing.assert_array_equal(there.noises, energy.noises)
    assert float(energy.energy(x)) == pytest.approx(2.5 / 1.01, rel=1e-12)


def test_a_noise_may_be_traced():
    energy = ex.NoiseConditional(blurred, ex.Real(2), [1.0, 0.1])
    values = jax.jit(jax.vmap(lambda noise: energy.at(noise).energy(jnp.ones(2))))(
        jnp.array([0.5, 1.0])
    )
    np.testing.assert_allclose(values, [0.8, 0.5], rtol=1e-6)


class Network(eqx.Module):
    layers: eqx.nn.MLP

    def __call__(self, x, noise):
        return self.layers(jnp.append(x, noise))


def test_only_the_function_trains():
    layers = eqx.nn.MLP(3, "scalar", 4, 1, key=ex.key(0))
    energy = ex.NoiseConditional(Network(layers), ex.Real(2), [1.0, 0.1])
    trained = jax.tree.leaves(eqx.filter(energy, trainable(energy)))
    every = jax.tree.leaves(eqx.filter(layers, eqx.is_inexact_array))
    assert len(trained) == len(every)
    assert all(a is b for a, b in zip(trained, every, strict=True))


def test_bad_arguments_are_named():
    with oracles.refused("function", "callable", "int"):
        ex.NoiseConditional(3, ex.Real(2), [1.0])
    with oracles.refused("space", "Real(2)"):
        ex.NoiseConditional(blurred, 2, [1.0])
    for noises in (1.0, [], [[1.0]]):
        with oracles.refused("noises must be a vector of levels"):
            ex.NoiseConditional(blurred, ex.Real(2), noises)
    with oracles.refused("noises must be positive", "0"):
        ex.NoiseConditional(blurred, ex.Real(2), [1.0, 0.0])
    with oracles.refused("noise must be positive", "-1"):
        ex.NoiseConditional(blurred, ex.Real(2), [1.0]).at(-1.0)
    with oracles.refused("one number a state", "(2,)"):
        ex.NoiseConditional(lambda x, noise: x, ex.Real(2), [1.0]).energy(jnp.ones(2))
