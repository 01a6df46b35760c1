"""Products of tables and sums over their first variable, in numpy, in runs of memory.

A table is held with its variables in the order of their elimination. So the one to be summed out
is the first axis of all that mention it, and what changes slowest stands last: long runs of
memory that numpy goes through at full speed.
"""

import math
from collections.abc import Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np

_RUN = 256
"""Entries that stand side by side in both factors of a product: shorter runs take numpy longer to
begin than to multiply."""

_BLOCK = 1 << 17
"""Entries of a message that are made at a time: what a core's second-level cache holds."""

DEEP = 300.0
"""Weights whose logarithms span more than this are held as logarithms. Half of what double
precision spans, so that a product of two tables does not vanish."""


class Table(NamedTuple):
    """Weights of the states of some variables.

    **Fields:**

    - `scope`: places of the variables in the order of elimination, ascending.
    - `values`: weights, one axis a variable; their logarithms where `low` is `-inf`.
    - `low`, `high`: bounds of the logarithm of the weights that are not 0.
    """

    scope: tuple[int, ...]
    values: np.ndarray
    low: float
    high: float


class Algebra(NamedTuple):
    """What stands for the product and for the sum."""

    product: np.ufunc
    sum: np.ufunc


LINEAR = Algebra(np.multiply, np.add)
LOGARITHMS = Algebra(np.add, np.logaddexp)
LARGEST = Algebra(np.add, np.maximum)


def joined(parts: Sequence[Table], states: list[int], product: np.ufunc) -> np.ndarray:
    """The product of tables, over all that they mention."""
    return _gathered(parts, states, product, math.inf)[0][1]


def summed_out(
    parts: Sequence[Table], states: list[int], algebra: Algebra
) -> tuple[tuple[int, ...], np.ndarray]:
    """What tables mention whose first variable is one and the same, and their product summed over
    it."""
    few = _gathered(parts, states, algebra.product, float(_BLOCK))
    if len(few) == 1:
        scope, values = few[0]
        if len(values) == 2:
            return scope, np.asarray(algebra.sum(values[0], values[1]))
        return scope, np.asarray(algebra.sum.reduce(values, axis=0))
    scope = tuple(sorted(set().union(*[seen for seen, _ in few])))
    out = np.empty([states[p] for p in scope[1:]])
    _fold([(seen[1:], values) for seen, values in few], scope[1:], states, algebra, out)
    return scope, out


def _gathered(
    parts: Sequence[Table], states: list[int], product: np.ufunc, most: float
) -> list[tuple[tuple[int, ...], np.ndarray]]:
    """Tables multiplied one into the other as long as that has at most `most` entries.

    Those whose variables are eliminated last go first, so that the result grows at the front.
    """
    if len(parts) == 1:
        return [parts[0][:2]]
    ordered = sorted(parts, key=itemgetter(0), reverse=True)
    scope, values, *_ = ordered[0]
    found = []
    for seen, other, *_ in ordered[1:]:
        if seen == scope:
            values = product(values, other)
            continue
        union = tuple(sorted({*scope, *seen}))
        shape = [states[p] for p in union]
        entries = math.prod(shape)
        if entries > most:
            found.append((scope, values))
            scope, values = seen, other
            continue
        if len(scope) < len(union):
            values = values.reshape([states[p] if p in scope else 1 for p in union])
        if len(seen) < len(union):
            other = other.reshape([states[p] if p in seen else 1 for p in union])
        if entries >= 4 * _RUN:
            values, other = _in_runs(values, shape), _in_runs(other, shape)
        scope, values = union, product(values, other, order="C")
    return [*found, (scope, values)]


def _in_runs(a: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A table of as many axes as `shape`, the product's, repeated along short axes at its end if it
    has some of them."""
    run, axis = 1, len(shape)
    while run < _RUN and axis:
        axis -= 1
        run *= shape[axis]
    end, whole = a.shape[axis:], tuple(shape[axis:])
    if end == whole or a.size == 1 or set(end) == {1}:
        return a
    return np.ascontiguousarray(np.broadcast_to(a, (*a.shape[:axis], *whole)))


def _fold(
    parts: list[tuple[tuple[int, ...], np.ndarray]],
    scope: tuple[int, ...],
    states: list[int],
    algebra: Algebra,
    out: np.ndarray,
) -> None:
    """The sum over the tables' first axis of their product; `scope` is what is left."""
    if out.size > _BLOCK:
        first, rest = scope[0], scope[1:]
        for s in range(states[first]):
            fixed = [
                (seen[1:], values[:, s]) if seen and seen[0] == first else (seen, values)
                for seen, values in parts
            ]
            _fold(fixed, rest, states, algebra, out[s])
        return
    spread = []
    for seen, values in parts:
        shape = [len(values), *[states[p] if p in seen else 1 for p in scope]]
        spread.append(_in_runs(values.reshape(shape), [len(values), *out.shape]))
    layer = out
    for s in range(len(spread[0])):
        algebra.product(spread[0][s], spread[1][s], out=layer)
        for other in spread[2:]:
            algebra.product(layer, other[s], out=layer)
        if s:
            algebra.sum(out, layer, out=out)
        else:
            layer = np.empty_like(out)


def margin(belief: np.ndarray, scope: tuple[int, ...], kept: tuple[int, ...]) -> np.ndarray:
    """The sum of a table over all variables of `scope` that are not in `kept`."""
    shape = belief.shape
    axis = len(scope)
    while axis:
        end = axis
        while axis and scope[axis - 1] not in kept:
            axis -= 1
        if axis < end:
            before, within = shape[:axis], math.prod(shape[axis:end])
            after = belief.shape[end:]
            inner = math.prod(after)
            if inner == 1:
                belief = belief.reshape(-1, within) @ np.ones(within)
            else:
                belief = belief.reshape(-1, within, inner).sum(1)
            belief = belief.reshape(*before, *([1] * (end - axis)), *after)
        else:
            axis -= 1
    return belief.reshape([n for n, p in zip(shape, scope, strict=True) if p in kept])
