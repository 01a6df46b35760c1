"""The way back through the steps of an elimination: marginals, draws, a mode."""

from collections.abc import Callable, Sequence

import numpy as np

from energax.exact._forward import Step
from energax.exact._tables import LINEAR, LOGARITHMS, joined, margin

Scope = tuple[int, ...]


def margins(
    steps: Sequence[Step], states: list[int], scopes: Sequence[Sequence[Scope]]
) -> list[list[np.ndarray]]:
    """Probabilities of the states of some variables together: of each scope in `scopes`.

    **Arguments:**

    - `steps`: of sums, one a place in the order of elimination.
    - `scopes`: of each place, ascending tuples of places of which it is the first, each inside the
      scope of its step.
    """
    above: list[np.ndarray] = [np.ones(())] * len(steps)
    """What the variables of each message do, once known."""
    children: list[list[int]] = [[] for _ in steps]
    for place, step in enumerate(steps):
        if len(step.scope) > 1:
            children[step.scope[1]].append(place)
    found: list[list[np.ndarray]] = [[] for _ in steps]
    for place in range(len(steps) - 1, -1, -1):
        step = steps[place]
        belief = _belief(step, states, above[place])
        for child in children[place]:
            above[child] = margin(belief, step.scope, steps[child].scope[1:])
        found[place] = [margin(belief, step.scope, scope) for scope in scopes[place]]
        above[place] = np.ones(())
    return found


def _belief(step: Step, states: list[int], above: np.ndarray) -> np.ndarray:
    """The probabilities of all that a step mentions, from those of what its message is about.

    The variable given the others has the probability product / message. Given what cannot be, 0.
    """
    if step.logarithms:
        product = joined(step.parts, states, LOGARITHMS.product)
        return np.exp(product - np.where(step.message == -np.inf, 0.0, step.message)) * above
    product = joined(step.parts, states, LINEAR.product)
    return product * (above / np.where(step.message == 0, 1.0, step.message))


def drawn(
    steps: Sequence[Step], states: list[int], n: int, uniform: Callable[[int], np.ndarray]
) -> np.ndarray:
    """`n` states drawn together, shape (places, n): each variable given those after it."""

    def pick(weights: np.ndarray, logarithms: bool) -> np.ndarray:
        if logarithms:
            weights = np.exp(weights - weights.max(0))
        sums = np.cumsum(weights, axis=0)
        # Never a state of probability 0, whatever the rounding: the sum is not passed there.
        at = np.minimum(uniform(n) * sums[-1], np.nextafter(sums[-1], 0.0))
        return (sums[:-1] <= at).sum(0)

    return _walk_back(steps, states, n, pick)


def most_likely(steps: Sequence[Step], states: list[int]) -> np.ndarray:
    """The states of the largest product, shape (places,); the first of those that are equal."""
    return _walk_back(steps, states, 1, lambda values, _: values.argmax(0))[:, 0]


def _walk_back(
    steps: Sequence[Step],
    states: list[int],
    n: int,
    pick: Callable[[np.ndarray, bool], np.ndarray],
) -> np.ndarray:
    found = np.zeros((len(steps), n), np.int64)
    for place in range(len(steps) - 1, -1, -1):
        step = steps[place]
        product = LOGARITHMS.product if step.logarithms else LINEAR.product
        total = None
        for part in step.parts:
            at: np.ndarray | int = 0
            for p in part.scope[1:]:
                at = at * states[p] + found[p]
            column = part.values.reshape(states[place], -1)[:, at].reshape(states[place], -1)
            total = column if total is None else product(total, column)
        assert total is not None
        found[place] = pick(np.broadcast_to(total, (states[place], n)), step.logarithms)
    return found
