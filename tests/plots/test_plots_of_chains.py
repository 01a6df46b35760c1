"""Figures of chains: what is drawn, and what is refused."""

import dataclasses
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
from energax.kernels import LadderReport
from energax.plots import density_under_chains, ladder, trace
from energax.plots._style import VERMILLION
from energax.sampling import Last

RNG = np.random.default_rng(0)
DRAWS = ex.Draws(
    jnp.asarray(RNG.normal(size=(3, 20, 2)).astype(np.float32)),
    jnp.asarray(RNG.normal(size=(3, 20)).astype(np.float32)),
    jnp.ones(3),
    method="HMC",
)


def test_a_trace_has_a_line_a_chain(as_users_call):
    (axes,) = trace(DRAWS).axes
    assert axes.get_ylabel() == "E (nats)"
    for line, chain in zip(axes.lines, DRAWS.energy, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), chain)
    (axes,) = trace(DRAWS, 1).axes
    np.testing.assert_array_equal(axes.lines[2].get_ydata(), DRAWS.x[2, :, 1])


def test_a_failed_chain_is_red_and_first(as_users_call):
    energy = np.array(DRAWS.energy)
    energy[2, 7] = np.nan
    (axes,) = trace(dataclasses.replace(DRAWS, energy=jnp.asarray(energy))).axes
    assert [line.get_color() == VERMILLION for line in axes.lines] == [True, False, False]
    assert axes.get_title(loc="left") == "3 chains, 1 failed"


@pytest.mark.parametrize("coordinate", [2, -3, (0, 1), (), 1.5, (1.0,), True])
def test_a_coordinate_that_is_not_there(coordinate, as_users_call):
    with pytest.raises(ValueError, match=r"an index into shape \(2,\), got"):
        trace(DRAWS, coordinate)


def test_a_chain_whose_x_failed_is_red_too(as_users_call):
    x = DRAWS.x.at[1, 3, 0].set(jnp.nan)
    (axes,) = trace(dataclasses.replace(DRAWS, x=x)).axes
    assert [line.get_color() == VERMILLION for line in axes.lines] == [True, False, False]


def _crosses(figure):
    (axes,) = figure.axes
    return [tuple(np.asarray(marks.get_offsets())[0]) for marks in axes.collections]


def test_a_cross_marks_where_a_failed_chain_stops(as_users_call):
    assert _crosses(trace(DRAWS)) == []
    energy = np.array(DRAWS.energy)
    energy[2, 7], energy[0, 12] = np.nan, np.inf
    lost = dataclasses.replace(DRAWS, energy=jnp.asarray(energy))
    expected = [(11, energy[0, 11]), (6, energy[2, 6])]
    np.testing.assert_allclose(_crosses(trace(lost)), expected)
    x = np.asarray(DRAWS.x)
    expected = [(11, x[0, 11, 1]), (6, x[2, 6, 1])]
    np.testing.assert_allclose(_crosses(trace(lost, 1)), expected)
    bad = dataclasses.replace(DRAWS, x=DRAWS.x.at[1, 3, 0].set(jnp.nan))
    np.testing.assert_allclose(_crosses(trace(bad)), [(2, DRAWS.energy[1, 2])])


def test_a_chain_that_failed_from_the_start_has_its_cross_on_the_axis(as_users_call):
    energy = np.array(DRAWS.energy)
    energy[1] = np.nan
    figure = trace(dataclasses.replace(DRAWS, energy=jnp.asarray(energy)))
    assert _crosses(figure) == [(0, 0)]
    (axes,) = figure.axes
    low, high = axes.get_ylim()
    assert low > -4
    assert high < 4


def test_crosses_of_runs_that_kept_no_x(as_users_call):
    energy = np.array(DRAWS.energy)
    energy[2, 7] = np.nan
    values = DRAWS.x.at[1, 3, 0].set(jnp.nan)
    kept = dataclasses.replace(DRAWS, x=None, kept={"a": values}, energy=jnp.asarray(energy))
    expected = [(2, energy[1, 2]), (6, energy[2, 6])]
    np.testing.assert_allclose(_crosses(trace(kept)), expected)
    # Of a summarised run fewer energies are kept than there were draws, and a memory that holds
    # NaN does not say since when.
    memory = jnp.array([0.0, jnp.nan, 0.0])
    summed = dataclasses.replace(kept, kept=memory, collector=Last(), n=600)
    np.testing.assert_allclose(_crosses(trace(summed)), [(60, energy[2, 6])])


