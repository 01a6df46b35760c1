"""Exact answers for factor graphs: log Z, marginals, draws and modes by variable elimination."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from energax.energies import AbstractEnergy
from energax.energies._parameters import is_traced
from energax.exact._backward import margins
from energax.exact._forward import Step, eliminated
from energax.exact._log_tables import LogTables, entries_of, held, log_tables
from energax.exact._order import Plan, in_bytes, made_plan
from energax.exact._problem import Arrays, Problem, batches, made_problem, waiting_tables
from energax.spaces import AbstractSpace, float_dtype
from energax.spaces._base import size_of

MEMORY = 4 << 30
"""Bytes that an elimination may take unless told otherwise."""

_MOST_OPERATIONS = 1e18
"""Decades of work: a plan that comes to more is not made to its end."""

_QUICK = {"variables": 20_000, "operations": 2.0**30, "bytes": 2**31}
"""What takes about two seconds on one core (benchmarks/elimination.py)."""


def elimination_plan(energy: AbstractEnergy) -> Plan:
    """What eliminating the variables of an energy one by one costs, before it is done.

    **Arguments:**

    - `energy`: a sum of tables of a few variables each: `Ising`, `Potts`, `FactorGraph`,
      independent entries, and what the algebra makes of them: products, powers, conditioned ones,
      paths.

    **Returns:** a `Plan`: `width`, `n_operations`, `bytes`, and `summary` in words.

    **Raises:** `ValueError` if the energy is no such sum, or its graph is traced.

    ```python
    import energax as ex
    from energax.exact import elimination_plan

    elimination_plan(ex.Ising((8, 8), 0.4)).width  # 16: a row of the torus, and the first one
    ```
    """
    return plan_of(problem_of(energy))


def affordable_plan(energy: AbstractEnergy) -> Plan | None:
    """The plan of an elimination that takes seconds; `None` if there is none.

    There is none for an energy that is no sum of tables, for a graph of more than 20,000 variables
    or too wide a one, and where parameters are traced. Never raises.

    ```python
    import energax as ex
    from energax.exact import affordable_plan

    affordable_plan(ex.Ising((20, 20)))  # None
    ```
    """
    tables = log_tables(energy)
    entries = entries_of(energy.space)
    if tables is None or entries is None or size_of(entries.shape) > _QUICK["variables"]:
        return None
    arrays = _arrays(energy.space, tables)
    if is_traced(*jax.tree.leaves((arrays, tables.constant))):
        return None
    plan = plan_within(made_problem(energy.space, arrays), _QUICK["operations"])
    return plan if plan is not None and plan.bytes <= _QUICK["bytes"] else None


def log_partition_eliminated(
    energy: AbstractEnergy, *, memory: int = MEMORY
) -> Float[Array, ""] | float:
    """log Z of a factor graph, exactly: its variables are summed out one after the other.

    Z = sum over x_n of ... sum over x_1 of prod_f exp(-E_f)

    Each sum leaves a table over the variables that stood in one factor with the summed one, so the
    cost is exponential in the width of the graph and no more: chains, trees and narrow lattices of
    any length are cheap. The order is chosen by `elimination_plan`. Double precision always, on
    the host and without compiling; a weight is held as its logarithm where it would vanish.

    Differentiable in the energy's parameters, also under `jit`: the gradient is minus the expected
    gradient of E, exactly, from the marginals. Second derivatives are not available.

    **Arguments:**

    - `energy`: as for `elimination_plan`.
    - `memory`: bytes it may take.

    **Returns:** a scalar, in nats: a `float` of full precision where the parameters are known, an
    array of JAX's present precision where they are traced.

    **Raises:** `ValueError` if the energy is no sum of tables, or the plan takes more memory.

    ```python
    import energax as ex
    from energax.exact import log_partition_eliminated

    log_partition_eliminated(ex.Ising((8, 8)) ** 0.3)  # 50.6093...
    ```

    Source: R. Dechter, "Bucket elimination: a unifying framework for reasoning" (1999).
    """
    tables = _tables(energy)
    arrays = _arrays(energy.space, tables)
    if is_traced(*jax.tree.leaves((arrays, tables.constant))):
        return _traced(energy.space, arrays, memory) + tables.constant
    return _log_z(made_problem(energy.space, arrays, float(tables.constant)), memory)


def problem_of(energy: AbstractEnergy) -> Problem:
    """The tables of an energy in numpy, for answers that are not differentiated."""
    tables = _tables(energy)
    arrays = _arrays(energy.space, tables)
    if is_traced(*jax.tree.leaves((arrays, tables.constant))):
        raise ValueError(
            f"the parameters of {type(energy).__name__} are traced: under jit, grad and vmap only"
            " log_partition_eliminated is there; call this outside of them"
        )
    return made_problem(energy.space, arrays, float(tables.constant))


def plan_of(problem: Problem) -> Plan:
    """The plan of an elimination, which is not begun."""
    plan = plan_within(problem, _MOST_OPERATIONS)
    if plan is None:
        raise ValueError(
            f"elimination would take more than {_MOST_OPERATIONS:.0e} operations on a graph of"
            f" {len(problem.sizes)} variables: it is too wide. For log Z and draws use"
            f' log_partition(..., method="annealing") and sample'
        )
    return plan


def plan_within(problem: Problem, most_operations: float) -> Plan | None:
    """The plan, or `None` if it takes more than `most_operations`."""
    sizes = np.where(problem.known >= 0, 1, problem.sizes)
    return made_plan(sizes, [v for v, _ in problem.groups], problem.shape, most_operations)


def _tables(energy: AbstractEnergy) -> LogTables:
    if not isinstance(energy, AbstractEnergy):
        raise ValueError(f"elimination needs an energy, got {type(energy).__name__}")
    tables = log_tables(energy)
    if tables is None:
        raise ValueError(
            f"elimination needs an energy that is a sum of tables of a few variables each (Ising,"
            f" Potts, FactorGraph, independent entries, and products, powers and conditioned ones"
            f" of them), got {type(energy).__name__} over {energy.space}: list its states with"
            f" log_partition_enumerated, or anneal"
        )
    return tables


def _arrays(space: AbstractSpace, tables: LogTables) -> Arrays:
    return tables.groups, tables.sizes, held(space)


def check_memory(plan: Plan, taken: int, memory: int) -> None:
    """Raise `ValueError` if what a plan takes is more than there may be."""
    if taken > memory:
        raise ValueError(
            f"elimination would take {in_bytes(taken)} of memory, and may take {in_bytes(memory)}"
            f" (memory={memory}): the plan is {plan.summary}. For log Z and draws use"
            f' log_partition(..., method="annealing") and sample'
        )


def steps_of(
    problem: Problem, plan: Plan, *, keep: bool = False, largest: bool = False
) -> tuple[float, list[Step]]:
    """log Z (or the largest -E), and the steps that led there if they are kept."""
    states = problem.sizes[list(plan.order)].tolist()
    every = batches(problem, plan.order)
    waiting, constant = waiting_tables(every, states, logarithms=largest)
    value, steps = eliminated(waiting, states, keep=keep, largest=largest)
    return value + constant + problem.constant, steps


def _log_z(problem: Problem, memory: int) -> float:
    plan = plan_of(problem)
    check_memory(plan, plan.bytes, memory)
    return steps_of(problem, plan)[0] if math.isfinite(problem.constant) else problem.constant


def _gradient(problem: Problem, memory: int) -> tuple[float, list[np.ndarray]]:
    """log Z, and its gradient in each group of tables: the probabilities of their states."""
    plan = plan_of(problem)
    check_memory(plan, plan.bytes + plan.bytes_kept, memory)
    found = [np.zeros(tables.shape) for _, tables in problem.groups]
    value, steps = problem.constant, []
    if math.isfinite(value):
        value, steps = steps_of(problem, plan, keep=True)
    if not math.isfinite(value):
        return value, [np.full_like(array, np.nan) for array in found]
    every = batches(problem, plan.order)
    scopes: list[list[tuple[int, ...]]] = [[] for _ in plan.order]
    for batch in every:
        for scope in batch.places.tolist():
            if scope:
                scopes[scope[0]].append(tuple(scope))
    each = [
        iter(known) for known in margins(steps, problem.sizes[list(plan.order)].tolist(), scopes)
    ]
    for batch in every:
        rows = [next(each[s[0]]) if s else np.ones(()) for s in batch.places.tolist()]
        np.add.at(found[batch.group], batch.index, np.stack(rows))
    return value, found


def _traced(space: AbstractSpace, arrays: Arrays, memory: int) -> Float[Array, ""]:
    """log Z by a call of the host from inside a compiled program."""
    groups, sizes, observed = arrays
    rest = [variables for variables, _ in groups], sizes, observed
    dtype = float_dtype()

    def problem(logs: Any, rest: Any) -> Problem:
        variables, sizes, observed = rest
        logs = [_from_bits(log) for log in logs]
        return made_problem(space, (list(zip(variables, logs, strict=True)), sizes, observed))

    def value(logs: Any, rest: Any) -> Any:
        return _as_bits(np.asarray(_log_z(problem(logs, rest), memory), dtype))

    def gradient(logs: Any, rest: Any) -> Any:
        found, margins = _gradient(problem(logs, rest), memory)
        kinds = [_from_bits(log).dtype for log in logs]
        return _as_bits(np.asarray(found, dtype)), [
            _as_bits(m.astype(kind)) for m, kind in zip(margins, kinds, strict=True)
        ]

    number = _bits_like((), dtype)

    @jax.custom_jvp
    def log_z(logs: Any, rest: Any) -> Any:
        bits = [_to_bits(log) for log in logs]
        found = jax.pure_callback(value, number, bits, rest, vmap_method="sequential")
        return _of_bits(found, dtype)

    @log_z.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        logs, rest = primals
        shapes = number, [_bits_like(log.shape, log.dtype) for log in logs]
        bits = [_to_bits(log) for log in logs]
        found, margins = jax.pure_callback(gradient, shapes, bits, rest, vmap_method="sequential")
        found = _of_bits(found, dtype)
        margins = [_of_bits(m, log.dtype) for m, log in zip(margins, logs, strict=True)]
        moved = [
            jnp.vdot(m, jnp.where(m == 0, 0, t)).astype(dtype)
            for m, t in zip(margins, tangents[0], strict=True)
        ]
        return found, sum(moved[1:], moved[0])

    return log_z([jnp.asarray(log) for _, log in groups], rest)


# JAX hands numbers to the host, and takes them back, in a thread that does not know whether double
# precision is switched on (`jax.enable_x64` holds for the thread it is called in), and would round
# them. As pairs of 32 bits they pass as they are.


def _to_bits(a: Array) -> Array:
    return jax.lax.bitcast_convert_type(a, jnp.uint32) if a.dtype == jnp.float64 else a


def _of_bits(a: Array, dtype: Any) -> Array:
    return jax.lax.bitcast_convert_type(a, dtype) if a.dtype == jnp.uint32 else a


def _bits_like(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    if dtype == jnp.float64:
        return jax.ShapeDtypeStruct((*shape, 2), jnp.uint32)
    return jax.ShapeDtypeStruct(shape, dtype)


def _as_bits(a: np.ndarray) -> np.ndarray:
    if a.dtype != np.float64:
        return a
    return np.ascontiguousarray(a).reshape(*a.shape, 1).view(np.uint32)


def _from_bits(a: Any) -> np.ndarray:
    a = np.asarray(a)
    if a.dtype != np.uint32:
        return a
    return np.ascontiguousarray(a).view(np.float64)[..., 0]
