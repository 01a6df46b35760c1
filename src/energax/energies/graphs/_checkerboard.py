"""A lattice as the two colours of a checkerboard, each packed into an array of its own.

Rows (along the first axis) are taken in pairs. Of each pair, one colour takes the upper site in
the columns where it stands there and the lower site in the others: half the lattice, in an array
without gaps, made by a choice between two slices. Neighbours are then plain slices of the other
colour's array.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from energax.energies.graphs._lattice import Lattice


def split(lattice: Lattice, a: Array) -> tuple[Array, Array]:
    """The entries of `a` on each colour, shape (..., n / 2, *rest) from (..., n, *rest)."""
    n, *rest = lattice.shape
    lead = a.shape[: a.ndim - len(lattice.shape)]
    pairs = jnp.moveaxis(a.reshape(*lead, n // 2, 2, *rest), len(lead) + 1, 0)
    even = np.expand_dims(_even(lattice), tuple(range(len(lead))))
    return jnp.where(even, pairs[0], pairs[1]), jnp.where(even, pairs[1], pairs[0])


def join(lattice: Lattice, first: Array, second: Array) -> Array:
    """The lattice back from its two colours."""
    even = _even(lattice)
    rows = [jnp.where(even, first, second), jnp.where(even, second, first)]
    return jnp.stack(rows, 1).reshape(lattice.shape)


def neighbours(lattice: Lattice, other: Array, colour: int, beyond: int | float = 0) -> list[Array]:
    """The values next to each site of a colour, from those of the other colour.

    In order: along the first axis the one in the same pair of rows, then the one outside it;
    along each other axis the next, then the previous. Past an open end stands `beyond`.
    """
    # Slices of one padded array in memory. Without the barrier XLA computes the padding again
    # inside every slice, entry by entry, ten times slower.
    padded = lax.optimization_barrier(_padded(lattice, other, beyond))
    middle = tuple(slice(1, -1) for _ in other.shape)

    def at(axis: int, step: int) -> Array:
        where = slice(2, None) if step > 0 else slice(0, -2)
        return padded[(*middle[:axis], where, *middle[axis + 1 :])]

    even = _even(lattice) ^ bool(colour)
    found = [padded[middle], jnp.where(even, at(0, -1), at(0, 1))]
    for axis in range(1, other.ndim):
        found += [at(axis, 1), at(axis, -1)]
    return found


def couplings(lattice: Lattice, bonds: Array, colour: int) -> list[Array]:
    """The couplings to `neighbours`, in their order.

    `bonds` has shape (axes, *shape): from each site to the next one along each axis.
    """
    n, *rest = lattice.shape
    rows = bonds[0].reshape(n // 2, 2, *rest)
    within, between = rows[:, 0], rows[:, 1]
    even = _even(lattice) ^ bool(colour)
    found = [within, jnp.where(even, jnp.roll(between, 1, 0), between)]
    for axis in range(1, len(lattice.shape)):
        along = bonds[axis]
        for shifted in (along, jnp.roll(along, 1, axis)):
            found.append(split(lattice, shifted)[colour])
    return found


def _even(lattice: Lattice) -> np.ndarray:
    """Whether the coordinates beside the first add up to an even number."""
    _, *rest = lattice.shape
    total = sum(
        (np.arange(m).reshape(-1, *[1] * i) for i, m in enumerate(rest[::-1])), np.zeros((), int)
    )
    return np.broadcast_to(total % 2 == 0, (1, *rest))


def _padded(lattice: Lattice, a: Array, beyond: int | float) -> Array:
    for axis, wraps in enumerate(lattice.periodic):
        first, last = (lax.slice_in_dim(a, i, i + 1, axis=axis) for i in (0, a.shape[axis] - 1))
        if not wraps:
            first, last = jnp.full_like(first, beyond), jnp.full_like(last, beyond)
        a = jnp.concatenate([last, a, first], axis)
    return a
