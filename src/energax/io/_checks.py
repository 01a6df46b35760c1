"""Checks of arrays and arguments that every reader shares, each with its one-line error."""

from typing import Any

import numpy as np

from energax.io._dataset import Dataset


def one_line(error: object, length: int = 300) -> str:
    """The text of an error on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= length else text[: length - 3] + "..."


def as_numbers(array: Any, name: str, *, ndim: int = 1) -> np.ndarray:
    """`array` as numpy rows of finite real numbers, or a `ValueError` that says what is wrong."""
    try:
        array = np.asarray(array)
    except Exception as error:
        raise ValueError(f"{name} cannot be read as an array: {one_line(error)}") from None
    if array.dtype.kind not in "buif" and array.dtype.name != "bfloat16":
        raise ValueError(
            f"{name} must hold numbers or booleans, got dtype {array.dtype}: convert it first"
        )
    if array.ndim < ndim:
        raise ValueError(f"{name} must have at least {ndim} axes, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} is empty, it has shape {array.shape}: at least one row is needed")
    if array.dtype.kind not in "bui":
        finite = np.isfinite(array)
        if not finite.all():
            n_nan = int(np.isnan(array).sum())
            n_inf = int((~finite).sum()) - n_nan
            row = int(np.argwhere(~finite)[0][0])
            raise ValueError(
                f"{name} holds {n_nan} NaN and {n_inf} infinite entries, the first in row {row}:"
                " drop or fill them first"
            )
    return array


def as_labels(array: np.ndarray, n_rows: int, name: str) -> np.ndarray:
    """`array` as integers or strings, one for each row."""
    array = np.asarray(array)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (n_rows,):
        raise ValueError(
            f"{name} must hold one label for each of the {n_rows} rows, got shape {array.shape}"
        )
    if array.dtype.kind == "S":
        try:
            return array.astype(str)
        except UnicodeDecodeError:
            raise ValueError(f"{name} holds bytes that are not ASCII text: decode them") from None
    if array.dtype.kind == "b":
        return array.astype(np.int64)
    if array.dtype.kind == "f":
        whole = np.isfinite(array) & (np.floor(array) == array) & (np.abs(array) < 2**53)
        if not whole.all():
            row = int(np.flatnonzero(~whole)[0])
            raise ValueError(
                f"{name} must hold integers or text, got {array[row]} in row {row}: round it"
            )
        return array.astype(np.int64)
    if array.dtype.kind not in "uiU":
        raise ValueError(f"{name} must hold integers or text, got dtype {array.dtype}")
    return array


def checked(dataset: Dataset) -> Dataset:
    """`dataset`, once its parts are known to fit each other."""
    rows, test_rows = dataset.rows, dataset.test_rows
    if test_rows is not None and test_rows.shape[1:] != rows.shape[1:]:
        raise ValueError(
            f"test rows must have the shape of rows, {rows.shape[1:]}, got {test_rows.shape[1:]}"
        )
    return dataset


def as_number(value: Any, name: str) -> float:
    """One finite number, or a `ValueError`."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number, got {one_line(repr(value), 80)}") from None
    if isinstance(value, bool | str) or not np.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return number
