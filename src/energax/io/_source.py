"""What rows outside memory are read from."""

import abc
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


class AbstractSource(abc.ABC):
    """Rows by number."""

    name: str
    """The file, or the folder of files."""
    n_rows: int
    shape: tuple[int, ...]
    """Of one row."""
    dtype: np.dtype
    n_bytes: int
    """The sizes of all files together."""
    columns: tuple[str, ...] | None = None
    edges: np.ndarray | None = None
    """Where the groups of rows that are read as a whole begin, and the last ends; `None` if every
    row is read by itself."""

    @abc.abstractmethod
    def read(self, numbers: np.ndarray) -> np.ndarray:
        """The rows with these numbers, which are sorted and differ."""

    def place(self, number: int) -> str:
        """A row in words."""
        return f"row {number} of {self.name}"

    def keep(self, window: int) -> None:  # noqa: B027
        """Be ready to be asked for any of so many rows again and again."""


class Selected(AbstractSource):
    """Some rows of another source."""

    def __init__(self, source: AbstractSource, numbers: Any):
        at = np.asarray(numbers)
        if at.ndim != 1 or not at.size or at.dtype.kind not in "ui":
            raise ValueError(f"numbers must be a list of integers, got {at.dtype} {at.shape}")
        if not 0 <= int(at.min()) <= int(at.max()) < source.n_rows:
            raise ValueError(
                f"numbers must lie from 0 to {source.n_rows - 1}, got {at.min()} to {at.max()}"
            )
        if source.edges is not None:
            at = np.sort(at)
            self.edges = np.unique(np.searchsorted(at, source.edges))
        self._source, self._numbers = source, at
        self.name, self.shape, self.dtype = source.name, source.shape, source.dtype
        self.n_bytes, self.columns, self.n_rows = source.n_bytes, source.columns, len(at)

    def read(self, numbers: np.ndarray) -> np.ndarray:
        wanted, back = np.unique(self._numbers[numbers], return_inverse=True)
        return self._source.read(wanted)[back]

    def place(self, number: int) -> str:
        return self._source.place(int(self._numbers[number]))


def first_fault(
    numbers: np.ndarray,
    rows: Any,
    use: Callable[[Any], Any],
    place: Callable[[int], str],
) -> ValueError | None:
    """What `use` says of the first of these rows, by number, that it refuses, with its place.

    `rows` may be a tree of arrays. `None` if it refuses the first without naming it: then all are
    wrong alike.
    """
    order = np.argsort(numbers, kind="stable")

    def fault(n: int) -> ValueError | None:
        try:
            use(jax.tree.map(lambda leaf: leaf[order[:n]], rows))
        except ValueError as error:
            return error
        return None

    good, bad = 0, len(order)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fault(middle) is None else (good, middle)
    words, found = str(fault(bad)), place(int(numbers[order[bad - 1]]))
    told = re.sub(rf"\brow {bad - 1}\b", lambda _: found, words)
    if told == words:
        return ValueError(f"{words} ({found})") if bad > 1 else None
    return ValueError(told)
