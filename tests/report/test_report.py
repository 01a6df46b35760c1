"""The page holds every section, the record's own numbers, and nothing from elsewhere."""

import dataclasses
import os
import re
import sys
from html.parser import HTMLParser

import jax.numpy as jnp
import numpy as np
import pytest

from energax.energies import RBM, Bernoulli, freeze
from energax.partition import Evaluation, LogLikelihood, LogPartition
from energax.report import Report, _figures, _write, write_report
from energax.report._findings import findings
from energax.report._headline import headline
from energax.report._provenance import provenance
from energax.report._tables import energy_rows, last_logged, log_z_rows, sample_rows
from energax.report._wording import comparison, duration, interval, sentence
from energax.sampling import Draws

MINUS = "\u2212"
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(5.0, 0.1, 20)
ESTIMATE = LogPartition(
    value=5.0123,
    lower=4.9511,
    upper=5.0719,
    std_error=0.0304,
    exact=False,
    method="annealed importance sampling, BlockGibbs",
    trusted=True,
    diagnostics={
        "n_chains": 20,
        "n_temperatures": 1500,
        "log_weights": WEIGHTS,
        "acceptance": 1.0,
        "base": "Bernoulli",
        "ess": 19.75,
        "largest_weight": 0.0612,
        "seconds": 12.34,
        "n_steps": 29980,
        "path": {
            "beta": np.linspace(0.0, 1.0, 1501),
            "gain": np.full(1500, 0.0012),
            "spread": np.linspace(0.0, 0.1, 1500),
            "acceptance": np.ones(1499),
        },
    },
)
EXACT = LogPartition(
    value=5.0375,
    lower=5.0375,
    upper=5.0375,
    std_error=0.0,
    exact=True,
    method="enumeration of 8 states",
    trusted=True,
    diagnostics={"n_states": 8, "seconds": 0.012},
)


def likelihood(mean, *, below=0.0, above=0.0, n_rows=12, trusted=True):
    return LogLikelihood(mean, mean - below, mean + above, 0.2345, n_rows, trusted, 6)


def chains(x, energy, **changes):
    """Draws by chains that always accept."""
    given = {"acceptance": jnp.ones(len(x)), "method": "BlockGibbs"}
    return Draws(jnp.asarray(x), jnp.asarray(energy), **(given | changes))


def evaluation(**changes):
    rng = np.random.default_rng(1)
    given = {
        "log_partition": ESTIMATE,
        "exact_log_partition": EXACT,
        "train": likelihood(-3.1234, n_rows=30),
        "test": likelihood(-3.4567),
        "baseline": "independent pixels, each with its own rate",
        "baseline_test": likelihood(-4.0),
        "energies": {
            "train": rng.normal(-2.0, 1.0, 30),
            "test": rng.normal(-2.0, 1.0, 12),
            "noise": rng.normal(40.0, 1.0, 40),
        },
        "samples": chains(
            (rng.random((4, 80, 6)) < 0.5).astype(np.float32),
            rng.normal(-2.0, 1.0, (4, 80)).astype(np.float32),
        ),
        "seconds": {"annealing": 12.34, "enumeration": 0.01, "samples": 200.0},
    }
    return Evaluation(**(given | changes))


def record(**changes):
    rng = np.random.default_rng(2)
    given = {
        "title": "Six pixels",
        "description": "Six pixels drawn at random",
        "model": {"energy": "RBM", "parameters": "27"},
        "settings": {"objective": "pcd", "hidden": "3", "threshold": "None", "seed": "17"},
        "history": [
            {"step": 10 * i, "seconds": 0.1, "energy_gap": -0.1 * i, "acceptance": 1.0}
            for i in range(1, 4)
        ],
        "fit_status": "finished",
        "fit_message": "30 steps",
        "fit_seconds": 3.21,
        "evaluation": evaluation(),
        "energy": RBM(rng.normal(size=(6, 3)), np.zeros(6), np.zeros(3)),
        "train_rows": (rng.random((30, 6)) < 0.5).astype(np.uint8),
        "test_rows": (rng.random((12, 6)) < 0.5).astype(np.uint8),
        "image_shape": (2, 3),
        "environment": {"energax": "0.1.0", "seed of the report": "99", "date": "2026-01-05"},
        "sample_steps": 1000,
        "commands": ["energax fit six.npy --hidden 3", "energax report six.energax six.npy"],
    }
    return Report(**(given | changes))


