"""Reading data: one function, the format found by name and checked by content."""

import os
from pathlib import Path

from energax.io._checks import one_line
from energax.io._dataset import Dataset
from energax.io._file import is_model_file
from energax.io._idx import is_idx, read_idx
from energax.io._images import IMAGE_SUFFIXES, read_image, read_images
from energax.io._numpy_files import read_npy, read_npz
from energax.io._tables import read_csv, read_parquet

_SUFFIXES = {
    ".npy": "npy",
    ".npz": "npz",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".idx": "idx",
    ".gz": "gzip",
    **dict.fromkeys(IMAGE_SUFFIXES, "image"),
}

_MAGIC = {
    b"\x93NUMPY": "npy",
    b"PK\x03\x04": "npz",
    b"PK\x05\x06": "npz",
    b"PAR1": "parquet",
    b"\x1f\x8b": "gzip",
    b"\x89PNG": "image",
    b"\xff\xd8\xff": "image",
    b"GIF8": "image",
}

_EXPECTED = "a .npy, .npz, .csv, .tsv, .parquet or IDX file, an image or a folder of images"

# Which arguments mean something for which format.
_TAKES = {
    "npy": {"unpack_bits"},
    "npz": {"array", "test_array", "label_column", "unpack_bits"},
    "csv": {"label_column"},
    "parquet": {"label_column"},
}


def read(
    path: str | os.PathLike[str],
    *,
    array: str | None = None,
    test_array: str | None = None,
    label_column: str | int | None = None,
    unpack_bits: bool | None = None,
) -> Dataset:
    """Rows of data, with labels and a test set where the file holds them.

    | file | rows | labels |
    | --- | --- | --- |
    | `.npy` | the array | |
    | `.npz` | the only array, or `train_...` beside `test_...`, `x_train`, `X`, `data`, ... | `train_labels`, `y`, `target`, ... |
    | `.csv`, `.tsv`, `.parquet` | the columns of numbers | the column named `label_column` |
    | IDX, also as `.gz` | the array | |
    | a folder of images of one size | the pixels | the names of its subfolders, if it has any |

    Nothing is pickled and nothing in a file is run.

    **Arguments:**

    - `path`: a file or a folder.
    - `array`, `test_array`: the names of the arrays of an `.npz` to take.
    - `label_column`: the column of a table, by name or by number from 0, or the array of an
      `.npz`, that holds the labels.
    - `unpack_bits`: whether bytes hold eight bits each, to be unpacked along the last axis:
      shape (n, k) becomes (n, 8 k). `None` unpacks arrays of uint8 whose name ends in `bits`,
      unless they hold nothing but 0 and 1.

    **Returns:** a `Dataset`, its rows of shape (n, *shape) and the dtype of the file.

    **Raises:** `ValueError` if the file is missing, is not what its name says, is damaged, holds
    what is not a finite number, or leaves open which array is meant.

    ```python
    import numpy as np
    from energax import io

    np.savez("digits.npz", train_bits=np.full((6, 2), 9, np.uint8), train_labels=np.arange(6))
    data = io.read("digits.npz")
    data.rows.shape  # (6, 16)
    ```
    """  # noqa: E501
    given = {"array": array, "test_array": test_array, "label_column": label_column}
    try:
        path = Path(path)
    except TypeError:
        raise ValueError(f"path must be a path, got {type(path).__name__}") from None
    for name, value in given.items():
        if value is not None and type(value) not in ((str, int) if "label" in name else (str,)):
            raise ValueError(f"{name} must be a name, got {value!r}")
    if unpack_bits not in (None, True, False):
        raise ValueError(f"unpack_bits must be True, False or None, got {unpack_bits!r}")
    try:
        kind = _format(path)
        given["unpack_bits"] = unpack_bits
        for name, value in given.items():
            if value is not None and name not in _TAKES.get(kind, ()):
                raise ValueError(f"{name} means nothing for {_WORDS[kind]}: leave it out")
        return _read(path, kind, array, test_array, label_column, unpack_bits)
    except (ValueError, OSError) as error:
        # Which OSError is left: no permission, a failing disk.
        raise ValueError(f"{path}: {one_line(error)}") from None
    except MemoryError:
        raise ValueError(f"{path}: the data do not fit in memory: read a part of them") from None


def _read(
    path: Path,
    kind: str,
    array: str | None,
    test_array: str | None,
    label_column: str | int | None,
    unpack_bits: bool | None,
) -> Dataset:
    match kind:
        case "npy":
            return read_npy(path, unpack_bits)
        case "npz":
            if isinstance(label_column, int):
                raise ValueError(f"label_column must name an array, got {label_column}")
            return read_npz(path, array, test_array, label_column, unpack_bits)
        case "csv":
            return read_csv(path, label_column)
        case "parquet":
            return read_parquet(path, label_column)
        case "idx" | "gzip":
            return read_idx(path, compressed=kind == "gzip")
        case "image":
            return read_image(path)
        case _:
            return read_images(path)


_WORDS = {
    "npy": "a numpy array",
    "npz": "a numpy archive",
    "csv": "a text table",
    "parquet": "a parquet table",
    "idx": "an IDX file",
    "gzip": "a gzip file",
    "image": "an image",
    "folder": "a folder of images",
}


def _format(path: Path) -> str:
    """Which format a file has, by its name, confirmed by how it begins."""
    if path.is_dir():
        return "folder"
    if not path.exists():
        raise ValueError(f"there is no such file; expected {_EXPECTED}")
    if not path.is_file():
        raise ValueError(f"this is not a regular file; expected {_EXPECTED}")
    with path.open("rb") as stream:
        head = stream.read(8)
    if not head:
        raise ValueError("the file is empty")
    named = "idx" if path.name.endswith("-ubyte") else _SUFFIXES.get(path.suffix.lower())
    found = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if found is None and is_idx(head):
        found = "idx"
    if named is None and is_model_file(path):
        raise ValueError("this is a saved model or checkpoint, not data: give it to load")
    if found is None and named in ("csv", "image"):  # text, and images of rarer kinds
        return named
    if found is not None and named in (None, found):
        return found
    if named is None:
        raise ValueError(
            f"the format is not known by the name or the first bytes {head!r};"
            f" expected {_EXPECTED} (pickles are never read)"
        )
    held = "nothing that is known" if found is None else _WORDS[found]
    raise ValueError(
        f"by its name this is {_WORDS[named]}, by its first bytes {head!r} {held}:"
        " give it its right name, or make it again"
    )
