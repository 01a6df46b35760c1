"""Likelihoods of rows: the mean, and the interval of log Z turned round."""

import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
import registry
from energax.partition import LogPartition, energies_of, log_likelihood, log_prob

LOG_Z = LogPartition(2.0, 1.5, 2.75, 0.3, False, "a test", True)
ROWS = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]])


def test_it_is_the_mean_log_probability():
    model = registry._rbm()
    exact = ex.log_partition(model, key=ex.key(0))
    found = log_likelihood(model, ROWS, exact)
    at = oracles.index_of(model.space, ROWS)
    each = np.log(oracles.probabilities(model)[at])
    assert found.mean == pytest.approx(each.mean(), rel=1e-5)
    assert found.lower == found.mean == found.upper
    assert found.row_error == pytest.approx(each.std(ddof=1) / np.sqrt(3), rel=1e-4)
    assert found.n_rows == 3
    assert found.bits_per_dimension == pytest.approx(-each.mean() / np.log(2) / 4, rel=1e-5)


def test_a_larger_log_z_means_a_smaller_likelihood():
    model = registry._rbm()
    minus_energy = -energies_of(model, jnp.asarray(ROWS, jnp.float32)).mean()
    found = log_likelihood(model, ROWS, LOG_Z)
    assert found.mean == pytest.approx(minus_energy - 2.0)
    assert found.lower == pytest.approx(minus_energy - 2.75)
    assert found.upper == pytest.approx(minus_energy - 1.5)
    assert found.trusted


def test_open_ends_and_distrust_are_carried_through():
    unknown = LogPartition(2.0, -np.inf, np.inf, np.inf, False, "a test", False, "why")
    found = log_likelihood(registry._rbm(), ROWS, unknown)
    assert (found.lower, found.upper) == (-np.inf, np.inf)
    assert not found.trusted
    assert np.isfinite(found.mean)


def test_each_row_has_its_own_probability():
    model = registry._rbm()
    found = log_prob(model, ROWS, ex.log_partition(model, key=ex.key(0)))
    each = np.log(oracles.probabilities(model)[oracles.index_of(model.space, ROWS)])
    np.testing.assert_allclose(found.value, each, rtol=1e-5)
    np.testing.assert_array_equal(found.lower, found.value)
    np.testing.assert_array_equal(found.upper, found.value)
    assert found.trusted


def test_rows_share_one_interval():
    model = registry._rbm()
    found = log_prob(model, ROWS, LOG_Z)
    np.testing.assert_allclose(found.value - found.lower, 0.75)
    np.testing.assert_allclose(found.upper - found.value, 0.5)
    assert found.level == 0.95
    assert log_likelihood(model, ROWS, LOG_Z).mean == pytest.approx(found.value.mean())


def test_half_open_brackets_leave_one_end_open():
    half = LogPartition(2.0, -np.inf, 2.75, np.inf, False, "a test", False, "why", 0.9)
    rows = log_prob(registry._rbm(), ROWS, half)
    assert np.isposinf(rows.upper).all()
    np.testing.assert_allclose(rows.value - rows.lower, 0.75)
    assert not rows.trusted
    assert rows.level == 0.9
    mean = log_likelihood(registry._rbm(), ROWS, half)
    assert np.isposinf(mean.upper)
    assert mean.perplexity_interval[0] == 0
    assert mean.bits_interval[0] == -np.inf


def test_perplexity_is_per_entry_and_turned_round():
    found = log_likelihood(registry._rbm(), ROWS, LOG_Z)
    assert found.n_dimensions == 4
    assert found.perplexity == pytest.approx(np.exp(-found.mean / 4))
    assert found.perplexity == pytest.approx(2**found.bits_per_dimension)
    low, high = found.perplexity_interval
    assert (low, high) == pytest.approx((np.exp(-found.upper / 4), np.exp(-found.lower / 4)))
    assert low < found.perplexity < high
    low, high = found.bits_interval
    assert high - low == pytest.approx((2.75 - 1.5) / 4 / np.log(2))
    assert low < found.bits_per_dimension < high


def test_a_uniform_model_is_as_perplexed_as_it_has_values():
    model = ex.Uniform(ex.Categorical(5, 3))
    found = log_likelihood(model, [[0, 1, 2, 0, 1]], ex.log_partition(model, key=ex.key(0)))
    assert found.perplexity == pytest.approx(3.0, rel=1e-5)


def test_an_excluded_row_has_no_likelihood():
    excludes = ex.NeuralEnergy(lambda x: jnp.where(x[0] > 0, -jnp.inf, 0.0), ex.Binary(2))
    found = log_likelihood(excludes, [[1, 0], [0, 0]], LOG_Z)
    assert found.mean == found.lower == found.upper == -np.inf
    assert np.isposinf(found.row_error)
    assert np.isposinf(found.perplexity)
    unknown = LogPartition(2.0, -np.inf, np.inf, np.inf, False, "a test", False, "why")
    rows = log_prob(excludes, [[1, 0], [0, 0]], unknown)
    assert rows.value[0] == rows.lower[0] == rows.upper[0] == -np.inf
    assert np.isposinf(rows.upper[1])


def test_dimensions_of_every_part_count():
    model = registry.DISCRETE["table of a joint"]()
    found = log_likelihood(model, {"a": [[1, -1]], "b": [2]}, LOG_Z)
    assert found.bits_per_dimension == pytest.approx(-found.mean / np.log(2) / 3)
    assert np.isposinf(found.row_error)  # one row


def test_energies_come_block_by_block_in_order():
    model = registry._rbm()
    rows = jnp.asarray(np.random.default_rng(0).integers(0, 2, (103, 4)), jnp.float32)
    e = energies_of(model, rows, block=10)
    assert e.dtype == np.float64
    expected = oracles.energies(model)[oracles.index_of(model.space, rows)]
    np.testing.assert_allclose(e, expected, rtol=1e-5)


def test_rows_must_be_states():
    with pytest.raises(ValueError, match="held-out must hold only 0 and 1"):
        log_likelihood(registry._rbm(), [[0, 2, 0, 0]], LOG_Z, name="held-out")
    with pytest.raises(ValueError, match="rows must have shape"):
        log_likelihood(registry._rbm(), [[0, 1]], LOG_Z)
    with pytest.raises(ValueError, match="seen must have shape"):
        log_prob(registry._rbm(), [[0, 1]], LOG_Z, name="seen")


def test_log_z_must_be_a_record(as_users_call):
    with oracles.refused("log_z must be what ex.log_partition returns, got float"):
        log_prob(registry._rbm(), ROWS, 2.0)
