"""The order in which the variables of a factor graph are updated, and what touches each of them.

Variables of a block share no factor, so that they are independent given the rest. A *slot* is a
place in a factor: number `arity * f + p` for position p of factor f.
"""

from typing import TypeAlias

import numpy as np

from energax.energies.graphs._blocks import _in_rows
from energax.energies.graphs._colouring import colour

Slots: TypeAlias = tuple[tuple[np.ndarray, ...], ...]
"""For each range of degrees, integer arrays with a leading axis of blocks:

- variables, shape (blocks, width), filled up with their number;
- for each group of factors, the slots that hold them, shape (blocks, width, most), filled up with
  the number of slots.
"""


def make_slots(variables: list[np.ndarray], n_variables: int) -> Slots:
    """Tables of blocks from the variables of each group of factors, shape (factors, arity)."""
    colours = colour(_neighbours(variables, n_variables), n_variables)
    sorted_slots, starts, degrees = [], [], []
    for table in variables:
        owner = table.reshape(-1)
        degree = np.bincount(owner, minlength=n_variables)
        sorted_slots.append(np.argsort(owner, kind="stable"))
        starts.append(np.concatenate([[0], np.cumsum(degree)]))
        degrees.append(degree)
    total = sum(degrees, np.zeros(n_variables, int))
    # Ranges of degrees: up to 4, and from there on each up to twice the one before.
    level = np.ceil(np.log2(np.maximum(total, 4) / 4)).astype(np.int64)
    tables = []
    for each in np.unique(level):
        rows = _in_rows(np.flatnonzero(level == each), colours, n_variables)
        known = rows < n_variables
        at = np.where(known, rows, 0)
        slots = []
        for ordered, start, degree in zip(sorted_slots, starts, degrees, strict=True):
            place = np.arange(int(degree[level == each].max(initial=0)))
            used = known[..., None] & (place < degree[at][..., None])
            where = np.where(used, start[at][..., None] + place, 0)
            slots.append(np.where(used, ordered[where], len(ordered)))
        tables.append(tuple(t.astype(np.int32) for t in (rows, *slots)))
    return tuple(tables)


def _neighbours(variables: list[np.ndarray], n_variables: int) -> np.ndarray:
    """The pairs of variables that share a factor, each once."""
    codes = [np.zeros(0, np.int64)]
    for table in variables:
        for p in range(table.shape[1]):
            for q in range(p):
                i, j = table[:, p].astype(np.int64), table[:, q].astype(np.int64)
                codes.append(np.minimum(i, j) * n_variables + np.maximum(i, j))
    code = np.unique(np.concatenate(codes))
    return np.stack([code // n_variables, code % n_variables], 1)


def check_slots(slots: Slots, variables: list[np.ndarray], n_variables: int) -> None:
    """Raise `ValueError` unless every variable is in one block, with all its slots."""
    block_of = np.full(n_variables + 1, -1)
    n_seen, n_blocks = 0, 0
    seen: list[list[np.ndarray]] = [[] for _ in variables]
    for rows, *tables in slots:
        if len(tables) != len(variables) or rows.ndim != 2:
            raise ValueError("the tables of blocks do not fit the factors")
        if rows.size and not (rows.min() >= 0 and rows.max() <= n_variables):
            raise ValueError("the tables of blocks point outside the variables")
        block_of[rows] = n_blocks + np.arange(len(rows))[:, None]
        n_seen += int((rows < n_variables).sum())
        n_blocks += len(rows)
        for found, table, known in zip(seen, tables, variables, strict=True):
            n_slots = known.size
            if table.shape[:2] != rows.shape or table.ndim != 3:
                raise ValueError("the tables of blocks do not have one shape")
            if table.size and not (table.min() >= 0 and table.max() <= n_slots):
                raise ValueError("the tables of blocks point outside the factors")
            used = table < n_slots
            owner = np.broadcast_to(rows[..., None], table.shape)[used]
            if not np.array_equal(known.reshape(-1)[table[used]], owner):
                raise ValueError("the tables of blocks give variables the factors of others")
            found.append(table[used])
    if n_seen != n_variables or (block_of[:n_variables] < 0).any():
        raise ValueError("the blocks do not hold every variable once")
    for found, known in zip(seen, variables, strict=True):
        if (np.bincount(np.concatenate(found), minlength=known.size) != 1).any():
            raise ValueError("the blocks do not hold every place of a factor once")
        blocks = np.sort(block_of[known], axis=1)
        if (blocks[:, 1:] == blocks[:, :-1]).any():
            raise ValueError("two variables of a factor are in one block")
