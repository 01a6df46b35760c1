"""Two models on the same rows: exact on small ones, and every interval carried through."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
import registry

LOG_Z = ex.LogPartition(2.0, 1.5, 2.75, 0.3, False, "a test", True)
ROWS = np.array([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1]])


def _pair():
    rates = ex.Bernoulli(np.array([0.5, -0.3, 0.2, 1.0]))
    return registry._rbm(), rates, ex.log_partition(rates, key=ex.key(0))


def test_it_is_the_mean_of_the_differences():
    rbm, rates, known = _pair()
    found = ex.likelihood_ratio(rbm, rates, ROWS, ex.log_partition(rbm, key=ex.key(0)), known)
    at = oracles.index_of(rbm.space, ROWS)
    each = np.log(oracles.probabilities(rbm)[at]) - np.log(oracles.probabilities(rates)[at])
    assert found.mean == pytest.approx(each.mean(), rel=1e-4)
    assert found.lower == found.mean == found.upper
    assert found.row_error == pytest.approx(each.std(ddof=1) / np.sqrt(3), rel=1e-4)
    assert found.n_rows == 3
    assert found.trusted


def test_what_models_share_cancels_row_by_row():
    rbm, _, _ = _pair()
    found = ex.likelihood_ratio(rbm, rbm, ROWS, LOG_Z, LOG_Z)
    assert found.mean == found.row_error == 0
    assert ex.log_likelihood(rbm, ROWS, LOG_Z).row_error > 0


def test_the_intervals_of_both_are_added():
    rbm, rates, known = _pair()
    one = ex.likelihood_ratio(rbm, rates, ROWS, LOG_Z, known)
    assert (one.mean - one.lower, one.upper - one.mean) == pytest.approx((0.75, 0.5))
    both = ex.likelihood_ratio(rbm, rates, ROWS, LOG_Z, LOG_Z)
    assert (both.mean - both.lower, both.upper - both.mean) == pytest.approx((1.25, 1.25))
    turned = ex.likelihood_ratio(rates, rbm, ROWS, LOG_Z, LOG_Z)
    assert (turned.mean, turned.row_error) == pytest.approx((-both.mean, both.row_error))
    assert one.level == both.level == 0.95


def test_open_ends_and_distrust_are_carried_through():
    rbm, rates, known = _pair()
    half = ex.LogPartition(2.0, -np.inf, 2.75, np.inf, False, "a test", False, "why")
    found = ex.likelihood_ratio(rbm, rates, ROWS, half, known)
    assert np.isfinite(found.lower)
    assert found.upper == np.inf
    assert not found.trusted
    turned = ex.likelihood_ratio(rates, rbm, ROWS, known, half)
    assert turned.lower == -np.inf
    assert np.isfinite(turned.upper)
    assert not turned.trusted
    assert ex.likelihood_ratio(rbm, rates, ROWS, known, known).trusted


def test_a_row_that_one_model_excludes_decides():
    excludes = ex.NeuralEnergy(lambda x: jnp.where(x[0] > 0, -jnp.inf, 0.0), ex.Binary(4))
    rbm, _, known = _pair()
    found = ex.likelihood_ratio(rbm, excludes, ROWS, LOG_Z, known)
    assert found.mean == found.lower == found.upper == np.inf
    assert np.isposinf(found.row_error)
    with oracles.refused("1 of 3 rows are excluded by both models"):
        ex.likelihood_ratio(excludes, excludes, ROWS, LOG_Z, LOG_Z)


def test_energies_that_are_no_numbers_are_no_result():
    broken = ex.NeuralEnergy(lambda x: jnp.where(x[0] > 0, jnp.nan, 0.0), ex.Binary(4))
    rbm, _, known = _pair()
    found = ex.likelihood_ratio(rbm, broken, ROWS, known, known)
    assert np.isnan(found.mean)
    assert not found.trusted


def test_models_and_log_zs_must_belong_together(as_users_call):
    rbm, rates, known = _pair()
    with oracles.refused("energies must be over one space, got"):
        ex.likelihood_ratio(rbm, ex.Bernoulli(np.zeros(5)), ROWS, known, known)
    with oracles.refused("both log Z's must have one level, got 0.95 and 0.9"):
        ex.likelihood_ratio(rbm, rates, ROWS, LOG_Z, dataclasses.replace(LOG_Z, level=0.9))
    exact = dataclasses.replace(known, level=0.9)  # has no interval to speak of
    assert ex.likelihood_ratio(rbm, rates, ROWS, LOG_Z, exact).level == 0.95
    with oracles.refused("log_z_b must be what ex.log_partition returns, got float"):
        ex.likelihood_ratio(rbm, rates, ROWS, LOG_Z, 2.0)
    with oracles.refused("rows must have shape"):
        ex.likelihood_ratio(rbm, rates, [[0, 1]], LOG_Z, known)