class Page(HTMLParser):
    """What a page holds; raises if its elements do not nest."""

    EMPTY = ("meta", "img", "br", "source")

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.images, self.headings = [], [], [], []
        self.tags, self.links, self.rows, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        if "id" in given:
            self.ids.append(given["id"])
        self.links += [given[name] for name in ("href", "src", "srcset") if name in given]
        if tag == "img":
            self.images.append(given)
        if tag == "tr":
            self.rows.append([])
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        words = " ".join(data.split())
        if not words or "style" in self.open:
            return
        self.words.append(words)
        if self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append((self.open[-1], words))
        if self.open[-1] in ("th", "td"):
            self.rows[-1].append(words)

    @property
    def text(self):
        return " ".join(self.words)


@pytest.fixture(scope="module", autouse=True)
def small_pictures():
    patch = pytest.MonkeyPatch()
    patch.setattr("energax.report._figures._DPI", 40)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert write_report(record(), path) == path
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


# The page as a whole


def test_every_section_is_there_and_in_order(page):
    assert page.headings[0] == ("h1", "Six pixels")
    assert [words for level, words in page.headings if level == "h2"] == [
        "The answer",
        "Model and data",
        "log Z",
        "Training",
        "Filters",
        "Samples beside real data",
        "Energies",
        "Hardest and easiest test rows",
        "How every number was made",
    ]
    assert len(set(page.ids)) == len(page.ids)
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_the_page_needs_nothing_from_elsewhere(html, page):
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in page.links)
    assert not re.search(r"https?:|url\(|@import|//[a-z]", re.sub(r"base64,[\w+/=]+", "", html))
    assert "script" not in page.tags
    assert "link" not in page.tags


def test_nothing_of_the_template_is_left(html):
    bare = re.sub(r"base64,[\w+/=]+", "", html)
    assert not re.search(r"\{\{|\}\}|\{%|%\}|\{#|#\}", bare)


def test_every_picture_has_words_for_those_who_cannot_see_it(page):
    assert len(page.images) == 8
    assert all(len(image["alt"]) > 20 for image in page.images)
    assert page.tags.count("source") == 8
    assert any("the exact value is 5.037" in i["alt"].lower() for i in page.images)


def test_the_page_names_its_language_and_both_colour_schemes(html):
    assert '<html lang="en">' in html
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_numbers_are_those_of_the_record(page):
    for expected in (
        f"{MINUS}3.457",
        "standard error over 12 test rows: 0.234",
        "+0.543",
        f"{MINUS}4.000 nats",
        "0.8312",
        "+0.333",
        "no interval: log Z is exact",
        "The 95% interval contains the exact value.",
        "The estimate lies 0.025 nats below the exact value: 0.8 standard errors.",
        "energax fit six.npy --hidden 3",
    ):
        assert expected in page.text, expected
    for row in (
        ["log Z (nats)", "5.012", "5.037"],
        ["95% interval", "4.951 to 5.072", "none needed"],
        ["Standard error", "0.030", "0"],
        ["Cost", "12.3 s, 29,980 steps of chains", "0.01 s, 8 states listed"],
        ["Temperatures", "1,500"],
        ["Weights' effective number", "19.8 of 20"],
        ["Largest weight's share", "6.1%"],
        ["Steps thrown away first", "1,000"],
        ["Training rows", "30"],
        ["threshold", "not set"],
        ["Energy gap", f"{MINUS}0.3"],
        ["log Z", ESTIMATE.method, "20 chains, 1,500 temperatures", "12.3 s", "99"],
        ["log Z, exact", EXACT.method, "8 states", "under 0.1 s", "none needed"],
        ["Parameters", "training; objective pcd", "30 training rows, 30 steps", "3.2 s", "17"],
        ["Samples", "BlockGibbs", "4 chains from noise, 320 draws", "3 min 20 s", "99"],
    ):
        assert row in page.rows, row


def test_each_picture_is_drawn_for_wide_and_for_narrow_pages(page):
    pictures = [link for link in page.links if link.startswith("data:")]
    assert len(set(pictures)) == 16


@pytest.fixture
def wide_pictures_only(monkeypatch):
    def picture(draw, alt, caption):
        return _figures.Picture(_figures._png(draw(7.5)), "data:image/png;base64,", alt, caption)

    monkeypatch.setattr(_figures, "_picture", picture)


