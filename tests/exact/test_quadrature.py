"""Integrals over a grid against closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import dblquad, quad

import energax as ex
from energax.exact import log_partition_on_grid
from oracles import refused


def test_it_is_a_public_name():
    assert ex.log_partition_on_grid is log_partition_on_grid


@pytest.mark.parametrize("block", [1 << 14, 1000, 37])
def test_gaussians_are_normalised(block, x64):
    one = ex.Gaussian(0.5, 0.7)
    got = log_partition_on_grid(one, n_points=99, low=-6.5, high=7.5, block=block)
    assert float(got) == pytest.approx(0, abs=1e-12)
    two = ex.MultivariateGaussian([0.5, -1.0], [[1.0, 0.6], [0.6, 2.0]])
    got = log_partition_on_grid(two, n_points=61, low=[-8, -13], high=[9, 11], block=block)
    assert float(got) == pytest.approx(0, abs=1e-12)


def test_three_dimensions_of_any_shape(x64):
    for shape in ((3,), (3, 1), (1, 3)):
        energy = ex.Gaussian(np.full(shape, 0.3), 1.0) * ex.Gaussian(np.zeros(shape), 2.0)
        got = log_partition_on_grid(energy, n_points=24, low=-7.0, high=7.0)
        np.testing.assert_allclose(got, energy.log_normaliser(), atol=1e-11)


def test_one_point_is_the_midpoint_rule(x64):
    energy = ex.NeuralEnergy(lambda x: 3 * x[0] + x[1], ex.Box(2, [0.0, -1.0], [2.0, 3.0]))
    got = log_partition_on_grid(energy, n_points=1)
    assert float(got) == pytest.approx(3 * 1.0 + 1.0 + math.log(8), abs=1e-13)


def test_each_entry_has_its_own_ends(x64):
    # The integral of exp(a x) between the ends, entry by entry.
    slopes, low, high = np.array([0.5, -2.0]), np.array([-1.0, 0.0]), np.array([1.0, 3.0])
    exact = np.log((np.exp(slopes * high) - np.exp(slopes * low)) / slopes).sum()
    inside = ex.NeuralEnergy(lambda x: x @ slopes, ex.Box(2, low, high))
    everywhere = ex.NeuralEnergy(lambda x: x @ slopes, ex.Real(2))
    for got in (
        log_partition_on_grid(inside, n_points=800),
        log_partition_on_grid(everywhere, n_points=800, low=low, high=high),
        log_partition_on_grid(inside, n_points=800, low=low.tolist(), high=jnp.asarray(high)),
    ):
        assert float(got) == pytest.approx(exact, abs=1e-5)
    part = log_partition_on_grid(inside, n_points=800, high=[0.0, 1.0])
    some = np.log((1 - np.exp(-0.5)) / 0.5) + np.log((1 - np.exp(-2.0)) / 2.0)
    assert float(part) == pytest.approx(some, abs=1e-5)


def test_the_double_well(x64):
    energy = ex.NeuralEnergy(lambda x: -((x**2 - 1) ** 2), ex.Real())
    exact = math.log(2 * quad(lambda x: math.exp(-((x**2 - 1) ** 2)), 0, 6, epsabs=1e-13)[0])
    got = log_partition_on_grid(energy, n_points=200, low=-5.0, high=5.0)
    assert float(got) == pytest.approx(exact, abs=1e-11)


def test_two_entries_that_depend_on_one_another(x64):
    energy = ex.NeuralEnergy(lambda x: -3 * x[0] * x[1], ex.Box(2, -1.0, 1.0))
    exact = math.log(dblquad(lambda x, y: math.exp(-3 * x * y), -1, 1, -1, 1)[0])
    coarse, fine = (float(log_partition_on_grid(energy, n_points=n)) for n in (100, 200))
    assert fine == pytest.approx(exact, abs=1e-4)
    assert (coarse - exact) / (fine - exact) == pytest.approx(4, rel=1e-3)  # second order


def test_excluded_parts_of_the_grid(x64):
    energy = ex.NeuralEnergy(
        lambda x: jnp.where(jnp.abs(x) < 1, 1.0 - jnp.abs(x), 0.0), ex.Real(), positive="abs"
    )
    for block in (16, 1 << 14):  # the first blocks lie outside
        got = log_partition_on_grid(energy, n_points=1000, low=-10.0, high=10.0, block=block)
        assert float(got) == pytest.approx(0, abs=1e-10)
    assert log_partition_on_grid(energy, n_points=10, low=2.0, high=3.0) == -np.inf


def test_a_million_points_in_float32():
    got = log_partition_on_grid(ex.Gaussian([0.0, 0.0], 1.0), n_points=1000, low=-8.0, high=8.0)
    assert got.dtype == jnp.float32
    assert float(got) == pytest.approx(0, abs=2e-6)


def test_log_z_has_a_gradient(x64):
    """The integral of exp(-t x^2) is sqrt(pi / t)."""

    def log_z(t):
        energy = ex.ExponentialFamily(lambda x: x**2, -t[None], ex.Real())
        return log_partition_on_grid(energy, n_points=100, low=-10.0, high=10.0, block=33)

    value, slope = jax.value_and_grad(log_z)(jnp.array(0.8))
    assert float(value) == pytest.approx(0.5 * math.log(math.pi / 0.8), abs=1e-12)
    assert float(slope) == pytest.approx(-0.5 / 0.8, abs=1e-11)


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda: ex.Bernoulli([0.0]), {}, ["Real or Box", "Binary"]),
        (lambda: ex.Poisson(1.0), {}, ["Real or Box", "Count"]),
        (lambda: ex.Gaussian(0.0), {}, ["low and high are needed"]),
        (lambda: ex.Gaussian(0.0), {"low": -1.0}, ["low and high are needed"]),
        (lambda: ex.Gaussian(0.0), {"low": 1.0, "high": 1.0}, ["low < high", "1.0"]),
        (lambda: ex.Gaussian(0.0), {"low": 2.0, "high": 1.0}, ["low < high", "2.0"]),
        (lambda: ex.Gaussian(0.0), {"low": -np.inf, "high": 1.0}, ["finite", "-inf"]),
        (lambda: ex.Gaussian(0.0), {"low": np.nan, "high": 1.0}, ["finite", "nan"]),
        (lambda: ex.Gaussian(0.0), {"low": "a", "high": 1.0}, ["numbers", "'a'"]),
        (lambda: ex.Gaussian([0.0, 0.0]), {"low": [0.0] * 3, "high": 1.0}, ["broadcast to (2,)"]),
        (lambda: ex.Exponential(1.0), {}, ["finite", "inf"]),
        (lambda: ex.Uniform(ex.Box(2)), {"n_points": 0}, ["n_points", "at least 1", "0"]),
        (lambda: ex.Uniform(ex.Box(2)), {"n_points": -5}, ["n_points", "at least 1", "-5"]),
        (lambda: ex.Uniform(ex.Box(2)), {"n_points": 10.0}, ["n_points", "integer", "10.0"]),
        (lambda: ex.Uniform(ex.Box(2)), {"n_points": True}, ["n_points", "integer", "True"]),
        (lambda: ex.Uniform(ex.Box(8)), {"n_points": 100}, ["100 points", "8 dim", "1e+16"]),
        (lambda: ex.Uniform(ex.Box(2)), {"block": 0}, ["block", "positive", "0"]),
    ],
)
def test_bad_grids_are_refused(make, options, words):
    with refused(*words):
        log_partition_on_grid(make(), **{"n_points": 10, **options})
