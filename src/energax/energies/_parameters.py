"""Checks of the numbers energies are made from."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from energax.spaces import Numbers, float_dtype


def is_traced(*values: object) -> bool:
    """Whether some value is known only inside a compiled program, where it cannot be checked."""
    return any(isinstance(v, Tracer) for v in values)


def finite_array(
    value: Numbers, name: str, *, shape: tuple[int, ...] | None = None, positive: bool = False
) -> Array:
    """`value` as an array of floats, or a `ValueError` that names it."""
    if is_traced(value):
        array = jnp.asarray(value)
    else:
        try:
            given: Any = np.asarray(value)
            checked = np.asarray(given.real, float)
        except (TypeError, ValueError):
            raise ValueError(f"{name} must be an array of numbers, got {value!r}") from None
        if np.iscomplexobj(given):
            raise ValueError(f"{name} must be real, got {given.dtype}")
        if not np.isfinite(checked).all():
            raise ValueError(
                f"{name} must be finite, got {int((~np.isfinite(checked)).sum())}"
                " entries that are not"
            )
        if positive and not (checked > 0).all():
            raise ValueError(f"{name} must be positive, got {checked.min():g}")
        kept = jnp.asarray(value)
        array = kept if jnp.issubdtype(kept.dtype, jnp.floating) else kept.astype(float_dtype())
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array
