"""Adaptive quadrature: right within its own error, or not converged, and never silently wrong."""

import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import i0

import energax as ex
import registry
from energax.exact import log_partition_on_grid, log_partition_quadrature
from energax.exact._cells import Cells, rule
from energax.exact._coordinates import Coordinates
from energax.exact._probing import spread_out
from oracles import refused

# Enough for two dimensions and kinder to a test machine than what ships.
FEWER = 1 << 20


def found_of(function, space, most=FEWER, tolerance=1e-6):
    energy = ex.NeuralEnergy(function, space)
    return log_partition_quadrature(energy, most_evaluations=most, tolerance=tolerance)


def assert_right(found, exact):
    assert found.converged, found.reason
    assert found.reason == ""
    assert found.error < 2e-3
    # A value in float64 is compared; the closed form may have been rounded to float32.
    assert abs(found.value - exact) <= found.error + 1e-6 * abs(exact)


def normal(x, mean, scale):
    z = (x - mean) / scale
    return -0.5 * jnp.sum(z**2) - x.size * (jnp.log(scale) + 0.5 * math.log(2 * math.pi))


def test_it_is_a_public_name():
    assert ex.log_partition_quadrature is log_partition_quadrature


CLOSED = [name for name, make in registry.CONTINUOUS.items() if hasattr(make(), "log_normaliser")]


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name):
    energy = registry.CONTINUOUS[name]()
    found = log_partition_quadrature(energy, most_evaluations=FEWER)
    assert_right(found, float(energy.log_normaliser()))
    assert found.error < 1e-5
    assert found.n_evaluations <= FEWER + 1e5


@pytest.mark.parametrize("name", sorted(set(registry.CONTINUOUS) - set(CLOSED)))
def test_the_others_against_a_grid(name, x64):
    energy = registry.CONTINUOUS[name]()
    found = log_partition_quadrature(energy, most_evaluations=FEWER)
    n_points, ends = {"box": (2000, None), "mueller brown": (1500, 7.0)}.get(name, (4000, 12.0))
    low, high = (None, None) if ends is None else (-ends, ends)
    grid = float(log_partition_on_grid(energy, n_points=n_points, low=low, high=high))
    assert_right(found, grid)


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize("background", ["none", "broad", "flat"])
def test_a_needle_is_found(dimensions, background):
    """A mode of width 0.001 in a box of 10, alone, within another mode and in a flat density."""
    box = ex.Box(dimensions, 0.0, 10.0)
    mean = jnp.asarray([math.pi, math.e][:dimensions])
    level = {
        "none": lambda x: -jnp.inf,
        "broad": lambda x: normal(x, 5.0, 0.6),
        "flat": lambda x: -dimensions * math.log(10.0),
    }[background]
    found = found_of(lambda x: jnp.logaddexp(normal(x, mean, 1e-3), level(x)), box, 1 << 22)
    assert_right(found, 0.0 if background == "none" else math.log(2))


@pytest.mark.parametrize("dimensions", [1, 2])
def test_modes_far_apart_and_of_many_widths(dimensions, x64):
    far = jnp.asarray([800.0, -40.0][:dimensions])
    space = ex.Real(dimensions)
    found = found_of(lambda x: jnp.logaddexp(normal(x, 0.0, 1.0), normal(x, far, 1.0)), space)
    assert_right(found, math.log(2))
    assert found.error < 1.01e-6

    def scales(x):
        few = jnp.logaddexp(normal(x, 0.0, 1.0), normal(x, 3.0, 0.01))
        return jnp.logaddexp(few, normal(x, -5.0, 100.0))

    assert_right(found_of(scales, space), math.log(3))


def test_thin_ridges_are_followed_to_their_ends(x64):
    for energy in (ex.Banana(0.5, scale=1.0, width=0.01), ex.Ring(1.0, 0.003)):
        found = log_partition_quadrature(energy, most_evaluations=1 << 21)
        assert_right(found, float(energy.log_normaliser()))
    narrow = ex.MultivariateGaussian([0.0, 1.0], [[1.0, 0.999], [0.999, 1.0]])
    assert_right(log_partition_quadrature(narrow, most_evaluations=FEWER), 0.0)


