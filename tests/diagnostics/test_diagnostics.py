"""R-hat, effective sample size and weights, against ArviZ and known answers."""

import warnings

import numpy as np
import pytest
from scipy.stats import binom, norm

from energax.diagnostics import convergence, log_mean_weight, mean_and_error, normal_interval


def _chains(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4, 500))
    if kind == "independent":
        return noise
    if kind == "apart":
        return noise + np.array([[0.0], [0.0], [0.0], [2.0]])
    if kind == "heavy tails":
        return rng.standard_cauchy(size=(4, 501))
    if kind == "wide":
        return noise * np.array([[1.0], [1.0], [1.0], [5.0]])
    walk = np.zeros((4, 500))
    rho = 0.95 if kind == "sticky" else -0.6
    for i in range(1, 500):
        walk[:, i] = rho * walk[:, i - 1] + noise[:, i]
    return walk


@pytest.mark.parametrize(
    "kind", ["independent", "apart", "heavy tails", "wide", "sticky", "antithetic"]
)
def test_agreement_with_arviz(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arviz = pytest.importorskip("arviz")
        draws = _chains(kind)
        expected = (
            float(arviz.rhat(draws, method="rank")),
            float(arviz.ess(draws, method="bulk")),
            float(arviz.ess(draws, method="tail")),
        )
    found = convergence(draws)
    assert float(found.rhat) == pytest.approx(expected[0], rel=1e-6)
    assert float(found.ess_bulk) == pytest.approx(expected[1], rel=0.02)
    assert float(found.ess_tail) == pytest.approx(expected[2], rel=0.02)


def test_every_coordinate_is_its_own():
    draws = np.stack([_chains("independent"), _chains("sticky")], -1).reshape(4, 500, 2, 1)
    found = convergence(draws)
    assert found.rhat.shape == (2, 1)
    alone = convergence(_chains("sticky"))
    assert found.ess_bulk[1, 0] == pytest.approx(float(alone.ess_bulk), rel=1e-12)


def test_a_constant_coordinate_is_marked_and_not_judged():
    found = convergence(np.stack([np.ones((4, 100)), _chains("independent")[:, :100]], -1))
    np.testing.assert_array_equal(found.constant, [True, False])
    assert np.isnan(found.rhat[0])
    assert found.rhat[1] < 1.1


def test_chains_stuck_at_different_values_never_converge():
    stuck = np.repeat(np.arange(4.0)[:, None], 100, 1)
    assert convergence(stuck).rhat > 100


def test_the_error_of_a_mean_covers():
    """Of 400 means of autocorrelated chains, those within 1.96 errors of the truth are as many
    as 95% would give, two-sided at 1e-3 (ESS is itself estimated: 2% of slack)."""
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(400):
        noise = rng.normal(size=(4, 250))
        x = noise.copy()
        x[:, 0] /= np.sqrt(1 - 0.6**2)
        for i in range(1, 250):
            x[:, i] = 0.6 * x[:, i - 1] + noise[:, i]
        mean, error = mean_and_error(x)
        inside += abs(float(mean)) < 1.96 * float(error)
    assert binom.cdf(inside, 400, 0.93) > 5e-4
    assert binom.sf(inside - 1, 400, 0.97) > 5e-4


def test_a_weighted_mean_and_its_interval():
    """log weights normal with sd 0.5 and mean weight exactly 1: over 1,000 sets of 200 the value
    is low by its known bias, std^2 / 2n, and the interval covers 0 as it says (at 1e-3)."""
    rng = np.random.default_rng(2)
    found = [log_mean_weight(rng.normal(-0.125, 0.5, 200)) for _ in range(1000)]
    values = np.array([f.value for f in found])
    relative = np.expm1(0.25)  # var(w) / mean(w)^2
    bias = -relative / 400
    assert abs(values.mean() - bias) < norm.isf(5e-4) * values.std() / np.sqrt(1000)
    covered = sum(f.lower <= 0 <= f.upper for f in found)
    assert binom.cdf(covered, 1000, 0.93) > 1e-3
    assert np.mean([f.std_error for f in found]) == pytest.approx(values.std(), rel=0.1)


def test_the_effective_number_of_weights():
    assert log_mean_weight(np.zeros(10)).ess == pytest.approx(10)
    one = log_mean_weight(np.array([0.0, -1e9, -1e9, -1e9]))
    assert one.ess == pytest.approx(1)
    assert one.largest == pytest.approx(1)
    assert one.lower == -np.inf
    two = log_mean_weight(np.log([3.0, 1.0]))
    assert two.ess == pytest.approx(16 / 10)
    assert two.value == pytest.approx(np.log(2))


def test_weights_far_from_zero_do_not_overflow():
    assert log_mean_weight(np.array([1e4, 1e4])).value == pytest.approx(1e4)
    assert log_mean_weight(np.array([-1e4, -1e4])).value == pytest.approx(-1e4)


def test_a_normal_interval():
    low, high = normal_interval(1.0, 2.0, level=0.95)
    assert (low, high) == pytest.approx((1 - 2 * 1.959964, 1 + 2 * 1.959964), abs=1e-5)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: convergence(np.zeros((4, 3))),
        lambda: convergence(np.zeros(10)),
        lambda: convergence(np.full((4, 10), np.nan)),
        lambda: log_mean_weight(np.zeros(1)),
        lambda: log_mean_weight(np.zeros((2, 2))),
        lambda: log_mean_weight(np.array([0.0, np.nan])),
        lambda: log_mean_weight(np.array([-np.inf, -np.inf])),
    ],
)
def test_bad_arrays_are_refused(as_users_call, bad):
    with pytest.raises(ValueError, match=r"draws|weights"):
        bad()
