"""The base of all spaces: shapes, checks, base draws, counts of states, conversion of data."""

import abc
import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Key

State: TypeAlias = Any
"""One state x: an array, or for a `Joint` a dictionary of arrays."""

Numbers: TypeAlias = ArrayLike | Sequence[Any]
"""What a user may give where numbers are wanted: a scalar, an array, nested lists."""


class AbstractSpace(eqx.Module):
    """The set of states of an energy.

    A subclass writes `structure`, `draw`, `contains` and `convert`. Every method that takes a
    state takes *one*, unbatched; batching is `jax.vmap`'s job. Only `convert` takes many rows.
    """

    @property
    @abc.abstractmethod
    def structure(self) -> State:
        """Shapes and dtypes of a state, as `jax.ShapeDtypeStruct` leaves."""

    @abc.abstractmethod
    def draw(self, key: Key[Array, ""]) -> State:
        """A state from the base distribution: uniform where the space is bounded."""

    @abc.abstractmethod
    def contains(self, x: State) -> Bool[Array, ""]:
        """Whether the values of `x` lie in the space. Shapes are taken as right."""

    @abc.abstractmethod
    def convert(self, data: Any, *, name: str = "data") -> State:
        """Rows of a user's data as states of this space, stacked on a new leading axis.

        **Raises:** `ValueError` naming what was expected and what came.
        """

    @property
    def is_discrete(self) -> bool:
        """Whether states can be listed, so that sums replace integrals."""
        return False

    @property
    def cardinality(self) -> int | None:
        """How many states there are; `None` if infinitely many."""
        return None

    def clamp(self, x: State) -> State:
        """`x` with any coordinates the space holds fixed put back to their values."""
        return x

    def check(self, x: State, *, name: str = "x") -> None:
        """Raise `ValueError` unless `x` has the shapes of one state."""
        expected, got = jax.tree.structure(self.structure), jax.tree.structure(x)
        if expected != got:
            raise ValueError(f"{name} must be {expected} for {self}, got {got}")
        for want, have in zip(jax.tree.leaves(self.structure), jax.tree.leaves(x), strict=True):
            if jnp.shape(have) != want.shape:
                raise ValueError(
                    f"{name} must have shape {want.shape} for {self}, got {jnp.shape(have)}"
                )


class AbstractDiscreteSpace(AbstractSpace):
    """A space whose states can be listed."""

    @property
    def is_discrete(self) -> bool:
        return True

    @abc.abstractmethod
    def state(self, index: Array) -> State:
        """The state with this number, from 0 up to `cardinality` (at most 2^32 of them)."""


def as_rows(data: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    """`data` as a numpy array of shape (n, *shape), or a `ValueError` that says what is wrong."""
    try:
        array = np.asarray(data)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} cannot be read as an array: {error}") from None
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} must hold numbers, got dtype {array.dtype}")
    if array.ndim == 0 or array.shape[0] == 0:
        raise ValueError(f"{name} is empty: it needs at least one row of shape {shape}")
    if array.shape[1:] != shape:
        if array.ndim != 1 and _same_order(array.shape[1:], shape):
            array = array.reshape(array.shape[0], *shape)
        else:
            expected = ", ".join(map(str, ("rows", *shape))) + ("" if shape else ",")
            raise ValueError(
                f"{name} must have shape ({expected}), got {array.shape}"
                + (": put the one row in a list" if array.shape == shape else "")
            )
    if array.dtype.kind == "f":
        bad = np.isnan(array)
        if bad.any():
            row = int(np.argwhere(bad)[0][0])
            raise ValueError(f"{name} holds {int(bad.sum())} NaN, the first in row {row}")
    return array


def _same_order(got: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether rows of shape `got` hold the entries of `shape` in the same order for sure.

    Flat rows do, and axes of length 1 more or less. 28 x 20 for 20 x 28 may be a transposed image.
    """
    long_got, long_shape = (tuple(n for n in s if n != 1) for s in (got, shape))
    flat = 1 in (len(long_got), len(long_shape))
    return long_got == long_shape or (flat and size_of(got) == size_of(shape))


def values_outside(array: np.ndarray, inside: np.ndarray, expected: str, name: str) -> ValueError:
    """The error for entries that are not values of the space."""
    where = np.argwhere(~inside)[0]
    return ValueError(
        f"{name} must hold {expected}, got {array[tuple(where)]} in row {int(where[0])}"
        f" ({int((~inside).sum())} such entries)"
    )


def shape_of(shape: int | tuple[int, ...] | list[int]) -> tuple[int, ...]:
    """A shape from an integer or a sequence of positive integers."""
    values = (shape,) if isinstance(shape, int | np.integer) else shape
    try:
        result = tuple(operator.index(n) for n in values)
    except TypeError:
        raise ValueError(f"shape must be an integer or a tuple of them, got {shape!r}") from None
    if any(n < 1 for n in result) or any(isinstance(n, bool) for n in values):
        raise ValueError(f"shape must be made of positive integers, got {shape!r}")
    return result


def size_of(shape: tuple[int, ...]) -> int:
    """The number of entries of a shape."""
    return int(np.prod(shape, dtype=np.int64)) if shape else 1


def digits(index: Array, base: int, n_digits: int) -> Array:
    """The digits of `index` in `base`, least significant first, as int32."""

    def step(rest, _):
        quotient = rest // jnp.asarray(base, rest.dtype)
        return quotient, (rest - quotient * jnp.asarray(base, rest.dtype)).astype(jnp.int32)

    _, result = jax.lax.scan(step, jnp.asarray(index, jnp.uint32), length=n_digits)
    return result


def float_dtype() -> np.dtype:
    """JAX's present default: float32, or float64 under `jax_enable_x64`."""
    return jnp.zeros(()).dtype
