"""Random orders: every number once, no place or neighbour favoured, of whatever length."""

import jax
import numpy as np
import pytest
from scipy import stats

import energax as ex
import oracles
from energax.random import permutation

LONG = 5000
"""Beyond what is sorted; not a power of two, and with halves of different sizes."""


@pytest.fixture(scope="module")
def orders():
    keys = jax.random.split(ex.key(3), 4000)
    return np.asarray(jax.jit(jax.vmap(lambda key: permutation(key, LONG)))(keys))


@pytest.mark.parametrize("n", [1, 2, 7, 4096, 4097, 8191, 8192, 8193, 60_000, 100_001])
@pytest.mark.parametrize("make", [ex.key, jax.random.key])
def test_every_number_once(n, make):
    order = permutation(make(1), n)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    if n > 100:
        assert (np.asarray(permutation(make(2), n)) != np.asarray(order)).mean() > 0.99


@pytest.mark.parametrize("n", [100, 5000])
def test_in_double_precision_the_order_is_the_same(n, request):
    order = np.asarray(permutation(ex.key(1), n))
    request.getfixturevalue("x64")
    found = permutation(ex.key(1), n)
    assert found.dtype == np.int32
    if n > 4096:  # what JAX sorts by is as wide as its integers
        np.testing.assert_array_equal(found, order)


def test_each_number_is_as_likely_in_each_place(orders):
    """Of a few numbers the places, in 100 equal parts; of a few places the numbers. Each test is
    wrong once in 10^5."""
    places = np.argsort(orders, 1)
    for found in (orders, places):
        for at in (0, 1, 2, 77, 2048, 4095, 4096, LONG - 1):
            counts = np.bincount(found[:, at] // 50, minlength=100)
            assert stats.chisquare(counts).pvalue > 1e-5


def test_pairs_are_as_likely_as_each_other(orders):
    """Where two numbers stand together, in 10 x 10 parts of all places; neighbours and numbers that
    differ in one bit among them."""
    places = np.argsort(orders, 1)
    for a, b in ((0, 1), (100, 101), (0, 64), (5, 5 ^ 4096), (1234, 4321), (63, 64)):
        together = np.histogram2d(places[:, a], places[:, b], bins=10, range=[[0, LONG]] * 2)[0]
        assert stats.chisquare(together.ravel()).pvalue > 1e-5


def test_orders_have_as_many_runs_fixed_points_and_rises_as_random_ones(orders):
    rises = (np.diff(orders, axis=1) > 0).sum(1)
    oracles.assert_mean(rises.astype(float), (LONG - 1) / 2)
    assert abs(rises.var() / ((LONG + 1) / 12) - 1) < 0.12
    fixed = (orders == np.arange(LONG)).sum(1)
    oracles.assert_mean(fixed.astype(float), 1.0)
    neighbours = (np.diff(orders, axis=1) == 1).sum(1)
    oracles.assert_mean(neighbours.astype(float), (LONG - 1) / LONG)
    correlation = [stats.pearsonr(order, np.arange(LONG))[0] for order in orders[:1000]]
    oracles.assert_mean(np.asarray(correlation), 0.0)
    assert abs(np.std(correlation) * np.sqrt(LONG - 1) - 1) < 0.12


@pytest.mark.parametrize("n", [0, -1, 2.0, True, 2**30 + 1])
def test_other_lengths_are_refused(n):
    with oracles.refused("n must be an integer"):
        permutation(ex.key(0), n)
