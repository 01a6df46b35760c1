"""Sums of many numbers."""

import jax.numpy as jnp
from jaxtyping import Array, Float

_SLICES = 32
_SQUARED = 8


def pairwise_sum(x: Float[Array, " n"]) -> Float[Array, ""]:
    """The sum of many numbers, whole slices added in pairs.

    Two gains over `jnp.sum`, which XLA on a CPU may do an entry at a time. Rounding grows with
    the logarithm of n (N. Higham, "The accuracy of floating point summation", 1993); and slices
    are added as vectors, which a training step feels that takes the norm of a large gradient.
    """
    while x.size >= 2 * _SLICES:
        length = x.size // _SLICES
        parts = [x[i * length : (i + 1) * length] for i in range(_SLICES)]
        while len(parts) > 1:
            parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
        x = jnp.concatenate([parts[0], x[_SLICES * length :]])
    return jnp.sum(x)


def sum_of_squares(x: Float[Array, "..."]) -> Float[Array, ""]:
    """The sum of the squares of all entries, as `pairwise_sum` adds.

    Few slices are squared first: the compiler then never writes the squares of all entries down.
    """
    flat = jnp.ravel(x)
    length = flat.size // _SQUARED
    parts = [jnp.square(flat[i * length : (i + 1) * length]) for i in range(_SQUARED)]
    while len(parts) > 1:
        parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
    rest = flat[_SQUARED * length :]
    return pairwise_sum(jnp.concatenate([parts[0], rest * rest]))
