"""Checkpoints: everything a run needs to go on exactly as if it had not stopped."""

import hashlib
import os
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from energax.energies import AbstractEnergy
from energax.io import read_tree, write_tree
from energax.io._tree import signature
from energax.objectives import AbstractObjective
from energax.spaces import State
from energax.training._step import TrainingState

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
        "energy": f"{type(energy).__name__} {_digest(energy)}",
        "objective": f"{objective} {_digest(objective)}".rstrip(),
        "optimizer": signature(jax.tree.structure(optimizer)),
        **{name: str(value) for name, value in settings.items()},
    }


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


def write_checkpoint(
    path: Path, state: TrainingState, history: list[dict[str, float | int]], run: dict[str, str]
) -> None:
    """Write aside and rename: a kill at any moment leaves the old file or the new one."""
    arrays = eqx.filter(state, eqx.is_array)
    write_tree(path, arrays, kind=_KIND, metadata={"run": run, "history": history})


def read_checkpoint(
    path: Path, like: TrainingState, run: dict[str, str]
) -> tuple[TrainingState, list[dict[str, float | int]]]:
    """The state and history in a checkpoint of this very run.

    **Raises:** `ValueError` if the file is damaged or belongs to another run, naming what differs.
    """
    arrays, static = eqx.partition(like, eqx.is_array)
    try:
        loaded, metadata = read_tree(path, arrays, kind=_KIND, expect={"run": run})
    except ValueError as error:
        raise ValueError(
            f"cannot go on from the checkpoint {error}; start anew with resume=False (--no-resume)"
        ) from None
    if not isinstance(metadata.get("history"), list):
        raise ValueError(f"cannot go on from the checkpoint {path}: it holds no history")
    return eqx.combine(loaded, static), metadata["history"]
