"""Factor graphs of discrete variables: energies given by tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from energax.energies._base import AbstractBlocked, AbstractEnergy
from energax.energies._parameters import is_traced
from energax.energies._summing import pairwise_sum
from energax.energies.algebra._rules import POWER, PRODUCT
from energax.energies.algebra._tempered import scaled
from energax.energies.families import Softmax
from energax.energies.graphs._ising import Ising
from energax.energies.graphs._lattice import Lattice
from energax.energies.graphs._slots import check_slots, make_slots
from energax.random import as_count, categorical
from energax.spaces import Categorical, Numbers, float_dtype
from energax.spaces._base import shape_of, size_of

_FORBIDDEN = 1e30
"""Stands for +inf in sums over a variable's factors: from a state that breaks several rules, the
states that break the fewest are drawn, and one that breaks none is drawn as if there were no
others."""


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


class FactorGraph(AbstractBlocked):
    """Discrete variables and factors with any table of energies:

    E(x) = sum over factors f of E_f(the variables of f)

    Tables hold *energies*: log p(x) = -E(x) - log Z. `+inf` forbids.

    **Arguments:**

    - `shape`: of x: a number of variables, or a tuple.
    - `n_states`: how many states a variable has: one number, or an array of shape `shape`. Where
      they differ, the space is that of the largest, and E is `+inf` on the values a variable does
      not have.
    - `factors`: `Factor`s, each one term or an array of terms. A million terms as one array take
      seconds; terms given one by one are gathered into arrays by the shape of their table.

    **Raises:** `ValueError` for variables out of range or twice in a factor, a table that does not
    fit its variables' numbers of states, NaN or `-inf`, naming the factor.

    ```python
    import energax as ex
    import numpy as np

    rain_wets_grass = ex.FactorGraph(2, 2, [
        ex.Factor([0], -np.log([0.8, 0.2])),
        ex.Factor([0, 1], -np.log([[0.9, 0.1], [0.2, 0.8]])),
    ])
    pairs = [(0, 1), (1, 2), (2, 3)]
    chain = ex.FactorGraph(4, 3, [ex.Factor(pairs, lambda a, b: abs(a - b))])
    ```

    Source: F. Kschischang, B. Frey and H.-A. Loeliger, "Factor graphs and the sum-product
    algorithm" (2001).
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    n_states: int = eqx.field(static=True)
    sizes: Int[Array, " variables"] | None
    """How many states each variable has, where they differ."""
    variables: tuple[Int[Array, "factors arity"], ...]
    """Of each group of factors, flat."""
    tables: tuple[Float[Array, "..."], ...]
    """The energies of each group: (factors, *states), or (1, *states) where all share them."""
    blocks: Any
    """Tables of variables that are updated together; see `_slots.py`."""

    def __init__(
        self,
        shape: int | tuple[int, ...],
        n_states: Numbers,
        factors: Sequence[Factor],
    ):
        self.shape = shape_of(shape)
        self.n_states, sizes = _numbers_of_states(n_states, self.shape)
        self.sizes = None if sizes is None else jnp.asarray(sizes)
        each = np.full(size_of(self.shape), self.n_states) if sizes is None else sizes
        groups = _grouped([_parsed(factor, i, each) for i, factor in enumerate(factors)])
        self.variables = tuple(jnp.asarray(v) for v, _ in groups)
        self.tables = tuple(jnp.asarray(t, float_dtype()) for _, t in groups)
        self.blocks = _blocks([v for v, _ in groups], size_of(self.shape))

    def __check_init__(self):
        if len(self.variables) != len(self.tables):
            raise ValueError("there must be as many tables as groups of variables")
        if is_traced(*jax.tree.leaves(self)):
            return
        n = size_of(self.shape)
        sizes = np.full(n, self.n_states) if self.sizes is None else np.asarray(self.sizes)
        if sizes.shape != (n,) or sizes.min() < 1 or sizes.max() > self.n_states:
            raise ValueError(f"sizes must be from 1 to {self.n_states}, one a variable")
        variables = [np.asarray(v) for v in self.variables]
        for group, (indices, table) in enumerate(zip(variables, self.tables, strict=True)):
            _check_group(indices, np.asarray(table), sizes, f"group {group}", n)
        tables = tuple(tuple(np.asarray(t) for t in level) for level in self.blocks)
        check_slots(tables, variables, n)

    @classmethod
    def from_energy(cls, energy: Ising | Softmax) -> "FactorGraph":
        """An `Ising` model (its spins -1, +1 become states 0, 1) or a `Softmax` as a factor graph.

        **Raises:** `ValueError` for another energy.
        """
        if isinstance(energy, Softmax):
            k = energy.logits.shape[-1]
            table = -np.asarray(jax.nn.log_softmax(energy.logits)).reshape(-1, k)
            own = np.arange(len(table))[:, None]
            return cls(energy.logits.shape[:-1], k, [Factor(own, table)])
        if not isinstance(energy, Ising):
            raise ValueError(
                f"from_energy knows Ising and Softmax, got {type(energy).__name__}: give factors"
            )
        graph, coupling = energy.graph, np.asarray(energy.coupling)
        edges = np.asarray(graph.edges)
        if coupling.ndim > 1:
            assert isinstance(graph, Lattice)
            ends = zip(coupling, graph.shape, graph.periodic, strict=True)
            parts = [
                np.take(bonds, range(n if wraps else n - 1), axis).reshape(-1)
                for axis, (bonds, n, wraps) in enumerate(ends)
            ]
            coupling = np.concatenate(parts)
        aligned = np.array([[1.0, -1.0], [-1.0, 1.0]])
        table = -coupling[..., None, None] * aligned
        field = np.asarray(energy.field)
        fields = -field.reshape(*field.shape and (-1,), 1) * np.array([-1.0, 1.0])
        nodes = np.arange(graph.n_nodes)[:, None]
        return cls(graph.shape, 2, [Factor(edges, table), Factor(nodes, fields)])

    @property
    def space(self) -> Categorical:
        return Categorical(self.shape, self.n_states)

    @property
    def n_variables(self) -> int:
        """How many variables."""
        return size_of(self.shape)

    @property
    def n_factors(self) -> int:
        """How many factors."""
        return sum(len(v) for v in self.variables)

    def energy(self, x: Int[Array, "..."]) -> Float[Array, ""]:
        flat, total = x.reshape(-1), jnp.zeros((), float_dtype())
        for variables, table in zip(self.variables, self.tables, strict=True):
            row = jnp.arange(len(table)) if len(table) == len(variables) else 0
            states = flat[variables]
            each = table[row, *(states[:, p] for p in range(variables.shape[1]))]
            total = total + pairwise_sum(jnp.broadcast_to(each, (len(variables),)))
        if self.sizes is None:
            return total
        return jnp.where(jnp.all(flat < self.sizes), total, jnp.inf)

    def sweep(
        self, x: Int[Array, "..."], key: Key[Array, ""], held: Bool[Array, "..."] | None = None
    ) -> Int[Array, "..."]:
        return self.sweep_with(None, x, key, held)

    def sweep_with(
        self,
        field: Float[Array, "*shape states"] | None,
        x: Int[Array, "..."],
        key: Key[Array, ""],
        held: Bool[Array, "..."] | None = None,
    ) -> Int[Array, "..."]:
        """A sweep of this energy plus `field`, an energy for each state of each variable."""
        n, k = self.n_variables, self.n_states
        held = None if held is None else held.reshape(-1)
        own = None if field is None else field.reshape(n, k)
        flat = x.reshape(-1)
        for level, tables in enumerate(self.blocks):
            key_level = jax.random.fold_in(key, level)

            def update(flat, block, key_level=key_level):
                index, (rows, *slots) = block
                at = jnp.minimum(rows, n - 1)
                energies = self._conditional(flat, at, slots)
                if own is not None:
                    energies = energies + own[at]
                new = categorical(jax.random.fold_in(key_level, index), -energies)
                free = rows < n
                if held is not None:
                    free = free & ~held[at]
                at = jnp.where(free, rows, n)  # beyond the end: written nowhere
                return flat.at[at].set(new.astype(flat.dtype), mode="drop"), None

            flat, _ = jax.lax.scan(update, flat, (jnp.arange(len(tables[0])), tables))
        return flat.reshape(x.shape)

    def _conditional(self, flat: Array, rows: Array, slots: list[Array]) -> Array:
        """The energy of every state of some variables, given the rest."""
        k = self.n_states
        states = jnp.arange(k, dtype=jnp.int32)
        total = jnp.zeros((len(rows), k), float_dtype())
        for variables, table, taken in zip(self.variables, self.tables, slots, strict=True):
            n_factors, arity = variables.shape
            counts = np.asarray(table.shape[1:], np.int32)
            strides = np.append(np.cumprod(counts[::-1])[-2::-1], 1).astype(np.int32)
            used = taken < n_factors * arity
            slot = jnp.where(used, taken, 0)
            factor, position = slot // arity, slot % arity
            # The factor's other variables: they stand after this one, and round again.
            other = position[..., None] + jnp.arange(1, arity, dtype=jnp.int32).reshape(1, 1, -1)
            other = other % arity
            around = flat[variables[factor[..., None], other]]
            if (counts != k).any():  # some of these variables have fewer states
                around = jnp.minimum(around, jnp.asarray(counts)[other] - 1)
            base = jnp.sum(around * jnp.asarray(strides)[other], -1, jnp.int32)
            if len(table) == n_factors:
                base = base + factor * int(counts.prod())
            own = states.reshape(1, 1, k)
            if (counts != k).any():
                own = jnp.minimum(own, jnp.asarray(counts)[position][..., None] - 1)
            step = jnp.asarray(strides)[position][..., None]
            found = table.reshape(-1)[base[..., None] + step * own]
            found = jnp.where(used[..., None], jnp.minimum(found, _FORBIDDEN), 0.0)
            total = total + jnp.sum(found, 1)
        if self.sizes is not None:
            total = jnp.where(states[None] < self.sizes[rows][:, None], total, jnp.inf)
        return total


