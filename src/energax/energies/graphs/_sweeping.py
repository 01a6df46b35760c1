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

_LISTED = 16
"""What a node's neighbours can say is listed where that is at most so much."""

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
        new = rule.pick(rule.weigh(total), uniform)
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
    uniform_field = field.shape[-1] == 1

    def side_by_side(a: Array) -> Array:
        return a.reshape(*a.shape, *[1] * len(chains))

    for level, (nodes, around, leading) in enumerate(blocks):
        degree = around.shape[-1]
        is_listed = rule.two_values and chains and 2**degree <= min(_LISTED, *chains)
        # Of all blocks at once: XLA moves what no step changes out of a loop of steps.
        if coupling.ndim:
            bonds = jnp.append(coupling, jnp.zeros((), coupling.dtype))[leading]
        else:
            bonds = jnp.where(around < n, coupling, 0)
        at = jnp.minimum(nodes, n - 1)
        listed = (
            _listed(rule, bonds, field[None] if uniform_field else field[at]) if is_listed else None
        )

        def update(padded, block, level=level, degree=degree):
            index, nodes, around, bonds, listed = block
            at = jnp.minimum(nodes, n - 1)

            def said(place: Any) -> Array:
                return _times(side_by_side(bonds[:, place]), rule.message(padded[around[:, place]]))

            if listed is not None:
                values = [padded[around[:, place]] for place in range(degree)]
                weight = _looked_up([side_by_side(each) for each in listed], values)
            else:
                if degree <= _UNROLLED:  # which XLA joins into one loop over the nodes
                    total = sum((said(i) for i in range(1, degree)), said(0))
                else:
                    total = jnp.sum(said(slice(None)), -1 - len(chains))
                here = field if uniform_field else field[..., at]
                weight = rule.weigh(total + side_by_side(here))
            uniform = _uniforms(keys, (level, index), nodes.shape, weight.dtype)
            new = rule.pick(weight, uniform)
            if held is not None:
                new = jnp.where(side_by_side(held[at]), padded[nodes], new)
            # Rows that only fill a block up are written nowhere.
            return padded.at[jnp.where(nodes < n, nodes, n + 1)].set(new, mode="drop"), None

        each = (jnp.arange(len(nodes)), nodes, around, bonds, listed)
        padded, _ = lax.scan(update, padded, each)
    return padded[:n]


def _listed(rule: SiteRule, bonds: Array, field: Array) -> Array:
    """`rule.weigh` of every node, for all that its neighbours can say to it.

    Many chains share a node's list and look their neighbours up in it, for less than an exponential
    each.

    **Arguments:**

    - `bonds`: couplings, shape (blocks, width, degree), 0 where there is no neighbour.
    - `field`: shape (blocks, width) or (1, 1).

    **Returns:** shape (blocks, 2^degree, width), the first neighbour's value changing slowest.
    """
    assert rule.two_values is not None
    says = [rule.message(jnp.asarray(value, bonds.dtype)) for value in rule.two_values]
    sums = [field]
    for place in range(bonds.shape[-1]):
        sums = [total + bonds[..., place] * said for total in sums for said in says]
    return rule.weigh(jnp.stack(sums, 1))


def _looked_up(listed: list[Array], values: list[Array]) -> Array:
    """The entries of lists, each of shape (width, 1), by the values of neighbours."""
    for value in reversed(values):
        pairs = zip(listed[::2], listed[1::2], strict=True)
        listed = [jnp.where(value > 0, second, first) for first, second in pairs]
    return listed[0]


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
