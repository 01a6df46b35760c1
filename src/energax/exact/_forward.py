"""Variable elimination: one variable after the other summed out, or maximised out."""

import math
from typing import NamedTuple

import numpy as np

from energax.exact._tables import DEEP, LARGEST, LINEAR, LOGARITHMS, Table, summed_out


class Step(NamedTuple):
    """The elimination of one variable, kept for the way back.

    **Fields:**

    - `scope`: places in the order of elimination: the variable's, and those its message is about.
    - `parts`: the tables that mention it, as logarithms if `logarithms`.
    - `message`: their product summed over it, likewise.
    """

    scope: tuple[int, ...]
    parts: list[Table]
    logarithms: bool
    message: np.ndarray


def eliminated(
    waiting: list[list[Table]], states: list[int], *, keep: bool = False, largest: bool = False
) -> tuple[float, list[Step]]:
    """log of the sum over all states of the product of tables, or of the largest product.

    **Arguments:**

    - `waiting`: of each place in the order, the tables whose first variable it is. Emptied.
    - `states`: how many states the variable at each place has.
    - `keep`: whether the steps are returned.
    - `largest`: tables hold logarithms, and the largest sum of theirs is found.
    """
    total, steps = 0.0, []
    for place, parts in enumerate(waiting):
        if not parts:
            parts = [Table((place,), np.full(states[place], 0.0 if largest else 1.0), 0.0, 0.0)]
        if largest:
            (scope, message), low, high = summed_out(parts, states, LARGEST), 0.0, 0.0
            logarithms, constant = True, 0.0
        else:
            low, high = sum([part.low for part in parts]), sum([part.high for part in parts])
            logarithms = low < -2 * DEEP or high > 2 * DEEP
            if logarithms:
                parts = [as_logarithms(part) for part in parts]
            scope, message = summed_out(parts, states, LOGARITHMS if logarithms else LINEAR)
            high += math.log(states[place])
        if keep:
            steps.append(Step(scope, parts, logarithms, message))
        waiting[place] = []
        if not largest and (logarithms or high - low > DEEP):
            message, low, high, constant = _levelled(message, logarithms)
            total += constant
        if len(scope) > 1:
            waiting[scope[1]].append(Table(scope[1:], message, low, high))
        elif largest or low == -math.inf:
            total += float(message)
        else:
            total += math.log(message) if message > 0 else -math.inf
        if total == -math.inf:
            break
    return total, steps


def as_logarithms(table: Table) -> Table:
    """The same weights, held as their logarithms."""
    if table.low == -math.inf:
        return table
    with np.errstate(divide="ignore"):
        return table._replace(values=np.log(table.values), low=-math.inf)


def _levelled(message: np.ndarray, logarithms: bool) -> tuple[np.ndarray, float, float, float]:
    """A message with 1 as its largest weight, its bounds, and the logarithm of what was taken out.

    It is held as weights where they do not span too much, and as logarithms elsewhere.
    """
    top = float(message.max())
    if logarithms:
        if top == -math.inf:
            return message, 0.0, 0.0, top
        message = np.asarray(message - top)
        low = float(np.min(message, where=message > -np.inf, initial=0.0))
        if low < -DEEP:
            return message, -math.inf, 0.0, top
        return np.asarray(np.exp(message)), low, 0.0, top
    if top == 0:
        return message, 0.0, 0.0, -math.inf
    message = np.asarray(message / top)
    low = math.log(float(np.min(message, where=message > 0, initial=1.0)))
    if low < -DEEP:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(message)), -math.inf, 0.0, math.log(top)
    return message, low, 0.0, math.log(top)
