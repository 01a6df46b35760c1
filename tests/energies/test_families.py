"""Closed-form families against scipy, their fits to data, their draws and their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import energax as ex
from oracles import ALARM, assert_drawn_from, assert_mean, draws, refused

RNG = np.random.default_rng(0)


def _log_prob(energy, rows):
    rows = jnp.asarray(rows)
    return np.asarray(jax.jit(lambda rows: jax.vmap(energy.log_prob)(rows))(rows))


def test_gaussian(x64):
    mean, scale = np.array([[0.5, -1.0], [3.0, 1e3]]), np.array([[0.7, 1.5], [1e-3, 20.0]])
    x = mean + scale * RNG.normal(size=(5, 2, 2)) * 3
    expected = stats.norm(mean, scale).logpdf(x).sum((1, 2))
    np.testing.assert_allclose(_log_prob(ex.Gaussian(mean, scale), x), expected, rtol=1e-12)
    one = stats.norm(mean, 2.0).logpdf(x).sum((1, 2))
    np.testing.assert_allclose(_log_prob(ex.Gaussian(mean, 2.0), x), one, rtol=1e-12)
    assert ex.Gaussian().log_prob(jnp.array(0.3)) == pytest.approx(stats.norm.logpdf(0.3))
    np.testing.assert_allclose(ex.Gaussian(mean, scale).scale, scale, rtol=1e-14)


@pytest.mark.parametrize("given", ["covariance", "precision"])
def test_multivariate_gaussian(given, x64):
    root = RNG.normal(size=(3, 3))
    covariance = root @ root.T + 0.3 * np.eye(3)
    mean = np.array([0.5, -1.0, 2.0])
    matrix = covariance if given == "covariance" else np.linalg.inv(covariance)
    energy = ex.MultivariateGaussian(mean, **{given: matrix})
    x = RNG.normal(size=(5, 3)) * 3
    expected = stats.multivariate_normal(mean, covariance).logpdf(x)
    np.testing.assert_allclose(_log_prob(energy, x), expected, rtol=1e-11)
    np.testing.assert_allclose(energy.covariance, covariance, rtol=1e-10)
    np.testing.assert_allclose(energy.precision, np.linalg.inv(covariance), rtol=1e-10)
    # Draws made white are standard normal, and their products have the right mean.
    z = (np.asarray(draws(energy, 5_000, seed=1)) - mean) @ np.linalg.inv(
        np.linalg.cholesky(covariance)
    ).T
    assert_mean(np.einsum("ni,nj->nij", z, z).reshape(-1, 9), np.eye(3).reshape(9))
    for column in z.T:
        assert stats.kstest(column, stats.norm.cdf).pvalue > ALARM


def test_the_upper_triangle_of_the_factor_means_nothing(x64):
    energy = ex.MultivariateGaussian(np.zeros(2), np.array([[1.0, 0.3], [0.3, 2.0]]))
    noisy = jax.tree.map(lambda a: a, energy)
    object.__setattr__(noisy, "precision_factor", energy.precision_factor.at[0, 1].set(7.0))
    x = jnp.array([0.4, -1.2])
    assert noisy.energy(x) == energy.energy(x)
    np.testing.assert_array_equal(noisy.draw(ex.key(0)), energy.draw(ex.key(0)))


def test_exponential(x64):
    rate = np.array([0.5, 2.0, 30.0])
    energy = ex.Exponential(rate)
    x = RNG.exponential(size=(5, 3))
    expected = stats.expon(scale=1 / rate).logpdf(x).sum(1)
    np.testing.assert_allclose(_log_prob(energy, x), expected, rtol=1e-12)
    np.testing.assert_array_equal(_log_prob(energy, [[0.1, -1e-9, 0.1]]), [-np.inf])
    np.testing.assert_allclose(_log_prob(energy, [[0.0, 0.0, 0.0]]), np.log(rate).sum())
    for column, r in zip(np.asarray(draws(energy, 5_000, seed=2)).T, rate, strict=True):
        assert stats.kstest(column, stats.expon(scale=1 / r).cdf).pvalue > ALARM


def test_poisson(x64):
    rate = np.array([0.5, 3.0, 40.0])
    x = np.array([[0, 0, 0], [1, 2, 37], [4, 9, 80]], np.int32)
    energy = ex.Poisson(rate)
    np.testing.assert_allclose(_log_prob(energy, x), stats.poisson(rate).logpmf(x).sum(1))
    np.testing.assert_array_equal(_log_prob(energy, np.array([[0, -1, 3]], np.int32)), [-np.inf])
    np.testing.assert_allclose(energy.rate, rate, rtol=1e-14)
    assert energy.log_normaliser() == 0


@pytest.mark.parametrize("make_key", [ex.key, jax.random.key], ids=["energax", "threefry"])
def test_poisson_draws_under_either_generator(make_key):
    rate = np.array([0.5, 3.0, 25.0])
    energy = ex.Poisson(rate)
    keys = jax.random.split(make_key(3), 5_000)
    drawn = np.asarray(jax.jit(lambda keys: jax.vmap(energy.draw)(keys))(keys))
    assert drawn.dtype == np.int32
    for column, r in zip(drawn.T, rate, strict=True):
        law = stats.poisson(r)
        p = np.append(law.pmf(np.arange(60)), law.sf(59))
        assert_drawn_from(np.bincount(np.minimum(column, 60), minlength=61), p)
    centred = drawn - rate
    assert_mean(centred[:, [0, 0, 1]] * centred[:, [1, 2, 2]], 0.0)  # drawn independently


def test_bernoulli(x64):
    logits = np.array([[-50.0, -1.0, 0.0], [0.3, 2.0, 800.0]])
    energy = ex.Bernoulli(logits)
    x = RNG.integers(0, 2, (6, 2, 3)).astype(float)
    p = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
    expected = np.where(x == 1, -np.logaddexp(0, -logits), -np.logaddexp(0, logits)).sum((1, 2))
    np.testing.assert_allclose(_log_prob(energy, x), expected, rtol=1e-12)
    middle = np.array([[0.2, 0.9]])
    np.testing.assert_allclose(
        _log_prob(ex.Bernoulli(np.log(middle / (1 - middle))[0]), [[1.0, 0.0]]),
        stats.bernoulli(middle).logpmf([[1, 0]]).sum(1),
    )
    drawn = np.asarray(draws(energy, 4_000, seed=4))
    assert (drawn[:, 0, 0] == 0).all()
    assert (drawn[:, 1, 2] == 1).all()
    assert_mean(drawn[:, [0, 0, 1, 1], [1, 2, 0, 1]], p[[0, 0, 1, 1], [1, 2, 0, 1]])


def test_softmax(x64):
    logits = RNG.normal(size=(2, 4)) * 3
    energy = ex.Softmax(logits)
    assert energy.space.shape == (2,)
    x = np.array([[0, 3], [2, 1], [1, 1]], np.int32)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = np.log(p[0, x[:, 0]]) + np.log(p[1, x[:, 1]])
    np.testing.assert_allclose(_log_prob(energy, x), expected, rtol=1e-12)
    one = ex.Softmax(logits[0])
    assert one.space.shape == ()
    assert one.log_prob(jnp.int32(2)) == pytest.approx(np.log(p[0, 2]))
    drawn = np.asarray(draws(energy, 5_000, seed=5))
    assert drawn.dtype == np.int32
    counts = np.zeros((4, 4))
    np.add.at(counts, tuple(drawn.T), 1)
    assert_drawn_from(counts.reshape(-1), np.outer(p[0], p[1]).reshape(-1))


@pytest.mark.parametrize(
    ("space", "log_volume"),
    [
        (lambda: ex.Box(2, [-1.0, 0.0], [1.0, 5.0]), np.log(10)),
        (lambda: ex.Box((2, 2), 0.0, 3.0), 4 * np.log(3)),
        (lambda: ex.Binary((28, 28)), 784 * np.log(2)),
        (lambda: ex.Spin(3), 3 * np.log(2)),
        (lambda: ex.Categorical(2, 5), 2 * np.log(5)),
        (lambda: ex.Joint(a=ex.Box(low=0.0, high=4.0), b=ex.Spin(2)), 4 * np.log(2)),
        (lambda: ex.Joint(a=ex.Joint(b=ex.Box(high=3.0)), c=ex.Spin()), np.log(6)),
    ],
)
def test_uniform(space, log_volume, x64):
    energy = ex.Uniform(space())
    x = energy.draw(ex.key(0))
    assert energy.log_prob(x) == pytest.approx(-log_volume, rel=1e-14)
    outside = jax.tree.map(lambda leaf: leaf + jnp.ones_like(leaf) * 9, x)
    assert energy.log_prob(outside) == -np.inf


@pytest.mark.parametrize(
    "space",
    [
        lambda: ex.Real(2),
        lambda: ex.Box(2, 0.0, np.inf),
        lambda: ex.Count(2),
        lambda: ex.Count(2, total=3),
        lambda: ex.Joint(a=ex.Spin(), b=ex.Real()),
        lambda: ex.Joint(a=ex.Joint(b=ex.Count(2, total=3))),
    ],
)
def test_there_is_no_uniform_distribution_without_ends(space):
    with refused("uniform"):
        ex.Uniform(space())


# Fits


def test_bernoulli_from_data_is_the_base_rates(x64):
    rows = np.array([[0, 1, 1], [0, 1, 0], [0, 1, 1], [0, 1, 0]])
    for data in (rows, rows.tolist(), rows.astype(bool), 2 * rows - 1):
        fitted = ex.Bernoulli.from_data(data)
        share = (rows.sum(0) + 0.5) / 5
        np.testing.assert_allclose(jax.nn.sigmoid(fitted.logits), share, rtol=1e-12)
    heavy = ex.Bernoulli.from_data(rows, pseudo_count=2.0)
    np.testing.assert_allclose(jax.nn.sigmoid(heavy.logits), (rows.sum(0) + 2) / 8, rtol=1e-12)
    assert ex.Bernoulli.from_data(rows.reshape(2, 2, 3)).logits.shape == (2, 3)


def test_gaussian_from_data_is_the_maximum_of_the_likelihood(x64):
    rows = RNG.normal(size=(50, 2, 3)) * 3 + 1
    fitted = ex.Gaussian.from_data(rows)
    np.testing.assert_allclose(fitted.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(fitted.scale, rows.std(0), rtol=1e-12)
    gradient = jax.grad(lambda m: -jnp.sum(jax.vmap(m.log_prob)(jnp.asarray(rows))))(fitted)
    np.testing.assert_allclose(gradient.mean, 0, atol=1e-9)
    np.testing.assert_allclose(gradient.log_scale, 0, atol=1e-9)
    still = ex.Gaussian.from_data([[1.0, 2.0], [1.0, 3.0]])
    assert still.scale[0] == pytest.approx(1e-6)


def test_multivariate_gaussian_from_data_is_the_maximum_of_the_likelihood(x64):
    rows = RNG.normal(size=(40, 3)) @ RNG.normal(size=(3, 3)) + 1
    fitted = ex.MultivariateGaussian.from_data(rows)
    np.testing.assert_allclose(fitted.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(fitted.covariance, np.cov(rows.T, bias=True), rtol=1e-9)
    column = ex.MultivariateGaussian.from_data(rows[:, :1].tolist())
    np.testing.assert_allclose(column.covariance, [[rows[:, 0].var()]], rtol=1e-12)


def test_families_take_lists_and_integers():
    assert ex.Gaussian([1, 2], [3, 4]).mean.dtype == jnp.float32
    assert ex.Gaussian([[1.0, 2.0]], 2).log_scale.shape == (1, 2)
    assert ex.MultivariateGaussian([0, 0], [[2, 1], [1, 2]]).mean.dtype == jnp.float32
    assert ex.Bernoulli([0, 1]).logits.dtype == jnp.float32
    assert ex.Softmax([[0, 1, 2]]).space.n_states == 3
    assert ex.Exponential([1, 2]).log_rate.shape == (2,)
    assert ex.Poisson(3).log_rate.shape == ()


def test_parameters_keep_their_dtype(x64):
    half = jnp.zeros(3, jnp.float32)
    assert ex.Gaussian(half, 2.0).log_scale.dtype == jnp.float32
    assert ex.Bernoulli(half).energy(half).dtype == jnp.float32


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ex.Gaussian([0.0, np.nan]), ["mean", "finite", "1"]),
        (lambda: ex.Gaussian([0.0, np.inf]), ["mean", "finite"]),
        (lambda: ex.Gaussian("a"), ["mean", "numbers", "'a'"]),
        (lambda: ex.Gaussian(None), ["mean", "finite"]),
        (lambda: ex.Gaussian([[1.0], [1.0, 2.0]]), ["mean", "numbers"]),
        (lambda: ex.Gaussian(1j), ["mean", "real", "complex128"]),
        (lambda: ex.Gaussian(np.array([1j])), ["mean", "real", "complex128"]),
        (lambda: ex.Gaussian([0.0, 1.0], 0.0), ["scale", "positive", "0"]),
        (lambda: ex.Gaussian([0.0, 1.0], -2.0), ["scale", "positive", "-2"]),
        (lambda: ex.Gaussian([0.0, 1.0], np.nan), ["scale", "finite"]),
        (lambda: ex.Gaussian([0.0, 1.0], [1.0]), ["scale", "(2,)", "(1,)"]),
        (lambda: ex.Gaussian(0.0, [1.0, 2.0]), ["scale", "()", "(2,)"]),
        (lambda: ex.MultivariateGaussian(0.0, [[1.0]]), ["mean", "vector", "()"]),
        (lambda: ex.MultivariateGaussian([0.0]), ["covariance", "precision"]),
        (
            lambda: ex.MultivariateGaussian([0.0], [[1.0]], precision=[[1.0]]),
            ["covariance", "precision"],
        ),
        (lambda: ex.MultivariateGaussian([0.0, 0.0], [[1.0]]), ["covariance", "(2, 2)", "(1, 1)"]),
        (
            lambda: ex.MultivariateGaussian([0.0, 0.0], [[1.0, 0.5], [0.4, 1.0]]),
            ["covariance", "symmetric"],
        ),
        (
            lambda: ex.MultivariateGaussian([0.0, 0.0], precision=[[1.0, 2.0], [2.0, 1.0]]),
            ["precision", "positive definite"],
        ),
        (
            lambda: ex.MultivariateGaussian([0.0, 0.0], [[1.0, np.nan], [np.nan, 1.0]]),
            ["covariance", "finite"],
        ),
        (lambda: ex.MultivariateGaussian.from_data(np.ones((3, 3))), ["more rows", "(3, 3)"]),
        (lambda: ex.MultivariateGaussian.from_data(np.ones((5, 2))), ["positive definite"]),
        (lambda: ex.MultivariateGaussian.from_data(np.ones((5, 2, 2))), ["data", "(5, 2, 2)"]),
        (lambda: ex.Gaussian.from_data([]), ["data", "empty"]),
        (lambda: ex.Gaussian.from_data([[1.0, np.nan]]), ["data", "NaN"]),
        (lambda: ex.Bernoulli([np.inf]), ["logits", "finite"]),
        (lambda: ex.Bernoulli.from_data([[0, 3]]), ["data", "0 and 1", "3"]),
        (lambda: ex.Bernoulli.from_data([[0, 1]], pseudo_count=0), ["pseudo_count", "positive"]),
        (lambda: ex.Bernoulli.from_data(np.ones((3, 0))), ["shape", "positive", "(0,)"]),
        (lambda: ex.Softmax(1.0), ["logits", "last axis"]),
        (lambda: ex.Softmax([0.0, np.nan]), ["logits", "finite"]),
        (lambda: ex.Exponential(0.0), ["rate", "positive", "0"]),
        (lambda: ex.Exponential([1.0, -3.0]), ["rate", "positive", "-3"]),
        (lambda: ex.Poisson([1.0, 0.0]), ["rate", "positive", "0"]),
        (lambda: ex.Poisson(np.inf), ["rate", "finite"]),
    ],
)
def test_bad_parameters_are_refused(make, words):
    with refused(*words):
        make()


# The exponential family


def test_exponential_family_is_its_equation(x64):
    eta = np.array([0.3, -0.8])
    energy = ex.ExponentialFamily(lambda x: jnp.stack([x.sum(), x[0] * x[1]]), eta, ex.Binary(3))
    x = np.array([1.0, 1.0, 0.0])
    assert energy.energy(jnp.asarray(x)) == pytest.approx(-(0.3 * 2 - 0.8))
    np.testing.assert_array_equal(energy.statistic(jnp.asarray(x)), [2.0, 1.0])


def test_exponential_family_of_a_gaussian(x64):
    # eta = (m / s^2, -1 / 2 s^2) and T = (x, x^2): the same density up to a constant.
    family = ex.ExponentialFamily(lambda x: jnp.stack([x, x**2]), [0.5 / 4, -1 / 8], ex.Real())
    x, y = jnp.array(0.3), jnp.array(-2.0)
    ratio = ex.Gaussian(0.5, 2.0).log_ratio(x, y)
    np.testing.assert_allclose(family.log_ratio(x, y), ratio, rtol=1e-12)
    np.testing.assert_allclose(family.score(x), ex.Gaussian(0.5, 2.0).score(x), rtol=1e-12)


def test_a_statistic_may_be_one_integer(x64):
    energy = ex.ExponentialFamily(lambda x: jnp.sum(x), 0.5, ex.Categorical(3, 3))
    assert energy.natural_parameter.shape == (1,)
    assert energy.energy(jnp.array([0, 1, 2], jnp.int32)) == -1.5


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ex.ExponentialFamily(3, [1.0], ex.Real()), ["callable", "int"]),
        (lambda: ex.ExponentialFamily(jnp.sin, [1.0], 4), ["space", "4"]),
        (lambda: ex.ExponentialFamily(jnp.sin, [np.nan], ex.Real()), ["natural_parameter"]),
        (lambda: ex.ExponentialFamily(jnp.sin, [1.0, 2.0], ex.Real()), ["(2,)", "(1,)"]),
        (lambda: ex.ExponentialFamily(jnp.sin, [1.0, 2.0], ex.Real((2, 2))), ["(2,)", "(2, 2)"]),
    ],
)
def test_bad_exponential_families_are_refused(make, words):
    with refused(*words):
        make()
