"""Logs: what training tells while it runs, to whoever wants to look."""

import abc
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from energax.training._progress import Progress, Row


class AbstractLog(abc.ABC):
    """A place that training writes its history to, a row at a time, and what its guard met.

    A row has `step`, `epoch`, `seconds` and the measures, as in `Fitted.history`; an alarm is as in
    `Fitted.alarms`. Where the guard goes back, rows of steps beyond the alarm's `back_to` that were
    told before it are of a way that was given up.
    """

    @abc.abstractmethod
    def check(self) -> None:
        """Raise, before training starts, what could be wrong with the place; write nothing."""

    @abc.abstractmethod
    def start(self, history: Sequence[Row], alarms: Sequence[dict[str, Any]]) -> None:
        """Open the place so that it tells just this: nothing yet, or what a run that goes on has
        behind it. May be called again."""

    @abc.abstractmethod
    def row(self, row: Row) -> None:
        """Tell a row."""

    @abc.abstractmethod
    def alarm(self, alarm: dict[str, Any]) -> None:
        """Tell an alarm."""

    @abc.abstractmethod
    def close(self) -> None:
        """Nothing more comes."""


class Logs:
    """Several logs that follow one run."""

    def __init__(self, logs: Sequence[AbstractLog]):
        self._logs = logs
        self._rows = self._alarms = 0
        """How many were told."""

    def __enter__(self) -> "Logs":
        return self

    def __exit__(self, *_: Any) -> None:
        for log in self._logs:
            log.close()

    def start(self, progress: Progress) -> None:
        """Tell just what a run has behind it."""
        for log in self._logs:
            log.start(progress.history, progress.alarms)
        self._rows, self._alarms = len(progress.history), len(progress.alarms)

    def follow(self, progress: Progress) -> None:
        """Tell what is new: a row, or an alarm and where the run is after it."""
        for alarm in progress.alarms[self._alarms :]:
            for log in self._logs:
                log.alarm(alarm)
            self._rows = len(progress.history)
        for row in progress.history[self._rows :]:
            for log in self._logs:
                log.row(row)
        self._rows, self._alarms = len(progress.history), len(progress.alarms)


def as_logs(log: Any, checkpoint: Path | None = None) -> Logs:
    """The argument `log` of `fit`, checked.

    **Raises:** `ValueError` for what is no log, or could not be written; `ImportError` naming the
    extra that is missing.
    """
    given = list(log) if isinstance(log, list | tuple) else [] if log is None else [log]
    logs = [_as_log(each) for each in given]
    paths = [] if checkpoint is None else [checkpoint.resolve()]
    for each in logs:
        each.check()
        path: Any = getattr(each, "path", None)
        if path is not None:
            paths.append(Path(path).resolve())
    if len(set(paths)) < len(paths):
        told = ", ".join(map(str, paths))
        raise ValueError(f"logs and checkpoint must be files of their own, got {told}")
    return Logs(logs)


def _as_log(log: Any) -> AbstractLog:
    from energax.training._json_log import JSONLog
    from energax.training._tensorboard_log import TensorBoardLog

    if isinstance(log, AbstractLog):
        return log
    if not isinstance(log, str | os.PathLike):
        raise ValueError(
            f"log must be a path, a log such as ex.JSONLog, or several, got {type(log).__name__}"
        )
    path = Path(log)
    if path.suffix == ".jsonl":
        return JSONLog(path)
    if path.suffix and not path.is_dir():
        raise ValueError(
            f"log must be a file that ends in .jsonl or a folder for TensorBoard, got {path}: a"
            " folder with a dot in its name has to be there already"
        )
    return TensorBoardLog(path)


def as_told(
    history: Sequence[Row], alarms: Sequence[dict[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows and alarms by name, in an order in which they could have come about."""
    told = 0
    for i, alarm in enumerate(alarms):
        kept = min(later["back_to"] for later in alarms[i:])
        while told < len(history) and history[told]["step"] <= kept:
            yield "row", dict(history[told])
            told += 1
        yield "alarm", alarm
    for row in history[told:]:
        yield "row", dict(row)
