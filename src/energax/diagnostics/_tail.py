"""How heavy the tail of importance weights is."""

import numpy as np
from jaxtyping import Float

_PRIOR_WEIGHT, _PRIOR_SHAPE = 10, 0.5
"""The fitted shape is averaged with 0.5 as if ten more weights had said so."""

_FEWEST_VALUES = 5
"""Weights of fewer different values have no tail that a continuous distribution describes."""


def pareto_k(log_weights: Float[np.ndarray, " n"]) -> float:
    """k-hat: the shape of the generalised Pareto distribution of the largest weights.

    1/k is how many moments the weights have: above 0.5 their variance is infinite, above 0.7 no
    practical number of them gives a dependable mean. The largest min(n / 5, 3 sqrt n) are looked
    at. Weights of a few values only have no tail, and `-inf` is returned.

    **Arguments:**

    - `log_weights`: at least 25; `-inf` counts as a weight of zero.

    **Raises:** `ValueError` for fewer weights, NaN, or none that is finite.

    ```python
    import numpy as np
    from energax.diagnostics import pareto_k

    pareto_k(np.random.default_rng(0).normal(size=1000))
    ```

    Source: A. Vehtari, D. Simpson, A. Gelman, Y. Yao and J. Gabry, "Pareto smoothed importance
    sampling" (2024); the fit is J. Zhang's and M. Stephens', "A new and efficient estimation
    method for the generalized Pareto distribution" (2009).
    """
    log_weights = np.asarray(log_weights, np.float64)
    if log_weights.ndim != 1 or log_weights.size < 25:
        raise ValueError(f"log_weights must have shape (n >= 25,), got {log_weights.shape}")
    if np.isnan(log_weights).any() or not np.isfinite(log_weights.max()):
        raise ValueError("log_weights need finite values and no NaN")
    n = log_weights.size
    n_tail = int(np.ceil(min(n / 5, 3 * np.sqrt(n))))
    ordered = np.sort(log_weights)
    weights = np.exp(ordered - ordered[-1])
    excess = weights[-n_tail:] - weights[-n_tail - 1]
    excess = excess[excess > 0]
    if np.unique(excess).size < _FEWEST_VALUES:
        return -np.inf
    n_tail = excess.size
    shape = _pareto_shape(excess)
    return float((n_tail * shape + _PRIOR_WEIGHT * _PRIOR_SHAPE) / (n_tail + _PRIOR_WEIGHT))


def _pareto_shape(excess: np.ndarray) -> float:
    """k of positive excesses in increasing order: a mean over a grid, weighed by likelihood."""
    n = excess.size
    n_grid = 30 + int(np.sqrt(n))
    quartile = max(excess[int(n / 4 + 0.5) - 1], excess[-1] * 1e-12)
    spaced = np.sqrt(n_grid / (np.arange(1, n_grid + 1) - 0.5))
    theta = 1 / excess[-1] + (1 - spaced) / (3 * quartile)
    shapes = -np.log1p(-theta[:, None] * excess).mean(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_likelihood = n * (np.log(theta / shapes) + shapes - 1)
    log_likelihood = np.where(np.isfinite(log_likelihood), log_likelihood, -np.inf)
    weight = np.exp(log_likelihood - log_likelihood.max())
    best = float((weight * theta).sum() / weight.sum())
    return float(np.log1p(-best * excess).mean())
