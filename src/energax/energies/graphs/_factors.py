"""Factors as a user gives them: checked, tabulated, gathered into arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from energax.energies._parameters import is_traced
from energax.random import as_count
from energax.spaces import Numbers, float_dtype


@dataclass(frozen=True)
class Factor:
    """A term of a factor graph, or many terms at once: an *energy* of a few variables.

    - One: `Factor((0, 3), table)`, with `table[a, b]` the energy of x_0 = a, x_3 = b.
    - Many, as arrays: `Factor(variables, table)` with `variables` of shape (factors, arity), and a
      table of shape (factors, *states), or (*states) for one that all share.

    Energies, not log-potentials: low is likely, `+inf` is forbidden, and a potential phi is
    `-log(phi)`.

    **Arguments:**

    - `variables`: numbers of variables, in C order where x has several axes.
    - `table`: energies, or a function of the factor's states (integers, one argument a variable)
      that returns one energy. It is called once, on all states together, and what it returned is
      kept and trained; a function with parameters of its own belongs into a `NeuralEnergy`.
    """

    variables: Any
    table: Numbers | Callable[..., Any]


def numbers_of_states(n_states: Any, shape: tuple[int, ...]) -> tuple[int, np.ndarray | None]:
    """The largest number of states, and that of each variable, flat, where they differ.

    **Raises:** `ValueError` unless `n_states` is a positive integer or an array of them of `shape`.
    """
    if isinstance(n_states, int | np.integer):
        return as_count(n_states, "n_states"), None
    try:
        sizes = np.asarray(n_states)
    except (TypeError, ValueError):
        raise ValueError(f"n_states must be integers, got {n_states!r}") from None
    if sizes.dtype.kind not in "iu" or sizes.shape != shape or sizes.min(initial=1) < 1:
        raise ValueError(
            f"n_states must be a positive integer, or an array of them of shape {shape}, got"
            f" {sizes.dtype} of shape {sizes.shape}"
        )
    if (sizes == sizes.reshape(-1)[0]).all():
        return int(sizes.max()), None
    return int(sizes.max()), sizes.reshape(-1).astype(np.int32)


def parsed(factor: Any, number: int, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The variables, shape (factors, arity), and the table, shape (factors or 1, *states)."""
    name = f"factor {number}"
    if not isinstance(factor, Factor):
        raise ValueError(f"{name} must be an ex.Factor, got {type(factor).__name__}")
    try:
        variables = np.asarray(factor.variables)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: variables must be an array of integers") from None
    if variables.dtype.kind not in "iu" or variables.ndim not in (1, 2) or variables.size == 0:
        raise ValueError(
            f"{name}: variables must be integers of shape (arity,) or (factors, arity), got"
            f" {variables.dtype} of shape {variables.shape}"
        )
    one = variables.ndim == 1
    variables = np.atleast_2d(variables)
    _check_variables(variables, len(sizes), name)
    variables = variables.astype(np.int32)
    states = sizes[variables]
    if callable(factor.table):
        if (states != states[0]).any():
            raise ValueError(f"{name}: a function needs variables with the same numbers of states")
        table = _tabulated(factor.table, tuple(int(k) for k in states[0]), name)[None]
    else:
        if is_traced(factor.table):
            raise ValueError(f"{name}: make a FactorGraph outside of jit, and replace its tables")
        try:
            given = np.asarray(factor.table)
            table = _as_energies(given, name)
        except (TypeError, OverflowError):
            raise ValueError(f"{name}: the table must be an array of numbers") from None
        if one or table.ndim == variables.shape[1]:
            table = table[None]
    check_group(variables, table, sizes, name, len(sizes))
    return variables, table


def _tabulated(function: Callable[..., Any], states: tuple[int, ...], name: str) -> np.ndarray:
    grid = np.meshgrid(*(np.arange(k, dtype=np.int32) for k in states), indexing="ij")
    try:
        with jax.ensure_compile_time_eval():
            each = jax.vmap(function)(*(jnp.asarray(axis.reshape(-1)) for axis in grid))
            values = np.asarray(each)
    except Exception as error:  # a user's function may fail in any way
        words = str(error).strip().split("\n\n")[0]
        raise ValueError(
            f"{name}: the function fails on its states, {len(states)} integers that JAX traces:"
            f" {type(error).__name__}: {words}"
        ) from error
    values = _as_energies(values, name)
    if values.shape != (int(np.prod(states)),):
        raise ValueError(
            f"{name}: the function must return one number, got shape {values.shape[1:]}"
        )
    return values.reshape(states)


def _as_energies(given: np.ndarray, name: str) -> np.ndarray:
    """Numbers as they will be held, none of which became infinite."""
    if np.iscomplexobj(given):
        raise ValueError(f"{name}: energies must be real, got {given.dtype}")
    if given.dtype.kind not in "buif" and not jnp.issubdtype(given.dtype, jnp.floating):
        raise ValueError(f"{name}: the table must be an array of numbers, got {given.dtype}")
    with np.errstate(over="ignore"):
        held = given.astype(float_dtype())
    lost = np.isinf(held) & np.isfinite(given.astype(float))
    if lost.any():
        raise ValueError(f"{name}: {given[lost][0]} is no finite number in {held.dtype}")
    return held


def _check_variables(variables: np.ndarray, n: int, name: str) -> None:
    outside = ((variables < 0) | (variables >= n)).any(1)
    if outside.any():
        at = int(outside.argmax())
        raise ValueError(
            f"{name}: variables must be from 0 to {n - 1}, got {variables[at].tolist()}"
        )
    ordered = np.sort(variables, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]).any(1)
    if twice.any():
        at = int(twice.argmax())
        raise ValueError(
            f"{name}: a variable may stand in a factor once, got {variables[at].tolist()}"
        )


def check_group(
    variables: np.ndarray, table: np.ndarray, sizes: np.ndarray, name: str, n: int
) -> None:
    """Raise `ValueError` unless `variables`, shape (factors, arity), and `table`, shape (factors
    or 1, *states), fit each other and `n` variables of `sizes` states each."""
    if variables.ndim != 2 or variables.dtype.kind not in "iu":
        raise ValueError(f"{name}: variables must be integers of shape (factors, arity)")
    _check_variables(variables, n, name)
    states = sizes[variables]
    fits = table.ndim == states.shape[1] + 1 and len(table) in (1, len(variables))
    if not fits or (states != table.shape[1:]).any():
        wrong = (states != table.shape[1:]).any(1).argmax() if fits else 0
        expected = tuple(int(k) for k in states[wrong])
        got = table.shape[1:] if len(table) == 1 else table.shape
        raise ValueError(
            f"{name}: the table must have shape {expected} for variables"
            f" {variables[wrong].tolist()} (with an axis in front for {len(variables)} factors of"
            f" their own), got {got}"
        )
    if table.size >= 2**31:
        raise ValueError(f"{name}: a group of tables must hold fewer than 2^31 numbers")
    bad = np.isnan(table) | (table == -np.inf)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name}: energies must be numbers or +inf (forbidden), got {table[at]} at {at}"
        )


def grouped(parts: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Factors that have tables of their own and of one shape, together."""
    groups: dict[Any, list[tuple[np.ndarray, np.ndarray]]] = {}
    for number, (variables, table) in enumerate(parts):
        shared = len(table) != len(variables)
        groups.setdefault(number if shared else table.shape[1:], []).append((variables, table))
    return [
        (np.concatenate([v for v, _ in each]), np.concatenate([t for _, t in each]))
        for each in groups.values()
    ]
