"""Sums of log(1 + exp(x)) over units, made for the inside of compiled loops."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_GROUP = 8
"""Terms under one logarithm: their product, at most 2^8, is far from overflow in any dtype."""


@jax.custom_jvp
def sum_softplus(x: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
    """The sum over the last axis of log(1 + exp(x)), for any x, `-inf` (a unit left out) too.

    log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), and the logarithms of eight terms are the
    logarithm of their product: an eighth of them, for an error of a few roundings of 1 a group,
    which is below that of the sum. The derivative is `jax.nn.sigmoid` and nothing else, so that a
    sampler's probabilities and a gradient are one computation to the compiler.
    """
    n = x.shape[-1]
    width = n // _GROUP
    total = jnp.zeros(x.shape[:-1], x.dtype)
    if width:
        # Slices and not a reshape: the compiler then works on whole vectors.
        parts = [x[..., i * width : (i + 1) * width] for i in range(_GROUP)]
        total = jnp.sum(_of_group(parts), -1)
    if n % _GROUP:
        total = total + jnp.sum(_of_group([x[..., _GROUP * width :]]), -1)
    return total


def _of_group(parts: list[Array]) -> Array:
    linear, product = jnp.zeros_like(parts[0]), jnp.ones_like(parts[0])
    for part in parts:
        linear = linear + jnp.maximum(part, 0.0)
        product = product * (1.0 + jnp.exp(-jnp.abs(part)))
    return linear + jnp.log(product)


@sum_softplus.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return sum_softplus(x), jnp.sum(jax.nn.sigmoid(x) * dx, -1)


def log_one_minus(share: Float[Array, "..."], t: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 - share (1 - exp(-t))) for `share` in [0, 1/2] and t >= 0, to a few roundings.

    With T = tanh(t / 2) it is 2 artanh(z), z = -share T / (1 + T - share T), and |z| <= 1/3,
    where artanh is a short power series: a third of the cost of `log1p` and `expm1`.
    """
    tanh = jnp.tanh(0.5 * t)
    z = -share * tanh / (1.0 + tanh - share * tanh)
    square = z * z
    # Terms until (1/9)^n / (2n + 1) is below the rounding of the dtype.
    n_terms = 7 if z.dtype.itemsize <= 4 else 17
    series = jnp.full_like(z, 1 / (2 * n_terms - 1))
    for n in range(n_terms - 2, -1, -1):
        series = series * square + 1 / (2 * n + 1)
    return 2.0 * z * series
