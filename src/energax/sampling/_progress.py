"""A progress bar with rate and time left, on standard error."""

from types import TracebackType
from typing import Any

_SHOWN = ("loss", "energy_gap", "moment_error", "score_matching")
"""Measures of which the first there is stands beside the bar."""


class Bar:
    """Shows what is done, how much a second, time left and one measure; silent if not asked for."""

    def __init__(
        self, total: int, done: int, *, show: bool, title: str = "fit", unit: str = "steps"
    ):
        self._progress: Any = _progress(title) if show else None
        self._unit = unit
        if show:
            self._task = self._progress.add_task(
                title, total=total, completed=done, rate="", measure=""
            )

    def __enter__(self) -> "Bar":
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, done: int, measures: dict[str, float], rate: float) -> None:
        """Show the state after a chunk. `rate` is how much was done a second."""
        if self._progress is None:
            return
        name = next((n for n in _SHOWN if n in measures), None)
        measure = "" if name is None else f"{name} {measures[name]:.4g}"
        self._progress.update(
            self._task, completed=done, rate=f"{rate:,.0f} {self._unit}/s", measure=measure
        )

    def say(self, words: str) -> None:
        """Show words where the measure stands, before there is one."""
        if self._progress is not None:
            self._progress.update(self._task, measure=words)


def _progress(title: str) -> Any:
    from rich.console import Console  # only who watches waits for these
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn(f"[bold]{title}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[measure]}"),
        console=Console(stderr=True),
    )
