"""Arguments that every layer checks at the door: keys and counts."""

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


def is_number(value: Any) -> bool:
    """Whether a value is a real number, of Python or NumPy, and not a boolean."""
    number = isinstance(value, int | float | np.integer | np.floating)
    return number and not isinstance(value, bool)


LARGEST_COUNT = 2**31 - 1
"""The largest count that a compiled program may be given: its integers have 32 bits."""


def as_count(value: Any, name: str, *, least: int = 1, most: int | None = None) -> int:
    """A Python integer of at least `least` and at most `most`, or a `ValueError` that names it.

    A count that a compiled program is given is at most `LARGEST_COUNT`.

    An integer of NumPy becomes one of Python: equinox would take it for an array, and so for a
    number that a compiled program does not know.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
    if most is not None and value > most:
        raise ValueError(f"{name} must be an integer of at most {most}, got {value!r}")
    return int(value)
