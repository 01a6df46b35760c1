"""log(1 + exp(x)), made for sums over hidden units inside compiled loops."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_jvp
def softplus(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """log(1 + exp(x)) to one rounding of its largest term, for any x.

    Its absolute error is that of rounding 1 + exp(-|x|), far below the rounding of the sum it
    goes into, at half the cost of a version accurate for tiny results as well. The derivative is
    `jax.nn.sigmoid` and nothing else, so that a sampler's probabilities and a gradient are one
    computation to the compiler.
    """
    return jnp.maximum(x, 0.0) + jnp.log(1.0 + jnp.exp(-jnp.abs(x)))


@softplus.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return softplus(x), jax.nn.sigmoid(x) * dx


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
