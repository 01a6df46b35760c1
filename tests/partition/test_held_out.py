"""Likelihoods of rows: the mean, and the interval of log Z turned round."""

import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
import registry
from energax.partition import LogPartition, energies_of, log_likelihood

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


def test_an_excluded_row_has_no_likelihood():
    excludes = ex.NeuralEnergy(lambda x: jnp.where(x[0] > 0, -jnp.inf, 0.0), ex.Binary(2))
    found = log_likelihood(excludes, [[1, 0], [0, 0]], LOG_Z)
    assert found.mean == found.lower == found.upper == -np.inf
    assert np.isposinf(found.row_error)


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
