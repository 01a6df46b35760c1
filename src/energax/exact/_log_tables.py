"""Energies as sums of tables: which ones are such sums, and their tables."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from energax.energies import (
    AbstractEnergy,
    AnnealedGraph,
    Bernoulli,
    Conditioned,
    ConditionedBlocked,
    ConditionedSoftmax,
    FactorGraph,
    Frozen,
    GeometricPath,
    Ising,
    Lattice,
    Potts,
    Product,
    Shifted,
    Softmax,
    Tempered,
    Uniform,
    unfreeze,
)
from energax.energies._parameters import is_traced
from energax.energies.graphs._making import by_edge
from energax.spaces import AbstractSpace, Binary, Categorical, Clamped, Spin
from energax.spaces._base import size_of


@dataclass(frozen=True)
class LogTables:
    """-E(x) as a constant and a sum of tables over the entries of x, which are numbered in C order.

    Arrays of numpy in double precision where the energy's parameters are known; JAX's own where
    they are traced.

    **Fields:**

    - `groups`: variables, shape (tables, arity), and -E of their states, shape (tables, *states),
      or (1, *states) where all share it.
    - `sizes`: how many states each variable has, where that is fewer than its space has.
    """

    groups: tuple[tuple[Any, Any], ...] = ()
    constant: Any = 0.0
    sizes: Any = None


RULES: dict[type[AbstractEnergy], Callable[[Any], LogTables | None]] = {}
"""Type of an energy -> its tables. A rule returns `None` where a part of the energy has none."""


def log_tables(energy: AbstractEnergy) -> LogTables | None:
    """The tables of an energy over two-valued or categorical entries; `None` if it has none."""
    energy = unfreeze(energy)
    rule = RULES.get(type(energy))
    return None if rule is None or entries_of(energy.space) is None else rule(energy)


def entries_of(space: AbstractSpace) -> Binary | Spin | Categorical | None:
    """The space itself, or the one of which some entries are held; `None` if it is another kind."""
    while isinstance(space, Clamped):
        space = space.space
    return space if isinstance(space, Binary | Spin | Categorical) else None


def n_states_of(space: Binary | Spin | Categorical) -> int:
    """How many values an entry has."""
    return space.n_states if isinstance(space, Categorical) else 2


def held(space: AbstractSpace) -> list[tuple[Any, Any]]:
    """Masks and values of the entries that the space holds, the innermost first."""
    found = []
    while isinstance(space, Clamped):
        found.append((space.mask, space.values))
        space = space.space
    return found[::-1]


def _numbers(array: Any) -> Any:
    return array if is_traced(array) else np.asarray(array, np.float64)


def _indices(array: Any) -> Any:
    return array if is_traced(array) else np.asarray(array)


def _module(*arrays: Any) -> Any:
    return jnp if is_traced(*arrays) else np


def _coupled(model: Ising | Potts, aligned: np.ndarray, signs: np.ndarray | None) -> LogTables:
    coupling, field, graph = _numbers(model.coupling), _numbers(model.field), model.graph
    groups, k = [], len(aligned)
    if graph.n_edges:
        if coupling.ndim > 1:
            assert isinstance(graph, Lattice)
            coupling = by_edge(graph, coupling)
        each = coupling.reshape(-1, 1, 1) * aligned[None].astype(coupling.dtype)
        groups.append((_indices(graph.edges), each))
    if signs is not None:
        field = field.reshape(-1, 1) * signs[None].astype(field.dtype)
    if is_traced(field) or field.any():
        groups.append((np.arange(graph.n_nodes)[:, None], field.reshape(-1, k)))
    return LogTables(tuple(groups))


def _ising(model: Ising) -> LogTables:
    return _coupled(model, np.array([[1, -1], [-1, 1]]), np.array([-1, 1]))


def _potts(model: Potts) -> LogTables:
    return _coupled(model, np.eye(model.n_states), None)


def _factor_graph(model: FactorGraph) -> LogTables:
    groups = [
        (_indices(variables), -_numbers(table))
        for variables, table in zip(model.variables, model.tables, strict=True)
    ]
    sizes = None if model.sizes is None else _indices(model.sizes)
    return LogTables(tuple(groups), sizes=sizes)


def _independent(log_weights: Any) -> LogTables:
    """Each entry by itself, normalised; of shape (*shape, states)."""
    xp, each = _module(log_weights), log_weights.reshape(-1, log_weights.shape[-1])
    each = each - xp.max(each, axis=1, keepdims=True)
    each = each - xp.log(xp.sum(xp.exp(each), axis=1, keepdims=True))
    return LogTables(((np.arange(len(each))[:, None], each),))


def _softmax(model: Softmax) -> LogTables:
    return _independent(_numbers(model.logits))


def _bernoulli(model: Bernoulli) -> LogTables:
    logits = _numbers(model.logits)
    return _independent(_module(logits).stack([logits * 0, logits], axis=-1))


def _conditioned_softmax(model: ConditionedSoftmax) -> LogTables:
    ((variables, table),) = _softmax(model.softmax).groups
    mask = _indices(model.mask).reshape(-1, 1)
    return LogTables(((variables, _module(mask, table).where(mask, 0, table)),))


def _uniform(model: Uniform) -> LogTables:
    space = entries_of(model.space)
    assert space is not None
    masks = [_indices(mask) for mask, _ in held(model.space)]
    free: Any = size_of(space.shape)
    if masks:
        xp = _module(*masks)
        free = xp.sum(~sum(masks[1:], masks[0]))
    return LogTables(constant=-np.log(n_states_of(space)).item() * free)


def _inner(model: Conditioned | ConditionedBlocked) -> LogTables | None:
    return log_tables(model.inner)


def _shifted(model: Shifted) -> LogTables | None:
    inner = log_tables(model.inner)
    if inner is None:
        return None
    return LogTables(inner.groups, _added(inner.constant, -_numbers(model.constant)), inner.sizes)


def _times(tables: LogTables | None, beta: Any) -> LogTables | None:
    """The tables of beta E, where 0 times inf is 0."""
    if tables is None:
        return None
    if tables.sizes is not None and (is_traced(beta) or beta == 0):
        return None  # at beta = 0 a variable has all values that its space has
    groups = tuple((variables, _scaled(beta, table)) for variables, table in tables.groups)
    return LogTables(groups, _scaled(beta, tables.constant), tables.sizes)


def _scaled(beta: Any, table: Any) -> Any:
    beta, table = _alike(beta, table)
    xp, never = _module(beta, table), table == -np.inf
    return xp.where(never & (beta != 0), table, beta * xp.where(never, 0, table))


def _added(a: Any, b: Any) -> Any:
    a, b = _alike(a, b)
    return a + b


def _alike(*arrays: Any) -> list[Any]:
    """In the precision of what is traced, if something is."""
    arrays = tuple(_numbers(a) for a in arrays)
    traced = [a.dtype for a in arrays if is_traced(a)]
    return [a.astype(traced[0]) for a in arrays] if traced else list(arrays)


def _sum(parts: list[LogTables | None]) -> LogTables | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    groups = tuple(group for part in known for group in part.groups)
    constant = known[0].constant
    for part in known[1:]:
        constant = _added(constant, part.constant)
    sizes = [part.sizes for part in known if part.sizes is not None]
    fewest = sizes[0] if sizes else None
    for other in sizes[1:]:
        fewest = _module(fewest, other).minimum(fewest, other)
    return LogTables(groups, constant, fewest)


def _tempered(model: Tempered) -> LogTables | None:
    return _times(log_tables(model.inner), _numbers(model.beta))


def _path(model: GeometricPath | AnnealedGraph) -> LogTables | None:
    beta = _numbers(model.beta)
    base, target = log_tables(model.base), log_tables(model.target)
    return _sum([_times(base, 1 - beta), _times(target, beta)])


def _product(model: Product) -> LogTables | None:
    return _sum([log_tables(_held_fast(factor)) for factor in model.factors])


def _held_fast(energy: AbstractEnergy) -> AbstractEnergy:
    """A frozen factor passes no gradient on."""
    if not isinstance(energy, Frozen) or not is_traced(*jax.tree.leaves(energy)):
        return energy
    return energy._held()


RULES[Ising] = _ising
RULES[Potts] = _potts
RULES[FactorGraph] = _factor_graph
RULES[Softmax] = _softmax
RULES[Bernoulli] = _bernoulli
RULES[ConditionedSoftmax] = _conditioned_softmax
RULES[Uniform] = _uniform
RULES[Conditioned] = _inner
RULES[ConditionedBlocked] = _inner
RULES[Shifted] = _shifted
RULES[Tempered] = _tempered
RULES[GeometricPath] = _path
RULES[AnnealedGraph] = _path
RULES[Product] = _product
