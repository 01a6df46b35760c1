"""Counts: unbounded, or a fixed total shared among cells."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from energax.spaces._base import AbstractDiscreteSpace, as_rows, shape_of, size_of, values_outside


class Count(AbstractDiscreteSpace):
    """Non-negative integer arrays, as int32; with `total`, those whose entries sum to it.

    Base draws: each entry geometric with mean 1; with `total`, each unit falls into a cell at
    random.

    **Arguments:**

    - `shape`: an integer or a tuple of them; `()` for a single count.
    - `total`: the fixed sum of the entries, or `None`.
    """

    shape: tuple[int, ...] = eqx.field(static=True)
    total: int | None = eqx.field(static=True)

    def __init__(self, shape: int | tuple[int, ...] = (), total: int | None = None):
        self.shape = shape_of(shape)
        if total is not None and (
            isinstance(total, bool) or not isinstance(total, int | np.integer) or total < 0
        ):
            raise ValueError(f"total must be a non-negative integer or None, got {total!r}")
        self.total = None if total is None else int(total)

    @property
    def structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.shape, jnp.int32)

    @property
    def cardinality(self) -> int | None:
        if self.total is None:
            return None
        cells = size_of(self.shape)
        return math.comb(self.total + cells - 1, cells - 1)

    def draw(self, key: Key[Array, ""]) -> Int[Array, "..."]:
        if self.total is None:
            return jax.random.geometric(key, 0.5, self.shape, dtype=jnp.int32) - 1
        cells = size_of(self.shape)
        chosen = jax.random.randint(key, (self.total,), 0, cells, jnp.int32)
        counts = jnp.zeros((cells,), jnp.int32).at[chosen].add(1)
        return counts.reshape(self.shape)

    def contains(self, x: Array) -> Bool[Array, ""]:
        inside = jnp.all(x >= 0)
        return inside if self.total is None else inside & (jnp.sum(x) == self.total)

    def state(self, index: Array) -> Int[Array, "..."]:
        """Compositions of `total` in order, the first cell's largest count first."""
        if self.total is None:
            raise ValueError(f"{self} has infinitely many states: give it a total to number them")
        cells, total = size_of(self.shape), self.total
        # before[k, r]: with k cells still to come, how many compositions leave fewer than r units
        # to them. Those are the compositions of r - 1 units over k + 1 cells.
        before = np.array(
            [[math.comb(r - 1 + k, k) if r else 0 for r in range(total + 1)] for k in range(cells)],
            dtype=object,
        )
        in_reach = jnp.asarray((before < 2**32).astype(bool))
        before = jnp.asarray(np.minimum(before, 2**32 - 1).astype(np.uint32))

        def step(carry, later):
            rest, left = carry
            units = jnp.arange(total + 1, dtype=jnp.int32)
            possible = (units <= left) & in_reach[later] & (before[later] <= rest)
            passed_on = jnp.sum(possible, dtype=jnp.int32) - 1
            return (rest - before[later, passed_on], passed_on), left - passed_on

        start = (jnp.asarray(index, jnp.uint32), jnp.asarray(total, jnp.int32))
        _, counts = jax.lax.scan(step, start, jnp.arange(cells - 1, -1, -1))
        return counts.reshape(self.shape)

    def convert(self, data: Any, *, name: str = "data") -> Int[Array, "..."]:
        array = as_rows(data, self.shape, name)
        inside = (array >= 0) & (np.floor(array) == array) & (array < 2**31)
        if not inside.all():
            raise values_outside(array, inside, "non-negative whole numbers", name)
        if self.total is not None:
            sums = array.reshape(array.shape[0], -1).sum(-1)
            if (sums != self.total).any():
                raise values_outside(
                    sums, sums == self.total, f"rows that sum to {self.total}", name
                )
        return jnp.asarray(array.astype(np.int32))
