"""The best estimate of several partition functions from draws at each of them."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

_MOST_STEPS = 100


@dataclass(frozen=True, eq=False)
class Multistate:
    """log Z of several states relative to the first, and what each source of draws says of it."""

    log_z: np.ndarray
    """log (Z_k / Z_0), shape (states,)."""
    influence: np.ndarray
    """How much each source moves log_z, shape (sources, states): independent, of mean 0."""

    @property
    def std_error(self) -> np.ndarray:
        """Standard errors, shape (states,)."""
        n = len(self.influence)
        return np.sqrt((self.influence**2).sum(0) * n / max(n - 1, 1))


def multistate(
    log_ratios: Float[np.ndarray, "draws states"],
    counts: Int[np.ndarray, " states"],
    sources: Int[np.ndarray, " draws"],
) -> Multistate:
    """Solve, for log Z with log Z_0 = 0,

        Z_k = sum over draws n of q_k(x_n) / sum over states l of N_l q_l(x_n) / Z_l

    by Newton's method on the convex function whose gradient this is. With two states it is
    Bennett's acceptance ratio, with the end points of annealing its form for paths (Crooks).

    **Arguments:**

    - `log_ratios`: log q_k of each draw, up to a constant of that draw's own; state by state.
    - `counts`: N, draws of each state.
    - `sources`: the number of the chain that made a draw: chains are independent, their draws
      are not. Errors are those of the sources' contributions.

    Source: M. Shirts and J. Chodera, "Statistically optimal analysis of samples from multiple
    equilibrium states" (2008), equation 11; C. Bennett, "Efficient estimation of free energy
    differences from Monte Carlo data" (1976).
    """
    log_ratios = np.asarray(log_ratios, np.float64)
    counts = np.asarray(counts, np.float64)
    n_states = len(counts)
    log_z = _first_guess(log_ratios, counts)
    value, share = _objective(log_ratios, counts, log_z)
    hessian = _hessian(share)
    for _ in range(_MOST_STEPS):
        step = np.zeros(n_states)
        gradient = counts - share.sum(0)
        step[1:] = np.linalg.lstsq(hessian[1:, 1:], gradient[1:], rcond=None)[0]
        size = 1.0
        while True:  # a full step may overshoot where states hardly overlap
            proposed = log_z - size * step
            new_value, new_share = _objective(log_ratios, counts, proposed)
            if new_value <= value + 1e-12 * abs(value) or size < 1e-6:
                break
            size /= 2
        log_z, value, share = proposed, new_value, new_share
        hessian = _hessian(share)
        if np.abs(size * step).max() < 1e-11:
            break
    # A draw's share less the mean share of its state's draws: how many each state has is no chance.
    state = np.repeat(np.arange(n_states), counts.astype(int))
    means = np.stack([share[state == k].mean(0) for k in range(n_states)])
    by_source = np.zeros((int(sources.max()) + 1, n_states))
    np.add.at(by_source, sources, share - means[state])
    influence = np.zeros_like(by_source)
    influence[:, 1:] = np.linalg.lstsq(hessian[1:, 1:], by_source[:, 1:].T, rcond=None)[0].T
    return Multistate(log_z, influence)


def _objective(
    log_ratios: np.ndarray, counts: np.ndarray, log_z: np.ndarray
) -> tuple[float, np.ndarray]:
    """The convex function, and the share each state has in each draw."""
    with np.errstate(divide="ignore"):
        logits = log_ratios + np.log(counts) - log_z
    top = logits.max(1, keepdims=True)
    each = np.exp(logits - top)
    total = each.sum(1, keepdims=True)
    value = float((top + np.log(total)).sum() + counts @ log_z)
    return value, each / total


def _hessian(share: np.ndarray) -> np.ndarray:
    return np.diag(share.sum(0)) - share.T @ share


def _first_guess(log_ratios: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """From each state to the next by importance sampling both ways, averaged."""
    ends = np.concatenate([[0], np.cumsum(counts.astype(int))])
    log_z = np.zeros(len(counts))
    for k in range(len(counts) - 1):
        up = log_ratios[ends[k] : ends[k + 1]]
        down = log_ratios[ends[k + 1] : ends[k + 2]]
        with np.errstate(divide="ignore", invalid="ignore"):
            there = _log_mean(up[:, k + 1] - up[:, k])
            back = -_log_mean(down[:, k] - down[:, k + 1])
        both = [v for v in (there, back) if np.isfinite(v)]
        log_z[k + 1] = log_z[k] + (sum(both) / len(both) if both else 0.0)
    return log_z


def _log_mean(values: np.ndarray) -> float:
    return float(np.logaddexp.reduce(values) - np.log(values.size))
