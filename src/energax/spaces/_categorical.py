"""Labels and other unordered choices."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from energax.spaces._base import (
    AbstractDiscreteSpace,
    as_rows,
    digits,
    shape_of,
    size_of,
    values_outside,
)


class Categorical(AbstractDiscreteSpace):
    """Integer arrays with entries 0 to `n_states - 1`, as int32. Base draws are uniform.

    `convert` takes integers (or floats that are whole) and one-hot rows with a last axis of
    length `n_states`.

    **Arguments:**

    - `shape`: an integer or a tuple of them; `()` for a single label.
    - `n_states`: how many values an entry has, at least 1.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    n_states: int = eqx.field(static=True)

    def __init__(self, shape: int | tuple[int, ...] = (), n_states: int = 2):
        self.shape = shape_of(shape)
        if isinstance(n_states, bool) or not isinstance(n_states, int | np.integer):
            raise ValueError(f"n_states must be an integer, got {n_states!r}")
        if n_states < 1:
            raise ValueError(f"n_states must be at least 1, got {n_states}")
        self.n_states = int(n_states)

    @property
    def structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.shape, jnp.int32)

    @property
    def cardinality(self) -> int:
        return self.n_states ** size_of(self.shape)

    def draw(self, key: Key[Array, ""]) -> Int[Array, "..."]:
        return jax.random.randint(key, self.shape, 0, self.n_states, jnp.int32)

    def contains(self, x: Array) -> Bool[Array, ""]:
        return jnp.all((x >= 0) & (x < self.n_states))

    def state(self, index: Array) -> Int[Array, "..."]:
        return digits(index, self.n_states, size_of(self.shape)).reshape(self.shape)

    def convert(self, data: Any, *, name: str = "data") -> Int[Array, "..."]:
        one_hot = (*self.shape, self.n_states)
        if _is_one_hot(data, one_hot):
            array = as_rows(data, one_hot, name)
            marked = ((array == 0) | (array == 1)).all(-1) & (array.sum(-1) == 1)
            if not marked.all():
                where = tuple(np.argwhere(~marked)[0])
                raise ValueError(
                    f"{name} must hold one-hot rows (a single 1 each), got {array[where]}"
                    f" in row {int(where[0])} ({int((~marked).sum())} such entries)"
                )
            return jnp.asarray(array.argmax(-1).astype(np.int32))
        array = as_rows(data, self.shape, name)
        inside = (array >= 0) & (array < self.n_states) & (np.floor(array) == array)
        if not inside.all():
            expected = f"integers from 0 to {self.n_states - 1}"
            raise values_outside(array, inside, expected, name)
        return jnp.asarray(array.astype(np.int32))


def _is_one_hot(data: Any, one_hot: tuple[int, ...]) -> bool:
    try:
        return np.shape(data)[1:] == one_hot
    except (TypeError, ValueError):  # no array at all, which `as_rows` says better
        return False