def test_untrusted_unfinished_and_hostile_text(tmp_path, wide_pictures_only):
    z = dataclasses.replace(
        ESTIMATE, trusted=False, reason="use more <b>chains</b>", lower=-np.inf, upper=np.inf
    )
    bad = record(
        title="<script>alert(1)</script>",
        evaluation=evaluation(
            log_partition=z,
            exact_log_partition=None,
            test=likelihood(-3.4567, below=np.inf, above=np.inf, trusted=False),
        ),
        fit_status="diverged",
        fit_message="diverged at step 7: try a smaller learning rate",
        history=[],
        image_shape=None,
        energy=Bernoulli(np.zeros(6, np.float32)),
        settings={"command": "energax fit 'a & b'"},
        commands=(),
    )
    text = write_report(bad, tmp_path / "bad.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert page.headings[0] == ("h1", "<script>alert(1)</script>")
    assert "Filters" not in [words for _, words in page.headings]
    assert "not trusted" in page.words
    assert page.words.count("Warning") == 2
    assert page.text.index("log Z is not trusted.") < page.text.index("Model and data")
    assert "Use more <b>chains</b>. No likelihood on this page is to be relied on." in page.text
    assert "Diverged at step 7: try a smaller learning rate." in page.text
    assert f"95% interval, from log Z: {MINUS}∞ to ∞" in page.text
    assert "There is no exact value to compare with" in page.text
    assert "No measures were recorded." in page.text
    assert "energax fit 'a & b'" in page.text
    assert ["95% interval", f"{MINUS}∞ to ∞"] in page.rows


# Writing


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(_write, "pictures", lambda report: {})


def test_the_same_record_gives_the_same_bytes(tmp_path, no_pictures):
    once, again = (write_report(record(), tmp_path / name).read_bytes() for name in ("a", "b"))
    assert once == again


def test_a_failure_leaves_nothing(monkeypatch, tmp_path, no_pictures):
    def fail(source, target):
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="the disk is full"):
        write_report(record(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_what_was_there(monkeypatch, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("before")
    with pytest.raises(ValueError, match="rows of 4 entries for images"):
        write_report(record(image_shape=(2, 2)), path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_replaces_an_older_one(tmp_path, no_pictures):
    path = tmp_path / "report.html"
    path.write_text("before")
    write_report(record(), str(path))
    assert "Six pixels" in path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]


def test_rows_must_be_those_evaluated(tmp_path):
    with pytest.raises(ValueError, match="test_rows must be the 12 rows"):
        write_report(record(test_rows=np.zeros((3, 6))), tmp_path / "report.html")
    with pytest.raises(ValueError, match="test_numbers must hold 12 numbers, got 3"):
        write_report(record(test_numbers=np.arange(3)), tmp_path / "report.html")
    with pytest.raises(ValueError, match="train_rows must hold"):
        write_report(record(train_rows=np.zeros((0, 6))), tmp_path / "report.html")


def test_missing_jinja_is_named_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r'pip install "energax\[report\]"'):
        write_report(record(), tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


# Judgements


def titles(report):
    return [(finding.kind, finding.title) for finding in findings(report)]


def test_a_sound_record_raises_no_finding():
    assert titles(record(evaluation=evaluation(samples=sound_draws()))) == []


ALARM = "at step 7 the loss rose; it went on from step 0"


def sound_draws():
    rng = np.random.default_rng(3)
    x = (rng.random((4, 500, 6)) < 0.5).astype(np.float32)
    return chains(x, x.sum(-1))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"fit_status": "interrupted"}, ("problem", "Training did not finish")),
        ({"fit_status": "unknown"}, ("note", "Whether training finished is not known")),
        (
            {"fit_message": "30 steps; expectations are still off"},
            ("note", "Training ended with a complaint"),
        ),
        (
            {
                "fit_message": "30 steps; at step 7 the loss rose; it went on from step 0",
                "fit_alarms": [{"cause": "loss", "text": ALARM}],
            },
            ("note", "Training went back to a healthy state"),
        ),
    ],
)
def test_findings_on_training(changes, expected):
    report = record(evaluation=evaluation(samples=sound_draws()), **changes)
    assert titles(report) == [expected]


def test_rows_of_another_training_come_before_all_else():
    report = record(fit_status="diverged", rows_problem="the model does not say which rows it saw")
    first, second, *_ = findings(report)
    assert first == ("problem", "Test rows may have been trained on", first.text)
    assert first.text == "The model does not say which rows it saw."
    assert second.title == "Training did not finish"


