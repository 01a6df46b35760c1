"""Checkpoints: everything a run needs to go on exactly as if it had not stopped."""

import hashlib
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from energax.io import read_tree, write_tree
from energax.spaces import State
from energax.training._step import TrainingState

_KIND = "checkpoint"


def fingerprint(rows: State, **settings: Any) -> dict[str, str]:
    """What must be the same for a checkpoint to be one of this run: data and settings.

    Arrays count by shape, dtype and a hash of their bytes.
    """
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(rows):
        array = np.asarray(leaf)
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return {"data": digest.hexdigest()[:16], **{k: str(v) for k, v in settings.items()}}


def write_checkpoint(
    path: Path, state: TrainingState, history: list[dict[str, float]], run: dict[str, str]
) -> None:
    """Write aside and rename: a kill at any moment leaves the old file or the new one."""
    arrays = eqx.filter(state, eqx.is_array)
    write_tree(path, arrays, kind=_KIND, metadata={"run": run, "history": history})


def read_checkpoint(
    path: Path, like: TrainingState, run: dict[str, str]
) -> tuple[TrainingState, list[dict[str, float]]]:
    """The state and history in a checkpoint of this very run.

    **Raises:** `ValueError` if the file is damaged or belongs to another run, naming what differs.
    """
    arrays, static = eqx.partition(like, eqx.is_array)
    loaded, metadata = read_tree(path, arrays, kind=_KIND, expect={"run": run})
    return eqx.combine(loaded, static), list(metadata["history"])
