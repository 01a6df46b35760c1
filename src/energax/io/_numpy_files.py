"""Reading .npy and .npz, without pickle and without believing headers."""

import dataclasses
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from energax.io._checks import as_labels, as_numbers, checked, one_line
from energax.io._dataset import Dataset, describe

_DATA = {"x", "data", "images", "bits", "rows", "features", "pixels", "samples", "inputs"}
_LABELS = {"y", "label", "labels", "target", "targets"}
_PARTS = {"train": "train", "test": "test"}


def read_npy(path: Path, unpack_bits: bool | None) -> Dataset:
    """One array, named by the file."""
    with path.open("rb") as stream, _as_value_errors("the file"):
        read_header(stream, path.stat().st_size, "the file")
        stream.seek(0)
        array = np.lib.format.read_array(stream, allow_pickle=False)
    unpack = is_packed(path.stem, array) if unpack_bits is None else unpack_bits
    rows, words = _prepared(array, path.stem, unpack)
    return Dataset(rows, source=str(path), description=f"{path.name}: {words}")


def read_npz(
    path: Path,
    array: str | None,
    test_array: str | None,
    labels: str | None,
    unpack_bits: bool | None,
) -> Dataset:
    """Rows, test rows and labels by the names given, or by the usual names."""
    members = npz_names(path)
    if not members:
        raise ValueError("the archive holds no arrays: save it with numpy.savez")
    names = _choose(members, array, test_array, labels)
    arrays = npz_arrays(path, list(filter(None, dataclasses.astuple(names))))
    by_guess = array is not None and labels is None
    return _dataset(path, members, names, arrays, by_guess, unpack_bits)


def npz_names(path: Path) -> list[str]:
    """The names of the arrays in an archive."""
    with _as_value_errors("the archive"), zipfile.ZipFile(path) as archive:
        return [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]


