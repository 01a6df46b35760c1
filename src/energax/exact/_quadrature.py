"""log Z of a continuous energy in few dimensions, on a grid."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from energax.energies import AbstractEnergy
from energax.energies._streaming import LARGEST, log_sum_exp
from energax.random import as_count
from energax.spaces import Box, Numbers, Real


def log_partition_on_grid(
    energy: AbstractEnergy,
    *,
    n_points: int,
    low: Numbers | None = None,
    high: Numbers | None = None,
    block: int = 1 << 14,
) -> Float[Array, ""]:
    """log of the integral of exp(-E) by the midpoint rule, `n_points` a dimension.

    For a smooth density that vanishes at the ends the rule converges faster than any power of
    the spacing. The cost is `n_points ** dimensions` evaluations, which is why it ends at three
    or four dimensions (see docs/explanation/why_z_is_hard.md).

    **Arguments:**

    - `energy`: over `Real` or `Box`.
    - `low`, `high`: the grid's ends, scalars or of the state's shape; a `Box`'s own if `None`.

    **Raises:** `ValueError` for a discrete space, ends that are not finite, or over 2^32 points.
    """
    space = energy.space
    if not isinstance(space, Real | Box):
        raise ValueError(f"quadrature needs a Real or Box space, got {space}")
    if isinstance(space, Box):
        low = space.low if low is None else low
        high = space.high if high is None else high
    if low is None or high is None:
        raise ValueError("low and high are needed: a Real space has no ends of its own")
    dtype = space.structure.dtype
    try:
        low_end = np.broadcast_to(np.asarray(low, dtype), space.shape)
        high_end = np.broadcast_to(np.asarray(high, dtype), space.shape)
    except (TypeError, ValueError):
        raise ValueError(
            f"low and high must be numbers that broadcast to {space.shape}, got {low!r}, {high!r}"
        ) from None
    if not (np.isfinite(low_end) & np.isfinite(high_end) & (low_end < high_end)).all():
        raise ValueError(f"low and high must be finite with low < high, got {low} and {high}")
    dimensions = math.prod(space.shape)
    n_points = as_count(n_points, "n_points")
    if block < 1:
        raise ValueError(f"block must be a positive number of points, got {block}")
    if n_points**dimensions > LARGEST:
        raise ValueError(
            f"{n_points} points in each of {dimensions} dimensions are"
            f" {float(n_points) ** dimensions:.3g} evaluations; the limit is 2^32"
        )
    return _grid(energy, jnp.asarray(low_end), jnp.asarray(high_end), n_points, block)


@eqx.filter_jit
def _grid(energy, low, high, n_points: int, block: int):
    shape = low.shape
    dimensions = math.prod(shape)
    width = (high - low) / n_points

    def log_value(index: Array) -> Array:
        steps = []
        for _ in range(dimensions):
            index, digit = index // n_points, index % n_points
            steps.append(digit)
        position = jnp.stack(steps).reshape(shape) if steps else jnp.zeros(shape)
        return energy.log_density(low + (position.astype(low.dtype) + 0.5) * width)

    log_cell = jnp.sum(jnp.log(width))
    with jax.default_matmul_precision("highest"):
        return log_cell + log_sum_exp(log_value, n_points**dimensions, block=block)
