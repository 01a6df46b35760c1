"""Reading tables: .csv, .tsv and .parquet."""

import csv
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from energax.io._checks import as_labels, as_numbers, one_line
from energax.io._dataset import Dataset, describe


def read_csv(path: Path, label_column: str | int | None) -> Dataset:
    """Numbers separated by commas (.csv) or tabs (.tsv), with or without a line of names."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter)
        lines = ((reader.line_num, cells) for cells in reader if cells)
        try:
            rows, labels, columns = _parsed(lines, delimiter, label_column)
        except UnicodeDecodeError as error:
            raise ValueError(f"the file is not UTF-8 text: {one_line(error)}") from None
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num} cannot be read: {one_line(error)}") from None
    return _table(path, rows, labels, columns, label_column)


def _parsed(
    lines: Iterator[tuple[int, list[str]]], delimiter: str, label_column: str | int | None
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...] | None]:
    first = list(itertools.islice(lines, 2))
    if not first:
        raise ValueError("the file is empty: expected lines of numbers")
    width = len(first[0][1])
    for other in (";", "\t", ","):
        if width == 1 and other != delimiter and other in first[0][1][0]:
            raise ValueError(
                f"cells seem to be separated by {other!r}, expected {delimiter!r}"
                ' (a file with tabs is named ".tsv")'
            )
    columns = None
    if _has_names([cells for _, cells in first]):
        columns = tuple(cell.strip() for cell in first.pop(0)[1])
    position = position_of(label_column, columns, width)
    kept = None if columns is None else without(columns, position)
    rows, labels = [], []
    for number, cells in itertools.chain(first, lines):
        if len(cells) != width:
            raise ValueError(f"line {number} has {len(cells)} cells, expected {width}")
        if position is not None:
            labels.append(cells.pop(position).strip())
            if not labels[-1]:
                raise ValueError(f"line {number} has no label in column {label_column!r}")
        try:
            if "_" in "".join(cells):  # float() takes "1_000", which is no number in a table
                raise ValueError
            rows.append(np.asarray([float(cell) for cell in cells]))
        except ValueError:
            raise _bad_cell(number, cells, kept) from None
    if not rows:
        raise ValueError("the file holds a line of names and no rows")
    return np.stack(rows), _text_labels(labels) if labels else None, kept


def read_parquet(path: Path, label_column: str | int | None) -> Dataset:
    """The numeric columns of a parquet file, side by side."""
    arrow, parquet = import_arrow()
    try:
        with parquet.ParquetFile(path) as file:
            table = file.read()
    except (arrow.ArrowException, OSError) as error:
        raise ValueError(f"the file is not whole parquet: {one_line(error)}") from None
    names = tuple(str(name) for name in table.column_names)
    position = position_of(label_column, names, len(names))
    labels, parts = None, []
    for index, name in enumerate(names):
        column, kind = table.column(index), table.column(index).type
        if index != position:
            parts.append(numbers_in(column, name, hint=True))
            continue
        if arrow.types.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        _check_whole(column, name, 0)
        text = arrow.types.is_string(kind) or arrow.types.is_large_string(kind)
        if not text and not is_numeric(kind):
            raise ValueError(f"column {name!r} must hold integers or text, got {kind}")
        labels = np.asarray(column.to_pylist()) if text else column.to_numpy()
    rows = np.stack(parts, axis=1) if parts else np.empty((table.num_rows, 0))
    return _table(path, rows, labels, without(names, position), label_column)


def import_arrow() -> tuple[Any, Any]:
    """pyarrow and its parquet, or a `ValueError` that names the extra."""
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise ValueError('parquet files need pyarrow: pip install "energax[files]"') from None
    return arrow, parquet


def numbers_in(column: Any, name: str, *, first_row: int = 0, hint: bool = False) -> np.ndarray:
    """A column of a table in numpy, or a `ValueError` if it does not hold numbers."""
    arrow, _ = import_arrow()
    if arrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    _check_whole(column, name, first_row)
    if not is_numeric(column.type):
        words = f", or give label_column={name!r} if it holds the labels" if hint else ""
        raise ValueError(f"column {name!r} holds {column.type}, not numbers: drop it{words}")
    return column.to_numpy()


def is_numeric(kind: Any) -> bool:
    """Whether a type of pyarrow is one of numbers or booleans."""
    types = import_arrow()[0].types
    return types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)


def _check_whole(column: Any, name: str, first_row: int) -> None:
    if column.null_count:
        row = first_row + int(np.argmax(column.is_null().to_numpy()))
        raise ValueError(
            f"column {name!r} lacks {column.null_count} values, the first in row {row}:"
            " drop or fill them first"
        )


def _table(
    path: Path,
    rows: np.ndarray,
    labels: np.ndarray | None,
    columns: tuple[str, ...] | None,
    label_column: str | int | None,
) -> Dataset:
    rows = as_numbers(rows, "the table")
    words = f"{path.name}: {describe(rows)}"
    if labels is not None:
        labels = as_labels(labels, len(rows), f"column {label_column!r}")
        words += f"; labels from column {label_column!r}"
    return Dataset(rows, labels=labels, columns=columns, source=str(path), description=words)


def _has_names(lines: list[list[str]]) -> bool:
    """Whether the first line holds names: none is a number, or a number stands under a text."""
    first = [_is_number(cell) for cell in lines[0]]
    if all(first):
        return False
    below = [_is_number(cell) for cell in lines[1]] if len(lines) > 1 else []
    return not any(first) or any(b and not a for a, b in zip(first, below, strict=False))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _bad_cell(line: int, cells: list[str], columns: tuple[str, ...] | None) -> ValueError:
    index = next(i for i, cell in enumerate(cells) if not _is_number(cell))
    where = f"column {columns[index]!r}" if columns is not None else f"cell {index + 1}"
    if not cells[index].strip():
        return ValueError(f"line {line} has nothing in {where}: drop the row or fill it in")
    return ValueError(
        f"line {line} has {cells[index][:40]!r} in {where}, expected a number"
        " (a column of labels is named by label_column)"
    )


def position_of(label_column: str | int | None, columns: tuple[str, ...] | None, width: int):
    """Where the column of labels stands, if one is named."""
    if label_column is None:
        return None
    if isinstance(label_column, int):
        if not -width <= label_column < width:
            raise ValueError(f"label_column={label_column} must be below the {width} columns")
        return label_column % width
    if columns is None:
        raise ValueError(
            f"label_column={label_column!r} needs a first line of names, and the file has none:"
            " give the column's number, counted from 0"
        )
    if columns.count(label_column) != 1:
        raise ValueError(
            f"label_column={label_column!r} must name one column, the names are"
            f" {one_line(', '.join(map(repr, columns)), 120)}"
        )
    return columns.index(label_column)


def _text_labels(cells: list[str]) -> np.ndarray:
    """Numbers if all are, else text."""
    if all(_is_number(cell) for cell in cells):
        return np.asarray([float(cell) for cell in cells])
    return np.asarray(cells)


def without(names: tuple[str, ...], position: int | None) -> tuple[str, ...]:
    """The names but that of the labels."""
    return tuple(name for index, name in enumerate(names) if index != position)
