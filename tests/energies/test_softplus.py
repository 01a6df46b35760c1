"""The sums inside an RBM's energy, against float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from energax.energies.machines._softplus import log_one_minus, sum_softplus


def _rows(n):
    x = np.random.default_rng(n).normal(0, 5, (6, n)).astype(np.float32)
    x[1], x[2], x[3] = 90.0, -90.0, 0.0
    x[4, ::2] = -np.inf  # units that are left out
    return x


@pytest.mark.parametrize("n", [1, 7, 8, 9, 16, 63, 500, 785])
def test_sum_softplus(n):
    x = _rows(n)
    exact = np.logaddexp(0, x.astype(np.float64)).sum(-1)
    found = jax.jit(sum_softplus)(jnp.asarray(x))
    assert found.shape == (6,)
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-36)
    np.testing.assert_allclose(
        [sum_softplus(row) for row in jnp.asarray(x)], found, rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("n", [3, 21])
def test_its_gradient_is_the_sigmoid(n):
    x = _rows(n)
    gradient = jax.vmap(jax.grad(sum_softplus))(jnp.asarray(x))
    np.testing.assert_allclose(gradient, expit(x.astype(np.float64)), rtol=1e-6, atol=1e-30)
    curvature = jax.vmap(jax.hessian(sum_softplus))(jnp.asarray(x[:1]))[0]
    slope = expit(x[0].astype(np.float64))
    np.testing.assert_allclose(curvature, np.diag(slope * (1 - slope)), rtol=1e-5, atol=1e-7)


def test_sums_of_large_numbers_do_not_overflow():
    x = jnp.full((64,), 1e36)
    assert float(sum_softplus(x)) == pytest.approx(6.4e37)
    assert float(sum_softplus(-x)) == 0.0


@pytest.mark.parametrize("t", [0.0, 1e-6, 1e-3, 0.3, 5.0, 100.0])
def test_log_one_minus(t):
    share = np.linspace(0, 0.5, 33).astype(np.float32)
    exact = np.log1p(share.astype(np.float64) * np.expm1(-np.float64(np.float32(t))))
    np.testing.assert_allclose(log_one_minus(jnp.asarray(share), jnp.float32(t)), exact, rtol=1e-6)
