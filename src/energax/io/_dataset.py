"""What reading gives."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Rows of data as they stood in a file, in numpy.

    `space.convert(dataset.rows)` turns them into states.
    """

    rows: np.ndarray
    """Shape (n, *shape), finite numbers or booleans."""

    test_rows: np.ndarray | None = None
    """Shape (m, *shape), if the file holds a test set."""

    labels: np.ndarray | None = None
    """Shape (n,), integers or text."""

    test_labels: np.ndarray | None = None
    """Shape (m,)."""

    columns: tuple[str, ...] | None = None
    """The names of the columns of a table."""

    array: str | None = None
    """The name of the array of rows in an `.npz`."""

    test_array: str | None = None
    """The name of the array of test rows in an `.npz`."""

    source: str = ""
    """The path that was read."""

    description: str = ""
    """One line: the file, which arrays, their shapes and dtypes, whether bits were unpacked."""


def describe(array: np.ndarray) -> str:
    """The dtype and shape of an array in words."""
    return f"{array.dtype} {array.shape}"
