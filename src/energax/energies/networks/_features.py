"""States as vectors of numbers, for networks that take any space."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from energax.spaces import AbstractSpace, Categorical, Clamped, Joint, State, float_dtype


def n_features(space: AbstractSpace) -> int:
    """The length of `features`."""
    return jax.eval_shape(lambda x: features(space, x), space.structure).size


def features(space: AbstractSpace, x: State) -> Float[Array, " features"]:
    """One unbatched state as a vector: numbers as they are, labels one-hot, parts one after
    another."""
    if isinstance(space, Clamped):
        return features(space.space, x)
    if isinstance(space, Joint):
        return jnp.concatenate([features(part, x[name]) for name, part in space.parts.items()])
    if isinstance(space, Categorical):
        return jax.nn.one_hot(x, space.n_states, dtype=float_dtype()).reshape(-1)
    array = jnp.asarray(x)
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    return (array if floating else array.astype(float_dtype())).reshape(-1)