@pytest.mark.parametrize(
    ("function", "space", "exact"),
    [
        (lambda x: -jnp.log1p(x**2), ex.Real(), math.log(math.pi)),
        (lambda x: -jnp.log1p((x - 300) ** 2 / 100), ex.Real(), math.log(10 * math.pi)),
        (lambda x: -jnp.sum(jnp.log1p(x**2)), ex.Real((1, 2)), 2 * math.log(math.pi)),
        (lambda x: -jnp.log1p(x**2), ex.Box((), 0.0, np.inf), math.log(math.pi / 2)),
        (lambda x: 3 * x, ex.Box((), -np.inf, -1.0), -3 - math.log(3)),
        (lambda x: -jnp.abs(x - 0.3), ex.Real(), math.log(2)),
        (lambda x: -jnp.sqrt(jnp.sum((x - 0.3) ** 2)), ex.Real(2), math.log(2 * math.pi)),
        (lambda x: jnp.where(jnp.abs(x - 2.1) < 1.7, 0.0, -jnp.inf), ex.Real(), math.log(3.4)),
        (
            lambda x: jnp.where(jnp.all(jnp.abs(x - 2.1) < 1.7), 0.0, -jnp.inf),
            ex.Real(2),
            2 * math.log(3.4),
        ),
        (lambda x: jnp.log(jnp.abs(jnp.sin(x))), ex.Box((), 0.0, 3 * np.pi), math.log(6)),
        (
            lambda x: jnp.cos(40 * x) - x**2 / 2,
            ex.Real(),
            0.5 * math.log(2 * math.pi) + math.log(i0(1.0)),  # others are below exp(-800)
        ),
        (lambda x: 1000.0 - x**2, ex.Real(), 1000 + 0.5 * math.log(math.pi)),
        (lambda x: -((x - 1e4) ** 2), ex.Real(), 0.5 * math.log(math.pi)),
    ],
)
def test_tails_kinks_steps_and_ripples(function, space, exact):
    found = found_of(function, space)
    assert_right(found, exact)


def test_an_edge_across_the_axes_is_not_finished():
    found = found_of(lambda x: jnp.where(jnp.sum(x**2) < 1, 0.0, -jnp.inf), ex.Real(2))
    assert not found.converged
    assert "above the tolerance" in found.reason
    assert abs(found.value - math.log(math.pi)) < found.error < 0.01
    rough = found_of(
        lambda x: jnp.where(jnp.sum(x**2) < 1, 0.0, -jnp.inf), ex.Real(2), tolerance=0.01
    )
    assert rough.converged
    assert rough.n_evaluations < found.n_evaluations


@pytest.mark.parametrize(
    ("function", "space", "words"),
    [
        (lambda x: 0.0 * x, ex.Real(), "so slowly far out"),
        (lambda x: 0.0 * jnp.sum(x), ex.Real(2), "so slowly far out"),
        (lambda x: -0.5 * jnp.log1p(x**2), ex.Real(), "so slowly far out"),
        (lambda x: -jnp.log(x + 1), ex.Box((), 0.0, np.inf), "so slowly far out"),
        (lambda x: x**2, ex.Real(), "E is -inf at x = ["),
        (lambda x: -jnp.sqrt(x), ex.Real(), "E is nan at x = [-"),
        (lambda x: jnp.where(jnp.abs(x - 0.37) < 0.1, jnp.inf, -(x**2)), ex.Real(), "E is -inf"),
        (lambda x: -jnp.inf + 0.0 * x, ex.Real(), "no point of p > 0"),
    ],
)
def test_what_has_no_integral_is_said(function, space, words):
    found = found_of(function, space)
    assert not found.converged
    assert words in found.reason
    assert found.error == math.inf


def test_double_precision(x64):
    exact = quad(lambda x: math.exp(-((x**2 - 1) ** 2)), -6, 6, epsabs=1e-14, epsrel=1e-13)[0]
    for d, tolerance in ((1, 1e-9), (2, 1e-6), (3, 1e-3)):
        found = found_of(lambda x: -jnp.sum((x**2 - 1) ** 2), ex.Real(d), 1 << 22, tolerance)
        assert_right(found, d * math.log(exact))
    found = found_of(lambda x: -((x**2 - 1) ** 2), ex.Real(), FEWER, 1e-12)
    assert found.converged
    assert found.error < 1.1e-12
    assert found.value == pytest.approx(math.log(exact), abs=1e-11)


def test_rounding_is_part_of_the_error():
    # In float32 a level of 1000 nats has steps of 6e-5.
    found = found_of(lambda x: 1000.1 - x**2, ex.Real())
    assert 1e-5 < found.rounding <= found.error
    assert found.converged


