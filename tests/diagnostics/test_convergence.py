"""R-hat, effective sample sizes and the error of a mean, against ArviZ and against known laws."""

import warnings

import numpy as np
import pytest
from scipy.stats import binom, norm, rankdata

from energax.diagnostics import chance_rhat, convergence, mean_and_error
from oracles import ALARM, refused

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # ArviZ announces its next version
    arviz = pytest.importorskip("arviz")


TAILS = (0.05, 0.95)  # Vehtari et al. (2021), section 4.3


def _autoregressive(rng, n_chains, n_draws, phi, n_series=1):
    """Stationary chains of variance 1: the error of their mean is known."""
    x = np.empty((n_draws, n_chains, n_series))
    x[0] = rng.normal(size=(n_chains, n_series))
    noise = rng.normal(size=x.shape) * np.sqrt(1 - phi**2)
    for t in range(1, n_draws):
        x[t] = phi * x[t - 1] + noise[t]
    return x.swapaxes(0, 1)


CHAINS = {
    "independent": lambda rng, c, n: rng.normal(size=(c, n)),
    "slow": lambda rng, c, n: _autoregressive(rng, c, n, 0.95)[..., 0],
    "antithetic": lambda rng, c, n: _autoregressive(rng, c, n, -0.8)[..., 0],
    "a drift": lambda rng, c, n: rng.normal(size=(c, n)) + np.linspace(0, 3, n),
    "apart": lambda rng, c, n: rng.normal(size=(c, n)) + 2.0 * np.arange(c)[:, None],
    "of two scales": lambda rng, c, n: rng.normal(size=(c, n)) * (1 + np.arange(c))[:, None],
    "heavy tails": lambda rng, c, n: rng.standard_cauchy(size=(c, n)),
    "bits": lambda rng, c, n: (rng.random((c, n)) < 0.3).astype(float),
    "rare bits": lambda rng, c, n: (rng.random((c, n)) < 0.04).astype(float),
    "spins": lambda rng, c, n: np.where(rng.random((c, n)) < 0.5, -1.0, 1.0),
    "counts": lambda rng, c, n: rng.poisson(2.0, (c, n)).astype(float),
    "one stuck": lambda rng, c, n: rng.normal(size=(c, n)) * (np.arange(c) > 0)[:, None],
    "all stuck": lambda rng, c, n: np.arange(c)[:, None] * np.ones(n),
    "large numbers": lambda rng, c, n: 1e6 + rng.normal(size=(c, n)),
}


