"""Rows for `energax fit --stream`: those to train on stay in their file."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

import energax as ex
from energax.cli._common import check_memory
from energax.cli._rows import Reading, hash_of, split_numbers
from energax.io import Stream, binarise, stream
from energax.io._numpy_files import is_packed
from energax.io._prepare import check_not_alike, is_two_valued, scale_of
from energax.io._table_rows import columns_without

_LOOKED_AT = 10_000
"""Rows that say how the others are to be read."""


@dataclasses.dataclass(frozen=True, eq=False)
class StreamedSplit:
    """Training rows in their file, and test rows."""

    train: Stream
    """Rows of zeros and ones, one flat row each."""
    test: np.ndarray
    """Shape (m, entries), zeros and ones."""
    some: np.ndarray
    """Training rows, evenly spread."""
    description: str
    """Where the rows came from, in a line."""

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of the test rows: that of the others would take another pass."""
        return {"test": hash_of(self.test)}


def split_stream(path: Path, reading: Reading, *, test_fraction: float, seed: int) -> StreamedSplit:
    """The split that `split_rows` makes, its training rows left in the file."""
    if not 0 < test_fraction < 1:
        raise ValueError(f"--test-fraction must lie between 0 and 1, got {test_fraction}")
    for name in ("array", "test_array"):
        if getattr(reading, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} is of an .npz, which --stream cannot read"
            )
    if not path.is_dir() and path.suffix.lower() not in (".npy", ".parquet"):
        raise ValueError(
            f"--stream reads a .npy or .parquet file, or a folder of .parquet files, not {path}"
        )
    rows = _opened(path, reading)
    probe = rows.take(_spread(len(rows)))
    if reading.unpack_bits is None and is_packed(path.stem, probe):
        rows, probe = dataclasses.replace(rows, unpack_bits=True), np.unpackbits(probe, axis=-1)
    if probe.ndim == 4 and probe.shape[-1] in (3, 4) and probe.shape[1] != 1:
        raise ValueError("--stream takes no images in colour: make them grey first")
    as_bits = _as_bits(probe, reading)
    rows = dataclasses.replace(rows, transform=as_bits)
    chosen, numbers = split_numbers(path, len(rows), test_fraction, seed)
    check_memory(numbers.size * probe[0].size // 4, f"{numbers.size} test rows")
    train = rows.select(chosen)
    name = Path(os.path.abspath(path)).name
    words = f"{name}: {probe.dtype} {(len(rows), *probe.shape[1:])}, streamed"
    test, some = _bits(rows.take(numbers)), _bits(train.take(_spread(len(train))))
    return StreamedSplit(train, test, some, words)


def _opened(path: Path, reading: Reading) -> Stream:
    label = reading.label_column
    unpack = bool(reading.unpack_bits)
    if label is None:
        return stream(path, unpack_bits=unpack)
    if path.suffix.lower() == ".npy":
        raise ValueError("--label-column means nothing for a numpy array: leave it out")
    position: str | int = int(label) if label.removeprefix("-").isdigit() else label
    return stream(path, columns=columns_without(path, position), unpack_bits=unpack)


def _as_bits(probe: np.ndarray, reading: Reading) -> Callable[[np.ndarray], np.ndarray]:
    """What makes rows flat and, unless they are two-valued, zeros and ones by one scale for all."""
    low = 0.0 if reading.low is None and reading.high is not None else reading.low
    if low is None and is_two_valued(probe):
        return lambda rows: rows.reshape(len(rows), -1)
    if (low is None) != (reading.high is None):
        raise ValueError("give both --low and --high, or neither")
    ends = scale_of(probe, low, reading.high)

    def cut(rows: np.ndarray) -> np.ndarray:
        bits = binarise(rows, threshold=reading.threshold, low=ends[0], high=ends[1])
        return bits.reshape(len(rows), -1)

    check_not_alike(cut(probe), probe, *ends)
    return cut


def _bits(rows: np.ndarray) -> np.ndarray:
    return np.asarray(ex.Binary(rows.shape[1:]).convert(rows, name="rows")).astype(np.uint8)


def _spread(n: int) -> np.ndarray:
    return np.linspace(0, n - 1, min(n, _LOOKED_AT)).astype(int)
