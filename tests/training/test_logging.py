"""Logs of a run while it runs: rows once each, alarms told, whole after a stop, null for NaN."""

import json
import math
import shutil
import struct
import sys

import numpy as np
import pytest
from training_setups import BARS, assert_same, rbm, train, without_seconds

import energax as ex
from energax.training import _json_log, _logs, _tensorboard_log

STEPS = 30


class Spy(ex.AbstractLog):
    """Calls `look` after every row and alarm that was told to the logs before it."""

    def __init__(self, look):
        self.look, self.told = look, []

    def check(self):
        pass

    def start(self, history, alarms):
        self.told.append(("start", len(history), len(alarms)))

    def row(self, row):
        self.told.append(("row", row["step"], self.look()))

    def alarm(self, alarm):
        self.told.append(("alarm", alarm["step"], self.look()))

    def close(self):
        self.told.append(("close",))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def replayed(told):
    """The history that a file's lines amount to, and the alarms among them."""
    rows, alarms = [], []
    for record in told:
        if "alarm" in record:
            alarms.append(record)
            rows = [row for row in rows if row["step"] <= record["back_to"]]
        else:
            rows.append(record)
    return rows, alarms


def failing(**options):
    """A run that fails, goes back at least once, and then ends well."""
    pcd = ex.PersistentContrastiveDivergence(1, 20)
    options = {"steps": 60, "log_every": 10, "learning_rate": 100.0, "retries": 6, **options}
    run = train(objective=pcd, optimizer=None, momentum=0.0, **options)
    assert run.ok
    return run


# --- lines of JSON -----------------------------------------------------------------------------


def test_every_row_is_in_the_file_when_it_has_been_told(tmp_path):
    path = tmp_path / "run.jsonl"
    spy = Spy(lambda: len(lines(path)))
    run = train(steps=STEPS, log=[path, spy])
    assert lines(path) == run.history
    steps = [row["step"] for row in run.history]
    assert spy.told == [
        ("start", 0, 0),
        *(("row", step, i) for i, step in enumerate(steps, 1)),
        ("close",),
    ]


def test_what_the_guard_undid_stays_and_is_told(tmp_path):
    path = tmp_path / "run.jsonl"
    run = failing(log=path)
    told = lines(path)
    rows, alarms = replayed(told)
    assert rows == run.history
    assert [(a["step"], a["alarm"], a["text"]) for a in alarms] == [
        (a["step"], a["cause"], a["text"]) for a in run.alarms
    ]
    assert len(alarms) > 0
    assert len(told) > len(rows) + len(alarms)  # steps that were taken in vain


@pytest.mark.parametrize("stop", [4, 11, 20])
def test_a_run_that_goes_on_has_each_row_once(stop, tmp_path):
    path, checkpoint = tmp_path / "run.jsonl", tmp_path / "state.ckpt"
    train(steps=stop, checkpoint=checkpoint, log=path)
    kept = tmp_path / "kept.ckpt"
    shutil.copy(checkpoint, kept)
    train(steps=24, checkpoint=checkpoint, log=path)
    # Killed after more rows and in the middle of one, it goes on from the older checkpoint.
    shutil.copy(kept, checkpoint)
    with open(path, "ab") as file:
        file.write(b'{"step": 28, "ep')
    run = train(steps=STEPS, checkpoint=checkpoint, log=path)
    assert lines(path) == run.history
    if stop != 11:
        assert_same(run, train(steps=STEPS))


def test_a_run_that_went_back_and_was_killed_goes_on_in_its_log(tmp_path):
    path, checkpoint = tmp_path / "run.jsonl", tmp_path / "state.ckpt"
    stops = [failing(steps=n, checkpoint=checkpoint, log=path) for n in (20, 50)]
    before = lines(path)
    assert len(stops[-1].alarms) > 0
    run = failing(checkpoint=checkpoint, log=path)
    assert lines(path)[: len(before)] == before
    assert replayed(lines(path))[0] == run.history


@pytest.mark.parametrize("there", [b"", b'{"step": 4, "epoch": 9.0, "seconds": 1.0}\n'])
def test_a_log_that_does_not_tell_what_the_checkpoint_does_is_written_anew(there, tmp_path):
    path, checkpoint = tmp_path / "run.jsonl", tmp_path / "state.ckpt"
    failing(steps=50, checkpoint=checkpoint)
    path.write_bytes(there)
    run = failing(checkpoint=checkpoint, log=path)
    rows, alarms = replayed(lines(path))
    assert rows == run.history
    assert len(alarms) == len(run.alarms) > 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.jsonl", "state.ckpt"]


def test_a_run_that_starts_replaces_the_log_of_another(tmp_path):
    path = tmp_path / "run.jsonl"
    train(steps=STEPS, log=path)
    run = train(steps=8, log=path)
    assert lines(path) == run.history


@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("after", [False, True])
def test_ctrl_c_while_a_row_is_told_loses_and_doubles_none(at, after, tmp_path, monkeypatch):
    path, calls = tmp_path / "run.jsonl", []
    real = ex.JSONLog.row

    def stopped(self, row):
        calls.append(row)
        if len(calls) == at + 1:
            if after:
                real(self, row)
            raise KeyboardInterrupt
        real(self, row)

    monkeypatch.setattr(ex.JSONLog, "row", stopped)
    run = train(steps=STEPS, log=path)
    assert run.status == "interrupted"
    assert len(run.history) == at + 1
    assert lines(path) == run.history


def test_numbers_that_are_not_finite_are_null(tmp_path):
    log = ex.JSONLog(tmp_path / "run.jsonl")
    log.check()
    log.start([], [])
    log.row({"step": 1, "a": math.nan, "b": -math.inf, "c": np.float32(0.5)})
    log.close()
    assert lines(log.path) == [{"step": 1, "a": None, "b": None, "c": 0.5}]


