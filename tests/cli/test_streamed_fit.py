"""`energax fit --stream`: the rows stay in their file, the model is the same."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import ROWS, call, listing

import energax as ex

FIT = ("--hidden", 3, "--epochs", 3, "--batch-size", 6, "--gibbs-steps", 1, "--quiet")
GREY = np.random.default_rng(1).integers(0, 256, (40, 2, 3), np.uint8)


def parameters(path):
    model = ex.load(path)
    return [
        np.asarray(model.weights),
        np.asarray(model.visible_bias),
        np.asarray(model.hidden_bias),
    ]


def both_ways(capsys, path, tmp_path, *options):
    models = []
    for name, more in (("memory", ()), ("stream", ("--stream",))):
        out = tmp_path / f"{name}.energax"
        done = call(capsys, "fit", path, *FIT, *options, *more, "--out", out)
        assert done.code == 0, done.err
        models.append(parameters(out))
    return models


@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (ROWS, ()),
        (2 * ROWS.astype(np.int8) - 1, ()),
        (ROWS == 1, ("--test-fraction", 0.3)),
        (GREY, ()),
        (GREY, ("--threshold", 0.2)),
        (GREY / 255, ()),
        (GREY, ("--high", 300, "--seed", 4)),
        (np.packbits(np.tile(ROWS, 4), axis=-1), ("--unpack-bits",)),
    ],
    ids=["bits", "signs", "booleans", "grey", "threshold", "shares", "high", "packed"],
)
def test_the_model_of_an_array_is_the_one_from_memory(rows, options, tmp_path, capsys):
    np.save(tmp_path / "x.npy", rows)
    memory, streamed = both_ways(capsys, tmp_path / "x.npy", tmp_path, *options)
    for a, b in zip(memory, streamed, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bytes_whose_name_says_bits_are_unpacked(tmp_path, capsys):
    np.save(tmp_path / "x_bits.npy", np.packbits(np.tile(ROWS, 4), axis=-1))
    memory, streamed = both_ways(capsys, tmp_path / "x_bits.npy", tmp_path)
    np.testing.assert_array_equal(memory[0], streamed[0])


def test_tables_go_on_from_their_checkpoint_and_are_reported(tmp_path, capsys):
    table = pa.table({f"x{i}": ROWS[:, i] for i in range(6)} | {"kind": ["a"] * 40})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=9)
    fit = ("fit", tmp_path / "x.parquet", "--stream", "--label-column", "kind", *FIT, "--json")
    whole = call(capsys, *fit, "--out", tmp_path / "whole").json
    call(capsys, *fit, "--out", tmp_path / "parts", "--epochs", 3)
    again = call(capsys, *fit, "--out", tmp_path / "parts", "--epochs", 3).json
    assert whole["status"] == again["status"] == "finished"
    for a, b in zip(parameters(tmp_path / "whole"), parameters(tmp_path / "parts"), strict=True):
        np.testing.assert_array_equal(a, b)
    settings = ex.io.read_metadata(tmp_path / "whole")["settings"]
    assert settings["stream"] is True
    page = tmp_path / "page.html"
    data = tmp_path / "x.parquet"
    small = ("--chains", 4, "--temperatures", 9, "--sample-steps", 2, "--json", "--out", page)
    done = call(capsys, "report", tmp_path / "whole", data, *small)
    assert done.code == 0, done.err
    assert done.json["rows_problem"] is None
    assert "--stream" in page.read_text()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("x.npz", (), ".npy or .parquet"),
        ("x.csv", (), ".npy or .parquet"),
        ("x.npy", ("--array", "a"), "--array is of an .npz"),
        ("x.npy", ("--test-array", "a"), "--test-array is of an .npz"),
        ("x.npy", ("--label-column", "a"), "--label-column means nothing"),
        ("x.npy", ("--test-fraction", 1), "--test-fraction must lie"),
        ("x.npy", ("--low", 1), "--low and --high"),
        ("x.npy", ("--unpack-bits",), "needs bytes"),
        ("none.npy", (), "no such file"),
        ("words.parquet", (), "not numbers"),
        ("words.parquet", ("--label-column", "c"), "must name one column"),
        ("colour.npy", (), "grey"),
        ("late.npy", (), "got 9.0 in row 12345"),
        ("shape.npy", (), "is empty"),
    ],
)
def test_bad_input_ends_with_code_2_and_writes_nothing(name, options, words, tmp_path, capsys):
    np.savez(tmp_path / "x.npz", x=ROWS)
    np.savetxt(tmp_path / "x.csv", ROWS, delimiter=",")
    np.save(tmp_path / "x.npy", ROWS.astype(float))
    np.save(tmp_path / "colour.npy", np.zeros((9, 4, 4, 3), np.uint8) + 7)
    np.save(tmp_path / "shape.npy", ROWS[:0])
    late = np.tile(ROWS, (600, 1)).astype(np.float32)
    late[12_345, 2] = 9
    np.save(tmp_path / "late.npy", late)
    pq.write_table(pa.table({"a": [0, 1], "b": ["x", "y"]}), tmp_path / "words.parquet")
    before = listing(tmp_path)
    out = tmp_path / "model"
    done = call(capsys, "fit", tmp_path / name, "--stream", *FIT, "--out", out, *options)
    assert done.code == 2, done.out + done.err
    assert words in done.err, done.err
    assert len(done.err.splitlines()) == 1
    after = listing(tmp_path)
    after.pop("model.checkpoint", None)  # of the steps before the late row
    assert after == before
