"""States as vectors of numbers, for networks that take any space."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from energax.spaces import AbstractSpace, Categorical, Clamped, Joint, State, float_dtype


def n_features(space: AbstractSpace) -> int:
    """The length of `features`."""
    return jax.eval_shape(lambda x: features(space, x, float_dtype()), space.structure).size


def features(space: AbstractSpace, x: State, dtype: Any) -> Float[Array, " features"]:
    """One unbatched state as a vector of this dtype: numbers as they are, labels one-hot, parts
    one after another."""
    if isinstance(space, Clamped):
        return features(space.space, x, dtype)
    if isinstance(space, Joint):
        return jnp.concatenate(
            [features(part, x[name], dtype) for name, part in space.parts.items()]
        )
    if isinstance(space, Categorical):
        return jax.nn.one_hot(x, space.n_states, dtype=dtype).reshape(-1)
    return jnp.asarray(x).astype(dtype).reshape(-1)
