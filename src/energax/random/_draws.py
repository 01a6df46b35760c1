"""Draws that need more care than `jax.random` takes, or that it refuses to our keys."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int, Key, UInt32


def bernoulli(key: Key[Array, ""], probability: Float[Array, "*shape"]) -> Bool[Array, "*shape"]:
    """True with the given probabilities, independently.

    A uniform number is a multiple of its dtype's spacing, so `uniform < p` is true at least once
    in 2^23 draws even for p = 1e-30 (float32). Here it counts as the middle of its interval:
    probabilities are met to 2^-24, from both sides, and those below that are 0.
    """
    uniform = jax.random.uniform(key, probability.shape, probability.dtype)
    return uniform < probability - jnp.finfo(probability.dtype).eps / 2


class Choices(NamedTuple):
    """What is known of a categorical distribution once its logits have been gone through."""

    top: Float[Array, "*batch 1"]
    """The largest logit."""
    sums: Float[Array, "*batch blocks"]
    """Sums of exp(logits - top) over blocks of neighbouring choices."""

    @property
    def log_normaliser(self) -> Float[Array, "*batch"]:
        """log sum exp(logits)."""
        return self.top[..., 0] + jnp.log(jnp.sum(self.sums, -1))


def choices(logits: Float[Array, "*batch choices"]) -> Choices:
    """What `choose` needs of logits, in one pass over them."""
    top = jnp.max(logits, -1, keepdims=True)
    sums = jnp.sum(_in_blocks(jnp.exp(logits - top)), -1)
    return Choices(top, sums)


def categorical(
    key: Key[Array, ""], logits: Float[Array, "*batch choices"]
) -> Int[Array, "*batch"]:
    """Indices along the last axis, each with probability softmax(logits), independently.

    One uniform number a draw is compared with the cumulative probabilities, which are met to about
    2^-24 (float32); what has probability 0, a logit of `-inf`, is never drawn. `jax.random` would
    draw a Gumbel number for each choice. Where nothing has a probability (a NaN or `+inf` among the
    logits, or all of them `-inf`) the index is 0.
    """
    return choose(key, logits, choices(logits))


def choose(
    key: Key[Array, ""], logits: Float[Array, "*batch choices"], made: Choices
) -> Int[Array, "*batch"]:
    """As `categorical`, of logits that were gone through before: `made = choices(logits)`."""
    *batch, n = logits.shape
    uniform = jax.random.uniform(key, (*batch, 1), logits.dtype)
    if n <= _FEW:
        weights = jnp.exp(logits - made.top)
        sums = _running_sums(weights)
        return _first_above(uniform, sums, jnp.max(sums, -1, keepdims=True), weights)
    # Of many choices, first a block of them and then one in it: sqrt(n) sums twice, not n.
    sums = _running_sums(made.sums)
    total = jnp.max(sums, -1, keepdims=True)
    block = _first_above(uniform, sums, total, made.sums)[..., None]
    blocks = _in_blocks(logits, -jnp.inf)
    within = jnp.take_along_axis(blocks, block[..., None], -2)[..., 0, :]
    within = jnp.exp(within - made.top)
    before = jnp.take_along_axis(sums - made.sums, block, -1)
    index = _first_above(uniform, before + _running_sums(within), total, within)
    return jnp.where(total[..., 0] > 0, block[..., 0] * within.shape[-1] + index, 0)


def _in_blocks(a: Array, filling: float = 0.0) -> Float[Array, "*batch blocks width"]:
    """The last axis in about as many blocks as each has entries."""
    *batch, n = a.shape
    width = math.isqrt(n - 1) + 1
    rows = -(-n // width)
    padding = [(0, 0)] * len(batch) + [(0, rows * width - n)]
    return jnp.pad(a, padding, constant_values=filling).reshape(*batch, rows, width)


_FEW = 32
"""So many choices are drawn from in one go."""


def _running_sums(weights: Float[Array, "*batch n"]) -> Float[Array, "*batch n"]:
    """`cumsum`, of which XLA makes a slow loop on a CPU: here a product."""
    upto = jnp.triu(jnp.ones((weights.shape[-1],) * 2, weights.dtype))
    return jnp.matmul(weights, upto, precision="highest")


def _first_above(uniform: Any, sums: Array, total: Array, weights: Array) -> Int[Array, "*batch"]:
    """The first choice that has weight and whose running sum is above the uniform share."""
    possible = weights > 0
    # A uniform number counts as the middle of its interval, as in `bernoulli`.
    above = (uniform < sums / total - jnp.finfo(sums.dtype).eps / 2) & possible
    # Rounding may leave the last of a block's sums below the number: then it is the last one.
    last = possible.shape[-1] - 1 - jnp.argmax(jnp.flip(possible, -1), -1)
    last = jnp.where(jnp.any(possible, -1), last, 0)
    return jnp.where(jnp.any(above, -1), jnp.argmax(above, -1), last)


def normal(
    key: Key[Array, ""], shape: tuple[int, ...] = (), dtype: Any = float
) -> Float[Array, "..."]:
    """Numbers from N(0, 1), independently, of the given shape; of JAX's default floats unless
    another `dtype` is given.

    In float32 at some 55% of what `jax.random.normal` costs on a CPU (`benchmarks/random_rate.py`),
    and out to 6.3 where that ends at 5.4: 31 bits pick a quantile, met to 2e-6, and one the sign.
    Other dtypes are left to JAX.

    The variable that the quantile is a function of is that of M. Giles, "Approximating the erfinv
    function" (2010).
    """
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    if dtype != jnp.float32:
        return jax.random.normal(key, shape, dtype)
    return normal_quantile(jax.random.bits(key, shape, jnp.uint32))


@jax.jit
def normal_quantile(bits: UInt32[Array, "*shape"]) -> Float32[Array, "*shape"]:
    """What `normal` makes of 32 bits: the lowest is the sign."""
    magnitude = lax.bitcast_convert_type(lax.shift_right_logical(bits, _like(bits, 1)), jnp.int32)
    p = (magnitude.astype(jnp.float32) + 0.5) * 2.0**-32  # in (0, 1/2], the middle of its interval
    w = _minus_log(4 * p * (1 - p))
    z = (1 - 2 * p) * (_polynomial(_ABOVE, w) / _polynomial(_BELOW, w))
    sign = lax.shift_left(bits, _like(bits, 31))
    return lax.bitcast_convert_type(lax.bitcast_convert_type(z, jnp.uint32) ^ sign, jnp.float32)


_ABOVE = (1.25331665, 0.465369244, 9.41891127e-2, 1.26945982e-2, 1.12261988e-3, 2.95623929e-5)
_BELOW = (1.0, 0.109528792, 3.34037504e-2, 2.63535919e-3, 1.79194639e-4, 9.84897671e-7)
"""The normal quantile over 1 - 2p is a ratio of these polynomials in -log 4p(1-p), from the middle
out to p = 2^-33: a minimax fit to 4e-7. No square root and no second branch for the tails."""

_LOG = (
    0.999999814,
    -0.500006674,
    0.333361819,
    -0.249593435,
    0.198730486,
    -0.173334715,
    0.164199755,
    -0.101022005,
)
"""log(1 + t) over t for 1 + t from sqrt(1/2) to sqrt(2): a minimax fit, the logarithm to 4e-8."""


def _minus_log(x: Array) -> Array:
    """-log of normal float32 numbers, with none of the care that others need."""
    bits = lax.bitcast_convert_type(x, jnp.int32)
    exponent = lax.shift_right_arithmetic(bits - 0x3F3504F3, _like(bits, 23))
    mantissa = bits - lax.shift_left(exponent, _like(bits, 23))
    t = lax.bitcast_convert_type(mantissa, jnp.float32) - 1
    return exponent.astype(jnp.float32) * -math.log(2) - t * _polynomial(_LOG, t)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    value = jnp.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        value = value * x + c
    return value


def _like(x: Array, value: int) -> Array:
    return lax.full_like(x, value)


def poisson(key: Key[Array, ""], rate: Float[Array, "*shape"]) -> Int[Array, "*shape"]:
    """Poisson counts with the given means, independently.

    `jax.random.poisson` is written for threefry keys alone: it gets one made of this key's bits.
    """
    data = jax.random.bits(key, (2,), jnp.uint32)
    threefry = jax.random.wrap_key_data(data, impl="threefry2x32")
    return jax.random.poisson(threefry, rate, dtype=jnp.int32)
