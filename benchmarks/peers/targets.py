"""The energies that the continuous benchmarks sample, for JAX's and PyTorch's arrays alike.

Each takes x with any axes before the last, and keeps those axes.
"""

from typing import Any

import numpy as np


def double_well(x: Any) -> Any:
    """2 sum_i (x_i^2 - 1)^2: torchebm's `DoubleWellModel` as it comes."""
    return 2 * ((x**2 - 1) ** 2).sum(-1)


def precision(dimension: int, condition: float) -> np.ndarray:
    """The inverse covariance of a Gaussian with no axis in line with a coordinate.

    The variances along its axes run from 1 / `condition` to 1, evenly in their logarithms.
    """
    generator = np.random.default_rng(0)
    axes = np.linalg.qr(generator.normal(size=(dimension, dimension)))[0]
    return (axes * np.geomspace(1, condition, dimension)) @ axes.T


def gaussian(x: Any, inverse: Any) -> Any:
    """x . (inverse x) / 2."""
    return 0.5 * ((x @ inverse) * x).sum(-1)


def funnel(x: Any, exp: Any) -> Any:
    """Neal's funnel: v = x_0 from N(0, 3^2), the others from N(0, exp(v)).

    `exp` is the exponential of the library whose array x is.
    """
    v, rest = x[..., 0], x[..., 1:]
    return v**2 / 18 + 0.5 * (exp(-v) * (rest**2).sum(-1) + rest.shape[-1] * v)
