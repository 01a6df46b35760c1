"""The logarithm of a mean weight: its value, its interval, and whether the weights collapsed."""

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import binom, t

from energax.diagnostics import log_mean_weight
from oracles import ALARM, assert_mean, refused


def test_it_is_its_equation():
    log_weights = np.random.default_rng(0).normal(size=50)
    w = np.exp(log_weights)
    result = log_mean_weight(log_weights, level=0.9)
    assert result.value == pytest.approx(np.log(w.mean()), abs=1e-13)
    error = w.std(ddof=1) / np.sqrt(50) / w.mean()
    assert result.std_error == pytest.approx(error, rel=1e-12)
    reach = t(49).ppf(0.95) * w.std(ddof=1) / np.sqrt(50)
    variance = log_weights.var(ddof=1)
    centre = log_weights.mean() + variance / 2
    cox = t(49).ppf(0.95) * np.sqrt(variance / 50 + variance**2 / 98)
    lower = min(np.log(w.mean() - reach), centre - cox)
    upper = max(np.log(w.mean() + reach), centre + cox)
    assert result.lower == pytest.approx(lower, abs=1e-12)
    assert result.upper == pytest.approx(upper, abs=1e-12)
    assert result.ess == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-12)
    assert result.largest == pytest.approx(w.max() / w.sum(), rel=1e-12)


def test_equal_weights_are_certain():
    result = log_mean_weight(np.full(10, -3.0))
    assert result.value == pytest.approx(-3.0, abs=1e-14)
    assert result.std_error == pytest.approx(0, abs=1e-14)
    assert result.lower == pytest.approx(-3.0, abs=1e-13)
    assert result.upper == pytest.approx(-3.0, abs=1e-13)
    assert result.ess == pytest.approx(10)
    assert result.largest == pytest.approx(0.1)


@pytest.mark.parametrize("level", [-1e5, -800.0, 800.0, 1e5])
def test_the_size_of_weights_does_not_matter(level):
    log_weights = np.random.default_rng(0).normal(size=50)
    here, there = log_mean_weight(log_weights), log_mean_weight(log_weights + level)
    for name in ("value", "lower", "upper"):
        assert getattr(there, name) - level == pytest.approx(getattr(here, name), abs=1e-10)
    for name in ("std_error", "ess", "largest"):
        assert getattr(there, name) == pytest.approx(getattr(here, name), rel=1e-9)


def test_float32_weights_are_summed_in_float64():
    log_weights = np.float32(np.random.default_rng(0).normal(size=100_000))
    result = log_mean_weight(log_weights)
    exact = logsumexp(log_weights.astype(float)) - np.log(100_000)
    assert result.value == pytest.approx(exact, abs=1e-13)


def test_weights_of_zero_count():
    result = log_mean_weight(np.array([0.0, -np.inf, 0.0, -np.inf]))
    assert result.value == pytest.approx(np.log(0.5))
    assert result.ess == pytest.approx(2)
    assert np.isfinite(result.std_error)


def test_one_weight_that_outweighs_the_rest_leaves_the_interval_open():
    result = log_mean_weight(np.array([50.0, *np.zeros(99)]))
    assert result.largest == pytest.approx(1)
    assert result.ess == pytest.approx(1)
    assert result.lower == -np.inf
    assert result.upper >= 50 - np.log(100) + np.log1p(t(99).ppf(0.975))


def test_lognormal_weights_of_small_spread():
    """The mean of exp(N(0, s^2)) is exp(s^2 / 2): unbiased, with intervals that cover it."""
    rng, spread, n, repeats = np.random.default_rng(3), 0.3, 100, 2_000
    results = [log_mean_weight(row) for row in rng.normal(size=(repeats, n)) * spread]
    mean = np.exp(spread**2 / 2)
    assert_mean(np.exp([r.value for r in results]), mean)
    exact_error = np.sqrt(np.expm1(spread**2) / n)
    assert np.mean([r.std_error for r in results]) == pytest.approx(exact_error, rel=0.02)
    inside = sum(r.lower < np.log(mean) < r.upper for r in results)
    low, high = binom(repeats, 0.95).ppf([ALARM / 2, 1 - ALARM / 2])
    assert low <= inside <= high
    ess = np.mean([r.ess for r in results])
    assert ess == pytest.approx(n / np.exp(spread**2), rel=0.02)


@pytest.mark.parametrize("spread", [0.5, 1.0, 1.5, 1.75])
def test_intervals_cover_where_weights_spread(spread):
    """100 log-normal weights worth 78 down to 15: the mean weight is in 95% of the intervals.

    Student's t about the mean weight alone covers it in 95% at a spread of 0.5 and in under 85%
    at 1.5. A false alarm below 1e-5.
    """
    rng, n, repeats = np.random.default_rng(4), 100, 3_000
    results = [log_mean_weight(row) for row in rng.normal(size=(repeats, n)) * spread]
    truth, quantile = spread**2 / 2, t(n - 1).ppf(0.975)

    def t_interval(r):
        reach = quantile * r.std_error
        return r.value + (np.log1p(-reach) if reach < 1 else -np.inf), r.value + np.log1p(reach)

    inside = sum(r.lower < truth < r.upper for r in results)
    alone = sum(low < truth < high for low, high in map(t_interval, results))
    assert inside >= binom(repeats, 0.95).ppf(ALARM)
    assert inside <= binom(repeats, 0.98).ppf(1 - ALARM)  # and not by being endless
    if spread >= 1.5:
        assert alone < binom(repeats, 0.85).ppf(1 - ALARM)


def test_a_higher_level_is_a_longer_interval():
    log_weights = np.random.default_rng(0).normal(size=50)
    narrow, wide = (log_mean_weight(log_weights, level=level) for level in (0.5, 0.99))
    assert wide.lower < narrow.lower < narrow.value < narrow.upper < wide.upper


@pytest.mark.parametrize(
    ("log_weights", "words"),
    [
        (np.zeros(1), ["log_weights", "n >= 2", "(1,)"]),
        (np.zeros(0), ["log_weights", "(0,)"]),
        (np.zeros((3, 2)), ["log_weights", "(3, 2)"]),
        (np.array([0.0, np.nan]), ["log_weights", "NaN"]),
        (np.array([0.0, np.inf]), ["log_weights", "finite"]),
        (np.full(3, -np.inf), ["log_weights", "finite"]),
    ],
)
def test_weights_that_say_nothing_are_refused(log_weights, words):
    with refused(*words):
        log_mean_weight(log_weights)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 1.5, np.nan])
def test_levels_outside_0_and_1_are_refused(level):
    with refused("level", "between 0 and 1", str(level)):
        log_mean_weight(np.zeros(3), level=level)
