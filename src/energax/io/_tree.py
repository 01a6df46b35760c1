"""Checkpoints: any tree of arrays, random keys and Python scalars, bit for bit."""

import os
from typing import Any

import jax
from jaxtyping import PyTree

from energax.io._file import (
    KINDS,
    Header,
    as_metadata,
    as_path,
    check_expected,
    naming,
    read,
    write,
)
from energax.io._leaves import (
    Tensors,
    decode_leaf,
    encode_leaf,
    fitted,
    is_array,
    is_scalar,
    malformed,
)


def write_tree(
    path: str | os.PathLike[str],
    tree: PyTree,
    *,
    kind: str = "checkpoint",
    metadata: dict[str, Any] | None = None,
) -> None:
    """Write a tree to one file, whole or not at all.

    Every dtype is kept to the bit, and so are random keys. Leaves that are no data (an activation
    function inside a network) are not stored: reading takes them from `like`.

    **Arguments:**

    - `path`: the file, replaced if it is there.
    - `tree`: leaves are arrays, typed keys, or Python numbers and text.
    - `kind`: `"checkpoint"` or `"model"`, checked when reading.
    - `metadata`: anything JSON can hold, read back beside the tree.

    **Raises:** `ValueError` if a leaf cannot be stored or the folder does not exist, `OSError` if
    the disk fails. The old file is then as it was.

    ```python
    import energax as ex
    import jax.numpy as jnp
    from energax import io

    state = {"x": jnp.ones(3), "key": ex.key(0), "step": 7}
    io.write_tree("run.energax", state, metadata={"seed": 0})
    state, metadata = io.read_tree("run.energax", like=state)
    ```
    """
    path = as_path(path)
    with naming(path):
        _check_kind(kind)
        kept, tensors = as_metadata(metadata), Tensors()
        nodes = encode_leaves(tree, "", tensors)
        structure = {"tree": signature(jax.tree.structure(tree)), "leaves": nodes}
        write(path, tensors.content, Header(kind, structure, kept))


def read_tree(
    path: str | os.PathLike[str],
    like: PyTree,
    *,
    kind: str = "checkpoint",
    expect: dict[str, Any] | None = None,
) -> tuple[PyTree, dict[str, Any]]:
    """Read a tree that `write_tree` wrote.

    **Arguments:**

    - `path`: the file.
    - `like`: a tree of the same structure, shapes and dtypes; its numbers do not matter. Arrays
      may stand as `jax.ShapeDtypeStruct`.
    - `kind`: what the file must say it is.
    - `expect`: entries its metadata must have, compared before anything else.

    **Returns:** the tree and the metadata.

    **Raises:** `ValueError` if the file is damaged, of another kind, not as expected, or does not
    fit `like`.

    ```python
    import jax.numpy as jnp
    from energax import io

    io.write_tree("state.energax", [jnp.arange(3.0), 1])
    (x, n), _ = io.read_tree("state.energax", like=[jnp.zeros(3), 0])
    ```
    """
    path = as_path(path)
    with naming(path):
        _check_kind(kind)
        header, content = read(path, kind)
        check_expected(header.metadata, expect or {})
        structure, tensors = header.structure, Tensors(content)
        if not isinstance(structure, dict) or set(structure) != {"tree", "leaves"}:
            raise malformed("the tree")
        nodes = structure["leaves"]
        tree = decode_leaves(nodes, like, "", tensors)
        if structure["tree"] != signature(jax.tree.structure(like)):
            raise ValueError(
                "the tree has the leaves of `like` but other containers around them:"
                f" {structure['tree']}"
            )
        tensors.check_all_taken()
        return tree, header.metadata


def encode_leaves(tree: Any, prefix: str, tensors: Tensors) -> dict[str, Any]:
    """The JSON of every leaf by its path. Of a leaf that is no data it says only the type."""
    nodes = {}
    for key_path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = jax.tree_util.keystr(key_path) or "."
        if name in nodes:
            raise ValueError(f"two leaves are called {prefix}{name}: rename one")
        if is_scalar(leaf) or is_array(leaf):
            nodes[name] = encode_leaf(leaf, prefix + name, tensors)
        else:
            nodes[name] = {"opaque": type(leaf).__qualname__, "leaves": {}}
    return nodes


def decode_leaves(nodes: Any, like: Any, prefix: str, tensors: Tensors) -> Any:
    """The tree `like` with the leaves that `nodes` describes, by the paths of the leaves."""
    leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
    expected = [jax.tree_util.keystr(key_path) or "." for key_path, _ in leaves]
    if not isinstance(nodes, dict):
        raise malformed(prefix or "the tree")
    missing = [name for name in expected if name not in nodes]
    extra = [name for name in nodes if name not in expected]
    if missing or extra:
        said = [f"lacks {', '.join(missing[:3])}"] if missing else []
        said += [f"has {', '.join(extra[:3])} which `like` has not"] if extra else []
        raise ValueError(f"{prefix or 'the tree'} has another structure: it {' and '.join(said)}")
    result = []
    for name, (_, leaf) in zip(expected, leaves, strict=True):
        node, where = nodes[name], prefix + name
        if isinstance(node, dict) and "opaque" in node:
            if node != {"opaque": type(leaf).__qualname__, "leaves": {}}:
                raise ValueError(
                    f"{where} must be a {type(leaf).__qualname__} as in `like`, the file had a"
                    f" {node['opaque']}"
                )
            result.append(leaf)
        else:
            result.append(fitted(decode_leaf(node, where, tensors), leaf, where))
    return jax.tree.unflatten(treedef, result)


def signature(treedef: Any) -> str:
    """The containers of a tree by the names of their types, leaves as stars."""
    data = treedef.node_data()
    if data is None:
        return "*"
    inside = ",".join(signature(child) for child in treedef.children())
    return f"{data[0].__name__}({inside})"


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {sorted(KINDS)}, got {kind!r}")
