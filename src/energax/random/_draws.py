"""Draws that need more care than `jax.random` takes, or that it refuses to our keys."""

import math
from typing import Any

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


def categorical(
    key: Key[Array, ""], logits: Float[Array, "*batch choices"]
) -> Int[Array, "*batch"]:
    """Indices along the last axis, each with probability softmax(logits), independently.

    One uniform number a draw is compared with the cumulative probabilities, which are met to about
    2^-24 (float32); what has probability 0, a logit of `-inf`, is never drawn. `jax.random` would
    draw a Gumbel number for each choice. Where nothing has a probability (a NaN or `+inf` among the
    logits, or all of them `-inf`) the index is 0.
    """
    *batch, n = logits.shape
    weights = jnp.exp(logits - jnp.max(logits, -1, keepdims=True))
    uniform = jax.random.uniform(key, (*batch, 1), logits.dtype)
    if n <= _FEW:
        sums = _running_sums(weights)
        return _first_above(uniform, sums, jnp.max(sums, -1, keepdims=True), weights)
    # Of many choices, first a block of them and then one in it: sqrt(n) sums twice, not n.
    width = math.isqrt(n - 1) + 1
    rows = -(-n // width)
    padding = [(0, 0)] * len(batch) + [(0, rows * width - n)]
    blocks = jnp.pad(weights, padding).reshape(*batch, rows, width)
    sizes = jnp.sum(blocks, -1)
    sums = _running_sums(sizes)
    total = jnp.max(sums, -1, keepdims=True)
    block = _first_above(uniform, sums, total, sizes)[..., None]
    within = jnp.take_along_axis(blocks, block[..., None], -2)[..., 0, :]
    before = jnp.take_along_axis(sums - sizes, block, -1)
    index = _first_above(uniform, before + _running_sums(within), total, within)
    return jnp.where(total[..., 0] > 0, block[..., 0] * width + index, 0)


_FEW = 32
"""So many choices are drawn from in one go."""


def _running_sums(weights: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """`cumsum`, of which XLA makes a slow loop on a CPU: here one fused pass."""
    n = weights.shape[-1]
    upto = jnp.tril(jnp.ones((n, n), bool)).reshape((1,) * (weights.ndim - 1) + (n, n))
    return jnp.sum(jnp.where(upto, weights[..., None, :], 0.0), -1)


def _first_above(uniform: Any, sums: Array, total: Array, weights: Array) -> Int[Array, "*batch"]:
    """The first choice that has weight and whose running sum is above the uniform share."""
    possible = weights > 0
    # A uniform number counts as the middle of its interval, as in `bernoulli`.
    above = (uniform < sums / total - jnp.finfo(sums.dtype).eps / 2) & possible
    # Rounding may leave the last of a block's sums below the number: then it is the last one.
    last = possible.shape[-1] - 1 - jnp.argmax(jnp.flip(possible, -1), -1)
    last = jnp.where(jnp.any(possible, -1), last, 0)
    return jnp.where(jnp.any(above, -1), jnp.argmax(above, -1), last)


def poisson(key: Key[Array, ""], rate: Float[Array, "*shape"]) -> Int[Array, "*shape"]:
    """Poisson counts with the given means, independently.

    `jax.random.poisson` is written for threefry keys alone: it gets one made of this key's bits.
    """
    data = jax.random.bits(key, (2,), jnp.uint32)
    threefry = jax.random.wrap_key_data(data, impl="threefry2x32")
    return jax.random.poisson(threefry, rate, dtype=jnp.int32)
