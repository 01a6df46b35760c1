"""Marginals, draws and modes of factor graphs, from the steps of an elimination."""

import math
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.exact._backward import drawn, margins, most_likely
from energax.exact._elimination import MEMORY, check_memory, plan_of, problem_of, steps_of
from energax.exact._forward import Step
from energax.exact._log_tables import entries_of
from energax.exact._order import Plan
from energax.exact._problem import Problem
from energax.random import as_count, as_key
from energax.spaces import Categorical, Spin, State, float_dtype


class Mode(NamedTuple):
    """A state of the lowest energy there is, and that energy."""

    x: State
    energy: float


def marginals(energy: AbstractEnergy, *, memory: int = MEMORY) -> Float[Array, "*shape states"]:
    """p(x_i = k) of every entry of a factor graph, exactly.

    By variable elimination and a walk back through its messages: about three times the cost of
    `log_partition_eliminated`, and the memory of all messages.

    **Arguments:**

    - `energy`: as for `elimination_plan`.
    - `memory`: bytes it may take.

    **Returns:** probabilities, the last axis over an entry's values: -1 and +1 of spins, 0 and 1
    of bits, labels. An observed entry has its value with probability 1.

    **Raises:** `ValueError` if the energy is no sum of tables, the plan takes more memory, or no
    state is possible.

    ```python
    import energax as ex
    from energax.exact import marginals

    p = marginals(ex.Ising((4, 4), 0.3, field=0.1))
    magnetisation = p[..., 1] - p[..., 0]
    ```

    Source: S. Lauritzen and D. Spiegelhalter, "Local computations with probabilities on graphical
    structures and their application to expert systems" (1988).
    """
    problem = problem_of(energy)
    plan, _, steps = _kept(problem, memory, largest=False)
    states = problem.sizes[list(plan.order)].tolist()
    found = margins(steps, states, [[(place,)] for place in range(len(steps))])
    p = np.zeros((len(problem.sizes), problem.n_states), float_dtype())
    known = np.flatnonzero(problem.known >= 0)
    p[known, problem.known[known]] = 1
    for variable, (each,) in zip(plan.order, found, strict=True):
        p[variable, : len(each)] = each
    return jax.device_put(p.reshape(*problem.shape, -1))


def draw_eliminated(
    energy: AbstractEnergy, n: int, *, key: Key[Array, ""], memory: int = MEMORY
) -> State:
    """`n` independent draws of a factor graph, exact, stacked on a leading axis.

    Variables are eliminated once; then each is drawn, for all draws together, given those that
    were eliminated after it. The key seeds a generator of numpy, in double precision.

    **Arguments:**

    - `energy`: as for `elimination_plan`.
    - `memory`: bytes it may take.

    **Raises:** as `marginals`, and for an `n` that is no positive integer.

    ```python
    import energax as ex
    from energax.exact import draw_eliminated

    draw_eliminated(ex.Potts((5, 5), 3, 1.0), 100, key=ex.key(0))
    ```
    """
    n, key = as_count(n, "n"), as_key(key)
    problem = problem_of(energy)
    plan, _, steps = _kept(problem, memory, largest=False)
    seed = np.asarray(jax.random.bits(key, (4,), "uint32"))
    uniform = np.random.default_rng(seed).random
    states = problem.sizes[list(plan.order)].tolist()
    x = np.repeat(problem.known[:, None], n, axis=1)
    x[list(plan.order)] = drawn(steps, states, n, uniform)
    return _as_states(energy, x.T.reshape(n, *problem.shape))


def mode_eliminated(energy: AbstractEnergy, *, memory: int = MEMORY) -> Mode:
    """A most likely state of a factor graph, exactly: no state has a lower energy.

    Variable elimination with the largest in place of the sum. Of several modes it finds one.

    **Arguments:**

    - `energy`: as for `elimination_plan`.
    - `memory`: bytes it may take.

    **Returns:** `Mode`: the state `x`, and its `energy` in double precision.

    **Raises:** as `marginals`.

    ```python
    import energax as ex
    from energax.exact import mode_eliminated

    mode_eliminated(ex.Ising((6, 6), field=-0.1)).energy  # -75.6: all spins down
    ```
    """
    problem = problem_of(energy)
    plan, value, steps = _kept(problem, memory, largest=True)
    x = problem.known.copy()
    x[list(plan.order)] = most_likely(steps, problem.sizes[list(plan.order)].tolist())
    states = _as_states(energy, x.reshape(1, *problem.shape))
    return Mode(states[0], -value)


def _kept(problem: Problem, memory: int, *, largest: bool) -> tuple[Plan, float, list[Step]]:
    plan = plan_of(problem)
    check_memory(plan, plan.bytes + plan.bytes_kept, memory)
    value, steps = problem.constant, []
    if math.isfinite(value):
        value, steps = steps_of(problem, plan, keep=True, largest=largest)
    if not math.isfinite(value):
        raise ValueError(
            "there is no distribution: the energy is NaN or -inf somewhere"
            if math.isnan(value)
            else "no state is possible: the energy is +inf everywhere"
        )
    return plan, value, steps


def _as_states(energy: AbstractEnergy, x: np.ndarray) -> State:
    """Numbers of states, with an axis of draws in front, as states of the energy's space."""
    entries = entries_of(energy.space)
    if isinstance(entries, Categorical):
        return jax.device_put(x.astype(np.int32))
    return jax.device_put((2 * x - 1 if isinstance(entries, Spin) else x).astype(float_dtype()))
