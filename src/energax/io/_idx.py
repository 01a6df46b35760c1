"""Reading IDX, the format MNIST is published in: a type, the shape, the numbers, big-endian."""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from energax.io._checks import as_numbers, one_line
from energax.io._dataset import Dataset, describe

# Y. LeCun, C. Cortes and C. Burges, "The MNIST database", the section on file formats.
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def is_idx(head: bytes) -> bool:
    """Whether a file that begins so is IDX."""
    return len(head) >= 4 and head[:2] == b"\0\0" and head[2] in _TYPES and 1 <= head[3] <= 8


def read_idx(path: Path, compressed: bool) -> Dataset:
    """The one array of an IDX file."""
    try:
        if compressed:
            with gzip.open(path) as unpacked:
                array = _array(unpacked)
        else:
            with path.open("rb") as stream:
                array = _array(stream)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"the file is truncated or damaged: {one_line(error)}") from None
    rows = as_numbers(array, "the file")
    return Dataset(rows, source=str(path), description=f"{path.name}: IDX {describe(rows)}")


def _array(stream: Any) -> np.ndarray:
    head = stream.read(4)
    if not is_idx(head):
        inside = (
            " (no other format is read compressed)" if isinstance(stream, gzip.GzipFile) else ""
        )
        raise ValueError(f"not IDX: it begins with {head!r}, not with 0, 0, type, axes{inside}")
    sizes = stream.read(4 * head[3])
    if len(sizes) < 4 * head[3]:
        raise ValueError("the file is truncated: it ends inside its header")
    shape = struct.unpack(f">{head[3]}I", sizes)
    dtype = np.dtype(_TYPES[head[2]])
    size = dtype.itemsize
    for length in shape:
        size *= length
    content = bytearray()
    while len(content) <= size:  # in pieces: a false header must not allocate what it promises
        piece = stream.read(min(size + 1 - len(content), 1 << 24))
        if not piece:
            break
        content += piece
    if len(content) != size:
        word = "truncated" if len(content) < size else "too long"
        raise ValueError(f"the file is {word}: its header says {shape} {dtype.name}, {size} bytes")
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))
