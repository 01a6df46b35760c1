"""Where chains of `energax sample` start: where earlier ones ended, or at rows of data."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from energax.cli._common import check_settings, check_width, rows_for
from energax.cli._rows import Reading, binary_rows
from energax.energies import AbstractEnergy
from energax.io._numpy_files import npz_arrays, npz_names
from energax.spaces import AbstractSpace, Binary, Joint, State

ABOUT, ENERGY = "about", "energy"
"""What a file of samples holds beside x: a line of JSON, and E of every draw."""


def part_names(space: AbstractSpace) -> list[str]:
    """The arrays that x is in a file of samples.

    **Raises:** `ValueError` if a part has parts, or the name of another array of the file.
    """
    if isinstance(space, Joint) and any(isinstance(p, Joint) for p in space.parts.values()):
        raise ValueError("a Joint within a Joint has no array of its own in a file of samples")
    names = list(space.parts) if isinstance(space, Joint) else ["x"]
    taken = sorted({ABOUT, ENERGY} & set(names))
    if taken:
        raise ValueError(
            f"the model's part {taken[0]!r} has the name of another array in a file of samples:"
            " name it otherwise"
        )
    return names


def read_starts(path: Path, energy: AbstractEnergy, metadata: dict[str, Any], model: Path) -> State:
    """States to start chains at, stacked: the last draws of a file of samples, or rows of data,
    read as those the model was trained on.

    **Raises:** `ValueError` for a file that holds neither, or states of another space.
    """
    try:
        ended = _last_draws(path, energy.space)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if ended is not None:
        return ended
    given = Reading()
    reading = given.or_as_trained(check_settings(metadata, model), path)
    found = reading.read(path)
    if isinstance(energy.space, Binary):
        try:
            bits = binary_rows(found, reading)
        except ValueError:
            raise ValueError(
                f"{path} cannot be read as zeros and ones: give --start a file that holds them"
            ) from None
        check_width(energy, bits.rows)
        return energy.space.convert(bits.rows)
    return rows_for(energy, found.rows, given)


def _last_draws(path: Path, space: AbstractSpace) -> State | None:
    """The last draws of the chains in a file of samples; `None` if it is another file."""
    if path.suffix.lower() != ".npz" or not path.is_file():
        return None
    there = npz_names(path)
    if ENERGY not in there or ABOUT not in there:
        return None
    names = part_names(space)
    missing = [name for name in names if name not in there]
    if missing:
        raise ValueError(f"it holds samples of another model: there is no array {missing[0]!r}")
    arrays = npz_arrays(path, [*names, ENERGY])
    energies = arrays.pop(ENERGY)
    like = space.structure if isinstance(space, Joint) else {"x": space.structure}
    for name, leaf in arrays.items():
        wanted = (*energies.shape, *like[name].shape)
        if energies.ndim != 2 or leaf.shape != wanted:
            raise ValueError(f"its array {name!r} must have shape {wanted}, has {leaf.shape}")
    if not energies.size:
        raise ValueError("it holds no draw")
    if len(energies) == 1:  # one chain, or exact draws: its last ones, for chains that start apart
        energies = energies.T
        arrays = {name: np.swapaxes(leaf, 0, 1) for name, leaf in arrays.items()}
    sound = np.isfinite(energies[:, -1])
    if not sound.any():
        raise ValueError("no chain of it ended at a finite energy")
    last = {name: leaf[sound, -1] for name, leaf in arrays.items()}
    if isinstance(space, Joint):
        return space.convert(last, name="its last draws")
    return space.convert(last["x"], name="its last draws")


def worst(values: Any, of: Any) -> float | None:
    """The worst R-hat or effective size over all coordinates; `None` if no number is known."""
    leaves = [np.ravel(np.asarray(leaf)) for leaf in jax.tree.leaves(values)]
    every = np.concatenate([np.zeros(0), *leaves])
    known = every[~np.isnan(every)]
    return float(of(known)) if known.size else None
