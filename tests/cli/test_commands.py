"""Every command does its job on a tiny data set, and says in JSON what it did."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from command_line import ROWS, call, listing
from PIL import Image

import energax as ex
import oracles
from energax import io
from energax.cli import _common, _report, _rows
from energax.cli._app import run
from energax.cli._rows import Reading
from energax.cli._starts import part_names
from energax.sampling import _in_chunks as in_chunks
from energax.training import Fitted
from energax.training import _loop as training

COMMANDS = ("fit", "sample", "score", "logz", "report", "info", "demo")
FIT = ("fit", "rows.npy", "--hidden", 3, "--objective", "cd", "--epochs", 6, "--batch-size", 12)
MODEL, CHECKPOINT = "rows-rbm.energax", "rows-rbm.energax.checkpoint"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with rows and a model `energax fit` made of them, without a word."""
    folder, back = tmp_path_factory.mktemp("trained"), Path.cwd()
    np.save(folder / "rows.npy", ROWS)
    os.chdir(folder)
    try:
        assert run([str(word) for word in (*FIT, "--quiet")]) == 0
    finally:
        os.chdir(back)
    return folder


@pytest.fixture
def work(trained, tmp_path, monkeypatch):
    """A copy of that folder, to work in."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A folder with rows alone, to work in."""
    np.save(tmp_path / "rows.npy", ROWS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """What `ex.fit` was asked for; it trains nothing."""
    calls = []

    def fit(energy, rows, objective, **options):
        calls.append({"energy": energy, "rows": rows, "objective": objective, **options})
        return Fitted(energy, [{"step": 1, "seconds": 0.5}], "finished", "1 steps", 1)

    monkeypatch.setattr(ex, "fit", fit)
    return calls


def new_files(folder, trained):
    """What a command left, beside the files that were there."""
    return {path.name for path in folder.iterdir()} - {path.name for path in trained.iterdir()}


def same_model(one, other):
    return [np.asarray(a).tobytes() for a in jax.tree.leaves(ex.load(one))] == [
        np.asarray(a).tobytes() for a in jax.tree.leaves(ex.load(other))
    ]


# --- fit ---------------------------------------------------------------------------------------


def test_fit_leaves_a_model_and_its_checkpoint(trained):
    assert {path.name for path in trained.iterdir()} == {"rows.npy", MODEL, CHECKPOINT}
    model, metadata = ex.load(trained / MODEL), io.read_metadata(trained / MODEL)
    assert model.weights.shape == (6, 3)
    assert metadata["status"] == "finished"
    assert metadata["settings"]["objective"] == "cd"
    assert metadata["settings"]["epochs"] == 6
    assert [row["step"] for row in metadata["history"]] == [18]
    assert "validation_gap" in metadata["history"][0]
    split = _rows.split_rows(trained / "rows.npy", Reading(), test_fraction=0.1, seed=0)
    assert metadata["rows"] == split.hashes
    assert metadata["calls"] == [{"epochs": 6, "steps": 18, "status": "finished"}]
    base = ex.Bernoulli.from_data(split.train)
    np.testing.assert_allclose(metadata["base_logits"], base.logits, atol=1e-5)


def test_fit_says_what_it_read_and_how_it_ended(work, capsys):
    ended = call(capsys, *FIT)  # finished already: it reads its checkpoint and takes no step
    assert ended.code == 0
    assert ended.err == ""
    assert "rows.npy: uint8 (40, 6); 36 training and 4 test rows" in ended.out
    assert "finished: 18 steps" in ended.out
    assert MODEL in ended.out
    assert CHECKPOINT in ended.out


def test_fit_in_json(work, capsys):
    ended = call(capsys, *FIT, "--json")
    assert (ended.code, ended.err) == (0, "")
    result = ended.json
    shown = {"model", "checkpoint", "status", "message", "alarms", "steps", "seconds", "last"}
    assert set(result) == shown
    assert result["alarms"] == []
    assert result["model"] == MODEL
    assert result["checkpoint"] == CHECKPOINT
    assert result["status"] == "finished"
    assert result["steps"] == result["last"]["step"] == 18


def test_the_same_seed_trains_the_same_model_and_another_seed_another(work, capsys):
    for name, seed in (("again", 0), ("other", 1)):
        assert call(capsys, *FIT, "--seed", seed, "--out", f"{name}.energax").code == 0
    assert same_model("again.energax", MODEL)
    assert not same_model("other.energax", MODEL)


def test_more_epochs_go_on_from_the_checkpoint(work, capsys):
    longer = [6 + 2 if word == 6 else word for word in FIT]
    result = call(capsys, *longer, "--json").json
    assert result["steps"] == 24
    history = io.read_metadata(MODEL)["history"]
    assert [row["step"] for row in history] == [18, 24]
    assert set(os.listdir()) == {"rows.npy", MODEL, CHECKPOINT}
    shorter = call(capsys, *FIT)
    assert shorter.code == 2
    assert "has 24 steps behind it" in shorter.err


@pytest.mark.parametrize(
    "changed",
    [
        ("--hidden", 4),
        ("--seed", 1),
        ("--learning-rate", 0.01),
        ("--momentum", 0.5),
        ("--batch-size", 6),
        ("--gibbs-steps", 2),
        ("--no-centred",),
        ("--weight-decay", 0.1),
        ("--test-fraction", 0.2),
        ("--objective", "pcd"),
    ],
    ids=lambda words: words[0],
)
def test_a_checkpoint_of_other_settings_is_not_gone_on_from(changed, work, capsys):
    before = listing(work)
    ended = call(capsys, *FIT, *changed)
    assert ended.code == 2
    assert "was written for something else" in ended.err
    assert "--no-resume" in ended.err
    assert ended.err.count("\n") == 1
    assert listing(work) == before


def test_an_existing_model_is_not_overwritten_unasked(work, capsys):
    before = listing(work)
    assert "add --overwrite" in call(capsys, *FIT, "--no-resume").err
    assert listing(work) == before
    Path(CHECKPOINT).unlink()
    assert "add --overwrite" in call(capsys, *FIT).err
    assert Path(MODEL).read_bytes() == before[MODEL]
    assert not Path(CHECKPOINT).exists()


def test_overwrite_and_no_resume_start_anew(work, asked, capsys):
    assert call(capsys, *FIT, "--no-resume", "--overwrite").code == 0
    assert asked[0]["resume"] is False
    assert np.abs(ex.load(MODEL).weights).max() < 0.1  # as they start


def test_ctrl_c_keeps_the_model_and_the_checkpoint_and_the_same_command_goes_on(
    fresh, capsys, monkeypatch
):
    update, calls = training.Bar.update, []
    command = [80 if word == 6 else word for word in FIT]

    def stopped(*args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        update(*args)

    with monkeypatch.context() as patch:
        patch.setattr(training.Bar, "update", stopped)
        ended = call(capsys, *command)
    assert ended.code == 130
    assert "interrupted: stopped by the user after 200 of 240 steps" in ended.out
    assert ended.err == "energax: interrupted\n"
    assert set(os.listdir()) == {"rows.npy", MODEL, CHECKPOINT}
    assert io.read_metadata(MODEL)["status"] == "interrupted"
    assert call(capsys, *command, "--quiet") == (0, "", "")
    assert call(capsys, *command, "--quiet", "--out", "whole.energax") == (0, "", "")
    assert same_model(MODEL, "whole.energax")


@pytest.mark.parametrize(
    ("command", "where", "name"),
    [
        (FIT, _rows, "read"),
        (("sample", MODEL), ex, "sample"),
        (("logz", MODEL), ex, "log_partition"),
        (("score", MODEL, "rows.npy"), ex, "log_likelihood"),
        (("report", MODEL, "rows.npy"), ex, "evaluate"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_ctrl_c_ends_every_command_with_130_and_no_new_file(
    command, where, name, work, capsys, monkeypatch
):
    def stopped(*args, **options):
        raise KeyboardInterrupt

    before = listing(work)
    monkeypatch.setattr(where, name, stopped)
    ended = call(capsys, *command)
    assert (ended.code, ended.out, ended.err) == (130, "", "energax: interrupted\n")
    assert listing(work) == before


def test_divergence_is_exit_code_1_and_the_last_good_model(fresh, capsys):
    ended = call(capsys, *FIT, "--learning-rate", 1e30, "--json")
    assert ended.code == 1
    assert ended.json["status"] == "diverged"
    assert "diverged at step" in ended.json["message"]
    assert np.isfinite(ex.load(MODEL).weights).all()
    assert io.read_metadata(MODEL)["status"] == "diverged"


def test_fit_writes_its_history_and_likelihoods_on_the_way(fresh, capsys):
    log = Path("run.jsonl")
    ended = call(capsys, *FIT, "--log", log, "--likelihood-every", 10, "--json")
    assert ended.code == 0
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert rows == io.read_metadata(MODEL)["history"]
    assert any("log_likelihood" in row for row in rows)
    assert io.read_metadata(MODEL)["settings"]["likelihood_every"] == 10
    assert "log" not in io.read_metadata(MODEL)["settings"]  # it is no part of the model


def test_options_of_fit_reach_the_training(fresh, asked, capsys):
    words = "--objective pcd --gibbs-steps 4 --chains 17 --no-centred --momentum 0.3"
    words += " --weight-decay 0.02 --learning-rate 0.2 --epochs 10 --batch-size 9 --hidden 5"
    words += " --log history --likelihood-every 7"
    assert call(capsys, "fit", "rows.npy", *words.split(), "--out", "m.energax").code == 0
    (options,) = asked
    assert options["objective"] == ex.PersistentContrastiveDivergence(4, 17, centred=False)
    assert options["momentum"] == 0.3
    assert options["weight_decay"] == 0.02
    assert options["batch_size"] == 9
    assert options["steps"] == 40
    assert options["log"] == Path("history")
    assert options["likelihood_every"] == 7
    assert options["checkpoint"] == Path("m.energax.checkpoint")
    assert options["resume"] is True
    assert options["progress"] is False  # not a terminal
    schedule = options["learning_rate"]
    assert float(schedule(0)) == pytest.approx(0.2)
    assert float(schedule(40)) == pytest.approx(0.002)
    start, base = options["energy"], ex.Bernoulli.from_data(options["rows"])
    assert start.weights.shape == (6, 5)
    np.testing.assert_array_equal(start.visible_bias, base.logits)
    call(capsys, "fit", "rows.npy", "--objective", "cd", "--out", "n.energax")
    assert asked[1]["objective"] == ex.ContrastiveDivergence(5, centred=True)
    call(capsys, "fit", "rows.npy", "--objective", "ml", "--hidden", 3, "--out", "o.energax")
    assert asked[2]["objective"] == ex.MaximumLikelihood()


def test_the_split_leaves_no_row_out_and_uses_none_twice(tmp_path):
    path, eye = tmp_path / "eye.npy", np.eye(20)
    np.save(path, eye)

    def split(fraction, seed=3):
        return _rows.split_rows(path, Reading(), test_fraction=fraction, seed=seed)

    found = split(0.25)
    assert (len(found.train), len(found.test)) == (15, 5)
    np.testing.assert_array_equal(np.concatenate([found.train, found.test]).sum(0), 1)
    np.testing.assert_array_equal(found.test, eye[found.test_numbers])
    assert found.test_source == "eye.npy"
    np.testing.assert_array_equal(found.train, split(0.25).train)
    assert found.hashes == split(0.25).hashes
    assert found.hashes["train"] != found.hashes["test"]
    assert (split(0.25, seed=4).train != found.train).any()
    assert split(0.25, seed=4).hashes["train"] != found.hashes["train"]
    for fraction, n_test in ((0.001, 1), (0.999, 19)):  # neither part is ever empty
        assert len(split(fraction).test) == n_test


def test_fit_reads_what_read_reads(fresh, asked, capsys):
    np.savez("split.npz", train_x=ROWS[:30], test_x=ROWS[30:], train_labels=np.zeros(30))
    np.savetxt("rows.csv", ROWS, fmt="%d", delimiter=",")
    Path("images").mkdir()
    for i, row in enumerate(ROWS):
        Image.fromarray((row * 200).reshape(2, 3)).save(f"images/{i:02}.png")
    np.save("grey.npy", ROWS * 0.3)
    for words in (["split.npz"], ["rows.csv"], ["images"], ["grey.npy", "--threshold", 0.25]):
        assert call(capsys, "fit", *words, "--hidden", 2, "--quiet") == (0, "", "")
    for name, options in zip(("split", "csv", "images", "grey"), asked, strict=True):
        rows, test = np.asarray(options["rows"]), np.asarray(options["validation"])
        assert rows.shape[1:] == (6,), name
        together = sorted(map(bytes, np.concatenate([rows, test]).astype(np.uint8)))
        assert together == sorted(map(bytes, ROWS)), name
    np.testing.assert_array_equal(asked[0]["rows"], ROWS[:30])
    np.testing.assert_array_equal(asked[0]["validation"], ROWS[30:])
    assert Path("images-rbm.energax").exists()


def test_fit_records_how_it_read_and_report_and_score_read_so_too(fresh, capsys):
    grey = np.where(ROWS, 13, 4).astype(np.uint8)
    np.savez("grey.npz", first=grey, second=1 - ROWS)
    words = [
        "--array",
        "first",
        "--high",
        "16",
        "--threshold",
        "0.5",
        "--hidden",
        "2",
        "--epochs",
        "2",
        "--quiet",
    ]
    assert call(capsys, "fit", "grey.npz", *words).code == 0
    settings = io.read_metadata("grey-rbm.energax")["settings"]
    assert (settings["array"], settings["low"], settings["high"]) == ("first", None, 16)
    page = call(capsys, "report", "grey-rbm.energax", "grey.npz", *QUICK, "--json")
    assert page.code == 0
    assert page.json["rows_problem"] is None
    assert "--high 16" in Path("grey-rbm-report.html").read_text(encoding="utf-8")
    scored = call(capsys, "score", "grey-rbm.energax", "grey.npz", "--json").json
    assert (scored["part"], scored["array"]) == ("all", "first")
    np.save("bits.npy", ROWS)
    words = ("--high", 1, "--json")  # the model's own scale is not that of bits
    bits = call(capsys, "score", "grey-rbm.energax", "bits.npy", *words).json
    assert bits["log_likelihood"] == scored["log_likelihood"]
    other = ("--array", "second", "--low", 0, "--high", 1, "--out", "other.csv", "--json")
    other = call(capsys, "score", "grey-rbm.energax", "grey.npz", *other).json
    assert other["array"] == "second"
    assert other["log_likelihood"]["mean"] != scored["log_likelihood"]["mean"]


def test_packed_bits_and_labels_by_option(fresh, asked, capsys):
    np.save("packed.npy", np.packbits(np.tile(ROWS, (1, 4)), axis=-1))
    np.savetxt("named.csv", np.c_[np.arange(40), ROWS], fmt="%d", delimiter=",")
    wide = np.tile(ROWS, (1, 4))
    for words, rows in (
        (("packed.npy", "--unpack-bits"), wide),
        (("named.csv", "--label-column", 0), ROWS),
    ):
        assert call(capsys, "fit", *words, "--hidden", 2, "--quiet").code == 0
        together = np.concatenate([asked[-1]["rows"], asked[-1]["validation"]])
        assert sorted(map(bytes, together)) == sorted(map(bytes, rows))
    assert io.read_metadata("packed-rbm.energax")["settings"]["unpack_bits"] is True
    assert call(capsys, "info", "packed.npy", "--unpack-bits", "--json").json["shape"] == [24]
    assert call(capsys, "info", "named.csv", "--label-column", "0", "--json").json["labels"] is True


@pytest.mark.parametrize(
    ("shape", "image_shape", "entries"),
    [
        ((2, 18), (2, 18), 36),
        ((36,), (6, 6), 36),
        ((3, 12, 1), (3, 12), 36),
        ((1, 3, 12), (3, 12), 36),
        ((1, 12, 3), (12, 3), 36),  # one channel of narrow images, not three colours
        ((1, 9, 4), (9, 4), 36),
        ((2, 8, 3), (2, 8), 16),
        ((4, 3, 3), (4, 3), 12),
        ((9, 2, 2), None, 36),  # three axes that are no colours: six by six would scramble them
    ],
)
def test_images_keep_their_shape_and_colour_becomes_grey(shape, image_shape, entries, tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (20, *shape), np.uint8)
    np.save(tmp_path / "images.npy", rows)
    split = _rows.split_rows(tmp_path / "images.npy", Reading(), test_fraction=0.1, seed=0)
    assert split.image_shape == image_shape
    assert split.train.shape == (18, entries)
    coloured = shape[-1] == 3 and shape[0] != 1
    grey = io.to_grey(rows) if coloured else rows
    assert split.description.endswith("colours made grey") == coloured
    np.testing.assert_array_equal(
        split.test, (grey > 127).reshape(20, -1)[split.test_numbers].astype(np.uint8)
    )


def test_bits_in_three_axes_are_no_colours(tmp_path):
    np.save(tmp_path / "bits.npy", np.tile(ROWS[:, :4, None, None], (1, 1, 4, 3)))
    split = _rows.split_rows(tmp_path / "bits.npy", Reading(), test_fraction=0.1, seed=0)
    assert split.train.shape == (36, 48)
    assert split.image_shape is None


def test_the_folder_here_has_a_name(fresh, asked, capsys, monkeypatch):
    Path("digits").mkdir()
    monkeypatch.chdir("digits")
    for i, row in enumerate(ROWS):
        Image.fromarray((row * 200).reshape(2, 3)).save(f"{i:02}.png")
    assert call(capsys, "fit", ".", "--hidden", 2, "--quiet").code == 0
    assert Path("digits-rbm.energax").exists()
    assert io.read_metadata("digits-rbm.energax")["data"].startswith("digits: 40 images")
    monkeypatch.chdir("..")
    words = ("report", "digits/digits-rbm.energax", "digits", *QUICK, "--quiet")
    assert call(capsys, *words).code == 0
    (page,) = pages("digits-rbm-report.html")
    assert "energax fit digits --out digits/digits-rbm.energax" in page


# --- sample ------------------------------------------------------------------------------------


def test_sample_writes_draws_and_their_energies(work, trained, capsys):
    ended = call(capsys, "sample", MODEL, "-n", 50, "--json")
    assert (ended.code, ended.err) == (0, "")
    result = ended.json
    assert set(result) == {
        "samples",
        "n",
        "stopped",
        "method",
        "converged",
        "problems",
        "rhat",
        "ess",
        "mean_energy",
    }
    assert new_files(work, trained) == {"rows-rbm-samples.npz"} == {result["samples"]}
    with np.load("rows-rbm-samples.npz") as archive:
        assert set(archive) == {"x", "energy", "about"}
        x, energy = archive["x"], archive["energy"]
    assert x.shape == (*energy.shape, 6)
    assert result["n"] == energy.size == 50
    model = ex.load(MODEL)
    np.testing.assert_allclose(jax.vmap(model.energy)(x.reshape(-1, 6)), energy.ravel(), atol=1e-5)
    assert result["mean_energy"] == pytest.approx(energy.mean(), abs=1e-5)


def test_sample_with_chains_of_a_model_too_large_to_list(work, capsys):
    io.save(ex.RBM.init(ex.key(0), n_visible=20, n_hidden=3), "wide.energax")
    words = ("-n", 60, "--chains", 4, "--warmup", 5, "--thin", 2)
    for name, seed in (("a.npz", 0), ("b.NPZ", 0), ("c.npz", 1)):  # numpy would add .npz to .NPZ
        ended = call(capsys, "sample", "wide.energax", *words, "--seed", seed, "--out", name)
        assert ended.code == 0
        assert name in ended.out
    with np.load("a.npz") as a, np.load("b.NPZ") as b, np.load("c.npz") as c:
        assert a["x"].shape == (4, 15, 20)
        np.testing.assert_array_equal(a["x"], b["x"])
        assert (a["x"] != c["x"]).any()
    assert not [name for name in os.listdir() if name.startswith(".") or "NPZ.npz" in name]


def test_draws_of_a_model_that_mixes_converge_by_default(work, capsys):
    io.save(ex.RBM.init(ex.key(0), n_visible=100, n_hidden=30), "wide.energax")
    for seed in range(3):
        ended = call(capsys, "sample", "wide.energax", "--seed", seed, "--json", "--overwrite")
        assert ended.json["problems"] == []


def test_sample_with_a_kernel_of_ones_choice(work, trained, capsys):
    ended = call(
        capsys,
        "sample",
        MODEL,
        "-n",
        40,
        "--chains",
        4,
        "--warmup",
        5,
        "--kernel",
        "gibbs",
        "--json",
    )
    assert ended.json["method"] == "Gibbs"
    for name, words in (("nutz", "--kernel must be one of block-gibbs"), ("hmc", "HMC")):
        ended = call(capsys, "sample", MODEL, "-n", 5, "--kernel", name, "--overwrite")
        assert ended.code == 2
        assert words in ended.err


WALK = ("sample", MODEL, "-n", 40, "--chains", 4, "--warmup", 5, "--kernel", "gibbs")


def test_ctrl_c_in_a_long_sample_leaves_the_draws_there_are(work, capsys, monkeypatch):
    assert call(capsys, *WALK, "--quiet", "--out", "whole.npz").code == 0
    update, calls = in_chunks.Bar.update, []

    def pressed(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        update(*arguments)

    monkeypatch.setattr(in_chunks.Bar, "update", pressed)
    monkeypatch.setattr(in_chunks, "next_size", lambda size, seconds, rest: min(3, rest))
    ended = call(capsys, *WALK)
    assert ended.code == 130
    assert ended.err == "energax: interrupted\n"
    assert ended.out.startswith("16 of 40 draws by Gibbs, stopped by the user: not converged")
    with np.load("rows-rbm-samples.npz") as part, np.load("whole.npz") as whole:
        np.testing.assert_array_equal(part["x"], whole["x"][:, :4])
    calls.clear()
    ended = call(capsys, *WALK, "--json", "--overwrite")
    assert ended.code == 130
    assert (ended.json["stopped"], ended.json["n"]) == (True, 16)


def about(path):
    with np.load(path, allow_pickle=False) as archive:
        assert archive["about"].dtype.kind == "U"
        return json.loads(str(archive["about"]))


def test_samples_say_where_they_came_from(work, capsys):
    ended = call(capsys, *WALK, "--thin", 3, "--seed", 7, "--json")
    said = about("rows-rbm-samples.npz")
    assert (said["model"], said["start"]) == (MODEL, None)
    assert (said["seed"], said["thin"], said["chains"], said["warmup"]) == (7, 3, 4, 5)
    for name in ("method", "converged", "problems", "rhat", "ess", "n", "stopped"):
        assert said[name] == ended.json[name]
    model, walk = ex.load(MODEL), ex.Gibbs()
    draws = ex.sample(model, 40, key=ex.key(7), kernel=walk, chains=4, warmup=5, thin=3)
    assert said["rhat"] == pytest.approx(np.nanmax(draws.rhat))
    assert said["ess"] == pytest.approx(np.nanmin(draws.ess))
    assert call(capsys, "sample", MODEL, "-n", 9, "--out", "exact.npz").code == 0
    exact = about("exact.npz")
    assert (exact["method"], exact["rhat"], exact["ess"]) == ("enumeration", None, None)
    assert call(capsys, "info", "rows-rbm-samples.npz", "--json").code == 0


def test_sample_starts_where_samples_ended_or_at_rows(work, capsys, monkeypatch):
    starts, sample = [], ex.sample
    monkeypatch.setattr(ex, "sample", lambda *a, **o: starts.append(o["start"]) or sample(*a, **o))
    words = (*WALK, "--quiet")
    assert call(capsys, *words).code == 0
    more = (*words, "--start", "rows-rbm-samples.npz", "--out", "more.npz")
    assert call(capsys, *more) == (0, "", "")
    assert starts[0] is None
    with np.load("rows-rbm-samples.npz") as archive:
        np.testing.assert_array_equal(starts[1], archive["x"][:, -1])
    assert about("more.npz")["start"] == "rows-rbm-samples.npz"
    assert call(capsys, *words, "--start", "rows.npy", "--overwrite").code == 0
    np.testing.assert_array_equal(starts[2], ROWS)
    # Of exact draws, one chain of them, each is a start.
    assert call(capsys, "sample", MODEL, "-n", 6, "--out", "exact.npz", "--quiet").code == 0
    exact = (*words, "--start", "exact.npz", "--overwrite")
    assert call(capsys, *exact) == (0, "", "")
    with np.load("exact.npz") as archive:
        np.testing.assert_array_equal(starts[4], archive["x"][0])
    # A start asks for chains where exact draws would do.
    assert call(capsys, "sample", MODEL, "-n", 8, "--start", "rows.npy", "--out", "b.npz").code == 0
    assert about("b.npz")["method"] == "BlockGibbs"


def test_sample_starts_at_the_parts_of_a_joint_and_at_no_chain_that_failed(work, capsys):
    io.save(ex.load(MODEL).joint, "joint.energax")
    words = ("-n", 8, "--chains", 4, "--quiet")
    assert call(capsys, "sample", "joint.energax", *words).code == 0
    more = ("--start", "joint-samples.npz", "--out", "more.npz")
    assert call(capsys, "sample", "joint.energax", *words, *more) == (0, "", "")
    io.save(ex.Gaussian(np.zeros(2)), "gaussian.energax")
    x, energy = np.arange(12.0).reshape(2, 3, 2), np.zeros((2, 3))
    energy[0, 2] = x[0, 2, 0] = np.nan
    np.savez("part.npz", x=x, energy=energy, about="{}")
    walk = ("--chains", 3, "--warmup", 0, "--thin", 1, "--kernel", "random-walk")
    words = ("sample", "gaussian.energax", "-n", 3, *walk, "--start", "part.npz")
    assert call(capsys, *words).code == 0
    with np.load("gaussian-samples.npz") as archive:
        np.testing.assert_allclose(archive["x"][:, 0], [[10, 11]] * 3, atol=8)


def test_parts_of_x_do_not_hide_the_other_arrays():
    assert part_names(ex.Joint(b=ex.Real(), a=ex.Real())) == ["a", "b"]
    assert part_names(ex.Real()) == ["x"]
    for name in ("energy", "about"):
        with oracles.refused(f"the model's part '{name}' has the name of another array"):
            part_names(ex.Joint(**{name: ex.Real(), "x": ex.Real()}))
    with oracles.refused("a Joint within a Joint"):
        part_names(ex.Joint(a=ex.Joint(b=ex.Real())))


@pytest.mark.parametrize(
    ("terminal", "words", "shown"), [(True, (), True), (True, ("-q",), False), (False, (), False)]
)
def test_sample_shows_a_bar_on_a_terminal(terminal, words, shown, work, capsys, monkeypatch):
    asked, sample = [], ex.sample
    monkeypatch.setattr(
        ex, "sample", lambda *a, **o: asked.append(o.pop("progress")) or sample(*a, **o)
    )
    monkeypatch.setattr(_common.console, "_force_terminal", terminal)
    assert call(capsys, *WALK, *words).code == 0
    assert asked == [shown]


def test_sample_of_a_joint_names_its_parts(work, capsys):
    io.save(ex.load(MODEL).joint, "joint.energax")
    assert call(capsys, "sample", "joint.energax", "-n", 8, "--quiet") == (0, "", "")
    with np.load("joint-samples.npz") as archive:
        assert set(archive) == {"hidden", "visible", "energy", "about"}


# --- score -------------------------------------------------------------------------------------


def test_score_is_minus_energy_minus_log_z(work, trained, capsys):
    ended = call(capsys, "score", MODEL, "rows.npy", "--json")
    assert (ended.code, ended.err) == (0, "")
    result = ended.json
    assert set(result) == {"scores", "part", "array", "log_likelihood", "log_partition"}
    assert (result["part"], result["array"]) == ("all", None)
    assert new_files(work, trained) == {"rows-scores.csv"} == {result["scores"]}
    with open("rows-scores.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["part", "row", "energy", "log_prob"]
    assert {row["part"] for row in table} == {"all"}
    assert [int(row["row"]) for row in table] == list(range(40))
    model = ex.load(MODEL)
    energies = np.asarray(jax.vmap(model.energy)(ROWS.astype(np.float32)))
    scores = -energies - oracles.log_z(model)
    np.testing.assert_allclose([float(r["energy"]) for r in table], energies, atol=1e-5)
    np.testing.assert_allclose([float(r["log_prob"]) for r in table], scores, atol=1e-4)
    said = result["log_likelihood"]
    assert set(said) == {"mean", "lower", "upper", "row_error", "n_rows", "trusted"} | {
        "n_dimensions",
        "bits_per_dimension",
        "bits_interval",
        "perplexity",
        "perplexity_interval",
    }
    assert said["mean"] == pytest.approx(scores.mean(), abs=1e-4)
    assert said["n_rows"] == 40
    assert said["bits_per_dimension"] == pytest.approx(-scores.mean() / np.log(2) / 6, abs=1e-4)


def test_score_of_grey_rows_and_of_reals(work, capsys):
    np.save("grey.npy", ROWS * 0.3)
    call(capsys, "score", MODEL, "grey.npy", "--threshold", 0.25)
    call(capsys, "score", MODEL, "rows.npy")
    assert Path("grey-scores.csv").read_text() == Path("rows-scores.csv").read_text()
    io.save(ex.Gaussian(np.zeros(6)), "gaussian.energax")
    np.save("reals.npy", np.zeros((3, 6)))
    result = call(capsys, "score", "gaussian.energax", "reals.npy", "--json").json
    assert result["log_likelihood"]["mean"] == pytest.approx(-3 * np.log(2 * np.pi), abs=1e-5)
    assert result["log_partition"]["method"] == "closed form"


def test_score_takes_the_files_own_test_rows_unless_told(work, capsys):
    np.savez("own.npz", train_x=ROWS[:30], test_x=ROWS[30:])

    def scored(*words):
        result = call(capsys, "score", MODEL, "own.npz", *words, "--overwrite", "--json").json
        with open(result["scores"], newline="") as file:
            return result, list(csv.DictReader(file))

    energies = np.asarray(jax.vmap(ex.load(MODEL).energy)(ROWS.astype(np.float32)))
    for words, part, array, rows in (
        ((), "test", "test_x", range(30, 40)),
        (("--part", "test"), "test", "test_x", range(30, 40)),
        (("--part", "train"), "train", "train_x", range(30)),
        (("--array", "train_x"), "train", "train_x", range(30)),
        (("--array", "test_x"), "all", "test_x", range(30, 40)),
        (("--part", "all"), "all", "train_x and test_x", range(40)),
    ):
        result, table = scored(*words)
        assert (result["part"], result["array"]) == (part, array), words
        np.testing.assert_allclose(
            [float(row["energy"]) for row in table], energies[list(rows)], atol=1e-5
        )
        assert result["log_likelihood"]["n_rows"] == len(rows)
    assert [row["part"] for row in table] == ["train"] * 30 + ["test"] * 10
    assert [int(row["row"]) for row in table] == [*range(30), *range(10)]
    said = call(capsys, "score", MODEL, "own.npz", "--overwrite").out
    assert "scored: test rows, test_x" in said


def test_score_of_a_part_scores_the_split_of_fit(work, capsys):
    split = _rows.split_rows(Path("rows.npy"), Reading(), test_fraction=0.1, seed=0)
    ended = call(capsys, "score", MODEL, "rows.npy", "--part", "test")
    assert "scored: test rows, as training split them" in ended.out
    with open("rows-scores.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["row"]) for row in table] == split.test_numbers.tolist()
    energies = jax.vmap(ex.load(MODEL).energy)(split.test.astype(np.float32))
    np.testing.assert_allclose([float(row["energy"]) for row in table], energies, atol=1e-5)
    words = ("--part", "train", "--overwrite", "--json")
    assert call(capsys, "score", MODEL, "rows.npy", *words).json["log_likelihood"]["n_rows"] == 36


# --- report, info, demo ------------------------------------------------------------------------

QUICK = ("--chains", 10, "--temperatures", 50, "--sample-steps", 20)


def test_report_is_one_page(work, trained, capsys):
    ended = call(capsys, "report", MODEL, "rows.npy", *QUICK, "--json")
    assert (ended.code, ended.err) == (0, "")
    result = ended.json
    assert set(result) == {"report", "log_partition", "train", "test", "baseline_test"} | {
        "rows_problem"
    }
    assert result["rows_problem"] is None
    assert new_files(work, trained) == {"rows-rbm-report.html"} == {result["report"]}
    assert (result["train"]["n_rows"], result["test"]["n_rows"]) == (36, 4)
    page = Path("rows-rbm-report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "rows.npy" in page
    before = listing(work)
    assert "add --overwrite" in call(capsys, "report", MODEL, "rows.npy").err
    assert listing(work) == before
    words = ("--overwrite", "--seed", 1)
    said = call(capsys, "report", MODEL, "rows.npy", *QUICK, *words)
    assert said.code == 0
    assert "test log-likelihood" in said.out
    assert "report rows-rbm-report.html" in said.out
    assert listing(work) != before


def test_a_report_may_rest_on_a_bracket(work, capsys):
    words = ("--method", "bracket", "--chains", 25, "--sample-steps", 20, "--temperatures", 50)
    result = call(capsys, "report", MODEL, "rows.npy", *words, "--json").json
    assert set(result["log_partition"]["parts"]) == {"forward", "reverse", "mbar"}
    (page,) = pages("rows-rbm-report.html")
    assert "--method bracket --chains 25 --temperatures 50" in page
    assert "Annealed down" in page


def pages(*names):
    return [Path(name).read_text(encoding="utf-8") for name in names]


def test_report_on_other_rows_says_so_before_all_else(work, capsys):
    np.save("other.npy", ROWS[::-1])
    ended = call(capsys, "report", MODEL, "other.npy", *QUICK, "--out", "other.html")
    assert ended.code == 0
    assert "warning: the training and test rows are not those that fit used" in ended.out
    (page,) = pages("other.html")
    assert page.index("Test rows may have been trained on") < page.index("Model and data")
    assert "energax fit rows.npy" in page  # as it was, not what this page was made of
    words = (*QUICK, "--overwrite", "--out", "other.html", "--json")
    problem = call(capsys, "report", MODEL, "other.npy", *words).json["rows_problem"]
    assert problem.endswith("not those that fit used, so test rows may have been trained on")


def test_report_on_a_model_that_does_not_say_what_it_was_trained_on(work, capsys):
    io.save(ex.load(MODEL), "bare.energax")
    ended = call(capsys, "report", "bare.energax", "rows.npy", *QUICK)
    assert ended.code == 0
    assert "warning: the model's file does not say which rows it was trained on" in ended.out
    (page,) = pages("bare-report.html")
    assert "Test rows may have been trained on" in page
    assert "energax report bare.energax" in page
    assert "energax fit" not in page


def test_report_numbers_rows_as_the_file_does(work, capsys):
    split = _rows.split_rows(Path("rows.npy"), Reading(), test_fraction=0.1, seed=0)
    energies = np.asarray(jax.vmap(ex.load(MODEL).energy)(split.test.astype(np.float32)))
    assert call(capsys, "report", MODEL, "rows.npy", *QUICK).code == 0
    hardest = split.test_numbers[np.argsort(-energies, kind="stable")]
    (page,) = pages("rows-rbm-report.html")
    named = ", ".join(map(str, hardest[:3]))
    assert f"The first are rows {named} of rows.npy, counted from 0." in page


def test_report_tells_how_to_make_it_again(work, capsys):
    np.savez("two.npz", one=ROWS, two=ROWS, test=ROWS[:9])
    words = ("--array", "two", "--test-array", "test", "--threshold", 0.4)
    assert call(capsys, "report", MODEL, "two.npz", *QUICK, *words, "--out", "a.html").code == 0
    (page,) = pages("a.html")
    again = next(line for line in page.splitlines() if "energax report" in line)
    assert "--array two --test-array test --threshold 0.4 --seed 0" in again
    assert "of test in two.npz, counted from 0" in page


@pytest.mark.parametrize(
    ("calls", "commands", "remark"),
    [
        ([], ["6"], False),
        ([(6, "finished")], ["6"], False),
        ([(6, "interrupted"), (6, "finished")], ["6"], False),
        ([(4, "finished"), (6, "finished")], ["4", "6"], False),
        ([(4, "interrupted"), (6, "finished")], ["6"], True),
        ([(None, "killed"), (6, "finished")], ["6"], True),
    ],
)
def test_the_commands_that_train_again(calls, commands, remark):
    settings = {"data": "b.npy", "epochs": 6, "centred": False, "array": None, "seed": 1}
    records = [{"epochs": e, "steps": i, "status": s} for i, (e, s) in enumerate(calls)]
    lines = _report._fit_commands(Path("m.energax"), "a b.npy", settings, records)
    start = "energax fit 'a b.npy' --out m.energax --no-centred --seed 1 --epochs"
    assert [line for line in lines if line[0] != "#"] == [
        f"{start} {epochs}" for epochs in commands
    ]
    assert any("near, not the same" in line for line in lines) == remark


def test_calls_of_other_epochs_are_remembered(work, capsys):
    longer = [8 if word == 6 else word for word in FIT]
    assert call(capsys, *longer).code == 0
    calls = [
        {"epochs": 6, "steps": 18, "status": "finished"},
        {"epochs": 8, "steps": 24, "status": "finished"},
    ]
    assert io.read_metadata(MODEL)["calls"] == calls
    assert call(capsys, *longer).code == 0  # without a step left to take
    assert io.read_metadata(MODEL)["calls"] == calls
    Path(MODEL).write_text("damaged")  # as if the calls before had been killed
    assert call(capsys, *[10 if word == 6 else word for word in FIT]).code == 0
    assert io.read_metadata(MODEL)["calls"] == [
        {"epochs": None, "steps": 24, "status": "killed"},
        {"epochs": 10, "steps": 30, "status": "finished"},
    ]


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
@pytest.mark.parametrize("command", [("report", MODEL, "rows.npy"), ("demo", "--out", "new")])
def test_a_missing_extra_is_found_before_the_work(module, command, work, capsys, monkeypatch):
    def work_begins(*args, **options):
        pytest.fail("it began")

    for name in ("evaluate", "fit"):
        monkeypatch.setattr(ex, name, work_begins)
    monkeypatch.setitem(sys.modules, module, None)
    before = listing(work)
    ended = call(capsys, *command)
    assert (ended.code, ended.out) == (2, "")
    assert 'pip install "energax[report]"' in ended.err
    assert ended.err.count("\n") == 1
    assert listing(work) == before


@pytest.mark.parametrize(
    "error",
    [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\n1 GiB")],
    ids=lambda error: type(error).__name__,
)
def test_a_machine_without_memory_is_one_line_and_exit_code_1(error, work, capsys, monkeypatch):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(ex, "log_partition", fail)
    ended = call(capsys, "logz", MODEL)
    assert (ended.code, ended.out) == (1, "")
    assert "memory" in ended.err
    assert ended.err.count("\n") == 1


def test_info_on_a_model(work, trained, capsys):
    result = call(capsys, "info", MODEL, "--json").json
    assert set(result) == {"file", "model", "space", "parameters", "shapes", "data", "status"} | {
        "message",
        "fit_seconds",
        "settings",
    }
    assert result["model"] == "RBM"
    assert result["parameters"] == 6 * 3 + 6 + 3
    said = call(capsys, "info", MODEL)
    assert said.code == 0
    assert "Binary(shape=(6,))" in said.out
    assert "18 steps" in said.out
    assert new_files(work, trained) == set()


def test_info_on_data(work, capsys):
    result = call(capsys, "info", "rows.npy", "--json").json
    assert set(result) == {"file", "rows", "shape", "dtype", "smallest", "largest"} | {
        "test rows",
        "labels",
        "read as",
    }
    assert (result["rows"], result["shape"]) == (40, [6])
    assert (result["smallest"], result["largest"]) == (0, 1)
    np.savez("two.npz", X=ROWS, y=np.zeros(40), other=ROWS[:, :2])
    assert call(capsys, "info", "two.npz", "--json").json["labels"] is True
    assert call(capsys, "info", "two.npz", "--array", "other", "--json").json["shape"] == [2]


def test_names_that_look_like_markup_are_printed_as_they_are(work, capsys):
    np.save("[red]a[b].npy", ROWS)
    ended = call(capsys, "info", "[red]a[b].npy")
    assert ended.code == 0
    assert "[red]a[b].npy" in ended.out
    ended = call(capsys, "score", MODEL, "[red]a[b].npy")
    assert "[red]a[b]-scores.csv" in ended.out


@pytest.mark.slow
def test_demo(fresh, capsys):
    ended = call(capsys, "demo", "--epochs", 2, "--out", "shown/here")
    assert (ended.code, ended.err) == (0, "")
    assert sorted(os.listdir("shown/here")) == [
        "digits-rbm.energax",
        "digits-rbm.energax.checkpoint",
        "digits.npz",
        "report.html",
    ]
    assert str(fresh / "shown" / "here" / "report.html") in ended.out
    assert ex.load("shown/here/digits-rbm.energax").weights.shape == (64, 16)
    assert "may have been trained on" not in ended.out
    before = listing(fresh)
    again = call(capsys, "demo", "--epochs", 2, "--out", "shown/here")
    assert again.code == 2
    assert "digits.npz exists: add --overwrite" in again.err
    assert listing(fresh) == before
    words = ("--epochs", 2, "--out", "shown/here", "--overwrite", "--quiet")
    assert call(capsys, "demo", *words) == (0, "", "")
    assert set(os.listdir()) == {"rows.npy", "shown"}


# --- silence, help, versions -------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        FIT,
        ("sample", MODEL, "-n", 5),
        ("score", MODEL, "rows.npy"),
        ("report", MODEL, "rows.npy", *QUICK),
    ],
    ids=lambda words: words[0],
)
def test_quiet_prints_nothing(words, work, capsys):
    assert call(capsys, *words, "--quiet") == (0, "", "")


def test_infinities_become_null(capsys):
    _common.show_json({"a": float("inf"), "b": np.float32("nan"), "c": np.arange(2), "d": True})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": None, "c": [0, 1], "d": True}


def test_version(capsys):
    assert call(capsys, "--version") == (0, f"energax {ex.__version__}\n", "")


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)], ids=["alone", "--help", "-h"])
def test_help_lists_the_commands(words, capsys):
    ended = call(capsys, *words)
    assert (ended.code, ended.err) == (0, "")
    for command in COMMANDS:
        assert f" {command} " in ended.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_lists_its_options(command, capsys):
    ended = call(capsys, command, "--help")
    assert (ended.code, ended.err) == (0, "")
    option = {"info": "--array", "demo": "--epochs", "logz": "--method"}.get(command, "--out")
    assert option in ended.out
    if command in ("fit", "sample", "score", "report"):
        assert "(default:" in ended.out  # square brackets would be taken for a style


# --- as a program ------------------------------------------------------------------------------


def program(before, *words):
    """`energax WORDS` as a process of its own, after some other Python."""
    code = f"import sys; {before}; sys.argv[0] = 'energax'; from energax.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=300
    )


def test_the_program_refuses_in_one_line_and_exit_code_2(fresh):
    ended = program("pass", "fit", "missing.npy")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("energax: error: missing.npy: there is no such file")
    assert ended.stderr.count("\n") == 1
    assert os.listdir() == ["rows.npy"]


def test_the_program_without_its_extra_names_it():
    ended = program("sys.modules['typer'] = None", "--version")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == 'energax: the command line needs typer: pip install "energax[cli]"\n'


def test_the_shell_completes_commands():
    code = "import sys; sys.argv[0] = 'energax'; from energax.cli import main; main()"
    asked = {"_ENERGAX_COMPLETE": "complete_bash", "COMP_WORDS": "energax sc", "COMP_CWORD": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **asked},
    )
    assert ended.stdout.split() == ["score"]
    assert ended.returncode == 0


def test_the_program_needs_no_click_where_typer_brings_its_own():
    pytest.importorskip("typer._click")
    ended = program("sys.modules['click'] = None", "--nope")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("energax: error: No such option: --nope")
