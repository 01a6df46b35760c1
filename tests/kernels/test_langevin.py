"""The bias of kernels that refuse nothing, against their step size.

The statistical tests here are eleven; right kernels fail one of them, on fresh seeds, with a
chance below `ALARM` times that.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import energax as ex
from energax.kernels import start_chains, step_chains

pytestmark = pytest.mark.slow

ALARM = 1e-4 / 11
N = 50_000


@eqx.filter_jit
def _walk(kernel, energy, x, key, n_steps: int):
    key_init, key_walk = jax.random.split(key)
    chains = start_chains(energy, kernel, x, key_init)

    def body(chains, key):
        return step_chains(energy, kernel, chains, key)[0], None

    return jax.lax.scan(body, chains, jax.random.split(key_walk, n_steps))[0]


def _normal(sd, n=N, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(0, sd, n), jnp.float32)


def _is_normal(seen, sd):
    return stats.kstest(np.asarray(seen) / float(sd), "norm").pvalue > ALARM


@pytest.mark.parametrize("step_size", [0.1, 0.5, 1.0])
def test_on_a_gaussian_the_variance_is_too_large_by_half_the_step(step_size):
    energy = ex.Gaussian(jnp.zeros(()), 2.0)
    sd = 2 / np.sqrt(1 - step_size / (2 * 4))
    kernel = ex.UnadjustedLangevin(step_size)
    for n_steps in (1, 20):
        assert _is_normal(_walk(kernel, energy, _normal(sd), ex.key(1), n_steps).x, sd)


def test_step_and_noise_apart_are_a_temperature():
    energy = ex.Gaussian(jnp.zeros(()), 1.0)
    step_size, noise_scale = 0.1, 0.2
    sd = noise_scale / np.sqrt(1 - (1 - step_size) ** 2)
    assert sd**2 == pytest.approx(noise_scale**2 / (2 * step_size), rel=0.1)
    kernel = ex.UnadjustedLangevin(step_size, noise_scale)
    assert _is_normal(_walk(kernel, energy, _normal(sd), ex.key(1), 10).x, sd)


@pytest.mark.parametrize("step_size", [0.5, 1.5])
def test_with_inertia_a_gaussian_has_its_own_variance(step_size):
    """Of the positions: velocities are slower, by the square of the step."""
    energy = ex.Gaussian(jnp.zeros(()), 1.0)
    kernel = ex.UnderdampedLangevin(step_size, friction=0.7)
    slow = np.sqrt(1 - step_size**2 / 4)

    @jax.jit
    def step(x, velocity, key):
        chains = start_chains(energy, kernel, x, key)
        chains = eqx.tree_at(lambda c: c.velocity, chains, velocity)
        return step_chains(energy, kernel, chains, key)[0]

    chains = step(_normal(1.0), _normal(slow, seed=2), ex.key(1))
    assert _is_normal(chains.x, 1.0)
    assert _is_normal(chains.velocity, slow)


def test_the_bias_shrinks_with_the_step():
    """On the logistic density sech(x)^2 / 2, where E[x^2] = pi^2 / 12."""
    energy = ex.NeuralEnergy(lambda x: -2 * jnp.logaddexp(x, -x), ex.Real())
    uniform = np.random.default_rng(0).random(4 * N)
    x = jnp.asarray(np.arctanh(2 * uniform - 1), jnp.float32)

    @eqx.filter_jit
    def bias(kernel, n_steps: int):
        """Of the mean square over `n_steps` steps, after as many, and its standard error."""

        def body(carry, key):
            chains, total = carry
            chains = step_chains(energy, kernel, chains, key)[0]
            return (chains, total + chains.x**2), None

        keys = jax.random.split(ex.key(3), (2, n_steps))
        carry = (start_chains(energy, kernel, x, ex.key(4)), jnp.zeros_like(x))
        carry = (jax.lax.scan(body, carry, keys[0])[0][0], jnp.zeros_like(x))
        mean = jax.lax.scan(body, carry, keys[1])[0][1] / n_steps
        return jnp.mean(mean) - np.pi**2 / 12, jnp.std(mean) / jnp.sqrt(1.0 * mean.size)

    coarse, error = map(float, bias(ex.UnadjustedLangevin(0.3), 40))
    fine, fine_error = map(float, bias(ex.UnadjustedLangevin(0.15), 80))
    inert, inert_error = map(float, bias(ex.UnderdampedLangevin(0.7, 1.0), 40))
    far = stats.norm.isf(ALARM / 2)
    assert abs(coarse) > 3 * far * error
    # Of first order: half the step, half the bias, up to terms of second order.
    assert abs(fine - coarse / 2) < far * np.hypot(fine_error, error / 2) + 0.15 * abs(coarse)
    # With inertia and as far a step at once, of second order and small.
    assert abs(inert) < far * inert_error + abs(coarse) / 4


def test_reflection_keeps_a_flat_density_flat():
    energy = ex.Uniform(ex.Box((), -1.0, 2.0))
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 2, N), jnp.float32)
    for kernel in (ex.UnadjustedLangevin(2.0), ex.UnderdampedLangevin(3.0)):
        after = np.asarray(_walk(kernel, energy, x, ex.key(2), 1).x)
        assert stats.kstest(after, "uniform", (-1, 3)).pvalue > ALARM
        assert np.corrcoef(after, x)[0, 1] < 0.5
    # Near a wall nobody waits: clipped, a quarter of the chains would stand on it.
    assert len(np.unique(after)) > 0.9 * len(np.unique(x))


def test_settings_compile_nothing_anew():
    energy = ex.Gaussian(jnp.zeros(2))
    traced = []

    @eqx.filter_jit
    def step(kernel, x):
        traced.append(1)
        return _walk(kernel, energy, x, ex.key(0), 1)

    for make in (ex.UnadjustedLangevin, ex.UnderdampedLangevin):
        for step_size in (0.1, 0.25):
            step(make(step_size), jnp.zeros((3, 2)))
    step(ex.UnadjustedLangevin(0.1, 0.02), jnp.zeros((3, 2)))
    assert len(traced) == 3
