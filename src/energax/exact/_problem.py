"""Tables ready to be eliminated: of the free variables alone, in the order of their elimination."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from energax.exact._log_tables import entries_of, n_states_of
from energax.exact._tables import DEEP, Table
from energax.spaces import AbstractSpace, Categorical
from energax.spaces._base import size_of


@dataclass(frozen=True)
class Problem:
    """Tables of -E in numpy, and what is known of some variables.

    **Fields:**

    - `groups`: variables, shape (tables, arity), and tables, shape (tables or 1, *states).
    - `sizes`: how many states each variable has.
    - `known`: the state of each variable that is observed or has one state only; -1 elsewhere.
    - `n_states`: how many the space has.
    - `shape`: of the variables, which are numbered in C order.
    - `constant`: of -E; `-inf` if what is observed is impossible, NaN if a table is no energy.
    """

    groups: list[tuple[np.ndarray, np.ndarray]]
    sizes: np.ndarray
    known: np.ndarray
    n_states: int
    shape: tuple[int, ...]
    constant: float


Arrays = tuple[Any, Any, Any]
"""Groups of variables and tables; numbers of states or `None`; masks and values of what is held."""


def made_problem(space: AbstractSpace, arrays: Arrays, constant: float = 0.0) -> Problem:
    """The problem of an energy over `space` with these arrays, none of them traced."""
    entries = entries_of(space)
    assert entries is not None
    given, sizes, observed = arrays
    groups = [(np.asarray(v), np.asarray(t, np.float64)) for v, t in given]
    n_states, n = n_states_of(entries), size_of(entries.shape)
    sizes = np.full(n, n_states) if sizes is None else np.asarray(sizes, np.int64)
    known = np.where(sizes == 1, 0, -1)
    for mask, values in observed:
        states = np.asarray(values).reshape(-1)
        states = states.astype(int) if isinstance(entries, Categorical) else states > 0
        known = np.where(np.asarray(mask).reshape(-1), states, known)
    if (known >= sizes).any():
        known, constant = np.minimum(known, sizes - 1), -np.inf
    if any((np.isnan(t) | (t == np.inf)).any() for _, t in groups):
        constant = np.nan
    return Problem(groups, sizes, known, n_states, entries.shape, constant)


@dataclass(frozen=True)
class Batch:
    """Tables of one group with the same axes left.

    **Fields:**

    - `group`: its number.
    - `places`: of their variables in the order of elimination, shape (tables, axes), ascending.
    - `tables`: shape (tables, *states).
    - `index`: where they stand: the group's array at `index` is `tables`.
    """

    group: int
    places: np.ndarray
    tables: np.ndarray
    index: tuple[np.ndarray, ...]


def batches(problem: Problem, order: tuple[int, ...]) -> list[Batch]:
    """All tables at what is known, with axes in the order of elimination."""
    place = np.full(len(problem.sizes), len(order))
    place[np.array(order, int)] = np.arange(len(order))
    found = []
    for number, (variables, tables) in enumerate(problem.groups):
        arity = variables.shape[1]
        places = place[variables]
        ranks = np.argsort(np.argsort(places, axis=1, kind="stable"), axis=1)
        # Rows are alike if the same axes are left, of the same lengths and in the same order.
        lengths = np.where(places < len(order), problem.sizes[variables], 0)
        for rows in _alike(np.concatenate([ranks, lengths], axis=1)):
            rank, length = ranks[rows[0]].tolist(), lengths[rows[0]].tolist()
            n_left = sum(n > 0 for n in length)
            shared = len(tables) != len(variables)
            index = [_along(0, n_left, np.zeros_like(rows) if shared else rows)]
            for a in range(arity):
                if length[a]:
                    index.append(_along(rank[a] + 1, n_left, np.arange(length[a])))
                else:
                    index.append(_along(0, n_left, problem.known[variables[rows, a]]))
            left = np.argsort(rank)[:n_left]
            each = tables[tuple(index)]
            found.append(Batch(number, places[rows][:, left], each, tuple(index)))
    return found


def _along(axis: int, n_left: int, array: np.ndarray) -> np.ndarray:
    """A list of indices along one of the axes of a batch."""
    return array.reshape([-1 if a == axis else 1 for a in range(n_left + 1)])


def _alike(keys: np.ndarray) -> list[np.ndarray]:
    """Numbers of equal rows of small whole numbers."""
    code = np.zeros(len(keys), np.int64)
    for column in keys.T:
        if (column != column[0]).any():  # `np.unique` of whole rows takes several times as long
            _, code = np.unique(code * (column.max() + 1) + column, return_inverse=True)
    return [np.flatnonzero(code == i) for i in range(code.max() + 1)]


def waiting_tables(
    every: list[Batch], states: list[int], *, logarithms: bool
) -> tuple[list[list[Table]], float]:
    """Of each place the tables whose first variable it is, and the logarithm of a constant factor.

    Each table has 1 as its largest weight. Tables of one variable go into others of it.
    """
    waiting: list[list[Table]] = [[] for _ in states]
    constant, several = 0.0, []
    single: dict[int, np.ndarray] = {}
    """Number of states -> the sum of the tables of each variable with so many."""
    for batch in every:
        arity, length = batch.places.shape[1], batch.tables.shape[-1]
        if arity == 0:
            constant += float(batch.tables.sum())
        elif arity == 1:
            sums = single.setdefault(length, np.zeros((len(states), length)))
            np.add.at(sums, batch.places[:, 0], batch.tables)
        else:
            several.append((batch.places, batch.tables))
    for i, (places, logs) in enumerate(several):
        sums = single.get(logs.shape[1])
        if sums is not None:
            firsts, at = np.unique(places[:, 0], return_index=True)
            logs = logs.copy()
            logs[at] += sums[firsts].reshape(len(at), -1, *[1] * (logs.ndim - 2))
            several[i], sums[firsts] = (places, logs), 0
    for sums in single.values():
        left = np.flatnonzero(sums.any(1))
        several.append((left[:, None], sums[left]))
    for places, logs in several:
        axes = tuple(range(1, logs.ndim))
        top = logs.max(axis=axes, keepdims=True, initial=-np.inf)
        top = np.where(top == -np.inf, 0, top)
        logs = logs - top
        constant += float(top.sum())
        low = np.min(logs, axis=axes, where=logs > -np.inf, initial=0.0).tolist()
        if logarithms or min(low, default=0.0) < -DEEP:
            low, values = [-np.inf] * len(logs), list(logs)
        else:
            values = list(np.exp(logs))
        for scope, table, bound in zip(places.tolist(), values, low, strict=True):
            waiting[scope[0]].append(Table(tuple(scope), table, bound, 0.0))
    return waiting, constant
