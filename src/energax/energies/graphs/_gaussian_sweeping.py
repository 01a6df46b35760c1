"""Gibbs sweeps of normal fields: every entry drawn given its neighbours."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from energax.energies.graphs._checkerboard import couplings, join, neighbours, split
from energax.energies.graphs._graph import Graph
from energax.energies.graphs._lattice import Lattice
from energax.energies.graphs._making import by_edge, per_bond
from energax.random import normal


def sweep_normal(
    graph: Lattice | Graph,
    coupling: Array,
    mass: Array,
    d: Array,
    key: Key[Array, ""],
    held: Array | None,
) -> Array:
    """Every entry of a field of mean 0 drawn once, block by block, those held left out.

    **Arguments:**

    - `coupling`, `mass`: as of `GaussianMRF`, of the dtype of `d`.
    - `d`: the field, of the graph's shape.
    - `held`: entries that stay, of the same shape; `None` if there are none.
    """
    mass = jnp.broadcast_to(mass, d.shape)
    if isinstance(graph, Lattice):
        if graph.coloured is None:
            return _sweep_checkerboard(graph, coupling, mass, d, key, held)
        coupling = by_edge(graph, coupling) if coupling.ndim > 1 else coupling
        graph = graph.coloured
    flat = None if held is None else held.reshape(-1)
    new = _sweep_blocks(graph, coupling, mass.reshape(-1), d.reshape(-1), key, flat)
    return new.reshape(d.shape)


def _sweep_checkerboard(
    lattice: Lattice,
    coupling: Array,
    mass: Array,
    d: Array,
    key: Key[Array, ""],
    held: Array | None,
) -> Array:
    halves = list(split(lattice, d))
    masses, kept = split(lattice, mass), None if held is None else split(lattice, held)
    for colour, key_colour in enumerate(jax.random.split(key, 2)):
        around = neighbours(lattice, halves[1 - colour], colour)
        # 1 where there is a neighbour, 0 beyond an open end.
        weights = neighbours(lattice, jnp.ones_like(halves[0]), colour)
        if coupling.ndim == 0:
            weights = [coupling * there for there in weights]
        else:
            bonds = couplings(lattice, per_bond(lattice, coupling), colour)
            weights = [w * there for w, there in zip(bonds, weights, strict=True)]
        start = jnp.zeros_like(around[0])
        pull = sum((w * s for w, s in zip(weights, around, strict=True)), start)
        new = _drawn(pull, masses[colour] + sum(weights, start), key_colour)
        halves[colour] = new if kept is None else jnp.where(kept[colour], halves[colour], new)
    return join(lattice, *halves)


def _sweep_blocks(
    graph: Graph, coupling: Array, mass: Array, d: Array, key: Key[Array, ""], held: Array | None
) -> Array:
    n, none = graph.n_nodes, jnp.zeros((1,), d.dtype)
    coupling = jnp.concatenate([jnp.broadcast_to(coupling, (graph.n_edges,)), none])
    mass = jnp.concatenate([mass, none + 1])
    padded = jnp.concatenate([d, none])
    for each, tables in enumerate(graph.blocks):
        key_level = jax.random.fold_in(key, each)

        def update(padded, block, key_level=key_level):
            index, (nodes, around, leading) = block
            weights = coupling[leading]
            pull = jnp.sum(weights * padded[around], -1)
            precision = mass[nodes] + jnp.sum(weights, -1)
            new = _drawn(pull, precision, jax.random.fold_in(key_level, index))
            free = nodes < n
            if held is not None:
                free = free & ~held[jnp.minimum(nodes, n - 1)]
            return padded.at[jnp.where(free, nodes, n + 1)].set(new, mode="drop"), None

        padded, _ = jax.lax.scan(update, padded, (jnp.arange(len(tables[0])), tables))
    return padded[:n]


def _drawn(pull: Array, precision: Array, key: Key[Array, ""]) -> Array:
    """Entries with this precision given their neighbours' weighted sum."""
    z = normal(key, pull.shape, pull.dtype)
    return pull / precision + z / jnp.sqrt(precision)