@pytest.mark.parametrize("content", [b"a diary\n", b"[1, 2]\n", b'{"step": 1, "mine": 2}\n'])
def test_a_file_that_is_no_log_is_not_touched(content, tmp_path):
    path = tmp_path / "diary.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no log of training"):
        train(steps=4, log=path)
    assert path.read_bytes() == content


def test_rows_and_alarms_come_in_an_order_that_amounts_to_the_history():
    history = [{"step": step} for step in (4, 8, 12, 16)]
    alarms = [{"back_to": 12}, {"back_to": 4}, {"back_to": 8}]
    told = [(kind, *record.values()) for kind, record in _logs.as_told(history, alarms)]
    assert told == [
        ("row", 4),
        ("alarm", 12),
        ("alarm", 4),
        ("row", 8),
        ("alarm", 8),
        ("row", 12),
        ("row", 16),
    ]


# --- TensorBoard -------------------------------------------------------------------------------


def events(folder):
    """Every event in a folder's files, in the order in which TensorBoard reads them."""
    event = _tensorboard_log._library().Event
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            yield event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def curves(folder):
    """What TensorBoard shows: by measure, value by step; and texts."""
    shown, texts = {}, []
    for event in events(folder):
        if event.HasField("session_log"):
            assert event.session_log.status == event.session_log.START
            shown = {
                name: {step: value for step, value in curve.items() if step < event.step}
                for name, curve in shown.items()
            }
            texts = [text for text in texts if text[1] < event.step]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                shown.setdefault(value.tag, {})[event.step] = value.simple_value
            else:
                n = int(value.tag.removeprefix("alarm_").removesuffix("/text_summary"))
                texts.append((n, event.step, value.tensor.string_val[0].decode()))
    return {name: curve for name, curve in shown.items() if curve}, texts


def wanted(history):
    found = {}
    for row in history:
        for name, value in row.items():
            if name != "step" and math.isfinite(value):
                found.setdefault(name, {})[row["step"]] = pytest.approx(value, rel=1e-6)
    return found


def test_tensorboard_shows_the_history(tmp_path):
    folder = tmp_path / "board"
    spy = Spy(lambda: len(curves(folder)[0]["epoch"]))
    run = train(steps=STEPS, log=[folder, spy])
    shown, texts = curves(folder)
    assert shown == wanted(run.history)
    assert texts == []
    assert [count for _, _, count in spy.told[1:-1]] == list(range(1, len(run.history) + 1))


def test_tensorboard_hides_what_was_undone_and_says_so(tmp_path):
    folder, checkpoint = tmp_path / "board", tmp_path / "state.ckpt"
    for steps in (50, 60):
        run = failing(steps=steps, log=folder, checkpoint=checkpoint)
        shown, texts = curves(folder)
        assert shown == wanted(run.history)
        assert texts == [
            (i, a["back_to"], f"{a['cause']}: {a['text']}") for i, a in enumerate(run.alarms, 1)
        ]
        assert len(texts) > 0
    assert len(list(folder.iterdir())) == 2


def test_tensorboard_s_extra_is_named_when_it_is_missing(tmp_path, monkeypatch):
    _tensorboard_log._library.cache_clear()
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    with pytest.raises(ImportError, match=r'pip install "energax\[tensorboard\]"'):
        train(steps=4, log=tmp_path / "board")
    assert list(tmp_path.iterdir()) == []


# --- where ---------------------------------------------------------------------------------------


def test_a_folder_with_a_dot_is_tensorboard_s_if_it_is_there(tmp_path):
    folder = tmp_path / "run.1"
    with pytest.raises(ValueError, match=r"\.jsonl or a folder for TensorBoard"):
        _logs.as_logs(folder)
    folder.mkdir()
    _logs.as_logs([folder, str(tmp_path / "new"), tmp_path / "a.jsonl"])
    assert [file.name for file in tmp_path.iterdir()] == ["run.1"]


def test_a_log_changes_nothing(tmp_path):
    logged = train(steps=STEPS, log=[tmp_path / "a.jsonl", tmp_path / "b"])
    assert_same(logged, train(steps=STEPS))
    assert without_seconds(lines(tmp_path / "a.jsonl")) == without_seconds(logged.history)


def test_a_log_that_fails_stops_the_run_and_is_closed(tmp_path):
    class Broken(Spy):
        def row(self, row):
            raise OSError("no space left on device")

    spy = Broken(len)
    with pytest.raises(OSError, match="no space left"):
        ex.fit(rbm(), BARS, ex.ContrastiveDivergence(), key=ex.key(0), steps=4, log=spy)
    assert spy.told[-1] == ("close",)


def test_torn_and_strange_lines_are_no_records():
    record = _json_log._record
    assert record(b'{"step": 1}\n') == {"step": 1}
    for line in (
        b'{"step": 1}',
        b'{"step": 1\n',
        b'{"step": "a"}\n',
        b'{"step": 1, "back_to": 0.5}\n',
    ):
        assert record(line) is None


def test_a_log_has_a_file_of_its_own(tmp_path):
    path = tmp_path / "run.jsonl"
    rows = np.zeros((20, 4))
    rbm = ex.RBM.init(ex.key(0), n_visible=4, n_hidden=2)
    for given in ({"log": path, "checkpoint": path}, {"log": [path, path]}):
        with pytest.raises(ValueError, match="files of their own"):
            ex.fit(rbm, rows, ex.ContrastiveDivergence(), key=ex.key(1), steps=1, **given)
    assert not path.exists()
