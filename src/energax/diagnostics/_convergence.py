"""R-hat, effective sample size and the error of a mean, from several chains."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from energax.random import as_count


@dataclass(frozen=True, eq=False)
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
    draws = _checked(draws)
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
        quantiles = np.quantile(flat[..., moving], [0.05, 0.95], axis=(0, 1))
        tail[moving] = np.fmin(*(_ess((split <= q).astype(float)) for q in quantiles))
    return Convergence(*(a.reshape(shape) for a in (rhat, bulk, tail, constant)))


def chance_rhat(
    n_chains: int, n_draws: int, n_coordinates: int = 1, *, alarm: float = 0.01
) -> float:
    """What the largest R-hat of independent draws stays below with probability 1 - `alarm`.

    Of M half chains of N independent normal draws each, N R-hat^2 - (N - 1) is F-distributed with
    M - 1 and M (N - 1) degrees of freedom; the bound is Bonferroni's over the coordinates, the
    bulk and the fold of each. A larger R-hat is not chance; a smaller one may be, even if it is
    above 1.01: of 10 draws in each of 100 chains and 64 coordinates the largest is 1.03 or so.
    Where a coordinate takes one of two values nearly always, few draws are further from normal:
    then up to one in eight is larger.

    **Arguments:**

    - `n_chains`, `n_draws`: chains before they are split, and draws a chain, at least 4.
    - `n_coordinates`: of how many the largest is taken.
    - `alarm`: how often chance may exceed the bound.

    **Raises:** `ValueError` for arguments out of range.

    ```python
    from energax.diagnostics import chance_rhat

    chance_rhat(100, 10, 64), chance_rhat(4, 1000, 64)
    ```

    Source: A. Gelman and D. Rubin, "Inference from iterative simulation using multiple sequences"
    (1992), from whose B and W it is made: B / W is that of an analysis of variance. Tests hold the
    bound against simulation.
    """
    from scipy.stats import f  # a second to import: only who needs it pays

    n_chains = as_count(n_chains, "n_chains")
    n_draws = as_count(n_draws, "n_draws", least=4)
    n_coordinates = as_count(n_coordinates, "n_coordinates")
    if not 0 < alarm < 1:
        raise ValueError(f"alarm must be a probability between 0 and 1, got {alarm}")
    n_halves, n = 2 * n_chains, n_draws // 2
    share = alarm / (2 * n_coordinates)
    return float(np.sqrt((n - 1 + f.isf(share, n_halves - 1, n_halves * (n - 1))) / n))


def mean_and_error(
    draws: Float[np.ndarray, "chain draw *shape"],
) -> tuple[np.ndarray, np.ndarray]:
    """The mean over all draws and its Monte Carlo standard error, each of shape `shape`.

    **Raises:** `ValueError` for fewer than 4 draws a chain or a non-finite value.
    """
    draws = _checked(draws)
    flat = draws.reshape(*draws.shape[:2], -1)
    ess = _ess(_split(flat))
    error = flat.std((0, 1), ddof=1) / np.sqrt(ess)
    error = np.where((flat == flat[:1, :1]).all((0, 1)), 0.0, error)
    return np.asarray(draws.mean((0, 1))), error.reshape(draws.shape[2:])


def _checked(draws: np.ndarray) -> np.ndarray:
    draws = np.asarray(draws, np.float64)
    if draws.ndim < 2 or draws.shape[0] < 1 or draws.shape[1] < 4:
        raise ValueError(f"draws need axes (chain, draw >= 4, *shape), got shape {draws.shape}")
    if not np.isfinite(draws).all():
        raise ValueError("draws hold values that are not finite")
    return draws


def _split(draws: np.ndarray) -> np.ndarray:
    """Each chain cut in halves, so that a drift within one counts as a difference of two."""
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _rank_normal(draws: np.ndarray) -> np.ndarray:
    total = draws.shape[0] * draws.shape[1]
    from scipy.special import ndtri
    from scipy.stats import rankdata  # a second to import: only who needs it pays

    ranks = rankdata(draws.reshape(total, -1), axis=0).reshape(draws.shape)
    return ndtri((ranks - 0.375) / (total + 0.25))


def _rhat(draws: np.ndarray) -> np.ndarray:
    n = draws.shape[1]
    within = draws.var(1, ddof=1).mean(0)
    between = draws.mean(1).var(0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.sqrt((n - 1) / n + between / within)
    # Chains that are each constant but not alike have within = 0: as far apart as can be. All
    # alike they say nothing, and 0 / 0 is NaN.
    return np.where((within == 0) & (between > 0), np.inf, value)


def _ess(draws: np.ndarray) -> np.ndarray:
    """Geyer's initial monotone sequence over all chains; capped at n log10(n) draws in all.

    Equations 10 to 13, with the autocovariances at lag t divided by n and not by n - t, and with
    the first even lag after the sequence added, as Stan does. A series of one value counts as
    independent draws.
    """
    n_chains, n, n_series = draws.shape
    total = n_chains * n
    if n < 2:
        return np.full(n_series, np.nan)
    centred = draws - draws.mean(1, keepdims=True)
    length = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(centred, length, axis=1)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, length, axis=1)[:, :n] / n
    within = covariance[:, 0].mean(0) * n / (n - 1)
    between = draws.mean(1).var(0, ddof=1) if n_chains > 1 else np.zeros(n_series)
    marginal = within * (n - 1) / n + between
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = 1 - (within - covariance.mean(0)) / marginal
    rho[0] = 1.0
    n_pairs = 1 + max(0, (n - 3) // 2)
    even, odd = rho[: 2 * n_pairs].reshape(n_pairs, 2, n_series).swapaxes(0, 1)
    pairs = even + odd
    # The pair that ends the sequence: the first that is not positive, or the last there is.
    ends = ~(pairs > 0)
    ends[-1] = True
    last = ends.argmax(0)
    monotone = np.minimum.accumulate(pairs, axis=0)
    inside = np.arange(n_pairs)[:, None] < last
    at_end = np.take_along_axis(np.stack([even, pairs]), last[None, None], axis=1)[:, 0]
    added = np.where((at_end[0] > 0) | (at_end[1] >= 0), at_end[0], 0.0)
    tau = -1 + 2 * np.where(inside, monotone, 0.0).sum(0) + added
    tau = np.maximum(tau, 1 / np.log10(total))
    constant = (draws == draws[:1, :1]).all((0, 1))
    return np.where(constant, float(total), np.where(marginal > 0, total / tau, np.nan))
