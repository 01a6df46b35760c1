"""Figures show what the records say: the right panels, labels, images and lines."""

import io
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from energax.partition import LogPartition
from energax.plots import (
    annealing_path,
    annealing_weights,
    energy_histograms,
    filters,
    format_number,
    guess_image_shape,
    learning_curves,
    row_sheet,
    sample_sheet,
)

RNG = np.random.default_rng(0)
HISTORY = [
    {
        "step": 10 * (i + 1),
        "epoch": i + 1.0,
        "seconds": 0.1 * i,
        "energy_gap": -0.1 * i,
        "energy_data": -3.0 - i,
        "energy_model": -3.0 - 0.9 * i,
        "gradient_norm": 2.0**-i,
        "acceptance": 1.0,
    }
    for i in range(20)
]


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def n_images(figure):
    return sum(len(axes.images) for axes in figure.axes)


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def lines_at(axes, colour):
    """x of the vertical lines of a colour."""
    chosen = [line for line in axes.lines if to_rgba(line.get_color()) == to_rgba(colour)]
    return [line.get_xdata()[0] for line in chosen]


def png(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=40, metadata={"Software": None})
    return file.getvalue()


# learning_curves


def test_learning_curves_group_measures_and_leave_out_what_tells_nothing():
    figure = learning_curves(HISTORY)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Energies", "Energy gap, data less model's chains", "Size of the gradient"]
    assert all(axes.get_xlabel() == "step" for axes in figure.axes)
    assert [axes.get_ylabel() for axes in figure.axes] == ["mean E (nats)", "nats", "norm"]
    assert labels(figure.axes[0]) == ["data", "model's chains"]
    np.testing.assert_array_equal(
        figure.axes[0].lines[0].get_ydata(), [row["energy_data"] for row in HISTORY]
    )
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), np.arange(10, 210, 10))
    assert figure.axes[2].get_yscale() == "log"


def test_learning_curves_show_acceptance_that_varies_and_measures_not_known():
    rows = [{"step": i, "acceptance": 0.5 + 0.01 * i, "own_measure": i} for i in range(5)]
    figure = learning_curves(rows)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["Acceptance", "Own measure"]


def test_learning_curves_leave_gaps_where_numbers_are_not_finite():
    rows = [{"step": i, "loss": value} for i, value in enumerate([1.0, np.inf, np.nan, 2.0])]
    drawn = learning_curves(rows).axes[0].lines[0].get_ydata()
    np.testing.assert_array_equal(drawn, [1.0, np.nan, np.nan, 2.0])


def test_learning_curves_join_measures_that_only_some_rows_have():
    rows = [{"step": i, "loss": 1.0} for i in range(20)]
    for i, value in ((4, -3.0), (14, -2.0)):
        rows[i] |= {"log_likelihood": value, "log_likelihood_low": -np.inf}
    axes = learning_curves(rows).axes[1]
    assert axes.get_title(loc="left") == "Held-out log-likelihood, and its interval"
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [4, 14])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [-3.0, -2.0])
    assert labels(axes) == ["value", "lower end"]


def test_learning_curves_on_a_narrow_page_stand_one_above_the_other():
    figure = learning_curves(HISTORY, width=3.5)
    lefts = {round(axes.get_subplotspec().colspan.start) for axes in figure.axes}
    assert lefts == {0}
    assert len(figure.axes) == 3


@pytest.mark.parametrize("history", [[], [{"step": 1.0, "seconds": 2.0}]])
def test_learning_curves_need_measures(history):
    with pytest.raises(ValueError, match="history must hold"):
        learning_curves(history)


# filters


def test_filters_are_one_tile_a_unit_on_one_scale_around_zero():
    weights = RNG.normal(size=(12, 5))
    figure = filters(weights, (3, 4))
    tiles = figure.axes[0].images
    assert len(tiles) == 5
    assert {tile.get_clim() for tile in tiles} == {(-np.abs(weights).max(), np.abs(weights).max())}
    assert {tile.get_cmap().name for tile in tiles} == {"RdBu_r"}
    order = np.argsort(-np.linalg.norm(weights, axis=0))
    np.testing.assert_allclose(tiles[0].get_array(), weights[:, order[0]].reshape(3, 4))
    np.testing.assert_allclose(tiles[-1].get_array(), weights[:, order[-1]].reshape(3, 4))


