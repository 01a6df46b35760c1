"""A log as a file with one JSON object a line."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from energax.io._aside import written_aside
from energax.io._plain import plain
from energax.training._logs import AbstractLog, as_told
from energax.training._progress import Row

_FIRST = b'{"step": '
"""How every line begins."""

_OURS = re.compile(rb'\{"step": \d+, "(epoch|alarm)": ')


class JSONLog(AbstractLog):
    """A file with one JSON object a line for each row of the history, there to read at once:
    `tail -f`, `pandas.read_json(path, lines=True)`.

    An alarm is a line too, whose `alarm` is its cause: rows above it of steps beyond its `back_to`
    were undone. Numbers that are not finite are null. A run that goes on from a checkpoint goes on
    in the file, where what came after the checkpoint is cut off; one that starts replaces it.

    **Arguments:**

    - `path`: of the file; its folder must exist.

    **Raises:** in `check`: `ValueError` if the file could not be written, or holds something that
    is no log.

    ```python
    import json
    import tempfile
    from pathlib import Path

    import energax as ex
    import numpy as np

    path = Path(tempfile.mkdtemp()) / "run.jsonl"
    rbm = ex.RBM.init(ex.key(0), n_visible=4, n_hidden=3)
    run = ex.fit(
        rbm, np.eye(4), ex.ContrastiveDivergence(), key=ex.key(1), steps=300, log=ex.JSONLog(path)
    )
    [json.loads(line)["step"] for line in path.read_text().splitlines()]  # [100, 200, 300]
    ```
    """

    def __init__(self, path: str | os.PathLike[str]):
        if not isinstance(path, str | os.PathLike):
            raise ValueError(f"path must be a path, got {type(path).__name__}")
        self.path = Path(path)
        self._file: BinaryIO | None = None

    def check(self) -> None:
        if self.path.is_dir():
            raise ValueError(f"log must be a file, {self.path} is a folder")
        folder = self.path.parent
        if not folder.is_dir():
            raise ValueError(f"log cannot be written: there is no folder {folder}")
        if not os.access(self.path if self.path.exists() else folder, os.W_OK):
            raise ValueError(f"log cannot be written: {self.path} is closed to writing")
        if self.path.exists():
            with open(self.path, "rb") as file:
                first = file.read(100)
            torn = b"\n" not in first and _FIRST.startswith(first[: len(_FIRST)])
            if not (_OURS.match(first) or torn):
                raise ValueError(f"{self.path} exists and is no log of training: name another file")

    def start(self, history: Sequence[Row], alarms: Sequence[dict[str, Any]]) -> None:
        self.close()
        wanted = [
            _line(_flat(record) if kind == "alarm" else record)
            for kind, record in as_told(history, alarms)
        ]
        length = _told_in(self.path, history, alarms)
        if length is None:
            with written_aside(self.path) as file:
                file.writelines(wanted)
        else:
            os.truncate(self.path, length)
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115

    def row(self, row: Row) -> None:
        self._write(_line(row))

    def alarm(self, alarm: dict[str, Any]) -> None:
        self._write(_line(_flat(alarm)))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: bytes) -> None:
        assert self._file is not None
        self._file.write(line)


def _flat(alarm: dict[str, Any]) -> dict[str, Any]:
    """An alarm as a line has it."""
    rest = {name: value for name, value in alarm.items() if name not in ("step", "cause")}
    return {"step": alarm["step"], "alarm": alarm["cause"], **rest}


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(plain(record), allow_nan=False).encode() + b"\n"


def _told_in(path: Path, history: Sequence[Row], alarms: Sequence[dict[str, Any]]) -> int | None:
    """How many bytes of a file tell just this; `None` if it does not tell it."""
    if not path.exists():
        return None
    left, wanted_rows = [_line(_flat(alarm)) for alarm in alarms], [_line(row) for row in history]
    last = history[-1]["step"] if history else 0
    rows: list[tuple[int, bytes]] = []
    length = 0
    with open(path, "rb") as file:
        for line in file:
            record = _record(line)
            if record is None:
                break
            if "alarm" in record:
                if not left:
                    break
                if line != left.pop(0):
                    return None
                rows = [row for row in rows if row[0] <= record["back_to"]]
            elif not left and record["step"] > last:
                break
            else:
                rows.append((record["step"], line))
            length += len(line)
    return length if not left and [line for _, line in rows] == wanted_rows else None


def _record(line: bytes) -> dict[str, Any] | None:
    """A line read; `None` of one that is torn."""
    if not (line.startswith(_FIRST) and line.endswith(b"\n")):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    counts = record.get("step"), record.get("back_to", None if "alarm" in record else 0)
    return record if all(type(count) is int for count in counts) else None
