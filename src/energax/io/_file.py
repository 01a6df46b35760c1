"""The file under every saved model and checkpoint: safetensors with a JSON description.

The header's metadata holds one key, `energax`, with a JSON object: `format` (an integer), `kind`,
`energax` (the version that wrote it), `structure` (which tensor goes where) and `metadata` (the
user's own).
"""

import dataclasses
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

from energax.io._aside import written_aside
from energax.io._checks import one_line

FORMAT = 1
"""Raised when older readers could no longer read what is written."""

KINDS = {"model": "a model", "checkpoint": "a checkpoint"}

_LONGEST_HEADER = 100_000_000  # what safetensors itself allows

_KEYS = {"format", "kind", "energax", "structure", "metadata"}


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says about itself."""

    kind: str
    structure: Any
    metadata: dict[str, Any]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the path before the text of any `ValueError`, on one line."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {one_line(error)}") from None
    except RecursionError:
        raise ValueError(f"{path}: the description is nested too deeply") from None


def as_path(path: Any) -> Path:
    """`path` as a `Path`, or a `ValueError`."""
    try:
        return Path(path)
    except TypeError:
        raise ValueError(f"path must be a path, got {type(path).__name__}") from None


def write(path: Path, tensors: dict[str, np.ndarray], header: Header) -> None:
    """Write a file whole or not at all.

    The bytes are made here: `safetensors` itself would write a file of its own beside the path,
    which a kill would leave behind.
    """
    try:
        text = json.dumps(
            {
                "format": FORMAT,
                "kind": header.kind,
                "energax": _version(),
                "structure": header.structure,
                "metadata": header.metadata,
            }
        )
    except ValueError as error:  # a circle
        raise ValueError(f"metadata cannot be written as JSON: {one_line(error)}") from None
    content = serialise(tensors, metadata={"energax": text})
    with written_aside(path) as file:
        file.write(content)


def read(path: Path, kind: str | None = None) -> tuple[Header, dict[str, np.ndarray]]:
    """What a file says and every tensor in it, once it is known to be whole and of this kind."""
    with _opened(path) as file:
        header = _header(file.metadata(), kind)
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def check_expected(metadata: dict[str, Any], expect: dict[str, Any]) -> None:
    """Raise unless the metadata says what is expected, naming what differs."""
    for name, wanted in expect.items():
        if name not in metadata:
            raise ValueError(f"its metadata lack {name!r}, expected {one_line(repr(wanted), 80)}")
        found, wanted = metadata[name], json.loads(json.dumps(wanted))
        if isinstance(found, dict) and isinstance(wanted, dict):
            differ = [k for k in {**wanted, **found} if found.get(k) != wanted.get(k)]
            pairs = [(f"{name}.{k}", found.get(k), wanted.get(k)) for k in differ]
        else:
            pairs = [(name, found, wanted)] if found != wanted else []
        if pairs:
            words = "; ".join(f"{k} is {f!r}, expected {w!r}" for k, f, w in pairs)
            raise ValueError(f"it was written for something else: {one_line(words, 240)}")


def read_header(path: Path, kind: str | None = None) -> Header:
    """What a file says, without reading its tensors."""
    with _opened(path) as file:
        return _header(file.metadata(), kind)


def is_model_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is, by its name or by how it begins, a saved model or checkpoint.

    It may still be damaged: `load` tells.

    ```python
    import energax as ex
    from energax import io

    io.save(ex.Gaussian(), "unit.energax")
    io.is_model_file("unit.energax")  # True
    ```
    """
    path = as_path(path)
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(9)
    # safetensors: the header's length in eight bytes, then its JSON. Text would be far too long.
    by_content = head[8:] == b"{" and int.from_bytes(head[:8], "little") <= _LONGEST_HEADER
    return by_content or path.suffix == ".energax"


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.exists():
        raise ValueError("there is no such file")
    if not path.is_file():
        raise ValueError("this is not a regular file")
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(f"this is not a whole safetensors file: {one_line(error)}") from None


def _header(metadata: dict[str, str] | None, kind: str | None) -> Header:
    text = (metadata or {}).get("energax")
    if text is None:
        raise ValueError("the file was not made by energax: its header lacks the key 'energax'")
    try:
        content = json.loads(text, object_pairs_hook=_without_repeats)
    except ValueError as error:
        raise ValueError(f"the description is not sound JSON: {one_line(error)}") from None
    if not isinstance(content, dict) or type(content.get("format")) is not int:
        raise ValueError("the description is malformed: it has no format number")
    if content["format"] > FORMAT:
        raise ValueError(
            f"made by a newer energax ({one_line(content.get('energax'), 40)}, format"
            f" {content['format']}; this one reads up to {FORMAT}): upgrade energax"
        )
    if content["format"] < 1 or set(content) != _KEYS:
        raise ValueError(f"the description is malformed: expected the keys {sorted(_KEYS)}")
    if content["kind"] not in [*KINDS] or not isinstance(content["metadata"], dict):
        raise ValueError("the description is malformed: its kind or its metadata is not one")
    if kind is not None and content["kind"] != kind:
        raise ValueError(f"the file holds {KINDS[content['kind']]}, expected {KINDS[kind]}")
    return Header(content["kind"], content["structure"], content["metadata"])


def as_metadata(metadata: Any) -> dict[str, Any]:
    """A user's metadata, or a `ValueError` if it would not come back as it is."""
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise ValueError(f"metadata must be a dictionary, got {type(metadata).__name__}")
    _check_json(metadata, "metadata")
    return metadata


def _check_json(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            if type(name) is not str:
                raise ValueError(f"{where} must have text as keys, got {name!r}")
            _check_json(inner, f"{where}[{name!r}]")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check_json(inner, f"{where}[{index}]")
    elif value is not None and not isinstance(value, bool | int | float | str):
        raise ValueError(
            f"{where} must be made of dictionaries, lists, text, numbers and None, got"
            f" {type(value).__name__}"
        )


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is repeated")
    return result


def _version() -> str:
    try:
        return version("energax")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"