def test_filters_show_at_most_n():
    assert len(filters(RNG.normal(size=(9, 20)), (3, 3), n=7).axes[0].images) == 7


def test_filters_of_other_data_are_a_heat_map():
    weights = RNG.normal(size=(7, 4))
    axes = filters(weights, None).axes[0]
    assert len(axes.images) == 1
    assert axes.images[0].get_array().shape == (7, 4)
    assert axes.get_xlabel() == "hidden unit, largest weights first"
    assert axes.get_ylabel() == "visible unit"


def test_filters_of_zero_weights_are_drawn():
    assert filters(np.zeros((4, 2)), (2, 2)).axes[0].images[0].get_clim() == (-1.0, 1.0)


def test_filters_refuse_weights_that_fill_no_image():
    with pytest.raises(ValueError, match=r"rows of 6 entries for images of shape \(2, 3\), got 4"):
        filters(np.ones((4, 2)), (2, 3))
    with pytest.raises(ValueError, match="visible, hidden"):
        filters(np.ones(4), (2, 2))


# sample_sheet


def test_sample_sheet_has_both_sides_with_captions():
    samples, real = RNG.random((50, 9)), RNG.random((20, 3, 3))
    figure = sample_sheet(samples, real, (3, 3), n=12, captions=("Test rows", "Draws"))
    assert n_images(figure) == 24
    assert texts(figure) == ["Test rows", "Draws"]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), real[0])
    np.testing.assert_array_equal(figure.axes[0].images[12].get_array(), samples[0].reshape(3, 3))
    assert len({image.get_clim() for image in figure.axes[0].images}) == 1


def test_sample_sheet_is_taller_on_a_narrow_page():
    rows = RNG.random((36, 4))
    wide, narrow = (sample_sheet(rows, rows, (2, 2), width=w).get_size_inches() for w in (7.5, 3.7))
    assert wide[0] > wide[1]
    assert narrow[1] > narrow[0]


def test_sample_sheet_of_other_data_is_two_heat_maps():
    figure = sample_sheet(RNG.random((5, 3)), RNG.random((8, 3)), None)
    assert [axes.images[0].get_array().shape for axes in figure.axes[:2]] == [(8, 3), (5, 3)]
    assert figure.axes[0].get_ylabel() == "row"


def test_sample_sheet_refuses_rows_of_unlike_sizes():
    with pytest.raises(ValueError, match="got 3 and 4 entries"):
        sample_sheet(np.ones((2, 3)), np.ones((2, 4)), None)
    with pytest.raises(ValueError, match="at least one row"):
        sample_sheet(np.ones((0, 3)), np.ones((2, 3)), None)


# row_sheet


def test_row_sheet_writes_the_energy_under_each_row():
    rows = RNG.random((4, 4))
    figure = row_sheet(rows, np.array([-1.26, 1234.5, np.inf, 0.04]), (2, 2))
    assert n_images(figure) == 4
    assert texts(figure) == ["E = \u22121.3", "E = 1,234.5", "E = ∞", "E = 0.0"]


def test_row_sheet_of_other_data_has_the_energies_beside_the_rows():
    axes = row_sheet(RNG.random((3, 5)), np.array([3.0, 2.0, 1.0]), None).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["3.0", "2.0", "1.0"]
    assert axes.get_ylabel() == "E (nats)"


def test_row_sheet_needs_one_energy_a_row():
    with pytest.raises(ValueError, match="energies must have shape"):
        row_sheet(np.ones((3, 4)), np.ones(2), (2, 2))


# energy_histograms


def test_energy_histograms_are_shares_with_labels():
    values = {"train": RNG.normal(size=100), "test": RNG.normal(size=50)}
    figure = energy_histograms(values, bins=10)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "E (nats)"
    assert axes.get_ylabel() == "share of rows"
    assert labels(axes) == ["train (100)", "test (50)"]
    drawn = axes.patches[0].get_data()
    assert drawn.edges.size == 11
    assert drawn.values.sum() == pytest.approx(1.0)