def test_too_few_evaluations_are_said():
    found = found_of(lambda x: -jnp.sum(x**2), ex.Real(3), 100_000)
    assert not found.converged
    assert "most_evaluations is too small" in found.reason
    assert math.isnan(found.value)
    assert found.error == math.inf


def test_the_rule():
    nodes, weights, difference, _ = rule()
    for power in range(0, 24, 2):
        assert weights @ nodes**power == pytest.approx(2 / (power + 1), abs=1e-14)
    # Gauss's seven are exact to degree 13, and not beyond.
    assert abs(difference @ nodes**12) < 1e-14
    assert abs(difference @ nodes**14) > 1e-5
    assert difference.sum() == pytest.approx(0, abs=1e-14)


def test_cells_hold_their_points():
    cells = Cells(2, 100)

    def add(low, width):
        u = cells.coordinates(low, width)
        value = u[:, 0] ** 3 * u[:, 1] + 2.0
        cells.add(low, width, u, np.log(value), np.zeros(len(u)), 1e-16)

    add(np.full((1, 2), -1.0), np.full((1, 2), 2.0))
    for cell, axis in ((0, 0), (2, 1), (1, 1), (4, 0)):
        add(*cells.cut(np.array([cell]), np.array([axis])))
    u = spread_out(500, 2)
    held = cells.holding(u, np.zeros(500, np.int64))
    assert set(held) == set(cells.leaves)
    assert (cells.low[held] <= u).all()
    assert (u <= cells.low[held] + cells.width[held]).all()
    assert cells.width[cells.leaves].prod(1).sum() == 4
    assert np.exp(cells.top[cells.leaves]) @ cells.total[cells.leaves] == pytest.approx(8)
    for cell in cells.leaves:
        some = u[held == cell]
        got = np.exp(cells.top[cell]) * cells.interpolated(int(cell), some)
        np.testing.assert_allclose(got, some[:, 0] ** 3 * some[:, 1] + 2.0, rtol=1e-12)


def test_coordinates_go_both_ways():
    low = np.array([-np.inf, 1.0, -np.inf, -2.0])
    high = np.array([np.inf, np.inf, 3.0, 5.0])
    coordinates = Coordinates(low, high, np.full(4, 0.7), np.array([0.5, 2.0, 3.0, 1.0]))
    u = spread_out(1000, 4)
    x, log_slope = coordinates.points(u)
    assert ((x > low) & (x < high)).all()
    np.testing.assert_allclose(coordinates.of_points(x), u, atol=1e-12)
    step = 1e-6 * (1 - np.abs(u))
    slope = (coordinates.points(u + step)[0] - coordinates.points(u - step)[0]) / (2 * step)
    np.testing.assert_allclose(np.log(slope).sum(1), log_slope, atol=1e-6)


def test_other_parameters_share_the_program():
    def with_mean(mean):
        return ex.Gaussian(jnp.asarray([mean, 0.0]), 1.0)

    log_partition_quadrature(with_mean(0.5), most_evaluations=FEWER)
    with jax.log_compiles(), pytest.MonkeyPatch.context() as patch:
        compiled = []
        patch.setattr(logging.Logger, "warning", lambda self, text, *rest: compiled.append(text))
        log_partition_quadrature(with_mean(2.5), most_evaluations=FEWER)
    assert not [line for line in compiled if "Finished XLA compilation" in str(line)]


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (lambda: ex.Bernoulli([0.0]), {}, ["Real or Box", "Binary"]),
        (lambda: ex.Gaussian(np.zeros(5)), {}, ["1 to 4 dimensions", "got 5", "bracket"]),
        (lambda: ex.Gaussian(0.0), {"tolerance": 0.0}, ["tolerance", "1e-12", "0.0"]),
        (lambda: ex.Gaussian(0.0), {"tolerance": math.nan}, ["tolerance", "nan"]),
        (lambda: ex.Gaussian(0.0), {"tolerance": True}, ["tolerance", "True"]),
        (lambda: ex.Gaussian(0.0), {"tolerance": "fine"}, ["tolerance", "fine"]),
        (lambda: ex.Gaussian(0.0), {"most_evaluations": 0}, ["most_evaluations", "0"]),
        (lambda: ex.Gaussian(0.0), {"most_evaluations": 1e6}, ["most_evaluations", "integer"]),
        (lambda: "gauss", {}, ["expected an energy", "str"]),
    ],
)
def test_bad_input_is_refused(make, options, words):
    with refused(*words):
        log_partition_quadrature(make(), **options)
