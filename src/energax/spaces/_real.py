"""Continuous spaces."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Key

from energax.random import normal
from energax.spaces._base import (
    AbstractSpace,
    Numbers,
    as_rows,
    float_dtype,
    shape_of,
    values_outside,
)


class Real(AbstractSpace):
    """All real arrays of a shape. Base draws are standard normal.

    **Arguments:**

    - `shape`: an integer or a tuple of them; `()` for a scalar.
    """

    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, shape: int | tuple[int, ...] = ()):
        self.shape = shape_of(shape)

    @property
    def structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.shape, float_dtype())

    def draw(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        return normal(key, self.shape)

    def contains(self, x: Array) -> Bool[Array, ""]:
        return jnp.all(jnp.isfinite(x))

    def convert(self, data: Any, *, name: str = "data") -> Float[Array, "..."]:
        array = as_rows(data, self.shape, name)
        states = _as_floats(array)
        finite = np.isfinite(states)
        if not finite.all():
            raise values_outside(array, finite, f"finite numbers in {states.dtype}", name)
        return jnp.asarray(states)


class Box(AbstractSpace):
    """Real arrays between `low` and `high`; either end may be infinite, entry by entry.

    Base draws are uniform between finite ends, shifted exponential above one finite end, and
    standard normal where both are infinite.

    **Arguments:**

    - `shape`: an integer or a tuple of them; `()` for a scalar.
    - `low`, `high`: the ends, scalars or arrays that broadcast to `shape`.

    **Raises:** `ValueError` if some `low` is not below its `high`.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    low: Float[Array, "..."]
    high: Float[Array, "..."]

    def __init__(self, shape: int | tuple[int, ...] = (), low: Numbers = 0.0, high: Numbers = 1.0):
        self.shape = shape_of(shape)
        ends = []
        for value, which in ((low, "low"), (high, "high")):
            try:
                end = value if isinstance(value, Tracer) else np.asarray(value, float_dtype())
                ends.append(jnp.broadcast_to(jnp.asarray(end, float_dtype()), self.shape))
            except (TypeError, ValueError):
                raise ValueError(
                    f"{which} must be numbers that broadcast to {self.shape}, got {value!r}"
                ) from None
        self.low, self.high = ends
        if not any(isinstance(end, Tracer) for end in ends):
            below = np.asarray(self.low) < np.asarray(self.high)
            if not below.all():
                raise ValueError(f"low must be below high everywhere, got {low!r} and {high!r}")

    @property
    def structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.shape, float_dtype())

    def draw(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        key_uniform, key_tail, key_normal = jax.random.split(key, 3)
        finite_low, finite_high = jnp.isfinite(self.low), jnp.isfinite(self.high)
        both = finite_low & finite_high
        low, high = jnp.where(finite_low, self.low, 0.0), jnp.where(finite_high, self.high, 0.0)
        width = jnp.where(both, high - low, 1.0)
        inside = low + width * jax.random.uniform(key_uniform, self.shape)
        tail = jax.random.exponential(key_tail, self.shape)
        above, under = low + tail, high - tail
        whole = normal(key_normal, self.shape)
        one_end = jnp.where(finite_low, above, jnp.where(finite_high, under, whole))
        return jnp.where(both, inside, one_end)

    def contains(self, x: Array) -> Bool[Array, ""]:
        return jnp.all(jnp.isfinite(x) & (x >= self.low) & (x <= self.high))

    def convert(self, data: Any, *, name: str = "data") -> Float[Array, "..."]:
        array = as_rows(data, self.shape, name)
        low, high = np.asarray(self.low), np.asarray(self.high)
        states = _as_floats(array)  # rounded as the ends were, so that the ends are inside
        inside = np.isfinite(states) & (states >= low) & (states <= high)
        if not inside.all():
            raise values_outside(
                array, inside, f"numbers between {low.min():g} and {high.max():g}", name
            )
        return jnp.asarray(states)


def _as_floats(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # too large for the dtype: `inf`, which the caller refuses
        return array.astype(float_dtype())
