"""Classic test densities: published values, closed-form moments and Z, exact draws, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad
from scipy.special import ive

import energax as ex
from energax.energies import Mixture, Tempered
from oracles import ALARM, assert_mean, draws, refused


def _values(function, rows):
    return np.asarray(jax.jit(jax.vmap(function))(jnp.asarray(rows)))


def test_two_wells_and_a_barrier(x64):
    well = ex.DoubleWell([2.0, 5.0], [1.0, 3.0])
    np.testing.assert_allclose(
        _values(well.energy, [[1.0, -3.0], [0.0, 3.0], [0.0, 0.0], [2.0, 0.0]]),
        [0.0, 2.0, 7.0, 2.0 * 9 + 5.0],
        atol=1e-14,
    )
    assert ex.DoubleWell(shape=(2, 3)).space == ex.Real((2, 3))
    assert ex.DoubleWell(1.0).space == ex.Real()


def test_log_z_of_a_double_well(x64):
    # pi / 2 exp(-h / 2) (I_{-1/4}(h / 2) + I_{1/4}(h / 2)), whose scaled functions scipy has.
    height = np.array([1e-4, 0.01, 0.5, 2.0, 10.0, 41.9, 42.1, 60.0, 1e3, 1e6])
    expected = np.log(np.pi / 2 * (ive(-0.25, height / 2) + ive(0.25, height / 2)))
    log_z = jax.value_and_grad(lambda h: ex.DoubleWell(h, 3.0).log_normaliser())
    each, gradient = jax.jit(jax.vmap(log_z))(jnp.asarray(height))
    np.testing.assert_allclose(each, expected + np.log(3.0), rtol=0, atol=1e-13)
    with jax.enable_x64(False):
        total = jax.jit(lambda well: well.log_normaliser())(ex.DoubleWell(np.float32(height)))
    np.testing.assert_allclose(total, expected.sum(), atol=1e-5)
    y = np.asarray(draws(ex.DoubleWell(2.0), 20_000))  # minus the mean of dE / dh
    assert_mean(-((y**2 - 1) ** 2), float(gradient[3]))


@pytest.mark.parametrize("height", [1e-6, 0.05, 0.59, 2.0, 50.0])
def test_draws_of_a_double_well(height, x64):
    well = ex.DoubleWell(height)
    x = np.asarray(draws(well, 5_000))
    edge = np.sqrt(1 + np.sqrt(40 / height))
    density = lambda x: np.exp(-height * (x**2 - 1) ** 2 - float(well.log_normaliser()))  # noqa: E731
    grid = np.linspace(-edge, edge, 20_001)
    below = np.cumsum(density(grid)) * (grid[1] - grid[0])
    assert stats.kstest(x, lambda at: np.interp(at, grid, below)).pvalue > ALARM


@pytest.mark.parametrize(("radius", "width"), [(1.0, 0.1), (0.05, 1.0), (3.0, 0.5)])
def test_ring(radius, width, x64):
    ring = ex.Ring(radius, width)
    weight = lambda r: r * np.exp(-((r - radius) ** 2) / (2 * width**2))  # noqa: E731
    ends = (max(radius - 10 * width, 0.0), radius + 10 * width)
    total = quad(weight, *ends, epsabs=0, epsrel=1e-12)[0]
    np.testing.assert_allclose(ring.log_normaliser(), np.log(2 * np.pi * total), rtol=1e-11)
    x = np.asarray(draws(ring, 5_000, seed=1))
    grid = np.linspace(*ends, 20_001)
    below = np.cumsum(weight(grid)) * (grid[1] - grid[0]) / total
    assert stats.kstest(np.hypot(*x.T), lambda r: np.interp(r, grid, below)).pvalue > ALARM
    assert stats.kstest(np.arctan2(*x.T) / (2 * np.pi) + 0.5, "uniform").pvalue > ALARM


def test_the_middle_of_a_ring_has_a_gradient():
    ring = ex.Ring(2.0, 0.5)
    assert ring.energy(jnp.zeros(2)) == pytest.approx(8.0)
    np.testing.assert_array_equal(ring.score(jnp.zeros(2)), [0.0, 0.0])


def test_powers_of_wells_and_rings_are_wells_and_rings(x64):
    for energy in (ex.DoubleWell(2.0, shape=2), ex.Ring(1.0, 0.3)):
        power = energy**0.3
        assert type(power) is type(energy)
        x = jnp.array([0.3, -0.8])
        np.testing.assert_allclose(power.energy(x), 0.3 * energy.energy(x), rtol=1e-13)
        assert isinstance(energy**0.0, Tempered)
        assert (energy**0.0).energy(x) == 0


def test_bananas(x64):
    haario = ex.Banana()
    x = np.array([[3.0, -2.0], [-15.0, 6.0]])
    straight = x.copy()  # the source's twist: x_1 + b x_0^2 - 100 b is normal before it
    straight[:, 1] -= 0.03 * x[:, 0] ** 2 - 100 * 0.03
    expected = stats.multivariate_normal(cov=np.diag([100.0, 1.0])).logpdf(straight)
    np.testing.assert_allclose(_values(haario.log_prob, x), expected, rtol=1e-12)
    np.testing.assert_allclose(haario.mean, [0.0, 0.0], atol=1e-14)
    np.testing.assert_allclose(haario.covariance, [[100.0, 0.0], [0.0, 1 + 2 * 0.03**2 * 1e4]])

    rosenbrock = ex.Banana.rosenbrock(1.0, 100.0, temperature=20.0)
    valley = ((1 - x[:, 0]) ** 2 + 100 * (x[:, 1] - x[:, 0] ** 2) ** 2) / 20
    energies = _values(rosenbrock.energy, x)
    np.testing.assert_allclose(energies[1] - energies[0], valley[1] - valley[0], rtol=1e-12)


def test_moments_of_a_banana(x64):
    banana = ex.Banana(0.4, location=-1.0, scale=1.5, width=0.3, offset=2.0)
    x = np.asarray(draws(banana, 20_000, seed=2))
    assert_mean(x, np.asarray(banana.mean))
    centred = x - np.asarray(banana.mean)
    assert_mean(np.einsum("ni,nj->nij", centred, centred).reshape(-1, 4), banana.covariance.ravel())


def test_funnel(x64):
    funnel = ex.Funnel()
    assert funnel.space == ex.Real(10)
    x = np.random.default_rng(0).normal(size=(4, 10)) * 2
    expected = stats.norm(0, 3).logpdf(x[:, 0])
    expected += stats.norm(0, np.exp(x[:, :1] / 2)).logpdf(x[:, 1:]).sum(1)
    np.testing.assert_allclose(_values(funnel.log_prob, x), expected, rtol=1e-12)
    drawn = np.asarray(draws(funnel, 5_000, seed=3))
    assert stats.kstest(drawn[:, 0] / 3, "norm").pvalue > ALARM
    assert stats.kstest(drawn[:, 4] * np.exp(-drawn[:, 0] / 2), "norm").pvalue > ALARM


def test_far_out_energies_are_numbers_or_infinite():
    neck = jnp.zeros(10).at[0].set(-180.0)
    funnel = ex.Funnel()
    assert float(funnel.energy(neck)) == pytest.approx(
        0.5 * 60**2 + np.log(3) - 9 * 90 + 5 * np.log(2 * np.pi), rel=1e-5
    )
    assert np.isfinite(funnel.score(neck)).all()
    assert funnel.energy(neck.at[1].set(1.0)) == jnp.inf
    for x in ([1e20, 1e20], [1e20, -1e20], [-1e30, 0.0], [0.0, 3e38], [50.0, 50.0]):
        assert ex.MuellerBrown().energy(jnp.array(x)) > 1e30
    assert np.isnan(ex.MuellerBrown().energy(jnp.array([jnp.nan, 0.0])))


def test_stationary_points_of_mueller_and_brown(x64):
    # Published to three digits, the energies to five.
    points = {
        (-0.558, 1.442): -146.700,
        (0.623, 0.028): -108.167,
        (-0.050, 0.467): -80.768,
        (-0.822, 0.624): -40.665,
        (0.212, 0.293): -72.249,
    }
    energy = ex.MuellerBrown()
    np.testing.assert_allclose(
        _values(energy.energy, list(points)), list(points.values()), atol=1.5e-3
    )
    assert np.abs(_values(energy.score, list(points))).max() < 1
    assert np.abs(_values(energy.score, [[0.0, 1.0]])).max() > 50
    assert ex.MuellerBrown().energy(jnp.array([50.0, 50.0])) > 1e30


def test_a_mixture_in_one_evaluation_is_the_mixture(x64):
    rng = np.random.default_rng(1)
    means, scales, weights = rng.normal(size=(3, 2, 2)), rng.uniform(0.5, 2, (3, 2, 2)), [1, 2, 5.0]
    together = ex.GaussianMixture(means, scales, weights)
    apart = ex.mixture([ex.Gaussian(m, s) for m, s in zip(means, scales, strict=True)], weights)
    assert isinstance(apart, Mixture)
    x = rng.normal(size=(5, 2, 2))
    np.testing.assert_allclose(
        _values(together.log_prob, x), _values(apart.log_prob, x), rtol=1e-12
    )
    each = ex.GaussianMixture(means, [0.5, 1.0, 2.0])
    same = ex.GaussianMixture(means, np.array([0.5, 1.0, 2.0])[:, None, None] + np.zeros((3, 2, 2)))
    np.testing.assert_allclose(_values(each.log_prob, x), _values(same.log_prob, x), rtol=1e-13)


def test_rings_and_grids_of_gaussians(x64):
    ring = ex.GaussianMixture.ring(8, radius=4.0)
    np.testing.assert_allclose(np.hypot(*np.asarray(ring.means).T), 4.0)
    grid = ex.GaussianMixture.grid(5, spacing=2.0)
    assert grid.means.shape == (25, 2)
    np.testing.assert_allclose(np.unique(np.asarray(grid.means)), [-4, -2, 0, 2, 4])
    x = np.asarray(draws(grid, 5_000, seed=4))
    nearest = np.abs(x[:, None] - np.asarray(grid.means)).sum(-1).argmin(1)
    assert stats.chisquare(np.bincount(nearest, minlength=25)).pvalue > ALARM


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ex.DoubleWell(0.0), ["height", "positive"]),
        (lambda: ex.DoubleWell(1.0, np.nan), ["distance", "finite"]),
        (lambda: ex.DoubleWell([1.0, 2.0], shape=3), ["broadcast", "(2,)"]),
        (lambda: ex.DoubleWell([1.0, 2.0], [1.0, 2.0, 3.0]), ["broadcast", "(3,)"]),
        (lambda: ex.DoubleWell(shape=0), ["positive integers"]),
        (lambda: ex.Ring(-1.0), ["radius", "positive"]),
        (lambda: ex.Ring(1.0, [0.1, 0.2]), ["width", "shape"]),
        (lambda: ex.Banana(np.inf), ["bend", "finite"]),
        (lambda: ex.Banana(scale=0.0), ["scale", "positive"]),
        (lambda: ex.Banana.rosenbrock(temperature=-1.0), ["temperature", "positive"]),
        (lambda: ex.Funnel(1), ["size", "at least 2"]),
        (lambda: ex.Funnel(3, 0.0), ["scale", "positive"]),
        (lambda: ex.GaussianMixture(1.0), ["means", "first axis"]),
        (lambda: ex.GaussianMixture(np.zeros((0, 2))), ["means", "first axis"]),
        (lambda: ex.GaussianMixture(np.zeros((3, 2)), np.ones(2)), ["scales", "(3,)", "(2,)"]),
        (lambda: ex.GaussianMixture(np.zeros((3, 2)), 1.0, [1.0, 1.0]), ["weights", "(3,)"]),
        (lambda: ex.GaussianMixture(np.zeros((2, 2)), 1.0, [1.0, 0.0]), ["weights", "positive"]),
        (lambda: ex.GaussianMixture.ring(0), ["members", "at least 1"]),
    ],
)
def test_bad_parameters_are_refused(make, words):
    with refused(*words):
        make()
