"""What is looked at before training and between chunks: the size of energies, validation rows."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from energax.energies import AbstractEnergy
from energax.objectives import AbstractObjective
from energax.partition import energies_of
from energax.random import is_number
from energax.spaces import State
from energax.training._held_out import LogLikelihoods, PseudoLikelihoods, most_pairs
from energax.training._streamed import StreamedRows, as_streams

_EXPLODED = 1000.0
"""An energy this many times larger than at the start (or than one an entry) has exploded."""

_VALIDATION_ROWS = 2000
"""Rows of either side that the validation gap is taken over."""

_LIKELIHOOD_ROWS = 10_000
"""Validation rows whose likelihood is found, and rows that tell the base log Z is annealed from."""


class Checks:
    """The limit of energies, and the rows that are looked at but not learnt from."""

    def __init__(
        self,
        energy: AbstractEnergy,
        objective: AbstractObjective,
        rows: Any,
        validation: Any,
        energy_limit: float | int | None,
        likelihood_every: int | None,
        key: Key[Array, ""],
    ):
        self.energy_limit, self._pair = np.inf, None
        self._pseudo: PseudoLikelihoods | None = None
        self._likelihoods: LogLikelihoods | None = None
        if likelihood_every is not None and validation is None:
            raise ValueError("likelihood_every needs validation rows, whose likelihood it is")
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
            streams = as_streams(validation)
            if streams is None:
                arrays = jax.tree.map(np.asarray, validation)
                held_out = energy.space.convert(arrays, name="validation")
            else:
                held_out = StreamedRows(energy.space, streams, name="validation")
            _finite_energies(energy, held_out, "validation")
            n = min(_VALIDATION_ROWS, _count(held_out), _count(rows))
            self._pair = _spread(held_out, n)[1], _spread(rows, n)[1]
            # Of the run's key, whose other uses fold in numbers that are smaller.
            key_sites, key_z = jax.random.split(jax.random.fold_in(key, jnp.uint32(2**32 - 1)))
            pairs = most_pairs(energy.space)
            if pairs:
                _, some = _spread(held_out, min(pairs, _VALIDATION_ROWS))
                self._pseudo = PseudoLikelihoods(energy, some, key=key_sites)
            if likelihood_every is not None:
                _, many = _spread(held_out, _LIKELIHOOD_ROWS)
                _, base_rows = _spread(rows, _LIKELIHOOD_ROWS)
                self._likelihoods = LogLikelihoods(
                    energy, base_rows, many, likelihood_every, key=key_z
                )

    def measures(self, energy: AbstractEnergy) -> dict[str, float]:
        """The validation gap and pseudo-likelihood, if there are validation rows."""
        if self._pair is None:
            return {}
        held_out, seen = self._pair
        gap = energies_of(energy, held_out).mean() - energies_of(energy, seen).mean()
        found = {"validation_gap": float(gap)}
        if self._pseudo is not None:
            found["validation_pseudo_likelihood"] = self._pseudo.of(energy)
        return found

    def likelihood_due(self, before: int, step: int) -> bool:
        """Whether held-out likelihoods are to be found after a chunk."""
        return self._likelihoods is not None and self._likelihoods.is_due(before, step)

    def likelihood(self, energy: AbstractEnergy, step: int) -> dict[str, float]:
        """The mean log-likelihood of validation rows and its interval."""
        assert self._likelihoods is not None
        return self._likelihoods.of(energy, step)


def _count(rows: State | StreamedRows) -> int:
    return rows.n_rows if isinstance(rows, StreamedRows) else len(jax.tree.leaves(rows)[0])


def _spread(rows: State | StreamedRows, most: int) -> tuple[np.ndarray, State]:
    """Numbers and states of at most so many rows, evenly spread, since rows may come sorted."""
    if isinstance(rows, StreamedRows):
        return rows.spread(most)
    n = _count(rows)
    at = np.linspace(0, n - 1, min(n, most)).astype(int)
    return at, jax.tree.map(lambda leaf: leaf[at], rows)


def _finite_energies(energy: AbstractEnergy, rows: State | StreamedRows, name: str) -> np.ndarray:
    """E of some of the rows, or a `ValueError` where it is not finite."""
    numbers, some = _spread(rows, _VALIDATION_ROWS)
    energies = energies_of(energy, some)
    bad = np.flatnonzero(~np.isfinite(energies))
    if bad.size:
        row = int(numbers[bad[0]])
        place = rows.place(row) if isinstance(rows, StreamedRows) else f"row {row}"
        raise ValueError(
            f"the energy of {name} {place} is {energies[bad[0]]} before training: the model"
            " must give every row a finite energy"
        )
    return energies