@pytest.mark.parametrize(("n_chains", "n_draws"), [(4, 200), (2, 51), (3, 10), (2, 7), (4, 4)])
def test_agrees_with_arviz(n_chains, n_draws):
    rng = np.random.default_rng(n_chains * 1000 + n_draws)
    sets = np.stack([make(rng, n_chains, n_draws) for make in CHAINS.values()], -1)
    moving = (sets != sets[:1, :1]).any((0, 1))
    assert moving.sum() >= len(CHAINS) - 1
    ours = convergence(sets)
    _, error = mean_and_error(sets)
    for i, name in enumerate(CHAINS):
        if not moving[i]:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            theirs = [
                arviz.rhat(sets[..., i], method="rank"),
                arviz.ess(sets[..., i], method="bulk"),
                arviz.ess(sets[..., i], method="tail", prob=TAILS),
                arviz.mcse(sets[..., i], method="mean"),
            ]
        got = [ours.rhat[i], ours.ess_bulk[i], ours.ess_tail[i], error[i]]
        np.testing.assert_allclose(got, theirs, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("n_draws", [4, 5, 50, 333])
def test_one_chain_agrees_with_arviz(n_draws):
    """R-hat of one chain, which ArviZ refuses, is that of its two halves as chains of their own."""
    x = _autoregressive(np.random.default_rng(n_draws), 1, n_draws, 0.5)[..., 0]
    ours = convergence(x)
    np.testing.assert_allclose(ours.ess_bulk, arviz.ess(x, method="bulk"), rtol=1e-6)
    np.testing.assert_allclose(ours.ess_tail, arviz.ess(x, method="tail", prob=TAILS), rtol=1e-6)
    half = n_draws // 2
    if half >= 4:
        halves = np.concatenate([x[:, :half], x[:, -half:]])
        folded = np.abs(halves - np.median(halves))
        theirs = max(arviz.rhat(y, method="identity") for y in map(_ranked, (halves, folded)))
        np.testing.assert_allclose(ours.rhat, theirs, rtol=1e-9)


def _ranked(x):
    """Normal scores of the ranks over all chains."""
    ranks = rankdata(x).reshape(x.shape)
    return norm.ppf((ranks - 0.375) / (x.size + 0.25))


def test_shapes_are_those_of_a_state():
    draws = np.random.default_rng(0).normal(size=(3, 40, 2, 5))
    result = convergence(draws)
    for array in (result.rhat, result.ess_bulk, result.ess_tail, result.constant):
        assert array.shape == (2, 5)
    np.testing.assert_array_equal(convergence(draws[:, :, 1, 3]).rhat, result.rhat[1, 3])
    mean, error = mean_and_error(draws)
    assert mean.shape == error.shape == (2, 5)
    np.testing.assert_allclose(mean, draws.mean((0, 1)))
    scalar = convergence(draws[:, :, 0, 0])
    assert scalar.rhat.shape == ()


def test_a_coordinate_of_one_value_is_marked():
    draws = np.random.default_rng(0).normal(size=(3, 40, 3))
    draws[:, :, 1] = 0.1
    result = convergence(draws)
    assert result.constant.tolist() == [False, True, False]
    for array in (result.rhat, result.ess_bulk, result.ess_tail):
        assert np.isnan(array).tolist() == [False, True, False]
    mean, error = mean_and_error(draws)
    assert mean[1] == pytest.approx(0.1)
    assert error[1] == 0


def test_a_coordinate_that_moved_once_is_not_called_converged():
    draws = np.zeros((2, 9))
    draws[0, 4] = 1.0  # in the middle, which belongs to neither half
    result = convergence(draws)
    assert not result.constant
    assert np.isnan(result.rhat)


def test_stuck_chains_are_as_far_apart_as_can_be():
    stuck = np.arange(4.0)[:, None] * np.ones(50)
    assert convergence(stuck).rhat == np.inf
    assert convergence(stuck).ess_bulk < 10
    nearly = stuck + 1e-3 * np.random.default_rng(0).normal(size=stuck.shape)
    assert convergence(nearly).rhat > 2
    _, error = mean_and_error(stuck)
    assert error > 0.3


def test_chains_of_two_modes_are_seen():
    rng = np.random.default_rng(0)
    one_each = rng.normal(size=(4, 200)) + np.array([-3.0, 3.0, -3.0, 3.0])[:, None]
    both = rng.normal(size=(4, 200)) + rng.choice([-3.0, 3.0], (4, 200))
    assert convergence(one_each).rhat > 1.5
    assert convergence(both).rhat < 1.02


def test_a_difference_of_scale_alone_is_seen():
    draws = np.random.default_rng(0).normal(size=(4, 300)) * np.array([1, 1, 1, 8.0])[:, None]
    assert convergence(draws).rhat > 1.1


def test_the_mean_and_its_error_cover():
    """Of 95% intervals 95% hold the truth, for fast, slow and antithetic chains."""
    rng = np.random.default_rng(1)
    for phi in (0.0, 0.7, -0.5):
        draws = _autoregressive(rng, 4, 500, phi, n_series=400)
        mean, error = mean_and_error(draws)
        inside = (np.abs(mean) < 1.959964 * error).sum()
        low, high = binom(400, 0.95).ppf([ALARM / 2, 1 - ALARM / 2])
        assert low <= inside <= high
        # The error itself: variance (1 + phi) / (1 - phi) over the number of draws.
        exact = np.sqrt((1 + phi) / (1 - phi) / 2000)
        assert np.median(error) == pytest.approx(exact, rel=0.05)


def test_chains_that_repel_are_worth_more_than_independent_ones():
    rng = np.random.default_rng(2)
    repelled = convergence(_autoregressive(rng, 4, 500, -0.5))
    assert repelled.ess_bulk[0] == pytest.approx(2000 * 3, rel=0.15)
    slow = convergence(_autoregressive(rng, 4, 2000, 0.8))
    assert slow.ess_bulk[0] == pytest.approx(8000 / 9, rel=0.25)


@pytest.mark.parametrize("function", [convergence, mean_and_error])
@pytest.mark.parametrize(
    ("draws", "words"),
    [
        (np.zeros(10), ["(chain, draw >= 4, *shape)", "(10,)"]),
        (np.zeros((4, 3)), ["draw >= 4", "(4, 3)"]),
        (np.zeros((0, 10)), ["chain", "(0, 10)"]),
        (np.full((2, 10), np.nan), ["finite"]),
        (np.where(np.eye(2, 10) == 1, np.inf, 0.0), ["finite"]),
    ],
)
def test_draws_that_say_nothing_are_refused(function, draws, words):
    with refused(*words):
        function(draws)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((4, 3), ("n_draws", "at least 4")),
        ((0, 10), ("n_chains",)),
        ((4, 10, 0), ("n_coordinates",)),
    ],
)
def test_chance_of_nothing_is_refused(arguments, words):
    with refused(*words):
        chance_rhat(*arguments)
    with refused("alarm"):
        chance_rhat(4, 10, alarm=1.0)


@pytest.mark.parametrize(("n_chains", "n_draws", "n"), [(100, 10, 64), (4, 100, 20), (2, 8, 5)])
def test_the_largest_r_hat_of_independent_draws(n_chains, n_draws, n):
    """1% of runs are to be above the bound, of which Bonferroni's may leave fewer: of 400 runs not
    above 4%, and half the bound's excess is not rare."""
    generator = np.random.default_rng(n)
    largest = np.array(
        [convergence(generator.normal(size=(n_chains, n_draws, n))).rhat.max() for _ in range(400)]
    )
    bound = chance_rhat(n_chains, n_draws, n)
    assert (largest > bound).mean() < 0.04
    assert (largest - 1 > (bound - 1) / 2).mean() > 0.1
    assert chance_rhat(n_chains, n_draws, n, alarm=0.1) < bound
    assert chance_rhat(n_chains, 2 * n_draws, n) < bound < chance_rhat(n_chains, n_draws, 2 * n)
