"""`energax info`."""

from pathlib import Path
from typing import Annotated, Any

import equinox as eqx
import jax
import typer
from rich.table import Table
from rich.text import Text

from energax.cli._common import (
    ArrayName,
    Json,
    LabelColumn,
    TestArrayName,
    UnpackBits,
    load_model,
    say,
    show_json,
)
from energax.cli._rows import Reading
from energax.io import is_model_file


def info(
    file: Annotated[Path, typer.Argument(help="A model or a data file.", show_default=False)],
    array: ArrayName = None,
    test_array: TestArrayName = None,
    label_column: LabelColumn = None,
    unpack_bits: UnpackBits = None,
    as_json: Json = False,
) -> None:
    """Say what a file holds: a model, its sizes and how it was made, or rows of data."""
    if not file.exists():
        raise ValueError(f"there is no file {file}")
    reading = Reading(array, test_array, label_column, unpack_bits)
    record = _model(file) if is_model_file(file) else _data(file, reading)
    if as_json:
        show_json(record)
        return
    table = Table(show_header=False, box=None)
    for name, value in record.items():
        table.add_row(Text(name, style="bold"), Text(str(value)))
    say(table)


def _model(file: Path) -> dict[str, Any]:
    energy, metadata = load_model(file)
    arrays = [leaf for leaf in jax.tree.leaves(energy) if eqx.is_array(leaf)]
    record: dict[str, Any] = {
        "file": file,
        "model": type(energy).__name__,
        "space": str(energy.space),
        "parameters": sum(leaf.size for leaf in arrays),
        "shapes": ", ".join(str(leaf.shape) for leaf in arrays),
    }
    for name in ("data", "status", "message", "fit_seconds", "settings"):
        if name in metadata:
            record[name] = metadata[name]
    return record


def _data(file: Path, reading: Reading) -> dict[str, Any]:
    found = reading.read(file)
    rows = found.rows
    record: dict[str, Any] = {
        "file": file,
        "rows": len(rows),
        "shape": rows.shape[1:],
        "dtype": rows.dtype,
        "smallest": rows.min(),
        "largest": rows.max(),
        "test rows": 0 if found.test_rows is None else len(found.test_rows),
        "labels": found.labels is not None,
        "read as": found.description,
    }
    record["dtype"] = str(rows.dtype)
    return record
