"""Coordinates between -1 and 1 for real states, bounded or not, and log densities at points."""

from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from energax.energies import AbstractEnergy
from energax.spaces import Box

_CALLS = (1 << 10, 1 << 15)
"""Points of one call: few and many, so that an energy is compiled twice at most."""


@eqx.filter_jit
def _log_densities(energy: AbstractEnergy, rows: jax.Array) -> jax.Array:
    shape = energy.space.structure.shape
    with jax.default_matmul_precision("highest"):
        return jax.vmap(lambda row: energy.log_density(row.reshape(shape)))(rows)


@dataclass
class LogDensity:
    """-E at rows of points in double precision, evaluated in the model's own; counts them.

    `bad` is a point where E was NaN or -inf.
    """

    energy: AbstractEnergy
    low: np.ndarray = field(init=False)
    high: np.ndarray = field(init=False)
    n_evaluations: int = 0
    bad: str = ""

    def __post_init__(self):
        space = self.energy.space
        self.dtype = np.dtype(space.structure.dtype)
        ends = (space.low, space.high) if isinstance(space, Box) else (-np.inf, np.inf)
        low, high = (np.broadcast_to(np.asarray(end, float), space.structure.shape) for end in ends)
        self.low, self.high = low.reshape(-1), high.reshape(-1)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Of points `x`, shape (n, dimensions); -inf outside the space."""
        found = np.empty(len(x))
        size = _CALLS[len(x) > 4 * _CALLS[0]]
        for start in range(0, len(x), size):
            with np.errstate(over="ignore"):
                rows = x[start : start + size].astype(self.dtype)
            padded = np.concatenate([rows, np.repeat(rows[:1], size - len(rows), 0)])
            values = np.asarray(_log_densities(self.energy, jnp.asarray(padded)), float)
            inside = np.isfinite(rows) & (rows >= self.low) & (rows <= self.high)
            here = np.where(inside.all(1), values[: len(rows)], -np.inf)
            wrong = np.isnan(here) | (here == np.inf)
            if wrong.any() and not self.bad:
                at = int(np.argmax(wrong))
                point = ", ".join(f"{number:.6g}" for number in rows[at])
                self.bad = f"E is {-here[at]:g} at x = [{point}]"
            found[start : start + size] = np.where(wrong, -np.inf, here)
        self.n_evaluations += len(x)
        return found


@dataclass(frozen=True)
class Coordinates:
    """Coordinates u in (-1, 1) of each entry of a state x, which reach infinity where x does.

    Between finite ends x is linear in u. With one end or none, x - centre is
    scale (1 + u) / (1 - u) from the end and scale u / (1 - u^2): what falls like a Cauchy density
    or faster stays bounded at the ends of u.
    """

    low: np.ndarray
    high: np.ndarray
    centre: np.ndarray
    scale: np.ndarray

    def points(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """x and log |dx / du|, summed over entries, of rows of coordinates."""
        x, log_slope = np.empty_like(u), np.zeros(len(u))
        for j in range(u.shape[1]):
            v, s = u[:, j], self.scale[j]
            below, above = np.isfinite(self.low[j]), np.isfinite(self.high[j])
            if below and above:
                half = (self.high[j] - self.low[j]) / 2
                x[:, j] = self.low[j] + half * (1 + v)
                log_slope += np.log(half)
            elif below or above:
                v = v if below else -v
                away = s * (1 + v) / (1 - v)
                x[:, j] = self.low[j] + away if below else self.high[j] - away
                log_slope += np.log(2 * s) - 2 * np.log1p(-v)
            else:
                rest = (1 - v) * (1 + v)
                x[:, j] = self.centre[j] + s * v / rest
                log_slope += np.log(s * (1 + v * v)) - 2 * np.log(rest)
        return x, log_slope

    def of_points(self, x: np.ndarray) -> np.ndarray:
        """The coordinates of points."""
        u = np.empty_like(x)
        for j in range(x.shape[1]):
            below, above = np.isfinite(self.low[j]), np.isfinite(self.high[j])
            if below and above:
                u[:, j] = 2 * (x[:, j] - self.low[j]) / (self.high[j] - self.low[j]) - 1
            elif below or above:
                away = (x[:, j] - self.low[j] if below else self.high[j] - x[:, j]) / self.scale[j]
                u[:, j] = (away - 1) / (away + 1) * (1 if below else -1)
            else:
                z = (x[:, j] - self.centre[j]) / self.scale[j]
                u[:, j] = 2 * z / (1 + np.sqrt(1 + 4 * z * z))
        return u
