"""Checkpoints: everything a run needs to go on exactly as if it had not stopped."""

import dataclasses
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from energax.energies import AbstractEnergy
from energax.io import read_metadata, read_tree, write_tree
from energax.io._tree import signature
from energax.objectives import AbstractObjective
from energax.spaces import State
from energax.training._guard import Memory
from energax.training._progress import Progress

_KIND = "checkpoint"


def fingerprint(
    rows: State,
    key: Key[Array, ""],
    energy: AbstractEnergy,
    objective: AbstractObjective,
    optimizer: Any,
    **settings: Any,
) -> dict[str, str]:
    """What must be the same for a checkpoint to be one of this run, by name.

    Arrays count by shape, dtype and a hash of their bytes; an optimiser by the containers of
    its state, as what it does is hidden in closures.
    """
    return {
        "data": _digest(rows),
        "key": _digest(key),
        "energy": f"{type(energy).__name__} {_digest(energy)} {_settings(energy)}",
        "objective": f"{without_addresses(objective)} {_digest(objective)}".rstrip(),
        "optimizer": signature(jax.tree.structure(optimizer)),
        **{name: str(value) for name, value in settings.items()},
    }


def without_addresses(value: Any) -> str:
    """A value in words that are the same in every process: a function's name, no address."""
    name = getattr(value, "__qualname__", None)
    return re.sub(r" at 0x[0-9a-f]+", "", str(value)) if name is None else name


def _settings(tree: Any) -> str:
    """A hash of all that is no array: fields, names of functions."""
    words = without_addresses(eqx.tree_pformat(tree, short_arrays=True))
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def _digest(tree: Any) -> str:
    """A hash of every array in a tree; empty if there is none."""
    digest, found = hashlib.sha256(), False
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            continue
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(jnp.asarray(leaf))
        array, found = np.asarray(leaf), True
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16] if found else ""


def check_path(checkpoint: str | Path) -> Path:
    """The path of a checkpoint, or a `ValueError` before any work if it could not be written."""
    if not isinstance(checkpoint, str | os.PathLike):
        raise ValueError(f"checkpoint must be a path, got {type(checkpoint).__name__}")
    path = Path(checkpoint)
    if path.is_dir():
        raise ValueError(f"checkpoint must be a file, {path} is a folder")
    if not path.parent.is_dir():
        raise ValueError(f"checkpoint cannot be written: there is no folder {path.parent}")
    return path


def write_checkpoint(path: Path, progress: Progress, run: dict[str, str]) -> None:
    """Write aside and rename: a kill at any moment leaves the old file or the new one.

    The start is not written: the arguments of `fit` make it again.
    """
    _, *healthy = progress.healthy
    tree = _tree(progress.state, [*healthy, progress.trial])
    metadata = {
        "run": run,
        "history": progress.history,
        "alarms": progress.alarms,
        "guard": dataclasses.asdict(progress.memory),
        "n_healthy": len(healthy),
        "kept": progress.kept,
    }
    write_tree(path, eqx.filter(tree, eqx.is_array), kind=_KIND, metadata=metadata)


def read_checkpoint(path: Path, start: Progress, run: dict[str, str]) -> Progress:
    """What a checkpoint of this very run holds.

    **Raises:** `ValueError` if the file is damaged or belongs to another run, naming what differs.
    """
    try:
        n = read_metadata(path).get("n_healthy", 0)
        n = n if type(n) is int and 0 <= n < 100 else 0
        arrays, static = eqx.partition(_tree(start.state, [start.state] * (n + 1)), eqx.is_array)
        loaded, metadata = read_tree(path, arrays, kind=_KIND, expect={"run": run})
    except ValueError as error:
        raise ValueError(
            f"cannot go on from the checkpoint {error}; start anew with resume=False (--no-resume)"
        ) from None
    kinds = (("history", list), ("alarms", list), ("guard", dict), ("kept", list))
    for name, kind in kinds:
        if not isinstance(metadata.get(name), kind):
            raise ValueError(f"cannot go on from the checkpoint {path}: it holds no {name}")
    tree = eqx.combine(loaded, static)
    *healthy, trial = tree["earlier"]
    try:
        memory = Memory(**metadata["guard"])
    except TypeError:
        raise ValueError(
            f"cannot go on from the checkpoint {path}: its guard is that of another version"
        ) from None
    return Progress(
        tree["state"],
        metadata["history"],
        metadata["alarms"],
        memory,
        (start.state, *healthy),
        trial,
        metadata["kept"],
    )


def _tree(state: Any, earlier: list[Any]) -> dict[str, Any]:
    return {"state": state, "earlier": earlier}