def test_what_cannot_be_drawn_under_chains_is_refused(as_users_call):
    energy = ex.Gaussian(np.zeros(2), 1.0)
    for options, words in (
        ({"n_points": 0}, "n_points"),
        ({"n_chains": -1}, "n_chains"),
        ({"low": [0.0, 1.0, 2.0]}, "low must be one or two finite numbers"),
        ({"high": np.inf}, "high must be one or two finite numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            density_under_chains(energy, DRAWS, **options)
    with pytest.raises(ValueError, match="over two real entries"):
        density_under_chains(ex.Gaussian(np.zeros(3), 1.0), DRAWS)
    lost = dataclasses.replace(DRAWS, x=jnp.full_like(DRAWS.x, jnp.nan))
    with pytest.raises(ValueError, match="no draw is finite"):
        density_under_chains(energy, lost)
    with pytest.raises(ValueError, match="coordinate needs draws of x"):
        trace(dataclasses.replace(DRAWS, x={"a": DRAWS.x}), 0)
    with pytest.raises(ValueError, match="ladder needs a LadderReport"):
        ladder(3)  # pyright: ignore


def test_the_density_lies_under_the_draws(as_users_call):
    energy = ex.Gaussian(np.zeros(2), 1.0)
    (axes,) = density_under_chains(energy, DRAWS, low=-2.0, high=[2.0, 3.0], n_points=21).axes
    (image,) = axes.images
    assert image.get_extent() == [-2.0, 2.0, -2.0, 3.0]
    shown = np.asarray(image.get_array())
    assert shown.max() == pytest.approx(1.0)
    assert np.unravel_index(shown.argmax(), shown.shape) == (8, 10)
    assert len(axes.lines) == 1 + 2
    np.testing.assert_array_equal(axes.lines[2].get_xdata(), DRAWS.x[1, :, 0])
    with pytest.raises(ValueError, match="low must lie below high"):
        density_under_chains(energy, DRAWS, low=3.0, high=2.0)
    flat = dataclasses.replace(DRAWS, x=DRAWS.x[..., 0])
    with pytest.raises(ValueError, match=r"x has shape \(2,\)"):
        density_under_chains(energy, flat)


def test_there_is_no_density_outside_the_space(as_users_call):
    inside = dataclasses.replace(DRAWS, x=jnp.clip(jnp.abs(DRAWS.x), 0.0, 1.0))
    energy = ex.NeuralEnergy(lambda x: -jnp.sum(x**2), ex.Box(2))
    (axes,) = density_under_chains(energy, inside, low=-1.0, high=2.0, n_points=31).axes
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    x = np.linspace(-1.0, 2.0, 31).astype(np.float32)
    there = (x >= 0) & (x <= 1)
    np.testing.assert_array_equal(np.isfinite(shown), there[:, None] & there)


def test_a_ladder_shows_its_rungs_and_swaps(as_users_call):
    report = LadderReport(
        betas=np.array([0.1, 0.4, 1.0]),
        swap_rates=np.array([0.7, 0.5]),
        barrier=np.array([0.0, 0.3, 0.8]),
        round_trips=np.array([3, 4]),
        n_steps=100,
    )
    left, right = ladder(report).axes
    np.testing.assert_array_equal(left.lines[0].get_xdata(), report.betas)
    np.testing.assert_array_equal(left.lines[0].get_ydata(), report.barrier)
    assert [bar.get_height() for bar in right.patches] == [0.7, 0.5]
    assert right.get_title(loc="left") == "7 round trips"
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["0.1", "0.4", "1"]
    np.testing.assert_allclose(right.get_xticks(), [0.5, 1.5, 2.5])


def test_of_a_long_ladder_some_betas_are_named_the_coldest_among_them(as_users_call):
    n = 30
    betas = np.linspace(0.01, 1.0, n)
    zeros = np.zeros(n - 1)
    report = LadderReport(betas, zeros, np.zeros(n), np.array([0]), 10)
    _, right = ladder(report).axes
    names = [tick.get_text() for tick in right.get_xticklabels()]
    assert 8 <= len(names) <= 12
    assert names[-1] == "1"
    for at, name in zip(right.get_xticks(), names, strict=True):
        assert float(name) == pytest.approx(betas[round(at - 0.5)], rel=0.01)


def test_missing_matplotlib_is_named_with_the_command(monkeypatch, as_users_call):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    report = LadderReport(np.ones(2), np.ones(1), np.ones(2), np.array([0]), 10)
    for draw in (
        lambda: trace(DRAWS),
        lambda: density_under_chains(ex.Gaussian(np.zeros(2), 1.0), DRAWS, n_points=3),
        lambda: ladder(report),
    ):
        with pytest.raises(ImportError, match=r'pip install "energax\[report\]"'):
            draw()