def test_rows_are_numbered_as_in_the_users_file(monkeypatch):
    monkeypatch.setattr(_figures, "_picture", lambda draw, *words: _figures.Picture("", "", *words))
    energies = {**evaluation().energies, "test": np.arange(12.0)}
    given = {"evaluation": evaluation(energies=energies)}
    caption = _figures.pictures(record(**given))["hardest"].caption
    assert "The first are rows 11, 10, 9 of the test rows, counted from 0." in caption
    given |= {"test_numbers": 1000 + 2 * np.arange(12), "test_source": "six.npy"}
    shown = _figures.pictures(record(**given))
    assert "rows 1022, 1020, 1018 of six.npy, counted from 0." in shown["hardest"].caption
    assert "rows 1000, 1002, 1004 of six.npy, counted from 0." in shown["easiest"].caption


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"log_partition": dataclasses.replace(ESTIMATE, trusted=False, reason="why")},
            ("note", "The estimated log Z is not trusted"),
        ),
        (
            {"log_partition": dataclasses.replace(ESTIMATE, upper=5.02)},
            ("note", "Annealing missed the exact log Z"),
        ),
        (
            {"exact_log_partition": dataclasses.replace(EXACT, trusted=False, reason="why")},
            ("problem", "log Z is not trusted"),
        ),
        ({"test": likelihood(-4.5)}, ("problem", "The model is worse than the baseline")),
        (
            {"test": likelihood(-3.9, below=0.3, above=0.3)},
            ("note", "The model is not shown to beat the baseline"),
        ),
        (
            {"energies": {"train": np.zeros(2), "test": np.r_[np.zeros(11), np.nan]}},
            ("problem", "The model fails on test rows"),
        ),
        (
            {"energies": {"train": np.array([0.0, np.inf]), "test": np.zeros(12)}},
            ("problem", "The model excludes train rows"),
        ),
    ],
)
def test_findings_on_the_evaluation(changes, expected):
    assert titles(record(evaluation=evaluation(**({"samples": sound_draws()} | changes)))) == [
        expected
    ]


def test_samples_that_did_not_converge_are_said_to_have_not():
    apart = np.repeat(np.arange(4.0), 80).reshape(4, 80, 1)
    draws = chains(apart, apart[..., 0])
    report = record(evaluation=evaluation(samples=draws))
    assert ("note", "The samples have not converged") in titles(report)
    rows = dict(sample_rows(report))
    assert rows["Converged"] == "no"
    assert rows["Largest R-hat"] == "∞"


def test_few_draws_a_chain_are_said_to_be_few():
    rng = np.random.default_rng(4)
    draws = chains(rng.random((4, 4, 6)), rng.random((4, 4)))
    (found,) = findings(record(evaluation=evaluation(samples=draws)))
    assert "With 4 draws a chain R-hat is coarse" in found.text


def test_independent_draws_need_no_convergence():
    x = np.zeros((1, 50, 6), np.float32)
    draws = chains(x, x.sum(-1), method="enumeration", independent=True)
    report = record(evaluation=evaluation(samples=draws))
    assert sample_rows(report) == [
        ("Made by", "enumeration"),
        ("Draws", "50, exact and independent"),
    ]
    assert report.shown_samples.shape == (50, 6)


def test_broken_draws_are_reported_not_raised():
    energy = np.zeros((4, 10))
    energy[1, 2] = np.nan
    draws = chains(np.zeros((4, 10, 6)), energy)
    report = record(evaluation=evaluation(samples=draws))
    assert dict(sample_rows(report))["Converged"] == "no"
    assert energy_rows(report)[0][-1] == "Not finite"
    assert energy_rows(report)[-1] == ("draws", "40", "0.0", "0.0", "0.0", "1")


def test_the_headline_gives_the_interval_where_log_z_is_estimated():
    report = record(
        evaluation=evaluation(
            exact_log_partition=None, test=likelihood(-3.4567, below=0.1, above=0.2)
        )
    )
    answer = headline(report)
    assert answer["certainty"] == (f"95% interval, from log Z: {MINUS}3.557 to {MINUS}3.257")
    assert answer["tiles"][0]["note"].startswith("95% interval 0.443 to 0.743.")
    scored = next(s.method for s in provenance(report) if s.quantity == "Test log-likelihood")
    assert scored.endswith("its interval is log Z's, turned round")


@pytest.mark.parametrize(
    ("train", "words"),
    [
        (-3.1234, "1.0 standard errors, within what chance gives"),
        (-1.0, "the model knows the rows it saw better"),
        (-6.0, "the test rows are easier"),
    ],
)
def test_the_gap_is_judged_by_its_error(train, words):
    report = record(evaluation=evaluation(train=likelihood(train)))
    assert words in headline(report)["tiles"][2]["note"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (5.0123, ["contains", "0.025 nats below the exact value: 0.8 standard errors"]),
        (
            5.3,
            ["does not contain", "0.263 nats above", "8.6 standard errors", "one interval in 20"],
        ),
        (np.nan, ["cannot be compared"]),
    ],
)
def test_the_comparison_with_the_exact_value_is_in_words(value, words):
    upper = value + 0.06 if np.isfinite(value) else np.inf
    lower = value - 0.06 if np.isfinite(value) else -np.inf
    z = dataclasses.replace(ESTIMATE, value=value, lower=lower, upper=upper)
    said = " ".join(comparison(z, EXACT))
    assert all(word in said for word in words), said


