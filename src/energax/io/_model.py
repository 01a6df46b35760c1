"""Saving and loading models: a tree of known classes, named fields and arrays."""

import dataclasses
import os
from typing import Any

import equinox as eqx
import jax

from energax.io._checks import one_line
from energax.io._consistency import check_consistent, check_finite
from energax.io._file import Header, as_metadata, as_path, naming, read, read_header, write
from energax.io._leaves import (
    Tensors,
    decode_leaf,
    encode_leaf,
    fitted,
    is_array,
    is_scalar,
    malformed,
)
from energax.io._registry import CLASSES, is_registered
from energax.io._tree import decode_leaves, encode_leaves


class _Absent:
    """There is nothing to take from `like` here."""


_ABSENT = _Absent()


def save(
    model: eqx.Module,
    path: str | os.PathLike[str],
    *,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Write a model to one file, whole or not at all.

    The file is safetensors, its arrays named by the model's fields. No code is stored: functions
    and networks inside a model, and classes that were not given to `register`, are stored as
    their arrays alone, and loading them needs `like`.

    **Arguments:**

    - `model`: an energy or a space.
    - `path`: the file, replaced if it is there.
    - `metadata`: anything JSON can hold, such as how the model was trained.

    **Raises:** `ValueError` if a parameter is not finite or cannot be stored, or the folder does
    not exist; `OSError` if the disk fails. The old file is then as it was.

    ```python
    import energax as ex
    from energax import io

    rbm = ex.RBM.init(ex.key(0), n_visible=6, n_hidden=4)
    io.save(rbm, "rbm.energax", metadata={"data": "digits"})
    io.load("rbm.energax")
    ```
    """
    path = as_path(path)
    with naming(path):
        if not isinstance(model, eqx.Module):
            raise ValueError(f"model must be an energy or a space, got {type(model).__name__}")
        kept, tensors = as_metadata(metadata), Tensors()
        structure = _encode(model, "", tensors)
        check_finite(model)
        check_consistent(model)
        write(path, tensors.content, Header("model", structure, kept))


def load(path: str | os.PathLike[str], *, like: eqx.Module | None = None) -> Any:
    """Read a model that `save` wrote, without running anything that stands in the file.

    **Arguments:**

    - `path`: the file.
    - `like`: a model of the same structure, shapes and dtypes. Needed where the model holds
      functions, networks or classes of your own, which no file describes; they are taken from
      `like`, the numbers from the file.

    **Returns:** the model.

    **Raises:** `ValueError` if the file is damaged, made by a newer energax, holds something else,
    does not fit `like` or needs it, or its parts are not consistent with each other.

    ```python
    import energax as ex
    from energax import io

    network = ex.NeuralEnergy(lambda x: -(x**2).sum(), ex.Real(2))
    io.save(network, "network.energax")
    io.load("network.energax", like=network)
    ```
    """
    path = as_path(path)
    with naming(path):
        if like is not None and not isinstance(like, eqx.Module):
            raise ValueError(f"like must be an energy or a space, got {type(like).__name__}")
        header, content = read(path, "model")
        tensors = Tensors(content)
        if isinstance(header.structure, dict) and set(header.structure) == {"tree", "leaves"}:
            raise ValueError("the file was made by write_tree: read it with read_tree")
        model = _decode(header.structure, _ABSENT if like is None else like, "", tensors)
        if not isinstance(model, eqx.Module):
            raise malformed("")
        tensors.check_all_taken()
        if like is not None:
            model = _matched(model, like)
        check_finite(model)
        check_consistent(model)
        return model


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata that a model or checkpoint was saved with, without reading its arrays.

    **Raises:** `ValueError` if the file is damaged or not made by energax.

    ```python
    import energax as ex
    from energax import io

    io.save(ex.Gaussian(), "unit.energax", metadata={"note": "for tests"})
    io.read_metadata("unit.energax")  # {"note": "for tests"}
    ```
    """
    path = as_path(path)
    with naming(path):
        return read_header(path).metadata


def _encode(value: Any, where: str, tensors: Tensors) -> Any:
    if is_scalar(value) or is_array(value):
        return encode_leaf(value, where, tensors)
    if is_registered(value):
        fields = {
            field.name: _encode(getattr(value, field.name), _inner(where, field.name), tensors)
            for field in dataclasses.fields(value)
        }
        return {"class": type(value).__name__, "fields": fields}
    if type(value) in (tuple, list):
        each = [_encode(v, _inner(where, index), tensors) for index, v in enumerate(value)]
        return {type(value).__name__: each}
    if type(value) is dict and all(type(name) is str for name in value):
        return {"dict": {n: _encode(v, _inner(where, n), tensors) for n, v in value.items()}}
    leaves = encode_leaves(value, where, tensors)
    if set(leaves) == {"."}:  # the value is itself a leaf that is no data, such as a function
        leaves = {}
    return {"opaque": type(value).__qualname__, "leaves": leaves}


def _decode(node: Any, like: Any, where: str, tensors: Tensors) -> Any:
    if not isinstance(node, dict) or "array" in node or "key" in node or "float" in node:
        return decode_leaf(node, where, tensors)
    kind = set(node)
    if kind == {"class", "fields"}:
        return _decode_object(node["class"], node["fields"], like, where, tensors)
    if kind == {"opaque", "leaves"}:
        return _decode_opaque(node, like, where, tensors)
    if kind in ({"tuple"}, {"list"}):
        name, items = next(iter(node.items()))
        if not isinstance(items, list):
            raise malformed(where)
        likes = [_ABSENT] * len(items)
        if like is not _ABSENT:
            if type(like).__name__ != name or len(like) != len(items):
                raise _differs(where, f"a {name} of {len(items)}", like)
            likes = like
        pairs = zip(items, likes, strict=True)
        values = [_decode(v, k, _inner(where, i), tensors) for i, (v, k) in enumerate(pairs)]
        return tuple(values) if name == "tuple" else values
    if kind == {"dict"} and isinstance(node["dict"], dict):
        items = node["dict"]
        if like is not _ABSENT and (type(like) is not dict or set(like) != set(items)):
            raise _differs(where, f"a dictionary of {sorted(items)}", like)
        return {
            name: _decode(v, like if like is _ABSENT else like[name], _inner(where, name), tensors)
            for name, v in items.items()
        }
    raise malformed(where)


def _decode_object(name: Any, values: Any, like: Any, where: str, tensors: Tensors) -> Any:
    cls = CLASSES.get(name) if isinstance(name, str) else None
    if cls is None:
        raise ValueError(
            f"{where or 'the model'} is of the class {one_line(name, 60)!r}, which this energax"
            " does not know: upgrade it, or register the class if it is your own"
        )
    if like is not _ABSENT and type(like) is not cls:
        raise _differs(where, f"a {name}", like)
    names = [field.name for field in dataclasses.fields(cls)]
    if not isinstance(values, dict) or set(values) != set(names):
        got = sorted(values) if isinstance(values, dict) else values
        raise ValueError(f"a {name} has the fields {names}, the file says {one_line(got, 120)}")
    result = object.__new__(cls)
    for field in names:
        inner = like if like is _ABSENT else getattr(like, field)
        value = _decode(values[field], inner, _inner(where, field), tensors)
        object.__setattr__(result, field, value)
    for parent in cls.__mro__:
        check = parent.__dict__.get("__check_init__")
        if check is not None:
            try:
                check(result)
            except Exception as error:  # the class's own word on what is wrong, of any type
                raise ValueError(f"this does not hold a consistent {name}: {error}") from None
    return result


def _decode_opaque(node: dict[str, Any], like: Any, where: str, tensors: Tensors) -> Any:
    name = node["opaque"]
    if not isinstance(name, str) or not isinstance(node["leaves"], dict):
        raise malformed(where)
    if like is _ABSENT:
        raise ValueError(
            f"{where or 'the model'} is a {one_line(name, 60)}, of which a file holds only the"
            " arrays: give load(path, like=...) a model of the same structure"
        )
    if type(like).__qualname__ != name:
        raise _differs(where, f"a {name}", like)
    if not node["leaves"]:
        like_leaves = [leaf for leaf in jax.tree.leaves(like) if is_array(leaf) or is_scalar(leaf)]
        if like_leaves:
            raise ValueError(f"{where} has arrays in `like` and none in the file")
        return like
    return decode_leaves(node["leaves"], like, where, tensors)


def _matched(model: Any, like: Any) -> Any:
    """`model`, once every leaf and static field is known to be as in `like`."""
    try:
        alike = jax.tree.structure(model) == jax.tree.structure(like)
    except Exception as error:  # static fields a file made up may not even be comparable
        raise ValueError(f"the model cannot be compared to `like`: {error}") from None
    if not alike:
        raise ValueError("the model has another structure, or other static fields, than `like`")
    leaves, treedef = jax.tree_util.tree_flatten_with_path(model)
    matched = [
        leaf if leaf is wanted else fitted(leaf, wanted, jax.tree_util.keystr(key_path))
        for (key_path, leaf), wanted in zip(leaves, jax.tree.leaves(like), strict=True)
    ]
    return jax.tree.unflatten(treedef, matched)


def _inner(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)


def _differs(where: str, said: str, like: Any) -> ValueError:
    return ValueError(
        f"{where or 'the model'} is {one_line(said, 100)} in the file and a"
        f" {type(like).__qualname__} in `like`"
    )
