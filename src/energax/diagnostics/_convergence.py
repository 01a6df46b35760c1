"""R-hat, effective sample size and the error of a mean, from several chains."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.fft import next_fast_len
from scipy.special import ndtri
from scipy.stats import rankdata


@dataclass(frozen=True)
class Convergence:
    """Diagnostics of draws with axes (chain, draw, *shape); every array has shape `shape`."""

    rhat: np.ndarray
    """Rank-normalised split R-hat, the larger of bulk and folded; NaN where a coordinate never
    moved."""
    ess_bulk: np.ndarray
    """Effective number of draws for the centre of the distribution."""
    ess_tail: np.ndarray
    """Effective number of draws for its 5% and 95% quantiles, the smaller."""
    constant: np.ndarray
    """Where a coordinate had one value in every draw of every chain."""


def convergence(draws: Float[np.ndarray, "chain draw *shape"]) -> Convergence:
    """Rank-normalised split R-hat and effective sample sizes.

    A coordinate that is constant over all chains gets R-hat NaN and is marked: it is not known
    to have converged, and not known to have failed.

    **Arguments:**

    - `draws`: at least 4 draws a chain.

    **Raises:** `ValueError` for fewer draws or a non-finite value.

    Source: A. Vehtari, A. Gelman, D. Simpson, B. Carpenter, P.-C. Buerkner, "Rank-normalization,
    folding, and localization: an improved R-hat" (2021), equations 4 to 13.
    """
    draws = np.asarray(draws, np.float64)
    if draws.ndim < 2 or draws.shape[1] < 4:
        raise ValueError(f"draws need axes (chain, draw >= 4, *shape), got shape {draws.shape}")
    if not np.isfinite(draws).all():
        raise ValueError("draws hold values that are not finite")
    shape = draws.shape[2:]
    flat = draws.reshape(*draws.shape[:2], -1)
    constant = (flat == flat[:1, :1]).all((0, 1))
    rhat = np.full(flat.shape[2], np.nan)
    bulk, tail = np.full_like(rhat, np.nan), np.full_like(rhat, np.nan)
    moving = ~constant
    if moving.any():
        split = _split(flat[..., moving])
        normal = _rank_normal(split)
        folded = _rank_normal(np.abs(split - np.median(split, (0, 1))))
        rhat[moving] = np.fmax(_rhat(normal), _rhat(folded))
        bulk[moving] = _ess(normal)
        quantiles = np.quantile(split, [0.05, 0.95], axis=(0, 1))
        tail[moving] = np.fmin(*(_ess((split <= q).astype(float)) for q in quantiles))
    return Convergence(*(a.reshape(shape) for a in (rhat, bulk, tail, constant)))


def mean_and_error(
    draws: Float[np.ndarray, "chain draw *shape"],
) -> tuple[np.ndarray, np.ndarray]:
    """The mean over all draws and its Monte Carlo standard error, each of shape `shape`."""
    draws = np.asarray(draws, np.float64)
    flat = draws.reshape(*draws.shape[:2], -1)
    ess = _ess(_split(flat))
    error = flat.std((0, 1), ddof=1) / np.sqrt(ess)
    error = np.where(flat.std((0, 1)) == 0, 0.0, error)
    return draws.mean((0, 1)), error.reshape(draws.shape[2:])


def _split(draws: np.ndarray) -> np.ndarray:
    """Each chain cut in halves, so that a drift within one counts as a difference of two."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _rank_normal(draws: np.ndarray) -> np.ndarray:
    total = draws.shape[0] * draws.shape[1]
    ranks = rankdata(draws.reshape(total, -1), axis=0).reshape(draws.shape)
    return ndtri((ranks - 0.375) / (total + 0.25))


def _rhat(draws: np.ndarray) -> np.ndarray:
    n = draws.shape[1]
    within = draws.var(1, ddof=1).mean(0)
    between = draws.mean(1).var(0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.sqrt((n - 1) / n + between / within)
    # Chains that are each constant but not alike have within = 0: as far apart as can be.
    return np.where(within == 0, np.where(between == 0, 1.0, np.inf), value)


def _ess(draws: np.ndarray) -> np.ndarray:
    """Geyer's initial monotone sequence over all chains; capped at n log10(n) draws in all."""
    n_chains, n, n_series = draws.shape
    total = n_chains * n
    if n < 2:
        return np.full(n_series, np.nan)
    centred = draws - draws.mean(1, keepdims=True)
    length = next_fast_len(2 * n, real=True)
    spectrum = np.fft.rfft(centred, length, axis=1)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, length, axis=1)[:, :n] / n
    within = covariance[:, 0].mean(0) * n / (n - 1)
    between = draws.mean(1).var(0, ddof=1) if n_chains > 1 else np.zeros(n_series)
    marginal = within * (n - 1) / n + between
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = 1 - (within - covariance.mean(0) * n / (n - 1)) / marginal
    rho[0] = 1.0
    pairs = rho[: n // 2 * 2].reshape(n // 2, 2, n_series).sum(1)
    positive = np.cumprod(pairs > 0, axis=0).astype(bool)
    pairs = np.minimum.accumulate(np.where(positive, pairs, np.inf), axis=0)
    tau = -1 + 2 * np.where(positive, pairs, 0.0).sum(0)
    tau = np.maximum(tau, 1 / np.log10(max(total, 10)))
    return np.where(marginal > 0, total / tau, np.nan)