def bracket():
    """An untrusted record from both sides; its chains that came down stand for five ladders."""
    ladder = ESTIMATE.diagnostics["path"]
    down = ESTIMATE.diagnostics | {
        "path": ladder | {"beta": ladder["beta"][::-1], "gain": -ladder["gain"]},
        "n_sources": 5,
        "ess": 4.5,
    }
    parts = {
        "forward": ESTIMATE,
        "reverse": dataclasses.replace(ESTIMATE, value=5.2, upper=np.inf, diagnostics=down),
        "mbar": LogPartition(5.1, 5.0, 5.2, 0.05, False, "MBAR over 8 rungs", True),
    }
    replicas = {
        "n_ladders": 5,
        "betas": np.linspace(0, 1, 8),
        "round_trips": 1234,
        "rhat": 1.13,
        "rhat_limit": 1.05,
    }
    shared = {name: ESTIMATE.diagnostics[name] for name in ("n_chains", "n_temperatures", "base")}
    return dataclasses.replace(
        ESTIMATE,
        upper=np.inf,
        trusted=False,
        reason="chains have not mixed",
        method="annealed both ways",
        diagnostics=parts | shared | {"replicas": replicas, "seconds": 90.0, "n_steps": 1234567},
    )


def test_a_bracket_shows_what_it_is_made_of(tmp_path, wide_pictures_only):
    both = record(evaluation=evaluation(log_partition=bracket(), exact_log_partition=None))
    page = Page(write_report(both, tmp_path / "both.html").read_text(encoding="utf-8"))
    for row in (
        ["Bracket"],
        ["95% interval", "4.951 to \N{INFINITY}"],
        ["Annealed up", "5.012 (4.951 to 5.072)"],
        ["Annealed down", "5.200 (4.951 to \N{INFINITY})"],
        ["Replica exchange", "5.100 (5.000 to 5.200)"],
        ["Cost", "90.0 s, 1,234,567 steps of chains"],
        ["Trusted", "no. Chains have not mixed."],
        ["Weights' effective number, up", "19.8 of 20"],
        ["Weights' effective number, down", "4.5 of 5"],
        ["Replica exchange", "5 ladders of 8"],
        ["Round trips of replicas", "1,234"],
        ["Replicas' largest R-hat", "1.13, by chance below 1.05"],
        ["log Z", "annealed both ways", "20 chains, 1,500 temperatures", "90.0 s", "99"],
    ):
        assert row in page.rows, row
    assert {"figure-path", "figure-weights"} <= set(page.ids)
    assert "replica exchange is a second opinion" in page.text
    assert "with log Z bracketed" in page.text
    compared = log_z_rows(record(evaluation=evaluation(log_partition=bracket())))
    assert {len(row) for row in compared} == {3}
    assert compared[0] == ("log Z (nats)", "5.012", "5.037")
    assert {row[0]: row[2] for row in compared}["Annealed up"] == "\N{EN DASH}"


def test_numbers_that_are_not_finite_have_words():
    z = dataclasses.replace(ESTIMATE, value=np.nan, lower=-np.inf, upper=np.inf, std_error=np.inf)
    report = record(
        evaluation=evaluation(log_partition=z, exact_log_partition=None),
        history=[{"step": 1, "loss": np.nan}],
        fit_seconds=np.nan,
    )
    assert log_z_rows(report)[:3] == [
        ("log Z (nats)", "not a number"),
        ("95% interval", f"{MINUS}∞ to ∞"),
        ("Standard error", "∞"),
    ]
    assert last_logged(report) == [("Step", "1"), ("Loss", "not a number")]
    assert provenance(report)[0].time == "not recorded"


def test_a_frozen_machine_is_still_a_machine():
    report = record()
    assert dataclasses.replace(report, energy=freeze(report.energy)).rbm is report.energy


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "not recorded"),
        (float("nan"), "not recorded"),
        (0.02, "under 0.1 s"),
        (59.94, "59.9 s"),
        (200.0, "3 min 20 s"),
        (7300.0, "2 h 1 min"),
    ],
)
def test_duration(seconds, words):
    assert duration(seconds) == words


def test_sentences_and_intervals():
    assert sentence("log Z is off") == "log Z is off."
    assert sentence(" try again ") == "Try again."
    assert sentence("") == ""
    assert interval(-1.0, float("inf")) == f"{MINUS}1.000 to ∞"
