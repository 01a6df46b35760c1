"""Rows of one array, in a file or in memory."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from energax.io._checks import one_line
from energax.io._numpy_files import read_header
from energax.io._source import AbstractSource

_GAP = 2**11
"""Bytes between two rows that are read as well rather than asked for a second time."""

_SPAN = 2**22
"""Bytes that are read at once."""


class ArrayRows(AbstractSource):
    """Rows of an array in memory."""

    def __init__(self, array: np.ndarray):
        self.name = "the array"
        _check(self.name, array.shape, array.dtype)
        self._array = array
        self.n_rows, self.shape = len(array), array.shape[1:]
        self.dtype, self.n_bytes = array.dtype, array.nbytes

    def read(self, numbers: np.ndarray) -> np.ndarray:
        return self._array[numbers]

    def place(self, number: int) -> str:
        return f"row {number}"


class ArrayFile(AbstractSource):
    """Rows of an array in a file, each in one piece.

    They are read and not mapped into memory: pages of a map stay there, and a file that is cut
    off meanwhile would end the process.
    """

    def __init__(
        self, path: Path, offset: int, stride: int, shape: tuple[int, ...], dtype: np.dtype
    ):
        self.name = str(path)
        _check(self.name, shape, dtype)
        self._path, self._offset, self._stride = path, offset, stride
        self.n_rows, self.shape, self.dtype = shape[0], shape[1:], dtype
        self._row_bytes = dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))
        self.n_bytes = path.stat().st_size

    @classmethod
    def open(cls, path: Path) -> "ArrayFile":
        """Of a `.npy` file."""
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                shape, fortran_order, dtype = read_header(file, size, "the file")
                offset = file.tell()
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: {one_line(error)}") from None
        if fortran_order and len(shape) > 1:
            raise ValueError(
                f"{path} is stored column by column (Fortran order), so that no row lies in one"
                " piece: save numpy.ascontiguousarray of it"
            )
        stride = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        return cls(path, offset, stride, shape, dtype)

    @classmethod
    def of_memmap(cls, array: np.memmap) -> "ArrayFile":
        """Of an array that is mapped from a file, or of some of its rows."""
        if array.mode == "c":
            raise ValueError(
                "the memory map is open copy-on-write (mode 'c'), so that what was changed is in"
                " no file: open it with mode 'r'"
            )
        if array.ndim and array.size and not array[0].flags.c_contiguous:
            raise ValueError(
                f"rows of the memory map of {array.filename} do not lie in one piece each: give"
                " an array in C order, with whole rows"
            )
        root: Any = array
        name: Any = array.filename
        while isinstance(root.base, np.memmap):
            root = root.base
        # A view keeps the `offset` of the whole map.
        offset = root.offset + array.ctypes.data - root.ctypes.data
        stride = array.strides[0] if array.ndim else 0
        return cls(Path(name), offset, stride, array.shape, array.dtype)

    def read(self, numbers: np.ndarray) -> np.ndarray:
        size = self._row_bytes
        rows = np.empty((len(numbers), size), np.uint8)
        starts = numbers.astype(np.int64) * self._stride
        if self._stride < 0:  # rows in the opposite order, as a view of a memory map may have them
            starts = starts[::-1]
        apart = np.diff(starts) - size > _GAP
        apart |= np.diff(starts // _SPAN) != 0
        cuts = [0, *(np.flatnonzero(apart) + 1).tolist(), len(starts)]
        with self._path.open("rb", buffering=0) as file:
            if self._path.stat().st_size != self.n_bytes:
                raise ValueError(f"{self.name} has changed its size since it was opened")
            into = memoryview(rows.data).cast("B") if len(rows) else memoryview(b"")
            at = (self._offset + starts).tolist()
            for first, last in itertools.pairwise(cuts):
                if last - first < 2:
                    if last > first:  # there may be no rows at all
                        _fill(file, at[first], into[first * size : last * size])
                    continue
                buffer = np.empty(at[last - 1] - at[first] + size, np.uint8)
                _fill(file, at[first], memoryview(buffer.data))
                piece = np.lib.stride_tricks.sliding_window_view(buffer, size)
                rows[first:last] = piece[starts[first:last] - starts[first]]
        if self._stride < 0:
            rows = rows[::-1]
        return np.ascontiguousarray(rows).view(self.dtype).reshape(len(numbers), *self.shape)


def _fill(file: Any, start: int, view: memoryview) -> None:
    """Fill `view` with what stands from `start` on in the file."""
    file.seek(start)
    done = file.readinto(view)
    while done < len(view):
        n = file.readinto(view[done:])
        if not n:
            raise EOFError("the file ends early")
        done += n


def _check(name: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.kind not in "buif":
        raise ValueError(f"{name} must hold numbers or booleans, got dtype {dtype}")
    if not shape or 0 in shape:
        raise ValueError(f"{name} is empty, it has shape {shape}: at least one row is needed")
    if shape[0] >= 2**31:
        raise ValueError(f"{name} has {shape[0]} rows: at most 2^31 - 1 are numbered")
