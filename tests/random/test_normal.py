"""`energax.random.normal`: the quantiles it gives, and what it does with shapes and dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import energax as ex
from energax.random import normal
from energax.random._draws import normal_quantile

IMPLEMENTATIONS = {"energax": ex.key, "threefry": jax.random.key}


def quantile(bits: np.ndarray) -> np.ndarray:
    """The normal quantile of the middle of each word's interval, in float64."""
    p = ((bits >> 1).astype(np.float64) + 0.5) / 2**32
    return np.where(bits & 1, 1, -1) * stats.norm.ppf(p)


def test_quantiles_from_the_middle_to_the_ends():
    ends = np.arange(2000, dtype=np.uint32)
    powers = (np.uint64(1) << np.arange(32, dtype=np.uint64)).astype(np.uint32)
    within = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    bits = np.concatenate([ends, powers, powers - 1, ~ends, within])
    found = np.asarray(normal_quantile(jnp.asarray(bits)), np.float64)
    assert np.abs(found - quantile(bits)).max() < 2e-6
    assert 6.33 < found.max() == -found.min() < 6.34


def test_the_middle_is_zero_and_the_sign_is_a_bit():
    bits = np.array([0xFFFFFFFE, 0xFFFFFFFF, 0x12345678, 0x12345679], np.uint32)
    found = np.asarray(normal_quantile(jnp.asarray(bits)))
    assert found[0] == found[1] == 0
    assert found[2] == -found[3] != 0


@pytest.mark.parametrize("make", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def test_draws_are_normal(make):
    z = np.asarray(normal(make(3), (1_000_000,)), np.float64)
    # Two tests, each wrong once in a million.
    assert stats.kstest(z, "norm").pvalue > 1e-6
    tail = (np.abs(z) > 4).sum()
    assert 1e-6 / 2 < stats.binom.cdf(tail, z.size, 2 * stats.norm.sf(4)) < 1 - 1e-6 / 2


def test_shapes_dtypes_and_transformations():
    keys = jax.random.split(ex.key(0), 3)
    each = jnp.stack([normal(k, (2, 5)) for k in keys])
    assert each.dtype == jnp.float32
    together = jax.jit(jax.vmap(lambda k: normal(k, (2, 5))))(keys)
    np.testing.assert_allclose(together, each, rtol=1e-6, atol=1e-7)
    assert normal(keys[0]).shape == ()
    half = normal(keys[0], (4,), jnp.bfloat16)
    np.testing.assert_array_equal(half, jax.random.normal(keys[0], (4,), jnp.bfloat16))
    with jax.enable_x64(True):
        wide = normal(keys[0], (4,))
        assert wide.dtype == jnp.float64
        np.testing.assert_array_equal(wide, jax.random.normal(keys[0], (4,)))
        assert normal(keys[0], (4,), jnp.float32).dtype == jnp.float32
