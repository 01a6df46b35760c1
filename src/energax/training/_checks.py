"""What is looked at before training and between chunks: the size of energies, validation rows."""

from typing import Any

import jax
import numpy as np

from energax.energies import AbstractEnergy
from energax.objectives import AbstractObjective
from energax.partition import energies_of
from energax.spaces import State
from energax.training._settings import is_number

_EXPLODED = 1000.0
"""An energy this many times larger than at the start (or than one an entry) has exploded."""

_VALIDATION_ROWS = 2000
"""Rows of either side that the validation gap is taken over."""


class Checks:
    """The limit of energies, and the rows that are looked at but not learnt from."""

    def __init__(
        self,
        energy: AbstractEnergy,
        objective: AbstractObjective,
        rows: Any,
        validation: Any,
        energy_limit: float | int | None,
    ):
        self.energy_limit, self._pair = np.inf, None
        if energy_limit is not None and not (is_number(energy_limit) and energy_limit > 0):
            raise ValueError(f"energy_limit must be positive, got {energy_limit!r}")
        if not objective.learns_from_rows:
            if validation is not None:
                raise ValueError(f"{type(objective).__name__} takes no validation rows")
            return
        start = _finite_energies(energy, rows, "data")
        n_entries = sum(leaf.size for leaf in jax.tree.leaves(energy.space.structure))
        limit = _EXPLODED * max(float(np.abs(start).mean()), float(n_entries))
        self.energy_limit = limit if energy_limit is None else float(energy_limit)
        if validation is not None:
            held_out = energy.space.convert(jax.tree.map(np.asarray, validation), name="validation")
            _finite_energies(energy, held_out, "validation")
            n = min(_VALIDATION_ROWS, *(len(jax.tree.leaves(part)[0]) for part in (held_out, rows)))
            self._pair = _spread(held_out, n), _spread(rows, n)

    def measures(self, energy: AbstractEnergy) -> dict[str, float]:
        """The validation gap, if there are validation rows."""
        if self._pair is None:
            return {}
        held_out, seen = self._pair
        gap = energies_of(energy, held_out).mean() - energies_of(energy, seen).mean()
        return {"validation_gap": float(gap)}


def _spread(rows: State, most: int) -> State:
    """At most so many rows, evenly spread, since rows may come sorted."""
    at = _evenly(len(jax.tree.leaves(rows)[0]), most)
    return jax.tree.map(lambda leaf: leaf[at], rows)


def _evenly(n: int, most: int) -> np.ndarray:
    return np.linspace(0, n - 1, min(n, most)).astype(int)


def _finite_energies(energy: AbstractEnergy, rows: State, name: str) -> np.ndarray:
    """E of some of the rows, or a `ValueError` where it is not finite."""
    energies = energies_of(energy, _spread(rows, _VALIDATION_ROWS))
    bad = np.flatnonzero(~np.isfinite(energies))
    if bad.size:
        row = _evenly(len(jax.tree.leaves(rows)[0]), _VALIDATION_ROWS)[bad[0]]
        raise ValueError(
            f"the energy of {name} row {row} is {energies[bad[0]]} before training: the model"
            " must give every row a finite energy"
        )
    return energies
