"""Rows of parquet files, read by row groups."""

import itertools
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from energax.io._checks import one_line
from energax.io._source import AbstractSource
from energax.io._tables import import_arrow, is_numeric, numbers_in, position_of, without


class _Group(NamedTuple):
    """A row group."""

    path: Path
    number: int
    """In its file."""
    first: int
    """The number in the file of its first row."""


class TableFiles(AbstractSource):
    """The rows of some tables one after another, their columns side by side."""

    def __init__(
        self,
        name: str,
        columns: tuple[str, ...],
        dtype: np.dtype,
        groups: list[_Group],
        lengths: list[int],
        n_bytes: int,
    ):
        self.name, self.columns, self.dtype, self.n_bytes = name, columns, dtype, n_bytes
        self.n_rows, self.shape = sum(lengths), (len(columns),)
        self.edges = np.cumsum([0, *lengths])
        self._groups = groups
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._most_kept = 0

    @classmethod
    def open(
        cls, paths: list[Path], columns: Sequence[str] | None, *, name: str | None = None
    ) -> "TableFiles":
        """Look at the columns and row groups of every file."""
        if not paths:
            raise ValueError(f"{name}: the folder holds no .parquet files")
        if columns is not None:
            if isinstance(columns, str) or not all(isinstance(word, str) for word in columns):
                raise ValueError(f"columns must be a list of names, got {columns!r}")
            if len(set(columns)) != len(columns):
                raise ValueError(f"columns must differ, got {columns!r}")
            columns = tuple(columns)
        groups, lengths, dtype, given = [], [], None, columns
        for path in paths:
            kinds, counts = _looked_at(path, given)
            if columns is None:
                columns = tuple(kinds)
            if tuple(kinds) != columns:
                raise ValueError(
                    f"{path} has the columns {_listed(kinds)}, {paths[0]} has {_listed(columns)}"
                )
            promoted = np.result_type(*kinds.values())
            if dtype is not None and promoted != dtype:
                raise ValueError(f"{path} holds {promoted}, {paths[0]} {dtype}: make them alike")
            dtype, first = promoted, 0
            for number, count in enumerate(counts):
                if count:
                    groups.append(_Group(path, number, first))
                    lengths.append(count)
                first += count
        name = str(paths[0]) + (" and others" if len(paths) > 1 else "") if name is None else name
        if not groups:
            raise ValueError(f"{name} is empty: at least one row is needed")
        if sum(lengths) >= 2**31:
            raise ValueError(f"{name} has {sum(lengths)} rows: at most 2^31 - 1 are numbered")
        assert columns is not None
        assert dtype is not None
        n_bytes = sum(path.stat().st_size for path in paths)
        return cls(name, columns, dtype, groups, lengths, n_bytes)

    def keep(self, window: int) -> None:
        assert self.edges is not None
        self._most_kept = window + int(np.diff(self.edges).max())

    def read(self, numbers: np.ndarray) -> np.ndarray:
        assert self.edges is not None
        rows = np.empty((len(numbers), *self.shape), self.dtype)
        cuts = np.searchsorted(numbers, self.edges)
        wanted = np.flatnonzero(np.diff(cuts)).tolist()
        # Those at hand first: reading the others may push them out.
        for index in sorted(wanted, key=lambda index: index not in self._kept):
            here = slice(cuts[index], cuts[index + 1])
            rows[here] = self._group(index)[numbers[here] - self.edges[index]]
        return rows

    def place(self, number: int) -> str:
        assert self.edges is not None
        index = int(np.searchsorted(self.edges, number, side="right")) - 1
        group = self._groups[index]
        return f"row {group.first + number - int(self.edges[index])} of {group.path}"

    def _group(self, index: int) -> np.ndarray:
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        rows = self._read(self._groups[index])
        assert self.edges is not None
        if len(rows) != self.edges[index + 1] - self.edges[index]:
            raise ValueError(f"{self._groups[index].path} has changed since it was opened")
        self._kept[index] = rows
        while sum(map(len, self._kept.values())) > self._most_kept and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return rows

    def _read(self, group: _Group) -> np.ndarray:
        arrow, parquet = import_arrow()
        try:
            with parquet.ParquetFile(group.path) as file:
                table = file.read_row_group(group.number, columns=list(self.columns or ()))
        except (arrow.ArrowException, OSError, IndexError) as error:
            raise ValueError(f"{group.path} cannot be read: {one_line(error)}") from None
        rows = np.empty((table.num_rows, *self.shape), self.dtype)
        for place, name in enumerate(self.columns or ()):
            try:
                rows[:, place] = numbers_in(table.column(name), name, first_row=group.first)
            except (ValueError, KeyError) as error:
                raise ValueError(f"{group.path}: {one_line(error)}") from None
        return rows


def columns_without(path: Path, label_column: str | int) -> tuple[str, ...]:
    """The columns of a table, or of the first of a folder of them, but that of the labels."""
    if path.is_dir():
        path = min(path.glob("*.parquet"), default=path / "*.parquet")
    names = tuple(str(name) for name in _schema(path)[0].names)
    return without(names, position_of(label_column, names, len(names)))


def _schema(path: Path) -> tuple[Any, list[int]]:
    """A file's columns, and the rows of each of its groups."""
    arrow, parquet = import_arrow()
    try:
        with parquet.ParquetFile(path) as file:
            counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            return file.schema_arrow, counts
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not whole parquet: {one_line(error)}") from None


def _looked_at(path: Path, columns: Sequence[str] | None) -> tuple[dict[str, Any], list[int]]:
    """The dtypes of a file's columns, in the order asked for, and the rows of each group."""
    arrow, _ = import_arrow()
    schema, counts = _schema(path)
    names = [str(name) for name in schema.names]
    for name in names if columns is None else columns:
        if names.count(name) != 1:
            raise ValueError(f"{path} must have one column {name!r}, it has {_listed(names)}")
    kinds = {}
    for name in names if columns is None else columns:
        kind = schema.field(name).type
        kind = kind.value_type if arrow.types.is_dictionary(kind) else kind
        if not is_numeric(kind):
            raise ValueError(
                f"{path}: column {name!r} holds {kind}, not numbers: leave it out by columns="
            )
        kinds[name] = np.dtype(kind.to_pandas_dtype())
    if not kinds:
        raise ValueError(f"{path} has no columns")
    return kinds, counts


def _listed(names: Any) -> str:
    shown = [repr(name) for name in itertools.islice(names, 12)]
    return ", ".join(shown) + (", ..." if len(names) > 12 else "")
