"""One Gibbs update of every site, in blocks that are independent given the rest."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from energax.energies.graphs._checkerboard import couplings, join, neighbours, split
from energax.energies.graphs._graph import Graph
from energax.energies.graphs._lattice import Lattice
from energax.energies.graphs._making import by_edge, per_bond


class Sites(NamedTuple):
    """What a model's sites are and how they act on each other."""

    message: Callable[[Array], Array]
    """What values say to their neighbours, to be multiplied by the coupling and added up: the
    same shape, with the axes of `field` that come before the sites' put first."""
    draw: Callable[[Array, Key[Array, ""]], Array]
    """New values from the sums of messages and fields."""
    nothing: int | float
    """A value whose message is 0."""


def sweep(
    sites: Sites,
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
        return _sweep_checkerboard(sites, graph, coupling, field, x, key, held)
    if isinstance(graph, Graph):
        return _sweep_blocks(sites, graph, coupling, field, x, key, held)
    # An odd lattice, as the graph it is.
    assert graph.coloured is not None
    lead = field.shape[: field.ndim - x.ndim]
    new = _sweep_blocks(
        sites,
        graph.coloured,
        by_edge(graph, per_bond(graph, coupling)) if coupling.ndim else coupling,
        field.reshape(*lead, -1),
        x.reshape(-1),
        key,
        None if held is None else held.reshape(-1),
    )
    return new.reshape(x.shape)


def _sweep_checkerboard(
    sites: Sites,
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
        around = neighbours(lattice, halves[1 - colour], colour, sites.nothing)
        said = [sites.message(s) for s in around]
        if coupling.ndim == 0:
            total = coupling * sum(said[1:], said[0])
        else:
            bonds = couplings(lattice, per_bond(lattice, coupling), colour)
            each = [_times(k, s) for k, s in zip(bonds, said, strict=True)]
            total = sum(each[1:], each[0])
        new = sites.draw(total + fields[colour], key_colour)
        halves[colour] = new if kept is None else jnp.where(kept[colour], halves[colour], new)
    return join(lattice, halves[0], halves[1])


def _sweep_blocks(
    sites: Sites,
    graph: Graph,
    coupling: Array,
    field: Array,
    x: Array,
    key: Key[Array, ""],
    held: Array | None,
) -> Array:
    n, blocks = graph.n_nodes, graph.blocks
    padded = jnp.append(x, jnp.asarray(sites.nothing, x.dtype))
    if coupling.ndim:
        coupling = jnp.append(coupling, jnp.zeros((), coupling.dtype))
    uniform = field.shape[-1] == 1
    for level, tables in enumerate(blocks):
        key_level = jax.random.fold_in(key, level)

        def update(padded, block, key_level=key_level):
            index, (nodes, around, leading) = block
            said = sites.message(padded[around])
            if coupling.ndim:
                total = jnp.sum(_times(coupling[leading], said), -1)
            else:
                total = coupling * jnp.sum(said, -1)
            at = jnp.minimum(nodes, n - 1)
            total = total + (field if uniform else field[..., at])
            new = sites.draw(total, jax.random.fold_in(key_level, index))
            if held is not None:
                new = jnp.where(held[at], padded[nodes], new)
            # Rows that only fill a block up are written nowhere.
            return padded.at[jnp.where(nodes < n, nodes, n + 1)].set(new, mode="drop"), None

        padded, _ = jax.lax.scan(update, padded, (jnp.arange(len(tables[0])), tables))
    return padded[:n]


def _times(weights: Array, values: Array) -> Array:
    """The product, where `values` may have more axes in front."""
    return jnp.expand_dims(weights, tuple(range(values.ndim - weights.ndim))) * values
