"""Composite likelihood: blocks of entries given all the others."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Int, Key

from energax.energies import AbstractEnergy
from energax.kernels._sites import changed, sites_of
from energax.objectives._base import AbstractObjective, Step, optional_count_field
from energax.objectives._pieces import chosen_pieces, pieces_at_once, step_by_pieces
from energax.objectives._site_changes import n_values_of
from energax.random import as_count
from energax.spaces import State

_MOST_STATES = 1 << 16
"""Of a block: they are listed side by side."""


class CompositeLikelihood(AbstractObjective):
    """The mean over rows of minus a sum over blocks of entries:

    loss = mean over x of - sum_b log p(x_b | all other entries of x)

    with the conditional of a block exact, by listing its states. Blocks of one entry make it the
    pseudo-likelihood, one block of all entries the likelihood; between them larger blocks cost
    more and leave less spread. Blocks may overlap, and may leave entries out, which then are only
    conditioned on.

    **Arguments:**

    - `blocks`: lists of entries' numbers, counted through all arrays of a state, each in C order;
      or one integer, for blocks of so many entries in that order.
    - `n_blocks`: blocks a row, drawn anew at every step and weighed so that the loss and its
      gradient stay right on average; all if `None`.
    - `blocks_at_once`: blocks evaluated side by side; as many as fit into 64 MiB if `None`.

    **Raises:** `ValueError` for an empty block, a number twice in one, or, when training starts, a
    number that no entry has or a block of more than 65,536 states.

    ```python
    import energax as ex
    import numpy as np

    rows = np.random.default_rng(0).choice([-1, 1], (200, 6))
    pairs = ex.CompositeLikelihood([(0, 1), (2, 3), (4, 5)])
    run = ex.fit(ex.Ising(6), rows, pairs, key=ex.key(0), steps=10)
    ```

    Sources: B. Lindsay, "Composite likelihood methods" (1988); A. Asuncion, Q. Liu, A. Ihler and
    P. Smyth, "Learning with blocks: composite likelihood and contrastive divergence" (2010).
    """

    blocks: int | tuple[tuple[int, ...], ...]
    n_blocks: int | None = optional_count_field("n_blocks")
    blocks_at_once: int | None = optional_count_field("blocks_at_once")

    def __init__(
        self,
        blocks: int | Sequence[Sequence[int]] = 2,
        n_blocks: int | None = None,
        blocks_at_once: int | None = None,
    ):
        self.blocks = _as_blocks(blocks)
        self.n_blocks, self.blocks_at_once = n_blocks, blocks_at_once

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        _tables(self, energy)
        return AbstractObjective.prepare(self, energy, data)

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> None:
        _tables(self, energy)

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        all_sites, (members, shifts) = sites_of(energy.space), _tables(self, energy)
        counts = n_values_of(all_sites)
        if any(sites.held is not None for sites in all_sites):
            held = [jnp.zeros((s.size,), bool) if s.held is None else s.held for s in all_sites]
            counts = jnp.where(jnp.concatenate(held), 1, counts)

        def loss(energy: AbstractEnergy, x: State, block: Int[Array, ""]) -> dict[str, Array]:
            sites = jnp.asarray(members)[block]
            most = jnp.where(sites < 0, 1, counts[sites])

            def at(shifts: Int[Array, " members"]) -> Array:
                y = x
                for site, shift in zip(sites, shifts, strict=True):
                    y = changed(all_sites, y, site, shift)
                return jnp.where(jnp.all(shifts < most), energy.energy(y), jnp.inf)

            energies = jax.vmap(at)(jnp.asarray(shifts))
            return {"loss": logsumexp(energies[0] - energies)}  # the first is x itself

        n_rows, n = len(jax.tree.leaves(batch)[0]), len(members)
        blocks, weights = chosen_pieces(key, n_rows, n, self.n_blocks, None)
        floats = len(shifts) * sum(sites.size for sites in all_sites)
        at_once = self.blocks_at_once or pieces_at_once(n_rows, floats)
        return step_by_pieces(energy, batch, loss, blocks, weights, at_once)


def _as_blocks(blocks: Any) -> int | tuple[tuple[int, ...], ...]:
    if isinstance(blocks, int | np.integer):
        return as_count(blocks, "blocks")
    expected = "blocks must be an integer or a list of lists of entries' numbers"
    try:
        made = tuple(tuple(as_count(i, "an entry", least=0) for i in block) for block in blocks)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{expected}: {error}") from None
    if not made or not all(made):
        raise ValueError(f"{expected}, got {'no block' if not made else 'an empty one'}")
    for block in made:
        if len(set(block)) < len(block):
            raise ValueError(f"{expected}, no number twice in one, got {block}")
    return made


def _tables(
    objective: CompositeLikelihood, energy: AbstractEnergy
) -> tuple[np.ndarray, np.ndarray]:
    """The members of each block, filled up with -1, and all shifts of the values of one."""
    try:
        all_sites = sites_of(energy.space)
    except ValueError as error:
        raise ValueError(
            f"CompositeLikelihood lists the states of a block, and cannot on this space: {error}"
        ) from None
    n, given = sum(sites.size for sites in all_sites), objective.blocks
    if isinstance(given, int):
        blocks = [tuple(range(i, min(i + given, n))) for i in range(0, n, given)]
    else:
        blocks = list(given)
    largest = max(max(block) for block in blocks)
    if largest >= n:
        raise ValueError(f"blocks must name entries from 0 to {n - 1}, got {largest}")
    if objective.n_blocks is not None and objective.n_blocks > len(blocks):
        raise ValueError(
            f"n_blocks must be at most the {len(blocks)} blocks, got {objective.n_blocks}"
        )
    n_values = np.concatenate([np.full(sites.size, sites.n_values) for sites in all_sites])
    members = np.full((len(blocks), max(map(len, blocks))), -1)
    for row, block in zip(members, blocks, strict=True):
        # Entries of many values first: blocks then share one list of shifts that is short.
        row[: len(block)] = sorted(block, key=lambda entry: -n_values[entry])
    values = np.where(members < 0, 1, n_values[members]).max(0).tolist()
    if math.prod(values) > _MOST_STATES:
        raise ValueError(
            f"a block of {len(values)} entries of up to {values[0]} values has"
            f" {math.prod(values)} states, and at most {_MOST_STATES} can be listed: take smaller"
            " blocks"
        )
    shifts = np.stack(np.unravel_index(np.arange(math.prod(values)), values), 1)
    return members, shifts
