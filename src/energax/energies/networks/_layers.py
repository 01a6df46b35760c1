"""What networks for energies are made of: weights, and a bound on how much they stretch."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from energax.random import is_number
from energax.spaces import float_dtype

Activation = Literal["silu", "softplus", "gelu", "tanh"]


@jax.custom_jvp
def _silu_of_twice(h: Array) -> Array:
    wide = _wide(h)  # in bfloat16 the two terms would cancel
    return (wide + wide * jnp.tanh(wide)).astype(h.dtype)


@_silu_of_twice.defjvp
def _silu_along(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (h,), (along,) = primals, tangents
    wide, wide_along = _wide(h), _wide(along)
    bent = jnp.tanh(wide)
    slope = wide * wide_along
    tangent = wide_along + wide_along * bent + slope - slope * bent * bent
    return (wide + wide * bent).astype(h.dtype), tangent.astype(along.dtype)


def _wide(a: Array) -> Array:
    return a.astype(jnp.float32) if a.dtype == jnp.bfloat16 else a


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "silu": _silu_of_twice,
    "softplus": lambda h: jax.nn.softplus(2 * h),
    "gelu": lambda h: jax.nn.gelu(2 * h),
    "tanh": lambda h: jnp.tanh(2 * h),
}
"""phi(2 h) of each activation phi: networks carry halves.

For silu(2 h) = h + h tanh(h) has no constant in it, nor has its derivative as it is written here.
With one, XLA's code for a CPU is several times slower (jaxlib 0.10). Smooth ones only: chains
and score matching follow the gradient of what a network returns, and a rectifier's jumps."""

_DOUBLINGS = 5
"""Squarings of the Gram matrix in `spectral_bound`: at rank 100 the bound is at most 4% above."""


def check_activation(name: str) -> None:
    """Raise `ValueError` unless there is an activation of this name."""
    if name not in ACTIVATIONS:
        known = ", ".join(f'"{each}"' for each in ACTIVATIONS)
        raise ValueError(f"activation must be one of {known}, got {name!r}")


def weight(key: Key[Array, ""], n_in: int, n_out: int, gain: float = 1.0) -> Float[Array, "in out"]:
    """Normal weights of variance gain^2 / n_in: inputs of unit variance keep it."""
    return gain / math.sqrt(n_in) * jax.random.normal(key, (n_in, n_out), float_dtype())


def spectral_bound(matrix: Float[Array, "in out"]) -> Float[Array, ""]:
    r"""An upper bound on the largest singular value, differentiable and without a start to choose.

    With G the smaller Gram matrix, $\|W\|_2 \le \|G^{2^k}\|_F^{2^{-(k+1)}}$, which falls to the
    norm itself as k grows. Powers are rescaled on the way, so that nothing overflows.

    Source: B. Delattre et al., "Efficient bound of Lipschitz constant for convolutional layers by
    Gram iteration" (2023), theorem 1.
    """
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    tiny = jnp.finfo(gram.dtype).tiny
    log_scale = jnp.zeros((), gram.dtype)
    for _ in range(_DOUBLINGS):
        size = jnp.sqrt(jnp.sum(gram * gram) + tiny)
        gram = gram / size
        log_scale = 2 * (log_scale + jnp.log(size))
        gram = gram @ gram
    size = jnp.sqrt(jnp.sum(gram * gram) + tiny)
    return jnp.exp((log_scale + jnp.log(size)) / 2 ** (_DOUBLINGS + 1))


def limited(matrix: Float[Array, "in out"], most: float | None) -> Float[Array, "in out"]:
    """The matrix, shrunk so that it stretches no vector by more than `most`; as it is if `None`."""
    if most is None:
        return matrix
    return matrix * jnp.minimum(1.0, most / spectral_bound(matrix)).astype(matrix.dtype)


def check_limit(lipschitz: float | int | None) -> float | None:
    """The bound as Python's float, or `ValueError` unless it is positive."""
    if lipschitz is None:
        return None
    if not is_number(lipschitz) or not 0 < lipschitz < math.inf:
        raise ValueError(f"lipschitz must be a positive number or None, got {lipschitz!r}")
    return float(lipschitz)
