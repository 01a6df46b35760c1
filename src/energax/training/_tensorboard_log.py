"""A log as TensorBoard's event files."""

import functools
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from energax.training._logs import AbstractLog, as_told
from energax.training._progress import Row


class TensorBoardLog(AbstractLog):
    """A folder with event files for `tensorboard --logdir`: a curve for each measure, and the
    guard's alarms as text, at the step that the run went back to.

    Where a run goes back, or goes on from a checkpoint, or starts anew, curves beyond that step are
    drawn again; TensorBoard hides what they were. Numbers that are not finite are left out.

    Needs the extra `tensorboard`: `pip install "energax[tensorboard]"`, which writes the files.
    TensorBoard itself, to look at them, is a package of its own.

    **Arguments:**

    - `folder`: made if it is not there; the folder it is in must exist. One folder a run.

    **Raises:** in `check`: `ValueError` if the folder could not be written to; `ImportError` if the
    extra is missing.

    ```python
    import tempfile

    import energax as ex
    import numpy as np

    rbm = ex.RBM.init(ex.key(0), n_visible=4, n_hidden=3)
    log = ex.TensorBoardLog(tempfile.mkdtemp())
    run = ex.fit(rbm, np.eye(4), ex.ContrastiveDivergence(), key=ex.key(1), steps=300, log=log)
    ```
    """

    def __init__(self, folder: str | os.PathLike[str]):
        if not isinstance(folder, str | os.PathLike):
            raise ValueError(f"folder must be a path, got {type(folder).__name__}")
        self.folder = Path(folder)
        self._writer: Any = None
        self._alarms = 0

    def check(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"log must be a folder for TensorBoard, {self.folder} is a file")
        if not self.folder.parent.is_dir():
            raise ValueError(f"log cannot be written: there is no folder {self.folder.parent}")
        if not os.access(self.folder if self.folder.exists() else self.folder.parent, os.W_OK):
            raise ValueError(f"log cannot be written: {self.folder} is closed to writing")
        _library()

    def start(self, history: Sequence[Row], alarms: Sequence[dict[str, Any]]) -> None:
        self.close()
        self.folder.mkdir(exist_ok=True)
        # Files of one folder are read in the order of their names, which begin with the second.
        events = str(self.folder / "events")
        self._writer = _library().EventsWriter(events, f".{time.time_ns()}")
        self._restart(0)
        self._alarms = 0
        for kind, record in as_told(history, alarms):
            if kind == "alarm":
                self._text(record)
            else:
                self._scalars(record)
        self._writer.flush()

    def row(self, row: Row) -> None:
        self._scalars(row)
        self._writer.flush()

    def alarm(self, alarm: dict[str, Any]) -> None:
        self._restart(alarm["back_to"] + 1)
        self._text(alarm)
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _restart(self, step: int) -> None:
        """What came before and is of this step or a later one counts no longer."""
        log = _library().SessionLog
        self._write(step, session_log=log(status=log.START))

    def _scalars(self, row: Row) -> None:
        Summary = _library().Summary
        values = [
            Summary.Value(tag=name, simple_value=float(value))
            for name, value in row.items()
            if name != "step" and math.isfinite(value)
        ]
        self._write(int(row["step"]), summary=Summary(value=values))

    def _text(self, alarm: dict[str, Any]) -> None:
        self._alarms += 1  # each under a name of its own: of two at one step the last would stay
        words = f"{alarm['cause']}: {alarm['text']}"
        text = _library().text(f"alarm_{self._alarms}", words)
        self._write(alarm["back_to"], summary=text)

    def _write(self, step: int, **what: Any) -> None:
        self._writer.write_event(_library().Event(wall_time=time.time(), step=step, **what))


class _Library(NamedTuple):
    """What is used of tensorboardX: of its two writers the one without a process and a thread, so
    that a row is in the file when it has been told."""

    EventsWriter: Any
    Event: Any
    SessionLog: Any
    Summary: Any
    text: Any


@functools.cache
def _library() -> _Library:
    try:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2, summary_pb2
        from tensorboardX.summary import text
    except ImportError as error:
        raise ImportError(
            'files for TensorBoard are written by tensorboardX: pip install "energax[tensorboard]"'
        ) from error
    made: Any = event_pb2, summary_pb2  # whose classes are made when they are imported
    events, summaries = made
    return _Library(EventsWriter, events.Event, events.SessionLog, summaries.Summary, text)
