"""Sums of log(1 + exp(x)) over units, made for the inside of compiled loops."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_jvp
def sum_softplus(x: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
    """The sum over the last axis of log(1 + exp(x)), for any x, `-inf` (a unit left out) too.

    Written out, max(x, 0) + log(1 + exp(-|x|)): `jax.nn.softplus` takes several times as long on
    a CPU. The derivative is `jax.nn.sigmoid` and nothing else, so that a sampler's probabilities
    and a gradient are one computation to the compiler.
    """
    return jnp.sum(jnp.maximum(x, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(x))), -1)


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
