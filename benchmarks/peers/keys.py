"""Keys for the workers that run on JAX."""

from collections.abc import Iterator
from functools import partial

import jax


def keys_from(key: jax.Array) -> Iterator[jax.Array]:
    """10,000 keys, made by one compiled program when the first is asked for."""
    yield from jax.jit(partial(jax.random.split, num=10_000))(key)
