"""Keys at the door."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key


def as_key(key: Any) -> Key[Array, ""]:
    """One random key, or a `ValueError`."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed or key.shape != ():
        array = isinstance(key, jax.Array | np.ndarray)
        got = f"an array of shape {key.shape}" if array else type(key).__name__
        raise ValueError(f"key must be one random key such as ex.key(0), got {got}")
    return key
