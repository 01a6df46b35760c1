"""A space with some coordinates held at observed values."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Key

from energax.spaces._base import AbstractDiscreteSpace, AbstractSpace, State
from energax.spaces._categorical import Categorical
from energax.spaces._two_valued import Binary, Spin


class Clamped(AbstractDiscreteSpace):
    """The states of `space` that agree with `values` wherever `mask` is true.

    `values` and `mask` are array leaves, so new observations of the same shape compile nothing.
    Counting and listing the states needs the mask's concrete values.
    """

    space: AbstractSpace
    values: State
    mask: State

    @property
    def structure(self) -> State:
        return self.space.structure

    @property
    def is_discrete(self) -> bool:
        return self.space.is_discrete

    @property
    def cardinality(self) -> int | None:
        if isinstance(self.mask, Tracer):
            return None
        if isinstance(self.space, Binary | Spin):
            return 2 ** len(self._free)
        if isinstance(self.space, Categorical):
            return self.space.n_states ** len(self._free)
        return None

    @property
    def _free(self) -> np.ndarray:
        return np.flatnonzero(~np.asarray(self.mask).reshape(-1))

    def draw(self, key: Key[Array, ""]) -> State:
        return self.clamp(self.space.draw(key))

    def contains(self, x: State) -> Bool[Array, ""]:
        agree = jax.tree.map(
            lambda m, v, leaf: jnp.all(~m | (v == leaf)), self.mask, self.values, x
        )
        return self.space.contains(x) & jnp.all(jnp.stack(jax.tree.leaves(agree)))

    def clamp(self, x: State) -> State:
        return jax.tree.map(jnp.where, self.mask, self.values, self.space.clamp(x))

    def state(self, index: Array) -> State:
        inner = self.space
        free = self._free
        if isinstance(inner, Binary):
            part = Binary((max(len(free), 1),)).state(index)
        elif isinstance(inner, Spin):
            part = Spin((max(len(free), 1),)).state(index)
        elif isinstance(inner, Categorical):
            part = Categorical((max(len(free), 1),), inner.n_states).state(index)
        else:
            raise ValueError(f"the states of {inner} with some coordinates held cannot be listed")
        values = jnp.asarray(self.values)
        flat = values.reshape(-1).at[free].set(part[: len(free)])
        return flat.reshape(values.shape)

    def convert(self, data: Any, *, name: str = "data") -> State:
        rows = self.space.convert(data, name=name)
        agree = jax.vmap(lambda x: jnp.all(~self.mask | (self.values == x)))(rows)
        if not isinstance(agree, Tracer) and not bool(agree.all()):
            row = int(np.argmin(np.asarray(agree)))
            raise ValueError(
                f"{name} must hold the observed values where the mask is true, row {row} differs:"
                " put them there first"
            )
        return rows
