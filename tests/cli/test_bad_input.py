"""Bad input of every kind: exit code 2, one line that names the problem, and no file touched."""

import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command_line import ROWS, call, listing, tampered
from PIL import Image

import energax as ex
from energax import io


def _class(said):
    said["structure"]["class"] = "os.system"


def _shape(said):
    fields = said["structure"]["fields"]
    fields["weights"], fields["hidden_bias"] = fields["hidden_bias"], fields["weights"]


def _field(said):
    del said["structure"]["fields"]["weights"]


def _newer(said):
    said["format"] = 99


def _kind(said):
    said["kind"] = "virus"


def _base(said):
    said["metadata"]["base_logits"] = [0.0, 1.0]


def _base_text(said):
    said["metadata"]["base_logits"] = {"a": "b"}


def _settings(said):
    said["metadata"]["settings"] = 5


def _fraction(said):
    said["metadata"]["settings"] = {"test_fraction": "all"}


def _rows(said):
    said["metadata"]["rows"] = "all"


def _calls(said):
    said["metadata"]["calls"] = [{"epochs": 3}]


def _history(said):
    said["metadata"]["history"] = [{"step": "one"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder of good and bad files; the tests work in it and must leave it as it is."""
    root = tmp_path_factory.mktemp("input")
    _write_data(root)
    _write_models(root)
    return root


def _write_data(root: Path) -> None:
    np.save(root / "rows.npy", ROWS)
    np.save(root / "narrow.npy", ROWS[:, :5])
    np.save(root / "wide.npy", np.tile(ROWS, (1, 8)))
    np.save(root / "one.npy", ROWS[:1])
    np.save(root / "none.npy", ROWS[:0])
    np.save(root / "scalar.npy", np.array(1.0))
    np.save(root / "complex.npy", ROWS + 1j)
    np.save(root / "text.npy", np.full((4, 6), "a"))
    np.save(root / "times.npy", np.zeros((4, 6), "datetime64[s]"))
    for name, value in (("nan", np.nan), ("inf", np.inf), ("large", 7.0), ("negative", -0.5)):
        np.save(root / f"{name}.npy", np.where(np.eye(6) > 0, value, 0.25))
    np.save(root / "grey.npy", (ROWS * 200).astype(np.uint8))
    np.save(root / "digits.npy", np.arange(240, dtype=np.uint8).reshape(40, 6) % 17)
    clear = np.random.default_rng(0).integers(0, 256, (40, 2, 3, 4), np.uint8)
    np.save(root / "clear.npy", clear)
    np.savez(root / "labelled.npz", a_label=np.zeros(40), b_label=np.zeros(40), X=ROWS)
    np.save(root / "counts.npy", ROWS.astype(np.int64) * 9)
    np.save(root / "objects.npy", np.full((4, 6), None), allow_pickle=True)
    np.savez(root / "objects.npz", X=np.full((4, 6), None), allow_pickle=True)
    np.savez(root / "labels.npz", X=ROWS, y=np.zeros(39))
    np.savez(root / "unclear.npz", one=ROWS, two=ROWS, three=ROWS)
    np.savez(root / "test.npz", train_x=ROWS, test_x=ROWS[:, :5])
    np.savez(root / "whole.npz", X=ROWS)
    samples = {"x": np.zeros((2, 3, 6)), "energy": np.zeros((2, 3)), "about": "{}"}
    for name, other in {
        "good": {},
        "other": {"x": np.zeros((2, 3, 5))},
        "seven": {"x": np.full((2, 3, 6), 7.0)},
        "lost": {"energy": np.full((2, 3), np.nan)},
        "pickled": {"x": np.full((2, 3, 6), None)},
        "flat": {"energy": np.zeros(3)},
        "undrawn": {"x": np.zeros((2, 0, 6)), "energy": np.zeros((2, 0))},
    }.items():
        np.savez(root / f"samples_{name}.npz", **{**samples, **other})
    good = (root / "samples_good.npz").read_bytes()
    (root / "samples_cut.npz").write_bytes(good[: len(good) // 2])
    del samples["x"]
    np.savez(root / "samples_parts.npz", visible=np.zeros((2, 3, 6)), **samples)
    whole = (root / "whole.npz").read_bytes()
    (root / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (root / "cut.npy").write_bytes((root / "rows.npy").read_bytes()[:200])
    with zipfile.ZipFile(root / "letters.npz", "w") as archive:
        archive.writestr("hello.txt", "hello")
    (root / "empty.npy").touch()
    (root / "png.npy").write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 50)
    (root / "noise.parquet").write_bytes(b"0123456789" * 9)
    (root / "cut.idx").write_bytes(bytes([0, 0, 8, 2, 0, 0, 0, 9, 0, 0, 0, 6, 1, 1]))
    (root / "noise.gz").write_bytes(b"\x1f\x8b" + b"0" * 50)
    (root / "rows.pkl").write_bytes(b"\x80\x04K\x01.")
    (root / "rows.txt").write_text("0 1 0\n1 0 1\n")
    (root / "ragged.csv").write_text("0,1,0\n1,0\n")
    (root / "words.csv").write_text("0,1,0\n1,yes,0\n")
    (root / "gap.csv").write_text("0,1,0\n1,,0\n")
    (root / "names.csv").write_text("a,b,c\n")
    (root / "semicolons.csv").write_text("0;1;0\n1;0;1\n")
    (root / "latin.csv").write_bytes(b"0,1\n\xff\xfe,1\n")
    (root / "bare").mkdir()
    (root / "own").mkdir()
    (root / "own" / "digits-rbm.energax").write_text("a model of mine")
    (root / "sizes").mkdir()
    for side in (4, 5):
        Image.fromarray(np.zeros((side, 4), np.uint8)).save(root / "sizes" / f"{side}.png")
    (root / "broken").mkdir()
    (root / "broken" / "a.png").write_bytes((root / "sizes" / "4.png").read_bytes()[:40])


def _write_models(root: Path) -> None:
    rbm = ex.RBM.init(ex.key(0), n_visible=6, n_hidden=3)
    model = root / "rbm.energax"
    io.save(rbm, model)
    io.save(ex.RBM.init(ex.key(0), n_visible=48, n_hidden=40), root / "large.energax")
    io.save(ex.Gaussian(np.zeros(6)), root / "gaussian.energax")
    io.save(rbm.joint, root / "joint.energax")
    io.save(ex.Binary(6), root / "space.energax")
    io.save(ex.NeuralEnergy(lambda x: x.sum(), ex.Binary(6)), root / "network.energax")
    io.write_tree(root / "tree.energax", rbm, kind="model")
    io.write_tree(root / "state.checkpoint", {"x": np.zeros(3)})
    content = model.read_bytes()
    (root / "cut.energax").write_bytes(content[:-20])
    (root / "head.energax").write_bytes(content[:30])
    (root / "empty.energax").touch()
    (root / "text.energax").write_text("a model, honestly\n")
    for change in (
        _class,
        _shape,
        _field,
        _newer,
        _kind,
        _base,
        _base_text,
        _settings,
        _fraction,
        _history,
        _rows,
        _calls,
    ):
        tampered(model, root / f"tampered{change.__name__}.energax", change)
    # Checkpoints that stand where a run would look for its own.
    (root / "damaged.energax.checkpoint").write_bytes(content[:100])
    io.save(rbm, root / "model.energax.checkpoint")
    io.write_tree(root / "other.energax.checkpoint", {"x": np.zeros(3)}, metadata={"run": {}})


SMALL = "--hidden 3 --out new.energax"

BAD = {
    # the command line itself
    "unknown command": ("train rows.npy", "train"),
    "no data": ("fit", "data"),
    "no model": ("sample", "model"),
    "half of score": ("score rbm.energax", "data"),
    "too many files": (f"fit rows.npy rows.npy {SMALL}", "rows.npy"),
    "unknown option": (f"fit rows.npy --layers 3 {SMALL}", "--layers"),
    "option without value": ("fit rows.npy --hidden", "--hidden"),
    "unknown model": (f"fit rows.npy --model gan {SMALL}", "--model", "gan"),
    "unknown objective": (f"fit rows.npy --objective vae {SMALL}", "--objective", "vae"),
    "unknown method": ("logz rbm.energax --method guess", "--method", "guess"),
    "text for a number": (f"fit rows.npy --epochs many {SMALL}", "--epochs"),
    "half a unit": ("fit rows.npy --hidden 2.5 --out new.energax", "--hidden"),
    # files of data
    "missing file": (f"fit missing.npy {SMALL}", "missing.npy", "no such file"),
    "missing folder": (f"fit no/rows.npy {SMALL}", "no/rows.npy", "no such file"),
    "a name of no format": (f"fit rows.txt {SMALL}", "rows.txt", "format is not known"),
    "a pickle": (f"fit rows.pkl {SMALL}", "rows.pkl", "pickles are never read"),
    "folder without images": (f"fit bare {SMALL}", "bare", "no images"),
    "images of several sizes": (f"fit sizes {SMALL}", "sizes", "one size"),
    "broken image": (f"fit broken {SMALL}", "a.png", "cannot be read"),
    "empty file": (f"fit empty.npy {SMALL}", "empty.npy", "empty"),
    "truncated npz": (f"fit cut.npz {SMALL}", "cut.npz", "damaged"),
    "truncated npy": (f"fit cut.npy {SMALL}", "cut.npy", "truncated"),
    "npz of text": (f"fit letters.npz {SMALL}", "letters.npz", "no arrays"),
    "npy of objects": (f"fit objects.npy {SMALL}", "Python objects"),
    "npz of objects": (f"fit objects.npz {SMALL}", "Python objects"),
    "wrong first bytes": (f"fit png.npy {SMALL}", "png.npy", "an image"),
    "noise for parquet": (f"fit noise.parquet {SMALL}", "noise.parquet"),
    "noise for gzip": (f"fit noise.gz {SMALL}", "noise.gz", "damaged"),
    "truncated idx": (f"fit cut.idx {SMALL}", "cut.idx", "truncated"),
    "ragged csv": (f"fit ragged.csv {SMALL}", "line 2 has 2 cells, expected 3"),
    "words in csv": (f"fit words.csv {SMALL}", "line 2", "yes"),
    "gap in csv": (f"fit gap.csv {SMALL}", "line 2 has nothing"),
    "csv of names": (f"fit names.csv {SMALL}", "names.csv", "no rows"),
    "csv of semicolons": (f"fit semicolons.csv {SMALL}", "separated by"),
    "csv in latin-1": (f"fit latin.csv {SMALL}", "latin.csv", "UTF-8"),
    "model given as data": (f"fit rbm.energax {SMALL}", "rbm.energax", "saved model"),
    "data given as checkpoint": (f"fit state.checkpoint {SMALL}", "state.checkpoint"),
    # what is in them
    "complex numbers": (f"fit complex.npy {SMALL}", "complex128"),
    "text": (f"fit text.npy {SMALL}", "must hold numbers"),
    "times": (f"fit times.npy {SMALL}", "datetime64"),
    "NaN": (f"fit nan.npy {SMALL}", "6 NaN", "row 0"),
    "infinity": (f"fit inf.npy {SMALL}", "6 infinite", "row 0"),
    "beyond 1": (f"fit large.npy {SMALL}", "between 0 and 1"),
    "below 0": (f"fit negative.npy {SMALL}", "between 0 and 1"),
    "integers of no range": (f"fit counts.npy {SMALL}", "int64"),
    "no rows": (f"fit none.npy {SMALL}", "empty"),
    "one row": (f"fit one.npy {SMALL}", "one row", "at least 2"),
    "no axis": (f"fit scalar.npy {SMALL}", "axes"),
    "labels of another length": (f"fit labels.npz {SMALL}", "40 rows", "(39,)"),
    "test rows of another width": (f"fit test.npz {SMALL}", "test rows"),
    "unclear which array": (f"fit unclear.npz {SMALL}", "not clear which"),
    "unknown array": (f"fit whole.npz --array Z {SMALL}", "'Z'"),
    "unknown test array": (f"fit whole.npz --test-array Z {SMALL}", "'Z'"),
    "array of an npy": (f"fit rows.npy --array X {SMALL}", "array means nothing"),
    "threshold of 0": (f"fit grey.npy --threshold 0 {SMALL}", "threshold", "between 0 and 1"),
    "threshold of 128": (f"fit grey.npy --threshold 128 {SMALL}", "threshold", "128"),
    "NaN threshold": (f"fit grey.npy --threshold nan {SMALL}", "threshold", "finite"),
    "a scale not the data's": (f"fit digits.npy {SMALL}", "from 0 to 16", "--high 16"),
    "a scale too wide": (f"fit digits.npy --high 100 {SMALL}", "all come out as 0", "--high 16"),
    "high below an entry": (f"fit digits.npy --high 9 {SMALL}", "between 0 and 9", "--high"),
    "low alone": (f"fit digits.npy --low 1 {SMALL}", "both low and high"),
    "low above high": (f"fit digits.npy --low 9 --high 3 {SMALL}", "low must be below high"),
    "NaN high": (f"fit digits.npy --high nan {SMALL}", "high", "finite"),
    "transparent images": (f"fit clear.npy {SMALL}", "transparent"),
    "unpacked floats": (f"fit large.npy --unpack-bits {SMALL}", "uint8", "float64"),
    "unpacked csv": (f"fit words.csv --unpack-bits {SMALL}", "unpack_bits means nothing"),
    "labels of an npy": (f"fit rows.npy --label-column y {SMALL}", "label_column means nothing"),
    "unclear which labels": (f"fit labelled.npz {SMALL}", "label_column"),
    "labels of no column": (f"fit ragged.csv --label-column 7 {SMALL}", "label_column=7"),
    # options of fit
    "a log in no folder": (f"fit rows.npy --log no/run.jsonl {SMALL}", "log", "no folder no"),
    "a log that is data": (f"fit rows.npy --log rows.npy {SMALL}", "log", "rows.npy"),
    "likelihoods at no step": (f"fit rows.npy --likelihood-every 0 {SMALL}", "--likelihood-every"),
    "no hidden units": ("fit rows.npy --hidden 0 --out new.energax", "--hidden", "got 0"),
    "negative hidden units": ("fit rows.npy --hidden -1 --out new.energax", "--hidden", "-1"),
    "hidden units beyond memory": (
        "fit rows.npy --hidden 2000000000 --out new.energax",
        "2000000000 hidden units",
        "GiB",
    ),
    "hidden units beyond 32 bits": (
        "fit rows.npy --hidden 2000000000000 --out new.energax",
        "--hidden",
        "2^31",
    ),
    "no epochs": (f"fit rows.npy --epochs 0 {SMALL}", "--epochs", "positive"),
    "negative epochs": (f"fit rows.npy --epochs -1 {SMALL}", "--epochs", "-1"),
    "NaN epochs": (f"fit rows.npy --epochs nan {SMALL}", "--epochs", "nan"),
    "endless epochs": (f"fit rows.npy --epochs inf {SMALL}", "--epochs", "inf"),
    "countless epochs": (f"fit rows.npy --epochs 1e300 {SMALL}", "steps", "2147483647"),
    "no batch": (f"fit rows.npy --batch-size 0 {SMALL}", "--batch-size", "got 0"),
    "negative batch": (f"fit rows.npy --batch-size -5 {SMALL}", "--batch-size", "-5"),
    "learning rate of 0": (f"fit rows.npy --learning-rate 0 {SMALL}", "--learning-rate"),
    "negative learning rate": (f"fit rows.npy --learning-rate -1 {SMALL}", "--learning-rate"),
    "NaN learning rate": (f"fit rows.npy --learning-rate nan {SMALL}", "--learning-rate"),
    "infinite learning rate": (f"fit rows.npy --learning-rate inf {SMALL}", "--learning-rate"),
    "momentum of 1": (f"fit rows.npy --momentum 1 {SMALL}", "momentum", "[0, 1)"),
    "negative momentum": (f"fit rows.npy --momentum -0.1 {SMALL}", "momentum"),
    "NaN momentum": (f"fit rows.npy --momentum nan {SMALL}", "momentum", "nan"),
    "negative decay": (f"fit rows.npy --weight-decay -1 {SMALL}", "weight_decay", "-1"),
    "NaN decay": (f"fit rows.npy --weight-decay nan {SMALL}", "weight_decay", "nan"),
    "more epochs than floats hold": (f"fit rows.npy --epochs 1e308 {SMALL}", "--epochs 1e+308"),
    "epochs beyond 32 bits": (f"fit rows.npy --epochs 3e9 {SMALL}", "--epochs 3e+09", "3e+09 st"),
    "Gibbs steps without end": (f"fit rows.npy --gibbs-steps 2000000000 {SMALL}", "--gibbs-steps"),
    "no Gibbs steps": (f"fit rows.npy --gibbs-steps 0 {SMALL}", "--gibbs-steps", "got 0"),
    "no chains": (f"fit rows.npy --chains 0 {SMALL}", "--chains", "got 0"),
    "test fraction of 0": (f"fit rows.npy --test-fraction 0 {SMALL}", "--test-fraction"),
    "test fraction of 1": (f"fit rows.npy --test-fraction 1 {SMALL}", "--test-fraction"),
    "test fraction of 2": (f"fit rows.npy --test-fraction 2 {SMALL}", "--test-fraction"),
    "test fraction nobody needs": (f"fit test.npz --test-fraction 2 {SMALL}", "--test-fraction"),
    "seed beyond 64 bits": (f"fit rows.npy --seed 9999999999999999999 {SMALL}", "--seed", "64"),
    "half a seed": (f"fit rows.npy --seed 0.5 {SMALL}", "--seed"),
    "ml of a large machine": (
        "fit wide.npy --objective ml --hidden 40 --out new.energax",
        "--objective ml",
        "40 units",
    ),
    # where things go
    "out in no folder": ("fit rows.npy --hidden 3 --out no/m.energax", "no folder no"),
    "out in a file": ("fit rows.npy --hidden 3 --out rows.npy/m", "no folder rows.npy"),
    "out is a folder": ("fit rows.npy --hidden 3 --out bare", "bare is a folder"),
    "out is the root": ("fit rows.npy --hidden 3 --out /", "/ is a folder"),
    "out exists": ("fit rows.npy --hidden 3 --out rbm.energax", "rbm.energax exists", "overwrite"),
    "out is the data": (
        "fit rows.npy --hidden 3 --out rows.npy --overwrite",
        "rows.npy is the data",
    ),
    "out of too long a name": (f"fit rows.npy --hidden 3 --out {'m' * 300}", "too long"),
    "damaged checkpoint": ("fit rows.npy --hidden 3 --out damaged.energax", "not a whole"),
    "a model for a checkpoint": (
        "fit rows.npy --hidden 3 --out model.energax",
        "holds a model, expected a checkpoint",
    ),
    "checkpoint of another run": (
        "fit rows.npy --hidden 3 --out other.energax",
        "run.data",
        "--no-resume",
    ),
    # models
    "missing model": ("sample missing.energax", "missing.energax", "no such file"),
    "folder as model": ("sample bare", "bare", "not a regular file"),
    "data as model": ("sample rows.npy", "rows.npy", "not a whole"),
    "text as model": ("logz text.energax", "text.energax", "not a whole"),
    "empty model": ("logz empty.energax", "empty.energax", "not a whole"),
    "truncated model": ("sample cut.energax", "cut.energax", "not a whole"),
    "only a model's head": ("info head.energax", "head.energax", "not a whole"),
    "checkpoint as model": ("info state.checkpoint", "checkpoint, expected a model"),
    "tree as model": ("logz tree.energax", "tree.energax"),
    "space as model": ("logz space.energax", "Binary, not a model"),
    "model of functions": ("logz network.energax", "network.energax", "like"),
    "another class": ("sample tampered_class.energax", "os.system", "does not know"),
    "other shapes": ("sample tampered_shape.energax", "tampered_shape", "consistent"),
    "a field less": ("sample tampered_field.energax", "weights"),
    "newer format": ("sample tampered_newer.energax", "newer energax", "upgrade"),
    "another kind": ("sample tampered_kind.energax", "malformed"),
    "base rates of another width": (
        "logz tampered_base.energax --method annealing",
        "base rates",
    ),
    "base rates of text": ("logz tampered_base_text.energax --method annealing", "logits"),
    "settings of a number": ("report tampered_settings.energax rows.npy", "'settings'"),
    "fraction of text": ("report tampered_fraction.energax rows.npy", "'test_fraction'"),
    "history of text": ("report tampered_history.energax rows.npy", "'step'"),
    # sample
    "no draws": ("sample rbm.energax -n 0", "-n", "got 0"),
    "negative draws": ("sample rbm.energax -n -3", "-n", "-3"),
    "draws beyond memory": ("sample rbm.energax -n 2000000000", "2000000000 draws", "GiB"),
    "sample no chains": ("sample rbm.energax --chains 0", "--chains", "got 0"),
    "negative warmup": ("sample rbm.energax --warmup -1", "--warmup", "-1"),
    "thin of 0": ("sample rbm.energax --thin 0", "--thin", "got 0"),
    "thin beyond 32 bits": ("sample rbm.energax --thin 5000000000", "--thin", "2^31"),
    "samples that are no npz": ("sample rbm.energax --out s.csv", "must end in .npz"),
    "samples exist": ("sample rbm.energax --out whole.npz", "whole.npz exists"),
    "no start": ("sample rbm.energax --start missing.npz", "missing.npz", "no such file"),
    "narrow start": ("sample rbm.energax --start narrow.npy", "6 entries", "have 5"),
    "grey start": ("sample rbm.energax --start counts.npy", "counts.npy", "zeros and ones"),
    "damaged start": ("sample rbm.energax --start samples_cut.npz", "samples_cut.npz", "damaged"),
    "start of objects": ("sample rbm.energax --start samples_pickled.npz", "Python objects"),
    "start of another model": ("sample rbm.energax --start samples_parts.npz", "no array 'x'"),
    "start of another width": ("sample rbm.energax --start samples_other.npz", "(2, 3, 6)"),
    "start of other values": ("sample rbm.energax --start samples_seven.npz", "samples_seven.npz"),
    "start where all failed": ("sample rbm.energax --start samples_lost.npz", "finite energy"),
    "start of flat energies": ("sample rbm.energax --start samples_flat.npz", "must have shape"),
    "start of no draw": ("sample rbm.energax --start samples_undrawn.npz", "no draw"),
    "samples over their start": (
        "sample rbm.energax --start samples_good.npz --out samples_good.npz --overwrite",
        "samples_good.npz is the data",
    ),
    "samples in no folder": ("sample rbm.energax --out no/s.npz", "no folder no"),
    "samples and a bad seed": ("sample rbm.energax --seed x", "--seed"),
    # score
    "rows of another width": ("score rbm.energax narrow.npy", "6 entries", "have 5"),
    "scores that are no csv": ("score rbm.energax rows.npy --out s.npz", "must end in .csv"),
    "scores exist": ("score rbm.energax rows.npy --out words.csv", "words.csv exists"),
    "scores over the data": (
        "score rbm.energax words.csv --out words.csv --overwrite",
        "words.csv is the data",
    ),
    "threshold for real rows": (
        "score gaussian.energax rows.npy --threshold 0.5",
        "--threshold",
        "Real",
    ),
    "rows for a joint": ("score joint.energax rows.npy", "Joint"),
    "score grey with no range": ("score rbm.energax counts.npy", "int64"),
    "score level of 1": ("score rbm.energax rows.npy --level 1", "level", "1.0"),
    "score half a part": ("score rbm.energax rows.npy --part half", "--part", "half"),
    "score a part nobody made": ("score rbm.energax rows.npy --part test", "--part test", "split"),
    "score over reals on a scale": ("score gaussian.energax rows.npy --high 2", "--high", "Real"),
    "score temperatures beyond memory": (
        "score rbm.energax rows.npy --temperatures 2000000000",
        "2000000000 temperatures",
        "GiB",
    ),
    "score one chain": ("score rbm.energax rows.npy --chains 1", "--chains", "got 1"),
    "model and data swapped": ("score rows.npy rbm.energax", "rows.npy"),
    # logz
    "level of 0": ("logz rbm.energax --level 0", "level", "between 0 and 1"),
    "NaN level": ("logz rbm.energax --level nan", "level"),
    "one temperature": ("logz rbm.energax --temperatures 1", "--temperatures", "got 1"),
    "no annealed chains": ("logz rbm.energax --chains 0", "--chains", "got 0"),
    "chains beyond memory": ("logz rbm.energax --chains 2000000000", "chains", "GiB"),
    "temperatures beyond memory": (
        "logz rbm.energax --method annealing --temperatures 2000000000",
        "2000000000 temperatures",
        "GiB",
    ),
    "enumeration of too many": ("logz large.energax --method enumeration", "cannot be listed"),
    "enumeration of reals": ("logz gaussian.energax --method enumeration", "cannot be listed"),
    # report, info, demo
    "report of other rows": ("report rbm.energax narrow.npy", "(6,)", "(5,)"),
    "report that is no page": ("report rbm.energax rows.npy --out r.pdf", "must end in .html"),
    "report of a Gaussian": ("report gaussian.energax rows.npy", "Real"),
    "report of a joint": ("report joint.energax rows.npy", "Joint"),
    "report, one temperature": ("report rbm.energax rows.npy --temperatures 1", "--temperatures"),
    "report, no steps": ("report rbm.energax rows.npy --sample-steps 0", "--sample-steps"),
    "report, temperatures beyond memory": (
        "report rbm.energax rows.npy --temperatures 2000000000",
        "2000000000 temperatures",
    ),
    "rows of text": ("report tampered_rows.energax rows.npy", "'rows'"),
    "calls of text": ("report tampered_calls.energax rows.npy", "'steps'"),
    "info on nothing": ("info missing.npy", "missing.npy"),
    "info on noise": ("info noise.gz", "noise.gz"),
    "demo in a file": ("demo --out rows.npy", "rows.npy is a file"),
    "demo of no epochs": ("demo --epochs 0 --out new", "--epochs"),
    "demo of countless epochs": ("demo --epochs 1e300 --out new", "--epochs", "2147483647"),
    "demo over a model": ("demo --out own", "digits-rbm.energax exists", "--overwrite"),
    "demo of a bad seed": ("demo --seed 9999999999999999999 --out new", "--seed"),
}


def test_there_are_enough_kinds():
    assert len(BAD) >= 40


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(name, folder, capsys, monkeypatch):
    line, *words = BAD[name]
    monkeypatch.chdir(folder)
    before = listing(folder)
    ended = call(capsys, *line.split())
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.startswith("energax: error: ")
    assert ended.err.endswith("\n")
    assert ended.err.count("\n") == 1, ended.err
    assert len(ended.err) < 800
    for word in words:
        assert word.lower() in ended.err.lower()  # typer names arguments in either case
    assert listing(folder) == before


@pytest.mark.parametrize("name", ["missing file", "unknown option", "truncated model"])
def test_bad_input_is_as_quiet_when_json_or_silence_is_asked_for(name, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    line = BAD[name][0].split()
    for option in ("--json", "--quiet"):
        ended = call(capsys, *line, option)
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="everything is permitted")
def test_a_folder_that_cannot_be_written_to(folder, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    tmp_path.chmod(0o500)
    ended = call(capsys, "sample", "rbm.energax", "--out", tmp_path / "s.npz")
    assert ended.code == 2
    assert "cannot be written to" in ended.err
