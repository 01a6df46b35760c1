"""Losses that are sums over pieces of a state: its entries, or blocks of them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from energax.energies import AbstractEnergy
from energax.objectives._base import Step, value_and_gradient
from energax.spaces import State, float_dtype

_FLOATS = 1 << 24
"""Numbers held at a time, where nothing else is said: 64 MiB of single precision."""


def chosen_pieces(
    key: Key[Array, ""],
    n_rows: int,
    n_pieces: int,
    n_chosen: int | None,
    free: Bool[Array, " pieces"] | None,
) -> tuple[Int[Array, "*rows chosen"], Float[Array, "*rows chosen"]]:
    """The pieces that each row's loss is summed over and their weights: all of them, or, without
    bias, a few at random, other ones in every row, that count for all.

    **Arguments:**

    - `n_chosen`: how many a row; all, the same for every row, if `None`.
    - `free`: which pieces count; all if `None`.
    """
    counts = jnp.ones((n_pieces,), float_dtype()) if free is None else free.astype(float_dtype())
    if n_chosen is None:
        return jnp.arange(n_pieces), counts
    order = jax.random.uniform(key, (n_rows, n_pieces))
    # Those that do not count come last.
    _, pieces = lax.top_k(counts[None] - order, n_chosen)
    total = jnp.sum(counts)
    share = total / jnp.clip(total, 1.0, float(n_chosen))
    return pieces.astype(int), share * counts[pieces]


def pieces_at_once(n_rows: int, floats_a_piece: int) -> int:
    """How many pieces fit into memory together."""
    return max(1, _FLOATS // (n_rows * floats_a_piece))


def step_by_pieces(
    energy: AbstractEnergy,
    batch: State,
    loss: Callable[[AbstractEnergy, State, Int[Array, ""]], dict[str, Float[Array, ""]]],
    pieces: Int[Array, "*rows pieces"],
    weights: Float[Array, "*rows pieces"],
    at_once: int,
) -> Step:
    """The mean over rows of the weighted sum over pieces of `loss(energy, x, piece)`.

    `at_once` pieces are evaluated, with their gradient, side by side, and then the next.

    **Arguments:**

    - `loss`: named numbers of one state and one piece; the gradient is that of `"loss"`.
    - `pieces`, `weights`: one row for all states, or one a state.
    """
    each = 0 if pieces.ndim == 2 else None

    def some(energy: AbstractEnergy, pieces: Array, weights: Array) -> dict[str, Array]:
        def of_row(x: State, pieces: Array, weights: Array) -> dict[str, Array]:
            values = jax.vmap(lambda piece: loss(energy, x, piece))(pieces)
            return jax.tree.map(
                lambda v: jnp.sum(jnp.where(weights > 0, weights.astype(v.dtype) * v, 0.0)), values
            )

        sums = jax.vmap(of_row, in_axes=(0, each, each))(batch, pieces, weights)
        return jax.tree.map(jnp.mean, sums)

    def part(pieces: Array, weights: Array) -> tuple[dict[str, Array], object]:
        def value(energy: AbstractEnergy) -> tuple[Array, dict[str, Array]]:
            measures = some(energy, pieces, weights)
            return measures["loss"], measures

        (_, measures), gradient = value_and_gradient(energy, value, has_aux=True)
        return measures, gradient

    n = pieces.shape[-1]
    n_blocks = -(-n // at_once)
    if n_blocks == 1:
        measures, gradient = part(pieces, weights)
        return Step(gradient, None, measures)
    width = -(-n // n_blocks)
    padding = [(0, 0)] * (pieces.ndim - 1) + [(0, n_blocks * width - n)]

    def in_blocks(a: Array) -> Array:
        a = jnp.pad(a, padding)
        return jnp.moveaxis(a.reshape(*a.shape[:-1], n_blocks, width), -2, 0)

    blocks = in_blocks(pieces), in_blocks(weights)
    shapes = jax.eval_shape(lambda b: part(*b), jax.tree.map(lambda b: b[0], blocks))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def add(total, block):
        return jax.tree.map(jnp.add, total, part(*block)), None

    (measures, gradient), _ = lax.scan(add, zeros, blocks)
    return Step(gradient, None, measures)
