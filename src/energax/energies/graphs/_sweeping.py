"""One Gibbs update of every site, in blocks that are independent given the rest."""

from typing import Any

import jax
import jax.custom_batching
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Key

from energax.energies.graphs._checkerboard import couplings, join, neighbours, split
from energax.energies.graphs._dense import sweep_dense
from energax.energies.graphs._graph import Graph
from energax.energies.graphs._lattice import Lattice
from energax.energies.graphs._making import by_edge, per_bond
from energax.energies.graphs._site_rule import SiteRule

_UNROLLED = 16
"""Up to this degree a node's neighbours are gathered one after the other."""


def sweep(
    rule: SiteRule,
    graph: Lattice | Graph,
    coupling: Array,
    field: Array,
    x: Array,
    key: Key[Array, ""],
    held: Array | None,
) -> Array:
    """Every site of x redrawn once, but those that are held.

    `coupling` as the models have it; `field` of shape (*any, *graph.shape), or (*any) with an
    axis of length 1 in place of each of the graph's.
    """
    if isinstance(graph, Lattice) and graph.coloured is None:
        return _sweep_checkerboard(rule, graph, coupling, field, x, key, held)
    if isinstance(graph, Graph) and graph.is_dense:
        return sweep_dense(rule, graph, coupling, field, x, key, held)
    if isinstance(graph, Graph):
        return _sweep_blocks(rule, graph, coupling, field, x, key, held)
    # An odd lattice, as the graph it is.
    assert graph.coloured is not None
    lead = field.shape[: field.ndim - x.ndim]
    new = _sweep_blocks(
        rule,
        graph.coloured,
        by_edge(graph, per_bond(graph, coupling)) if coupling.ndim else coupling,
        field.reshape(*lead, -1),
        x.reshape(-1),
        key,
        None if held is None else held.reshape(-1),
    )
    return new.reshape(x.shape)


def _sweep_checkerboard(
    rule: SiteRule,
    lattice: Lattice,
    coupling: Array,
    field: Array,
    x: Array,
    key: Key[Array, ""],
    held: Array | None,
) -> Array:
    halves = list(split(lattice, x))
    uniform = field.shape[field.ndim - x.ndim :] == (1,) * x.ndim
    fields = (field, field) if uniform else split(lattice, field)
    kept = None if held is None else split(lattice, held)
    for colour, key_colour in enumerate(jax.random.split(key, 2)):
        around = neighbours(lattice, halves[1 - colour], colour, rule.nothing)
        said = [rule.message(s) for s in around]
        if coupling.ndim == 0:
            total = coupling * sum(said[1:], said[0])
        else:
            bonds = couplings(lattice, per_bond(lattice, coupling), colour)
            each = [_times(k, s) for k, s in zip(bonds, said, strict=True)]
            total = sum(each[1:], each[0])
        total = total + fields[colour]
        uniform = jax.random.uniform(key_colour, halves[0].shape, total.dtype)
        new = rule.draw(total, uniform)
        halves[colour] = new if kept is None else jnp.where(kept[colour], halves[colour], new)
    return join(lattice, halves[0], halves[1])


def _sweep_blocks(
    rule: SiteRule,
    graph: Graph,
    coupling: Array,
    field: Array,
    x: Array,
    key: Key[Array, ""],
    held: Array | None,
) -> Array:
    def one(x, key, *model):
        return _each_block(rule, x, key, *model, chains=())

    swept = jax.custom_batching.custom_vmap(one)

    @swept.def_vmap
    def _(n_chains, batched, x, keys, *model):
        chains, *rest = batched[0] and batched[1], *jax.tree.leaves(batched[2:])
        if chains and not any(rest):
            # Of many chains on one model a node's values stand side by side in memory, and are
            # gathered together: three times as fast as one by one.
            last = lax.optimization_barrier(x.T)
            last = _each_block(rule, last, keys, *model, chains=(n_chains,))
            return lax.optimization_barrier(last).T, True
        axes = jax.tree.map(lambda b: 0 if b else None, tuple(batched))
        return jax.vmap(one, in_axes=axes, axis_size=n_chains)(x, keys, *model), True

    return swept(x, key, coupling, field, held, graph.blocks)


def _each_block(
    rule: SiteRule,
    x: Array,
    keys: Key[Array, "..."],
    coupling: Array,
    field: Array,
    held: Array | None,
    blocks: Any,
    *,
    chains: tuple[int, ...],
) -> Array:
    """Blocks in turn; x of shape (nodes, *chains), keys of shape `chains`."""
    n = len(x)
    padded = jnp.concatenate([x, jnp.full((1, *chains), rule.nothing, x.dtype)])
    if coupling.ndim:
        coupling = jnp.append(coupling, jnp.zeros((), coupling.dtype))
    uniform_field = field.shape[-1] == 1

    def side_by_side(a: Array) -> Array:
        return a.reshape(*a.shape, *[1] * len(chains))

    for level, tables in enumerate(blocks):

        def update(padded, block, level=level):
            index, (nodes, around, leading) = block

            def said(place: Any) -> Array:
                message = rule.message(padded[around[:, place]])
                if coupling.ndim:
                    return _times(side_by_side(coupling[leading[:, place]]), message)
                return coupling * message

            degree = around.shape[1]
            if degree <= _UNROLLED:  # which XLA joins into one loop over the nodes
                total = sum((said(i) for i in range(1, degree)), said(0))
            else:
                total = jnp.sum(said(slice(None)), -1 - len(chains))
            at = jnp.minimum(nodes, n - 1)
            total = total + side_by_side(field if uniform_field else field[..., at])
            uniform = _uniforms(keys, (level, index), nodes.shape, total.dtype)
            new = rule.draw(total, uniform)
            if held is not None:
                new = jnp.where(side_by_side(held[at]), padded[nodes], new)
            # Rows that only fill a block up are written nowhere.
            return padded.at[jnp.where(nodes < n, nodes, n + 1)].set(new, mode="drop"), None

        padded, _ = jax.lax.scan(update, padded, (jnp.arange(len(tables[0])), tables))
    return padded[:n]


def _uniforms(
    keys: Key[Array, "..."], names: tuple[Any, ...], shape: tuple[int, ...], dtype: Any
) -> Any:
    """Uniform numbers, shape (*shape, *chains), each chain's from its own key."""

    def draw(key):
        for name in names:
            key = jax.random.fold_in(key, name)
        return jax.random.uniform(key, shape, dtype)

    return draw(keys) if keys.ndim == 0 else jax.vmap(draw, out_axes=1)(keys)


def _times(weights: Array, values: Array) -> Array:
    """The product, where `values` may have more axes in front."""
    return jnp.expand_dims(weights, tuple(range(values.ndim - weights.ndim))) * values
