"""Draws that need more care than `jax.random` takes, or that it refuses to our keys."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key


def bernoulli(key: Key[Array, ""], probability: Float[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """True with the given probabilities, independently.

    A uniform number is a multiple of its dtype's spacing, so `uniform < p` is true at least once
    in 2^23 draws even for p = 1e-30 (float32). Here it counts as the middle of its interval:
    probabilities are met to 2^-24, from both sides, and those below that are 0.
    """
    uniform = jax.random.uniform(key, probability.shape, probability.dtype)
    return uniform < probability - jnp.finfo(probability.dtype).eps / 2


def poisson(key: Key[Array, ""], rate: Float[Array, "*shape"]) -> Int[Array, "*shape"]:
    """Poisson counts with the given means, independently.

    `jax.random.poisson` is written for threefry keys alone: it gets one made of this key's bits.
    """
    data = jax.random.bits(key, (2,), jnp.uint32)
    threefry = jax.random.wrap_key_data(data, impl="threefry2x32")
    return jax.random.poisson(threefry, rate, dtype=jnp.int32)
