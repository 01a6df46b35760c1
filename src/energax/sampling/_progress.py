"""A progress bar with rate and time left, on standard error."""

from types import TracebackType
from typing import Any

_SHOWN = (
    ("loss", "energy_gap", "moment_error", "score_matching"),
    ("log_likelihood", "validation_pseudo_likelihood"),
    ("chain_rhat",),
)
"""Measures of which the first there is of each group stands beside the bar."""


_WITHOUT = 80
"""Columns of all else, the bar at most of its length."""


class Bar:
    """Shows what is done, how much a second, time left and one measure; silent if not asked for."""

    def __init__(
        self, total: int, done: int, *, show: bool, title: str = "fit", unit: str = "steps"
    ):
        self._progress: Any = _progress(title) if show else None
        self._unit = unit
        self._known: dict[str, float | int] = {}
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

    def update(self, done: int, measures: dict[str, float | int], rate: float) -> None:
        """Show the state after a chunk: what was measured, or last measured. `rate` is how much
        was done a second."""
        if self._progress is None:
            return
        self._known = {**self._known, **measures} if measures else {}
        measure = shown_measures(self._known, self._progress.console.width - _WITHOUT)
        self._progress.update(
            self._task, completed=done, rate=f"{rate:,.0f} {self._unit}/s", measure=measure
        )

    def say(self, words: str) -> None:
        """Show words where the measure stands, before there is one."""
        if self._progress is not None:
            self._progress.update(self._task, measure=words)


def shown_measures(measures: dict[str, float | int], room: int) -> str:
    """The first of each group, as many as there is room for, and one in any case."""
    first = [next((n for n in group if n in measures), None) for group in _SHOWN]
    words = [f"{n} {measures[n]:.4g}" for n in first if n is not None]
    while len(words) > 1 and len(", ".join(words)) > room:
        words.pop()
    return ", ".join(words)


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