def npz_arrays(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Some of the arrays of an archive."""
    arrays = {}
    with _as_value_errors("the archive"), zipfile.ZipFile(path) as archive:
        for name in names:
            info = archive.getinfo(f"{name}.npy")
            with archive.open(info) as stream:
                read_header(stream, info.file_size, f"array {name!r}")
            with archive.open(info) as stream, _as_value_errors(f"array {name!r}"):
                arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


@dataclasses.dataclass(frozen=True)
class _Names:
    rows: str
    test_rows: str | None = None
    labels: str | None = None
    test_labels: str | None = None


def _dataset(
    path: Path,
    members: list[str],
    names: _Names,
    arrays: dict[str, np.ndarray],
    by_guess: bool,
    unpack_bits: bool | None,
) -> Dataset:
    if unpack_bits is None:
        test = None if names.test_rows is None else arrays[names.test_rows]
        unpack_bits = is_packed(names.rows, arrays[names.rows], test)
    rows, words = _prepared(arrays[names.rows], names.rows, unpack_bits)
    said, test_rows = [f"{names.rows} {words}"], None
    if names.test_rows is not None:
        test_rows, words = _prepared(arrays[names.test_rows], names.test_rows, unpack_bits)
        said.append(f"test rows {names.test_rows} {words}")
    labels = _fitting(names.labels, arrays, rows, by_guess)
    test_labels = _fitting(names.test_labels, arrays, test_rows, by_guess)
    said += [f"labels {names.labels}"] if labels is not None else []
    said += [f"test labels {names.test_labels}"] if test_labels is not None else []
    unread = sorted(set(members) - set(filter(None, dataclasses.astuple(names))))
    if unread:
        said.append(f"not read: {', '.join(unread)}")
    words = f"{path.name}: {'; '.join(said)}"
    return checked(
        Dataset(
            rows,
            test_rows,
            labels,
            test_labels,
            source=str(path),
            description=words,
            array=names.rows,
            test_array=names.test_rows,
        )
    )


def _fitting(
    name: str | None, arrays: dict[str, np.ndarray], rows: np.ndarray | None, by_guess: bool
) -> np.ndarray | None:
    """The labels of these rows; none if nobody asked for them and they are of another array."""
    if name is None or rows is None or (by_guess and arrays[name].shape[:1] != rows.shape[:1]):
        return None
    return as_labels(arrays[name], rows.shape[0], f"array {name!r}")


def _role(name: str) -> tuple[str, str, str]:
    """(train, test or nothing; data, maybe, labels or other; the name without the part)."""
    words = name.lower().split("_")
    part = ""
    for position in (0, -1):
        if len(words) > 1 and words[position] in _PARTS:
            part = _PARTS[words.pop(position)]
            break
    rest = "_".join(words)
    if words[-1] in _LABELS:
        return part, "labels", rest
    if words[-1] in _DATA:
        return part, "data", rest
    return part, "maybe" if part else "other", rest


def _choose(
    members: list[str], array: str | None, test_array: str | None, labels: str | None
) -> _Names:
    for given, which in ((array, "array"), (test_array, "test_array"), (labels, "label_column")):
        if given is not None and given not in members:
            raise ValueError(
                f"{which}={given!r} is not in the file, which holds {_listed(members)}"
            )
    roles = {name: _role(name) for name in members}
    if array is None:
        array = _rows_among(members, roles)
    part, kind, rest = roles[array]
    if test_array is None and part != "test":
        same = [n for n, role in roles.items() if role == ("test", kind, rest) and n != array]
        test_array = same[0] if len(same) == 1 and kind in ("data", "maybe") else None
    if labels is None and (kind in ("data", "maybe") or len(members) == 2):
        labels = _labels_of(part, roles, array)
    test_labels = None if test_array is None else _labels_of("test", roles, test_array)
    return _Names(array, test_array, labels, test_labels)


def _rows_among(members: list[str], roles: dict[str, tuple[str, str, str]]) -> str:
    if len(members) == 1:
        return members[0]
    own = {name: kind for name, (part, kind, _) in roles.items() if part != "test"}
    data = [n for n in members if own.get(n) == "data"]
    data = data or [n for n in members if own.get(n) == "maybe"]
    if len(data) != 1:
        raise ValueError(
            f"the file holds {_listed(members)} and it is not clear which are the rows:"
            ' give array="..." (and test_array, label_column)'
        )
    return data[0]


def _labels_of(part: str, roles: dict[str, tuple[str, str, str]], array: str) -> str | None:
    found = [n for n, role in roles.items() if role[:2] == (part, "labels") and n != array]
    if len(found) > 1:
        raise ValueError(f"several arrays could be the labels, {_listed(found)}: give label_column")
    return found[0] if found else None


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:12]))
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def is_packed(name: str, rows: np.ndarray, test_rows: np.ndarray | None = None) -> bool:
    """Whether rows hold eight bits a byte: by their name, unless they hold only 0 and 1."""
    by_name = re.search(r"bits$", name, re.IGNORECASE) is not None
    if not by_name or rows.dtype != np.uint8 or rows.ndim < 2:
        return False
    return any(part is not None and part.max(initial=0) > 1 for part in (rows, test_rows))


def _prepared(array: np.ndarray, name: str, unpack_bits: bool) -> tuple[np.ndarray, str]:
    """The rows in an array, unpacked if so said, and words about them."""
    if unpack_bits and not (array.dtype == np.uint8 and array.ndim >= 2):
        raise ValueError(
            f"unpack_bits needs bytes, an array of uint8 with at least 2 axes, but {name!r} is"
            f" {describe(array)}"
        )
    rows = as_numbers(array, f"array {name!r}")
    if unpack_bits:
        unpacked = np.unpackbits(rows, axis=-1)
        return unpacked, f"{describe(rows)} unpacked to {unpacked.shape}"
    return rows, describe(rows)


def read_header(stream: Any, size: int, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """An array's shape, whether it lies column by column, and its dtype.

    **Raises:** `ValueError` unless the header is sound and the bytes it promises can be there.
    """
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(stream)
        else:
            raise ValueError(f"version {version} of the format is not read: save it again")
    except Exception as error:
        raise ValueError(f"{name} has no sound numpy header: {one_line(error)}") from None
    if dtype.hasobject:
        raise ValueError(
            f"{name} holds Python objects, which would need pickle: save it as numbers"
        )
    promised = dtype.itemsize
    for length in shape:
        promised *= int(length)
    there = size - stream.tell()
    if promised != there:
        word = "truncated" if promised > there else "too long"
        raise ValueError(
            f"{name} is {word}: {dtype} {shape} needs {promised} bytes, there are {there}"
        )
    return shape, fortran_order, dtype


@contextmanager
def _as_value_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise ValueError(f"{name} is truncated or damaged: {one_line(error)}") from None
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or an unknown compression
        raise ValueError(f"{name} cannot be unpacked: {one_line(error)}") from None
