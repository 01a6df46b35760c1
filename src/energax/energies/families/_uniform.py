"""Every state equally likely."""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from energax.energies._base import AbstractNormalised
from energax.energies._parameters import is_traced
from energax.spaces import AbstractSpace, Box, Categorical, Clamped, Count, Joint, State


class Uniform(AbstractNormalised):
    """The uniform distribution on a bounded space.

    **Arguments:**

    - `space`: a discrete space with finitely many states, a `Box` with finite ends, or a
      `Joint` of such.

    **Raises:** `ValueError` if the space is unbounded.
    """

    space: AbstractSpace

    def __check_init__(self):
        for part in _parts(self.space):
            if isinstance(part, Box):
                if not is_traced(part.low, part.high) and not (
                    np.isfinite(part.low).all() and np.isfinite(part.high).all()
                ):
                    raise ValueError(f"a uniform distribution needs finite ends, got {part}")
            elif part.cardinality is None or isinstance(part, Count):
                # A Count's base draws drop units into cells, which is not uniform on its states.
                raise ValueError(f"there is no uniform distribution to draw from on {part}")

    def energy(self, x: State) -> Float[Array, ""]:
        log_volume = sum((_log_volume(part) for part in _parts(self.space)), jnp.zeros(()))
        return jnp.where(self.space.contains(x), log_volume, jnp.inf)

    def draw(self, key: Key[Array, ""]) -> State:
        return self.space.draw(key)


def _parts(space: AbstractSpace) -> list[AbstractSpace]:
    if isinstance(space, Joint):
        return [leaf for part in space.parts.values() for leaf in _parts(part)]
    return [space]


def _log_volume(space: AbstractSpace) -> Float[Array, ""]:
    if isinstance(space, Box):
        return jnp.sum(jnp.log(space.high - space.low) * jnp.ones(space.shape))
    if isinstance(space, Clamped):
        # The mask is traced inside a compiled program: there the states can only be counted so.
        inner = space.space
        n_values = inner.n_states if isinstance(inner, Categorical) else 2
        return jnp.sum(jnp.where(space.mask, 0.0, math.log(n_values)))
    if space.cardinality is None:
        raise ValueError(f"there is no uniform distribution on {space}")
    return jnp.asarray(math.log(space.cardinality))
