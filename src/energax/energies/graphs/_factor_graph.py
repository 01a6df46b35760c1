"""Factor graphs of discrete variables: energies given by tables."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from energax.energies._base import AbstractBlocked, AbstractEnergy, AbstractSitewise
from energax.energies._parameters import as_list, is_traced, one_state
from energax.energies._summing import pairwise_sum
from energax.energies.algebra._rules import POWER, PRODUCT
from energax.energies.algebra._tempered import scaled
from energax.energies.families import Softmax
from energax.energies.graphs._conditionals import conditional_energies, draw_states
from energax.energies.graphs._factors import (
    Factor,
    check_group,
    grouped,
    numbers_of_states,
    parsed,
)
from energax.energies.graphs._ising import Ising
from energax.energies.graphs._lattice import Lattice
from energax.energies.graphs._making import by_edge
from energax.energies.graphs._potts import Potts
from energax.energies.graphs._slots import check_slots, make_slots
from energax.energies.graphs._sweeping import _uniforms as uniforms
from energax.spaces import Categorical, Numbers, float_dtype
from energax.spaces._base import shape_of, size_of


class FactorGraph(AbstractBlocked, AbstractSitewise):
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
        self.n_states, sizes = numbers_of_states(n_states, self.shape)
        self.sizes = None if sizes is None else jnp.asarray(sizes)
        each = np.full(size_of(self.shape), self.n_states) if sizes is None else sizes
        every = as_list(factors, Factor, "factors must be a list of ex.Factor")
        groups = grouped([parsed(factor, i, each) for i, factor in enumerate(every)])
        self.variables = tuple(jnp.asarray(v) for v, _ in groups)
        self.tables = tuple(jnp.asarray(t, float_dtype()) for _, t in groups)
        self.blocks = _blocks([v for v, _ in groups], size_of(self.shape))

    def __check_init__(self):
        if len(self.variables) != len(self.tables):
            raise ValueError("there must be as many tables as groups of variables")
        if is_traced(*jax.tree.leaves(self)):
            return
        n = size_of(self.shape)
        if sum(level[0].size for level in self.blocks) < n:  # before anything of this size is made
            raise ValueError("the blocks do not hold every variable once")
        sizes = np.full(n, self.n_states) if self.sizes is None else np.asarray(self.sizes)
        if sizes.shape != (n,) or sizes.min() < 1 or sizes.max() > self.n_states:
            raise ValueError(f"sizes must be from 1 to {self.n_states}, one a variable")
        variables = [np.asarray(v) for v in self.variables]
        for group, (indices, table) in enumerate(zip(variables, self.tables, strict=True)):
            check_group(indices, np.asarray(table), sizes, f"group {group}", n)
        tables = tuple(tuple(np.asarray(t) for t in level) for level in self.blocks)
        check_slots(tables, variables, n)

    @classmethod
    def from_energy(cls, energy: Ising | Potts | Softmax) -> "FactorGraph":
        """An `Ising` model (its spins -1, +1 become states 0, 1), a `Potts` model or a `Softmax`.

        **Raises:** `ValueError` for another energy.
        """
        if isinstance(energy, Softmax):
            *shape, k = energy.logits.shape
            table = -np.asarray(jax.nn.log_softmax(energy.logits)).reshape(-1, k)
            return cls(tuple(shape), k, [Factor(np.arange(len(table))[:, None], table)])
        if isinstance(energy, Ising):
            k, aligned = 2, np.array([[1.0, -1.0], [-1.0, 1.0]])
            field = np.asarray(energy.field)[..., None] * np.array([-1.0, 1.0])
        elif isinstance(energy, Potts):
            k, field = energy.n_states, np.asarray(energy.field)
            aligned = np.eye(k)
        else:
            raise ValueError(
                f"from_energy knows Ising, Potts and Softmax, got {type(energy).__name__}: give"
                " factors"
            )
        graph, coupling = energy.graph, np.asarray(energy.coupling)
        if coupling.ndim > 1:
            assert isinstance(graph, Lattice)
            coupling = np.asarray(by_edge(graph, energy.coupling))
        pairs = Factor(np.asarray(graph.edges), -coupling[..., None, None] * aligned)
        fields = -(field if field.ndim == 1 else field.reshape(-1, k))
        nodes = Factor(np.arange(graph.n_nodes)[:, None], fields)
        return cls(graph.shape, k, [nodes, pairs] if graph.n_edges else [nodes])

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
        flat, total = one_state(x, self.shape).reshape(-1), jnp.zeros((), float_dtype())
        for variables, table in zip(self.variables, self.tables, strict=True):
            row = jnp.arange(len(table)) if len(table) == len(variables) else 0
            states = flat[variables]
            each = table[row, *(states[:, p] for p in range(variables.shape[1]))]
            total = total + pairwise_sum(jnp.broadcast_to(each, (len(variables),)))
        if self.sizes is None:
            return total
        return jnp.where(jnp.all(flat < self.sizes), total, jnp.inf)

    def site_changes(self, x: Int[Array, "..."], site: Int[Array, ""]) -> Float[Array, " states"]:
        flat, k = x.reshape(-1), self.n_states
        total = jnp.zeros((len(flat), k), float_dtype())
        for variables, table in zip(self.variables, self.tables, strict=True):
            row = jnp.arange(len(variables)) if len(table) == len(variables) else 0
            states = flat[variables]
            for p in range(variables.shape[1]):
                # Each factor's energies of this variable's states, the others as they are.
                own = jnp.moveaxis(table, 1 + p, -1)
                others = [states[:, q] for q in range(variables.shape[1]) if q != p]
                each = own[(row, *others)]
                each = jnp.broadcast_to(each, (len(variables), each.shape[-1]))
                missing = [(0, 0), (0, k - each.shape[-1])]
                each = jnp.pad(each, missing, constant_values=jnp.inf)
                total = total.at[variables[:, p]].add(each)
        if self.sizes is not None:
            values = jnp.arange(k, dtype=self.sizes.dtype)
            total = jnp.where(values[None] < self.sizes[:, None], total, jnp.inf)
        energies = total[site]
        return energies - energies[flat[site]]

    @property
    def floats_a_site(self) -> int:
        return self.n_states

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
        own = None if field is None else field.reshape(n, k).T
        factors = self.variables, self.tables, self.sizes, self.blocks

        def one(flat, key, *model):
            return _each_block(k, flat, key, *model)

        swept = jax.custom_batching.custom_vmap(one)

        @swept.def_vmap
        def _(n_chains, batched, flat, keys, *model):
            chains, *rest = batched[0] and batched[1], *jax.tree.leaves(batched[2:])
            if chains and not any(rest):  # chains side by side in memory, as in `_sweeping.py`
                last = jax.lax.optimization_barrier(flat.T)
                last = _each_block(k, last, keys, *model)
                return jax.lax.optimization_barrier(last).T, True
            axes = jax.tree.map(lambda b: 0 if b else None, tuple(batched))
            return jax.vmap(one, in_axes=axes, axis_size=n_chains)(flat, keys, *model), True

        return swept(x.reshape(-1), key, factors, own, held).reshape(x.shape)


def _each_block(
    n_states: int, flat: Array, keys: Key[Array, "..."], factors: Any, own: Any, held: Any
) -> Array:
    """Blocks in turn; `flat` of shape (variables, *chains), keys of shape `chains`."""
    all_variables, all_tables, sizes, blocks = factors
    n, chains = len(flat), flat.shape[1:]

    def side_by_side(a: Array) -> Array:
        return a.reshape(*a.shape, *[1] * len(chains))

    for level, tables in enumerate(blocks):

        def update(flat, block, level=level):
            index, (rows, *slots) = block
            at = jnp.minimum(rows, n - 1)
            energies = jnp.zeros((n_states, len(rows), *chains), float_dtype())
            for variables, table, taken in zip(all_variables, all_tables, slots, strict=True):
                # A few places one by one, which XLA joins into one loop over the rows.
                most = taken.shape[1]
                parts = range(most) if most <= 8 else [slice(None)]
                for part in parts:
                    some = taken[:, part].reshape(len(rows), -1)
                    given = conditional_energies(variables, table, some, flat, n_states)
                    energies = energies + given
            if own is not None:
                energies = energies + side_by_side(own[:, at])
            if sizes is not None:
                legal = jnp.arange(n_states, dtype=jnp.int32)[:, None] < sizes[at][None]
                energies = jnp.where(side_by_side(legal), energies, jnp.inf)
            new = draw_states(energies, uniforms(keys, (level, index), rows.shape, energies.dtype))
            if held is not None:
                new = jnp.where(side_by_side(held[at]), flat[at], new.astype(flat.dtype))
            # Rows that only fill a block up are written nowhere.
            at = jnp.where(rows < n, rows, n)
            return flat.at[at].set(new.astype(flat.dtype), mode="drop"), None

        flat, _ = jax.lax.scan(update, flat, (jnp.arange(len(tables[0])), tables))
    return flat


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
