"""Rows that stay in their files: data larger than memory, read a few rows at a time."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from energax.io._array_rows import ArrayFile, ArrayRows
from energax.io._checks import one_line
from energax.io._source import AbstractSource, Selected, first_fault
from energax.io._table_rows import TableFiles
from energax.random import as_count

Rows = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Stream:
    """Rows in files, made by `stream`. `len(rows)` is their number."""

    source: AbstractSource
    """Where the rows lie."""
    transform: Rows | None
    unpack_bits: bool
    window: int
    """Rows of a table that are shuffled among one another."""

    def __len__(self) -> int:
        return self.source.n_rows

    @property
    def name(self) -> str:
        """The file, or the folder of files."""
        return self.source.name

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The names of the columns of tables."""
        return self.source.columns

    def take(self, numbers: Any) -> np.ndarray:
        """The rows with these numbers, in this order: shape (len(numbers), *shape).

        **Raises:** `ValueError` if a number is out of range, or a file cannot be read or is not
        as it was.
        """
        at = np.asarray(numbers) if len(numbers) else np.zeros(0, int)
        if at.ndim != 1 or at.dtype.kind not in "ui":
            raise ValueError(f"numbers must be a list of integers, got {at.dtype} {at.shape}")
        if at.size and not 0 <= int(at.min()) <= int(at.max()) < len(self):
            raise ValueError(
                f"numbers must lie from 0 to {len(self) - 1}, got {at.min()} to {at.max()}"
            )
        order, back = np.unique(at, return_inverse=True)
        try:
            rows = self.source.read(order)[back]
        except (OSError, EOFError) as error:
            raise ValueError(f"{self.name} cannot be read any more: {one_line(error)}") from None
        if self.unpack_bits:
            rows = np.unpackbits(rows, axis=-1)
        return rows if self.transform is None else self._transformed(rows, at)

    def place(self, number: int) -> str:
        """A row in words: its number and its file."""
        return self.source.place(number)

    def select(self, numbers: Any) -> "Stream":
        """The rows with these numbers, to train on some and test on others.

        They come in this order, those of tables in that of the files.
        """
        return dataclasses.replace(self, source=Selected(self.source, numbers))

    def _transformed(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        transform: Any = self.transform
        try:
            changed = np.asarray(transform(rows))
        except ValueError as error:
            raise first_fault(numbers, rows, transform, self.place) or error from None
        if changed.shape[:1] != rows.shape[:1]:
            raise ValueError(
                f"transform must return as many rows as it is given, {len(rows)}, got an array of"
                f" shape {changed.shape}"
            )
        return changed


def stream(
    data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | np.ndarray,
    *,
    columns: Sequence[str] | None = None,
    unpack_bits: bool = False,
    transform: Rows | None = None,
    window: int | None = None,
) -> Stream:
    """Rows that are read from their files as they are wanted, for data larger than memory.

    `ex.fit` takes them for data, or a dictionary of them for a `Joint`. The rows of an array are
    seen in a new random order each epoch, the very order of an array in memory. Row groups of
    tables are taken in a random order, as many at a time as `window` rows need, and the rows of
    those are shuffled: write tables with row groups of some 10,000 rows, not millions.

    **Arguments:**

    - `data`: a `.npy` file, a `np.memmap`, a `.parquet` file, a folder or a list of those of the
      same columns, or an array in memory.
    - `columns`: of a table, the columns of a row; all of them if `None`.
    - `unpack_bits`: whether bytes hold eight bits each, to be unpacked along the last axis.
    - `transform`: what is done to rows as they are read, shape (n, *shape) to shape (n, *new),
      each row by itself and always alike: a scale, a threshold.
    - `window`: rows of a table that are in memory at a time; if `None`, 64 MiB of them.

    **Raises:** `ValueError` if a file is missing, is not what its name says or is cut off, or
    tables differ in their columns. Values are looked at when they are read.

    ```python
    import energax as ex
    import numpy as np

    pixels = np.random.default_rng(0).integers(0, 256, (500, 16), np.uint8)
    np.save("pixels.npy", pixels)
    rows = ex.stream("pixels.npy", transform=lambda pixels: pixels > 100)
    rbm = ex.RBM.init(ex.key(0), n_visible=16, n_hidden=8)
    run = ex.fit(rbm, rows, ex.ContrastiveDivergence(), key=ex.key(1), steps=100)
    ```
    """
    if not isinstance(unpack_bits, bool):
        raise ValueError(f"unpack_bits must be True or False, got {unpack_bits!r}")
    if transform is not None and not callable(transform):
        raise ValueError(f"transform must be a function of rows, got {transform!r}")
    source = _source(data, columns)
    if source.edges is None and (columns is not None or window is not None):
        which = "columns" if columns is not None else "window"
        raise ValueError(f"{which} means nothing for an array: leave it out")
    if unpack_bits and (source.dtype != np.uint8 or not source.shape):
        raise ValueError(
            f"unpack_bits needs bytes, an array of uint8 with at least 2 axes, but {source.name} is"
            f" {source.dtype} {(source.n_rows, *source.shape)}"
        )
    a_row = source.dtype.itemsize * int(np.prod(source.shape, dtype=np.int64))
    rows = max(1, 2**26 // max(a_row, 1)) if window is None else as_count(window, "window")
    source.keep(rows)
    return Stream(source, transform, unpack_bits, rows)


def _source(data: Any, columns: Sequence[str] | None) -> AbstractSource:
    if isinstance(data, np.memmap) and data.filename is not None:
        return ArrayFile.of_memmap(data)
    if isinstance(data, np.ndarray):
        return ArrayRows(np.asarray(data))
    if isinstance(data, list | tuple):
        if not data or not all(isinstance(path, str | os.PathLike) for path in data):
            raise ValueError("a list must be one of paths of .parquet files")
        return TableFiles.open([Path(path) for path in data], columns)
    if not isinstance(data, str | os.PathLike):
        raise ValueError(
            f"data must be a path, a list of paths or an array, got {type(data).__name__}"
        )
    path = Path(data)
    if path.is_dir():
        return TableFiles.open(sorted(path.glob("*.parquet")), columns, name=str(path))
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    with path.open("rb") as file:
        head = file.read(6)
    if head == b"\x93NUMPY":
        return ArrayFile.open(path)
    if head[:4] == b"PAR1":
        return TableFiles.open([path], columns)
    raise ValueError(
        f"{path} can not be streamed: expected a .npy or a .parquet file (ex.read takes more)"
    )
