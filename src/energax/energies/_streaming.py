"""Sums of exponentials over too many states to hold, block by block."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from energax.energies._summing import pairwise_sum

LARGEST = 2**32
"""How many states 32 bits number."""


def log_sum_exp(
    log_value: Callable[[Array], Float[Array, ""]], n_states: int, *, block: int
) -> Float[Array, ""]:
    """log sum_i exp(log_value(i)) for i from 0 to `n_states` - 1.

    One block of states is held at a time; the running sum is kept with its largest term taken
    out and its rounding error carried along, so a float32 sum of millions of terms loses
    nothing. Differentiable: the backward pass walks the blocks again.

    **Arguments:**

    - `log_value`: of a state's number (uint32, shape `()`).
    - `n_states`: at most 2^32.
    - `block`: how many states at a time.
    """
    block = min(block, n_states)
    n_blocks = -(-n_states // block)
    lane = jnp.arange(block, dtype=jnp.uint32)

    @jax.checkpoint
    def one_block(start: Array, valid: Array) -> tuple[Array, Array]:
        values = jax.vmap(log_value)(start + lane)
        values = jnp.where(lane < valid, values, -jnp.inf)
        top = lax.stop_gradient(jnp.max(values))
        # A block without any state of p > 0 has top = -inf: it must not touch the running maximum.
        return top, pairwise_sum(jnp.exp(values - _finite(top)))

    def step(carry, index):
        largest, total, error = carry
        start = index * jnp.asarray(block, jnp.uint32)
        valid = jnp.minimum(jnp.asarray(n_states - 1, jnp.uint32) - start, block - 1) + 1
        top, part = one_block(start, valid)
        new = jnp.maximum(largest, top)
        shrink = jnp.exp(largest - _finite(new))
        total, error = total * shrink, error * shrink
        part = part * jnp.exp(top - _finite(new))
        raised = total + part  # Neumaier's compensated addition
        bigger = jnp.abs(total) >= jnp.abs(part)
        lost = jnp.where(bigger, (total - raised) + part, (part - raised) + total)
        return (new, raised, error + lost), None

    like = jax.eval_shape(log_value, jax.ShapeDtypeStruct((), jnp.uint32)).dtype
    zero = jnp.zeros((), like)
    first = one_block(jnp.zeros((), jnp.uint32), jnp.asarray(min(block, n_states), jnp.uint32))
    start = (first[0], first[1], zero)
    if n_blocks > 1:
        start, _ = lax.scan(step, start, jnp.arange(1, n_blocks, dtype=jnp.uint32))
    largest, total, error = start
    return _finite(largest) + jnp.log(total + error)


def _finite(top: Array) -> Array:
    return jnp.where(jnp.isfinite(top), top, 0.0)