def test_energy_histograms_give_what_noise_squeezes_a_panel_of_its_own():
    near = {"train": RNG.normal(size=100), "test": RNG.normal(size=100)}
    far = energy_histograms({**near, "noise": RNG.normal(200.0, 1.0, 100)})
    assert [axes.get_title(loc="left") for axes in far.axes] == ["All rows", "Without noise"]
    assert labels(far.axes[1]) == ["train (100)", "test (100)"]
    assert len(energy_histograms({**near, "noise": RNG.normal(size=100)}).axes) == 1


def test_energy_histograms_count_what_is_not_finite():
    figure = energy_histograms({"train": np.array([1.0, 2.0, np.inf, np.nan])})
    assert labels(figure.axes[0]) == ["train (4), 2 not finite"]
    nothing = energy_histograms({"train": np.array([np.inf, np.inf])})
    assert labels(nothing.axes[0]) == ["train (2), 2 not finite"]


def test_energy_histograms_need_an_energy():
    with pytest.raises(ValueError, match="at least one value"):
        energy_histograms({"train": np.zeros(0)})


# annealing_weights

BLUE, VERMILLION = "#0072B2", "#D55E00"


def test_annealing_weights_mark_estimate_interval_and_exact_value():
    weights = RNG.normal(10.0, 0.2, 100)
    (axes,) = annealing_weights(weights, 10.03).axes
    estimate = np.log(np.mean(np.exp(weights)))
    assert lines_at(axes, BLUE) == [pytest.approx(estimate)]
    assert lines_at(axes, VERMILLION) == [10.03]
    assert labels(axes) == ["100 chains", "95% interval", "log Z estimated", "exact"]
    assert axes.get_xlabel() == "log weight + log Z of the base (nats)"
    bars = [p for p in axes.patches if to_rgba(p.get_edgecolor())[:3] == (1, 1, 1)]
    assert sum(bar.get_height() for bar in bars) == 100


def log_z(weights, **changes):
    given = {
        "value": 5.0,
        "lower": 4.9,
        "upper": 5.2,
        "std_error": 0.05,
        "exact": False,
        "method": "annealing",
        "trusted": True,
        "level": 0.9,
        "diagnostics": {"log_weights": np.asarray(weights, float)},
    }
    return LogPartition(**(given | changes))


def test_annealing_weights_of_a_record_are_moved_by_the_base():
    # All weights are e^2 and log Z is 5, so the base's log Z is 3.
    (axes,) = annealing_weights(log_z([2.0] * 10)).axes
    assert lines_at(axes, BLUE) == [5.0]
    assert labels(axes) == ["10 chains", "90% interval", "log Z estimated"]
    low, high = axes.get_xlim()
    assert low < 4.9
    assert high > 5.2


def test_annealing_weights_say_that_an_interval_is_open():
    (axes,) = annealing_weights(log_z([1.0, 2.0, 3.0], lower=-np.inf, upper=np.inf)).axes
    assert "90% interval (open)" in labels(axes)
    assert np.isfinite(axes.get_xlim()).all()


def test_annealing_weights_without_an_estimate_draw_none():
    given = log_z([1.0, 2.0, -np.inf, np.nan], value=np.nan, lower=-np.inf, upper=np.inf)
    (axes,) = annealing_weights(given).axes
    assert lines_at(axes, BLUE) == []
    assert labels(axes)[0] == "4 chains, 2 not finite"
    (axes,) = annealing_weights(np.array([1.0, 2.0, np.nan, np.inf])).axes
    assert lines_at(axes, BLUE) == []


def test_annealing_weights_need_weights():
    with pytest.raises(ValueError, match="at least two finite values"):
        annealing_weights(np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="must come from annealing, got log Z by closed form"):
        annealing_weights(log_z([1.0], method="closed form", diagnostics={}))


# annealing_path


def walk(beta, slope):
    """A record of a walk along beta whose mean -dE/dbeta is `slope` everywhere."""
    n = len(beta) - 1
    path = {
        "beta": np.asarray(beta),
        "gain": slope * np.diff(beta),
        "spread": np.linspace(0.1, 0.5, n),
        "acceptance": np.full(n - 1, 0.75),
    }
    return log_z([1.0, 2.0], diagnostics={"path": path})


