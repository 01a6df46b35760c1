"""Spaces of two values an entry. States are floats, ready for matrix products and gradients."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from energax.spaces._base import (
    AbstractDiscreteSpace,
    as_rows,
    digits,
    float_dtype,
    shape_of,
    size_of,
    values_outside,
)


def _as_bits(array: np.ndarray, expected: str, name: str) -> np.ndarray:
    """True for the upper value: data of {0, 1}, {-1, 1} or booleans."""
    if array.dtype == np.bool_:
        return array
    upper, lower = array == 1, array == 0
    if not (upper | lower).all():
        negative = array == -1
        if not (upper | negative).all():
            if (negative & True).any() and lower.any() and (upper | lower | negative).all():
                raise ValueError(f"{name} must hold {expected}, got a mixture of -1, 0 and 1")
            raise values_outside(
                array, upper | (negative if negative.any() else lower), expected, name
            )
    return upper


class Binary(AbstractDiscreteSpace):
    """Arrays of zeros and ones, held as floats. Base draws are fair coins.

    `convert` takes booleans, integers or floats in {0, 1}, and spins in {-1, 1}.
    """

    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, shape: int | tuple[int, ...] = ()):
        self.shape = shape_of(shape)

    @property
    def structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.shape, float_dtype())

    @property
    def cardinality(self) -> int:
        return 2 ** size_of(self.shape)

    def draw(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        return jax.random.bernoulli(key, 0.5, self.shape).astype(float_dtype())

    def contains(self, x: Array) -> Bool[Array, ""]:
        return jnp.all((x == 0) | (x == 1))

    def state(self, index: Array) -> Float[Array, "..."]:
        return _bits(index, self.shape).astype(float_dtype())

    def convert(self, data: Any, *, name: str = "data") -> Float[Array, "..."]:
        array = as_rows(data, self.shape, name)
        bits = _as_bits(array, "only 0 and 1 (or -1 and 1, or booleans)", name)
        return jnp.asarray(bits.astype(float_dtype()))


class Spin(AbstractDiscreteSpace):
    """Arrays of -1 and +1, held as floats. Base draws are fair coins.

    `convert` takes spins in {-1, 1}, booleans, and numbers in {0, 1}, where 0 becomes -1.
    """

    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, shape: int | tuple[int, ...] = ()):
        self.shape = shape_of(shape)

    @property
    def structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.shape, float_dtype())

    @property
    def cardinality(self) -> int:
        return 2 ** size_of(self.shape)

    def draw(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        return jax.random.rademacher(key, self.shape, float_dtype())

    def contains(self, x: Array) -> Bool[Array, ""]:
        return jnp.all((x == -1) | (x == 1))

    def state(self, index: Array) -> Float[Array, "..."]:
        return 2 * _bits(index, self.shape).astype(float_dtype()) - 1

    def convert(self, data: Any, *, name: str = "data") -> Float[Array, "..."]:
        array = as_rows(data, self.shape, name)
        bits = _as_bits(array, "only -1 and 1 (or 0 and 1, or booleans)", name)
        return jnp.asarray(2 * bits.astype(float_dtype()) - 1)


def _bits(index: Array, shape: tuple[int, ...]) -> Array:
    size = size_of(shape)
    if size <= 32:
        shifts = jnp.arange(size, dtype=jnp.uint32)
        return ((jnp.asarray(index, jnp.uint32) >> shifts) & 1).reshape(shape)
    return digits(index, 2, size).reshape(shape)
