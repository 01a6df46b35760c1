"""The health of importance weights."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class WeightedMean:
    """The logarithm of the mean of exp(log_weights), and how far to trust it."""

    value: float
    """log of the mean weight."""
    std_error: float
    """Its standard error in nats, by the delta method."""
    lower: float
    """Lower end of the interval."""
    upper: float
    """Upper end of the interval."""
    ess: float
    """(sum w)^2 / sum w^2: how many equal weights these are worth."""
    largest: float
    """The largest weight's share of the sum."""


def log_mean_weight(log_weights: Float[np.ndarray, " n"], *, level: float = 0.95) -> WeightedMean:
    """log mean exp(log_weights), in float64, with an interval at `level`.

    The standard error is std(w) / (sqrt(n) mean(w)). The interval spans two. One is Student's t
    about the mean weight, taken to logarithms, so it is open (`-inf`) below where the mean is not
    known to be above zero. The other is Cox's for a log-normal mean, from the mean and variance of
    log w: where log weights spread by more than one, the largest weights have probably not been
    met yet, and the first alone ends too low. Weights with a heavier tail than the log-normal's
    are covered less often than `level` says.

    **Raises:** `ValueError` for fewer than two weights, NaN, no finite weight, or a level
    outside (0, 1).

    Source: the second interval is D. R. Cox's, in C. Land, "An evaluation of approximate
    confidence interval estimation methods for lognormal means" (1972).
    """
    check_level(level)
    log_weights = np.asarray(log_weights, np.float64)
    if log_weights.ndim != 1 or log_weights.size < 2:
        raise ValueError(f"log_weights must have shape (n >= 2,), got {log_weights.shape}")
    if np.isnan(log_weights).any() or not np.isfinite(log_weights.max()):
        raise ValueError("log_weights need finite values and no NaN")
    n = log_weights.size
    top = log_weights.max()
    total = top + np.log(np.exp(log_weights - top).sum())
    share = np.exp(log_weights - total)
    relative = float(n * share.std(ddof=1) / np.sqrt(n))
    value = float(total - np.log(n))
    from scipy.special import stdtrit  # takes a while to import: only who needs it pays

    quantile = float(stdtrit(n - 1, 0.5 + level / 2))
    reach = quantile * relative
    lower = value + np.log1p(-reach) if reach < 1 else -np.inf
    upper = value + np.log1p(reach)
    if np.isfinite(log_weights).all():
        variance = log_weights.var(ddof=1)
        centre = log_weights.mean() + variance / 2
        reach = quantile * np.sqrt(variance / n + variance**2 / (2 * (n - 1)))
        lower, upper = min(lower, centre - reach), max(upper, centre + reach)
    return WeightedMean(
        value=value,
        std_error=relative,
        lower=float(lower),
        upper=float(upper),
        ess=float(1 / np.sum(share**2)),
        largest=float(share.max()),
    )


def check_level(level: float) -> None:
    """Raise `ValueError` unless `level` is a coverage strictly between 0 and 1."""
    if not isinstance(level, int | float | np.floating) or not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level!r}")
