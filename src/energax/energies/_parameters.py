"""Checks of what energies are made from and of the states they are given."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array

from energax.spaces import Numbers, float_dtype


def is_traced(*values: object) -> bool:
    """Whether some value is known only inside a compiled program, where it cannot be checked."""
    return any(isinstance(v, Tracer) for v in values)


def finite_array(
    value: Numbers,
    name: str,
    *,
    shape: tuple[int, ...] | None = None,
    positive: bool = False,
    dtype: Any = None,
) -> Array:
    """`value` as an array of floats, or a `ValueError` that names it.

    Single and double precision stay what they are; everything else takes the default, as half
    precision overflows at 65504. `dtype` overrides. What is checked is what will be used: 1e39 is
    no finite number in single precision.
    """
    if is_traced(value):
        traced = jnp.asarray(value)
        array: Array = traced.astype(_kept(traced.dtype) if dtype is None else dtype)
    else:
        try:
            given: Any = np.asarray(value)
            kept = _kept(given.dtype) if dtype is None else np.dtype(dtype)
            with np.errstate(over="ignore"):
                checked = (given.real if np.iscomplexobj(given) else given).astype(kept)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"{name} must be an array of numbers, got {value!r}") from None
        if np.iscomplexobj(given):
            raise ValueError(f"{name} must be real, got {given.dtype}")
        if not np.isfinite(checked).all():
            raise ValueError(
                f"{name} must be finite in {kept}, got {int((~np.isfinite(checked)).sum())}"
                " entries that are not"
            )
        if positive and not (checked > 0).all():
            least = given.astype(float).min()
            said = f"{least:g}" + (f", which is 0 in {kept}" if least > 0 else "")
            raise ValueError(f"{name} must be positive, got {said}")
        if isinstance(value, jax.Array) and value.dtype == kept and not value.weak_type:
            array = value
        else:  # `jnp.asarray` would compile a program for each shape
            array = jax.device_put(checked)
    if shape is not None and array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array


def _kept(dtype: Any) -> np.dtype:
    wide = dtype in (np.float32, np.float64)
    return jax.dtypes.canonicalize_dtype(dtype) if wide else float_dtype()


def one_state(x: Any, shape: tuple[int, ...]) -> Array:
    """`x` as an array, or a `ValueError` unless it has the shape of *one* state."""
    x = jnp.asarray(x)
    if x.shape != shape:
        many = len(x.shape) > len(shape) and x.shape[len(x.shape) - len(shape) :] == shape
        hint = ": one state at a time, and many by jax.vmap(energy.energy)" if many else ""
        raise ValueError(f"a state must have shape {shape}, got {x.shape}{hint}")
    return x


def as_floats(x: Array, dtype: Any) -> Array:
    """`x` itself where it holds floats, and in `dtype` where it holds whole numbers."""
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(dtype)


def as_list(given: Any, kind: type, expected: str) -> list[Any]:
    """What was given as a sequence of a kind, as a list, or a `ValueError` that says `expected`."""
    if isinstance(given, kind):
        raise ValueError(f"{expected}: put the one in a list")
    try:
        return list(given)
    except TypeError:
        raise ValueError(f"{expected}, got {type(given).__name__}") from None
