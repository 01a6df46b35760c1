"""`energax logz`: every method, its record, its picture, and what it refuses."""

import numpy as np
import pytest
from command_line import call, listing
from PIL import Image

import energax as ex
import oracles
from energax.cli import _common, _logz
from energax.exact import log_partition_eliminated

MODEL = "model.energax"


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with a machine of 6 visible and 3 hidden units, and the base rates of its data."""
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(6, 3)).astype(np.float32)
    metadata = {"base_logits": [0.1] * 6}
    monkeypatch.chdir(tmp_path)
    ex.save(ex.RBM(weights, 0.3 * np.ones(6), np.zeros(3)), MODEL, metadata=metadata)
    return tmp_path


def test_it_is_exact_where_that_takes_seconds(work, capsys):
    before = listing(work)
    result = call(capsys, "logz", MODEL, "--json").json
    assert set(result) == {"value", "lower", "upper", "std_error", "exact", "method", "trusted"} | {
        "reason",
        "level",
        "diagnostics",
    }
    assert result["exact"] is True
    assert result["value"] == pytest.approx(oracles.log_z(ex.load(MODEL)), abs=1e-5)
    assert result["diagnostics"]["seconds"] >= 0
    assert listing(work) == before
    assert call(capsys, "logz", MODEL).out.splitlines()[0] == (
        f"log Z = {result['value']:.4f} (exact, enumeration of 8 states)"
    )


def test_by_elimination(work, capsys):
    strip = ex.Ising((50, 4), 0.3, 0.1, periodic=False)
    ex.save(strip, "strip.energax")
    for words in ((), ("--method", "elimination")):
        result = call(capsys, "logz", "strip.energax", *words, "--json").json
        assert (result["method"], result["exact"]) == ("elimination, width 4", True)
        assert result["value"] == pytest.approx(log_partition_eliminated(strip), rel=1e-12)
    refused = call(capsys, "logz", MODEL, "--method", "elimination")
    assert refused.code != 0
    assert "sum of tables" in refused.err


def test_by_annealing(work, capsys):
    words = ("--method", "annealing", "--temperatures", 300, "--chains", 50)
    ended = call(capsys, "logz", MODEL, *words, "--level", 0.999, "--json")
    assert (ended.code, ended.err) == (0, "")
    result = ended.json
    assert result["exact"] is False
    assert result["trusted"] is True
    assert result["level"] == 0.999
    assert result["diagnostics"]["n_temperatures"] == 300
    # The interval misses one time in a thousand; the seed is fixed.
    assert result["lower"] <= oracles.log_z(ex.load(MODEL)) <= result["upper"]
    again = call(capsys, "logz", MODEL, *words, "--level", 0.999, "--json").json
    for one in (again, result):  # what the clock says differs
        assert one["diagnostics"].pop("seconds") > 0
    assert again == result
    other = call(capsys, "logz", MODEL, *words, "--seed", 1, "--json").json
    assert other["value"] != result["value"]
    said = call(capsys, "logz", MODEL, *words).out
    assert said.startswith(f"log Z = {result['value']:.3f}")


def test_the_bracket_and_its_parts(work, capsys):
    words = ("--method", "bracket", "--temperatures", 100, "--chains", 50)
    result = call(capsys, "logz", MODEL, *words, "--json").json
    exact = oracles.log_z(ex.load(MODEL))
    assert result["trusted"] is True
    assert result["lower"] < exact < result["upper"]
    facts = result["diagnostics"]
    assert (facts["n_chains"], facts["n_temperatures"], facts["base"]) == (50, 100, "Bernoulli")
    assert set(result["parts"]) == {"forward", "reverse", "mbar"}
    for part in result["parts"].values():
        assert abs(part["value"] - exact) < 6 * part["std_error"]
        assert part["lower"] < part["upper"]
        assert (part["trusted"], part["reason"]) == (True, "")
    assert result["lower"] <= result["parts"]["forward"]["lower"]
    assert result["upper"] >= result["parts"]["reverse"]["upper"]
    assert facts["n_steps"] > sum(
        part["diagnostics"]["n_steps"] for name, part in result["parts"].items() if name != "mbar"
    )
    said = call(capsys, "logz", MODEL, *words).out.splitlines()
    assert said[0].startswith(f"log Z = {result['value']:.3f} [{result['lower']:.3f}")
    assert [line.split("  ")[1] for line in said[1:]] == [
        "annealed up",
        "annealed down",
        "replica exchange",
        "cost",
    ]
    assert f"{facts['n_steps']:,} steps of chains" in said[-1]


@pytest.mark.parametrize(
    ("method", "words", "counted"),
    [
        ("smc", ("--chains", 200), {"n_chains": 200, "n_runs": 20}),
        ("mbar", ("--chains", 10, "--temperatures", 4), {"n_ladders": 10}),
        ("bridge", ("--temperatures", 3), {"n_ladders": 25}),
        ("thermodynamic", ("--temperatures", 6), {"n_ladders": 25}),
    ],
)
def test_every_other_estimate(method, words, counted, work, capsys):
    result = call(capsys, "logz", MODEL, "--method", method, *words, "--json").json
    assert abs(result["value"] - oracles.log_z(ex.load(MODEL))) < 6 * result["std_error"]
    assert result["exact"] is False
    assert counted.items() <= result["diagnostics"].items()
    assert result["diagnostics"]["n_steps"] > 0
    if "--temperatures" in words:
        assert f"over {words[-1]} rungs" in result["method"]


def test_by_a_closed_form(work, capsys):
    ex.save(ex.Gaussian(np.zeros(3), 2.0), "gaussian.energax")
    for words in ((), ("--method", "closed-form")):
        result = call(capsys, "logz", "gaussian.energax", *words, "--json").json
        assert (result["method"], result["exact"]) == ("closed form", True)


def test_by_quadrature(work, capsys):
    well = ex.MuellerBrown()
    exact = float(ex.exact.log_partition_on_grid(well, n_points=900, low=-4.0, high=4.0))
    ex.save(well, "well.energax")
    for words in ((), ("--method", "quadrature")):
        result = call(capsys, "logz", "well.energax", *words, "--json").json
        assert result["method"].startswith("quadrature")
        assert result["value"] == pytest.approx(exact, abs=1e-3)
    assert "evaluations of E" in call(capsys, "logz", "well.energax").out
    words = ("--temperatures", 50, "--figure", "well.png")
    said = call(capsys, "logz", "well.energax", *words)
    assert said.out.startswith("log Z")
    assert "annealed both ways, 50 temperatures" in said.out  # a picture is of a path


def test_auto_brackets_what_cannot_be_listed(work, capsys, monkeypatch):
    asked = []

    def log_partition(energy, **options):
        asked.append(options)
        return ex.LogPartition(2.0, 1.5, np.inf, 0.3, False, "a test", False, "why")

    monkeypatch.setattr(_logz, "exact_method", lambda energy: None)
    monkeypatch.setattr(ex, "log_partition", log_partition)
    ended = call(capsys, "logz", MODEL, "--chains", 20)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "log Z = 2.000 [1.500, inf] at 95% (a test); NOT TRUSTED: why\n"
    assert call(capsys, "logz", MODEL, "--json").json["upper"] is None
    for method in ("bracket", "annealing"):
        assert call(capsys, "logz", MODEL, "--method", method).code == 0
    assert [(a["method"], a.get("n_chains"), a.get("n_temperatures")) for a in asked] == [
        (None, 20, None),
        (None, None, None),
        ("bracket", None, None),
        ("annealing", None, 5000),
    ]
    assert all(isinstance(a["base"], ex.Bernoulli) for a in asked)


@pytest.mark.parametrize("method", ["bracket", "annealing"])
def test_the_path_is_drawn(method, work, capsys):
    words = ("--method", method, "--temperatures", 50, "--chains", 25, "--figure", "path.png")
    ended = call(capsys, "logz", MODEL, *words)
    assert ended.code == 0
    assert ended.out.endswith("written to path.png\n")
    with Image.open("path.png") as picture:
        assert picture.size[0] == 1500
    assert call(capsys, "logz", MODEL, *words).code == 2  # it is there
    assert call(capsys, "logz", MODEL, *words, "--overwrite", "--json").json["figure"] == "path.png"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--method smc --temperatures 9", "--temperatures is not for smc"),
        ("--method smc --chains 30", "--chains must be a multiple of 20 for smc, got 30"),
        ("--method enumeration --chains 30", "--chains is for estimates with chains: enumeration"),
        ("--method closed-form --temperatures 9", "--temperatures is for estimates"),
        ("--method mbar --temperatures 1", "--temperatures must be at least 2, got 1"),
        ("--method mbar --temperatures 2000000", "ladders of 2000000 replicas"),
        ("--figure path.png", "this log Z is exact, by enumeration; add --method bracket"),
        ("--method enumeration --figure path.png", "--figure is for bracket and annealing"),
        ("--method mbar --figure path.png", "mbar has no such path"),
        ("--method bracket --figure path.html", "must end in .pdf or .png or .svg"),
        ("--method bracket --figure no/path.png", "there is no folder no"),
        ("--method closed-form", "has no closed form of Z"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(words, said, work, capsys):
    before = listing(work)
    ended = call(capsys, "logz", MODEL, *words.split())
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert listing(work) == before


def test_a_terminal_shows_that_it_is_at_work(capsys, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr(_common, "console", Console(stderr=True, force_terminal=True))
    with _common.waiting("log Z by bracket"):
        pass
    shown = capsys.readouterr()
    assert "log Z by bracket" in shown.err
    assert shown.out == ""
