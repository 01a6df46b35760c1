"""How commands turn a file into rows: read, made zeros and ones, split as in training."""

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

import energax as ex
from energax.io import Dataset, binarise, read, split, to_grey
from energax.io._prepare import check_not_alike, is_two_valued
from energax.plots import guess_image_shape


@dataclasses.dataclass(frozen=True)
class Reading:
    """The options that say how a file is read; `fit` stores them beside the model."""

    array: str | None = None
    test_array: str | None = None
    label_column: str | None = None
    unpack_bits: bool | None = None
    threshold: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The options that are not left to their defaults, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def or_as_trained(self, settings: dict[str, Any], data: Path) -> "Reading":
        """These options and, for those not given, the ones a model was trained with."""
        stored = {name: settings.get(name) for name in vars(self)}
        forgotten = set()
        if data.suffix.lower() != Path(settings.get("data", "")).suffix.lower():
            forgotten |= {"array", "test_array", "label_column", "unpack_bits"}
        if self.array is not None:
            forgotten |= {"test_array", "label_column"}
        if self.low is not None or self.high is not None:
            forgotten |= {"low", "high"}
        kept = {name: value for name, value in stored.items() if name not in forgotten}
        return Reading(**{**kept, **self.given})

    def read(self, path: Path) -> Dataset:
        """The rows in a file."""
        column: str | int | None = self.label_column
        is_table = path.suffix.lower() in (".csv", ".tsv", ".parquet")
        if column is not None and is_table and column.removeprefix("-").isdigit():
            column = int(column)
        return read(
            path,
            array=self.array,
            test_array=self.test_array,
            label_column=column,
            unpack_bits=self.unpack_bits,
        )

    def bits(self, rows: np.ndarray) -> np.ndarray:
        """Rows of zeros and ones, images in colour made grey first."""
        if (
            rows.ndim == 4
            and rows.shape[-1] in (3, 4)
            and rows.shape[1] != 1
            and not is_two_valued(rows)
        ):
            rows = to_grey(rows)
        low = 0.0 if self.low is None and self.high is not None else self.low
        bits = binarise(rows, threshold=self.threshold, low=low, high=self.high)
        if low is not None and self.high is not None:
            check_not_alike(bits, rows, low, self.high)
        return bits


@dataclasses.dataclass(frozen=True, eq=False)
class BinaryRows:
    """A file's rows as zeros and ones, one flat row each."""

    rows: np.ndarray
    """Shape (n, entries), uint8."""
    test_rows: np.ndarray | None
    """Shape (m, entries), if the file holds a test set."""
    image_shape: tuple[int, int] | None
    """Height and width of a row that is, or may be, an image."""


def binary_rows(found: Dataset, reading: Reading) -> BinaryRows:
    """What was read, as zeros and ones: training and test rows on one scale."""
    rows, test_rows = found.rows, found.test_rows
    if test_rows is None:
        bits = reading.bits(rows)
    elif test_rows.dtype == rows.dtype:
        bits = reading.bits(np.concatenate([rows, test_rows]))
    else:
        bits = np.concatenate([reading.bits(rows), reading.bits(test_rows)])
    shape = bits.shape[1:]
    if len(shape) == 3:  # one channel, first or last
        shape = tuple(length for length in shape if length != 1)
    flat = bits.reshape(len(bits), -1)
    n = len(rows)
    return BinaryRows(flat[:n], None if test_rows is None else flat[n:], guess_image_shape(shape))


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Training and test rows, and where they stand in the file."""

    train: np.ndarray
    """Shape (n, entries), zeros and ones."""
    test: np.ndarray
    """Shape (m, entries)."""
    test_numbers: np.ndarray
    """Shape (m,): the test rows' numbers in `test_source`, from 0."""
    test_source: str
    """The file or the array of it that test rows are numbered in."""
    image_shape: tuple[int, int] | None
    """Height and width of a row that is, or may be, an image."""
    description: str
    """Where the rows came from, in a line."""

    @property
    def some(self) -> np.ndarray:
        """Training rows to begin with: all of them."""
        return self.train

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of the rows, eight bits a byte: which rows a model was trained on."""
        return {"train": hash_of(self.train), "test": hash_of(self.test)}


def split_rows(path: Path, reading: Reading, *, test_fraction: float, seed: int) -> Split:
    """Binary training and test rows.

    The same arguments give the same split, so that `energax report` scores rows not trained on.
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"--test-fraction must lie between 0 and 1, got {test_fraction}")
    found = reading.read(path)
    rows = binary_rows(found, reading)
    name = Path(os.path.abspath(path)).name
    if rows.test_rows is not None:
        source, numbers = f"{found.test_array} in {name}", np.arange(len(rows.test_rows))
        train, test = rows.rows, rows.test_rows
    else:
        source = name if found.array is None else f"{found.array} in {name}"
        chosen, numbers = split_numbers(path, len(rows.rows), test_fraction, seed)
        train, test = rows.rows[chosen], rows.rows[numbers]
    grey = rows.rows.shape[1] < found.rows[0].size
    words = found.description + ("; colours made grey" if grey else "")
    return Split(train, test, numbers, source, rows.image_shape, words)


def split_numbers(
    path: Path, n: int, test_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the training and of the test rows of a file that names no test rows."""
    if n < 2:
        raise ValueError(f"{path} holds one row: at least 2 are needed, to train and to test")
    n_test = min(max(1, round(test_fraction * n)), n - 1)
    key = jax.random.fold_in(ex.key(seed), 7)
    test, train = split(np.arange(n), [n_test / n, (n - n_test) / n], key=key)
    return np.asarray(train), np.asarray(test)


def hash_of(bits: np.ndarray) -> str:
    """SHA-256 of zeros and ones and of their shape."""
    digest = hashlib.sha256(str(bits.shape).encode())
    digest.update(np.packbits(bits, axis=None).tobytes())
    return digest.hexdigest()