def test_annealing_path_shows_energy_weights_and_acceptance():
    beta = np.linspace(0, 1, 21) ** 2
    figure = annealing_path(walk(beta, 3.0))
    energy, weights, moves = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["beta"] * 3
    np.testing.assert_allclose(energy.lines[0].get_ydata(), 3.0)
    np.testing.assert_allclose(energy.lines[0].get_xdata(), (beta[1:] + beta[:-1]) / 2)
    np.testing.assert_array_equal(weights.lines[0].get_xdata(), beta[1:])
    np.testing.assert_allclose(weights.lines[0].get_ydata(), np.linspace(0.1, 0.5, 20))
    np.testing.assert_array_equal(moves.lines[0].get_xdata(), beta[1:-1])
    np.testing.assert_allclose(moves.lines[0].get_ydata(), 0.75)
    assert energy.get_legend() is None


def test_annealing_path_of_a_bracket_goes_both_ways():
    beta = np.linspace(0, 1, 1001)
    both = {"forward": walk(beta, 3.0), "reverse": walk(beta[::-1], 4.0)}
    figure = annealing_path(log_z([1.0, 2.0], diagnostics=both), width=3.7)
    up, down = figure.axes[0].lines
    assert labels(figure.axes[0]) == ["annealed up", "annealed down"]
    assert len(up.get_xdata()) == 100  # means over bins of neighbours
    np.testing.assert_allclose(up.get_ydata(), 3.0)
    np.testing.assert_allclose(down.get_ydata(), 4.0)
    assert up.get_xdata()[0] == pytest.approx(0.005)
    assert down.get_xdata()[0] == pytest.approx(0.995)
    tops = [axes.get_position().y0 for axes in figure.axes]
    assert tops[0] > tops[1] > tops[2]


def test_annealing_path_needs_a_path():
    with pytest.raises(ValueError, match="by annealing or a bracket, got one by MBAR"):
        annealing_path(log_z([1.0], method="MBAR", diagnostics={}))


def test_annealing_path_needs_a_record(as_users_call):
    with pytest.raises(ValueError, match=r"needs what ex\.log_partition returns, got float"):
        annealing_path(3.0)


# What all share


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((784,), (28, 28)),
        ((16,), (4, 4)),
        ((9,), None),
        ((15,), None),
        ((17,), None),
        ((5, 7), (5, 7)),
        ((3, 8, 8), None),
        ((), None),
    ],
)
def test_guess_image_shape(shape, expected):
    assert guess_image_shape(shape) == expected


@pytest.mark.parametrize(
    ("value", "decimals", "expected"),
    [
        (-1234.5678, 1, "\u22121,234.6"),
        (0.12345, 3, "0.123"),
        (-0.0001, 2, "0.00"),
        (float("inf"), 3, "∞"),
        (float("-inf"), 3, "\u2212∞"),
        (float("nan"), 3, "not a number"),
    ],
)
def test_format_number(value, decimals, expected):
    assert format_number(value, decimals) == expected


def test_format_number_with_a_sign():
    assert format_number(1.5, 1, sign=True) == "+1.5"
    assert format_number(-1.5, 1, sign=True) == "\u22121.5"
    assert format_number(0.01, 1, sign=True) == "0.0"


def test_figures_are_the_same_each_time_and_touch_no_global_state():
    before = dict(matplotlib.rcParams)
    make = [
        lambda: sample_sheet(np.eye(4), np.eye(4), (2, 2)),
        lambda: annealing_weights(np.arange(8.0), 6.0),
    ]
    for draw in make:
        assert png(draw()) == png(draw())
    assert dict(matplotlib.rcParams) == before


def test_a_users_settings_do_not_change_a_figure():
    def draw():
        return png(energy_histograms({"train": np.arange(9.0), "noise": np.arange(9.0)}))

    plain = draw()
    theirs = {"font.family": "serif", "axes.grid": True, "axes.edgecolor": "red", "font.size": 20}
    with matplotlib.rc_context(theirs):
        assert draw() == plain


def test_missing_matplotlib_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (
        lambda: learning_curves(HISTORY),
        lambda: filters(np.eye(4), (2, 2)),
        lambda: sample_sheet(np.eye(4), np.eye(4), (2, 2)),
        lambda: row_sheet(np.eye(4), np.arange(4.0), None),
        lambda: energy_histograms({"train": np.arange(4.0)}),
        lambda: annealing_weights(np.arange(4.0)),
    ):
        with pytest.raises(ImportError, match=r'pip install "energax\[report\]"'):
            draw()