def _numbers_of_states(n_states: Any, shape: tuple[int, ...]) -> tuple[int, np.ndarray | None]:
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


def _parsed(factor: Any, number: int, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
            table = np.asarray(factor.table, float)
        except (TypeError, ValueError):
            raise ValueError(f"{name}: the table must be an array of numbers") from None
        if one or table.ndim == variables.shape[1]:
            table = table[None]
    _check_group(variables, table, sizes, name, len(sizes))
    return variables, table


def _tabulated(function: Callable[..., Any], states: tuple[int, ...], name: str) -> np.ndarray:
    with jax.ensure_compile_time_eval():
        grid = np.meshgrid(*(np.arange(k, dtype=np.int32) for k in states), indexing="ij")
        values = jax.vmap(function)(*(jnp.asarray(axis.reshape(-1)) for axis in grid))
        values = np.asarray(values, float)
    if values.shape != (int(np.prod(states)),):
        raise ValueError(
            f"{name}: the function must return one number, got shape {values.shape[1:]}"
        )
    return values.reshape(states)


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


def _check_group(
    variables: np.ndarray, table: np.ndarray, sizes: np.ndarray, name: str, n: int
) -> None:
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


def _grouped(parts: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Factors that have tables of their own and of one shape, together."""
    groups: dict[Any, list[tuple[np.ndarray, np.ndarray]]] = {}
    for number, (variables, table) in enumerate(parts):
        shared = len(table) != len(variables)
        groups.setdefault(number if shared else table.shape[1:], []).append((variables, table))
    return [
        (np.concatenate([v for v, _ in each]), np.concatenate([t for _, t in each]))
        for each in groups.values()
    ]


def _blocks(variables: list[np.ndarray], n: int) -> Any:
    tables = make_slots(variables, n)
    return tuple(tuple(jnp.asarray(t) for t in level) for level in tables)


def _product(a: FactorGraph, b: FactorGraph) -> FactorGraph | None:
    if is_traced(*jax.tree.leaves((a.variables, b.variables, a.sizes, b.sizes))):
        return None
    if (a.sizes is None) != (b.sizes is None):
        return None
    if a.sizes is not None and not np.array_equal(a.sizes, np.asarray(b.sizes)):
        return None
    groups: list[tuple[Array, Array]] = list(zip(a.variables, a.tables, strict=True))
    for variables, table in zip(b.variables, b.tables, strict=True):
        for i, (present, known) in enumerate(groups):
            own = len(table) == len(variables) and len(known) == len(present)
            if own and known.shape[1:] == table.shape[1:]:
                groups[i] = (
                    jnp.concatenate([present, variables]),
                    jnp.concatenate([known, table]),
                )
                break
        else:
            groups.append((variables, table))
    blocks = _blocks([np.asarray(v) for v, _ in groups], a.n_variables)
    return eqx.tree_at(
        lambda e: (e.variables, e.tables, e.blocks),
        a,
        (tuple(v for v, _ in groups), tuple(t for _, t in groups), blocks),
    )


def _with_softmax(a: Softmax, b: FactorGraph) -> AbstractEnergy | None:
    if b.sizes is not None or is_traced(a.logits):
        return None
    return _product(b, FactorGraph.from_energy(a))


def _power(a: FactorGraph, beta: Array) -> FactorGraph:
    tables = tuple(scaled(beta.astype(t.dtype), t) for t in a.tables)
    return eqx.tree_at(lambda e: e.tables, a, tables)


PRODUCT[FactorGraph, FactorGraph] = _product
PRODUCT[Softmax, FactorGraph] = _with_softmax
POWER[FactorGraph] = _power
