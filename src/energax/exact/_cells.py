"""Cells of a cube: an integration rule on each, its error, and cells cut in two."""

import math
from functools import cache

import numpy as np
from numpy.polynomial.legendre import leggauss, legvander

_ADDED = (0.991455371120812639, 0.864864423359769073, 0.586087235467691130, 0.207784955007898468)
"""Kronrod's nodes between the seven of Gauss, those above 0 (Piessens and others, "QUADPACK",
1983, routine QK15)."""
_SMALLEST = 2.0**-44
"""Widths of cells go down to this, where double precision still tells the nodes apart."""


@cache
def rule() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """15 nodes in (-1, 1), Kronrod's weights, Kronrod's less Gauss's, values to coefficients."""
    gauss, gauss_weights = leggauss(7)
    nodes = np.sort(np.concatenate([gauss, _ADDED, np.negative(_ADDED)]))
    inverse = np.linalg.inv(legvander(nodes, 14))
    weights = 2 * inverse[0]
    difference = weights.copy()
    difference[np.searchsorted(nodes, gauss - 1e-9)] -= gauss_weights
    return nodes, weights, difference, inverse


class Cells:
    """A cube from -1 to 1, cut in two again and again along one axis or another.

    Rows of every array are cells, cut ones too: `low`, `width` (cells, dimensions), `level`
    (cells, nodes) is the log of the integrand at the nodes. Everything that is summed over a
    cell is divided by the exponential of its `top`, the largest of these: `total`, `errors`
    (cells, dimensions) by axis, and `rounding`.
    """

    def __init__(self, dimensions: int, capacity: int):
        self.dimensions, self.n_nodes = dimensions, 15**dimensions
        self.count = 0
        capacity = max(capacity, 1)
        self.low, self.width, self.errors = np.empty((3, capacity, dimensions))
        self.level = np.empty((capacity, self.n_nodes))
        self.top, self.total, self.rounding = np.empty((3, capacity))
        self.axis = np.full(capacity, -1, np.int8)
        self.child = np.zeros(capacity, np.int64)
        nodes, weights, difference, _ = rule()
        grids = np.meshgrid(*[(nodes + 1) / 2] * dimensions, indexing="ij")
        self.nodes = np.stack(grids, -1).reshape(-1, dimensions)
        self.weights = _product([weights / 2] * dimensions)
        self.differences = np.stack(
            [
                _product([difference / 2 if i == j else weights / 2 for i in range(dimensions)])
                for j in range(dimensions)
            ],
            -1,
        )

    @property
    def leaves(self) -> np.ndarray:
        """The cells that have not been cut."""
        return np.flatnonzero(self.axis[: self.count] < 0)

    def room(self) -> int:
        """How many more cells can be held."""
        return len(self.top) - self.count

    def coordinates(self, low: np.ndarray, width: np.ndarray) -> np.ndarray:
        """The nodes of cells, shape (cells * nodes, dimensions)."""
        at = low[:, None] + width[:, None] * self.nodes
        return at.reshape(-1, self.dimensions)

    def add(
        self,
        low: np.ndarray,
        width: np.ndarray,
        x: np.ndarray,
        log_p: np.ndarray,
        log_slope: np.ndarray,
        eps: float,
    ) -> None:
        """Cells, with points, log densities and log slopes at their nodes; `eps` of the model."""
        n, m = len(low), self.n_nodes
        new = slice(self.count, self.count + n)
        log_p = log_p.reshape(n, m)
        level = log_p + log_slope.reshape(n, m)
        top = level.max(1)
        value = np.exp(level - np.where(np.isfinite(top), top, 0.0)[:, None])
        volume = width.prod(1)
        self.low[new], self.width[new], self.level[new], self.top[new] = low, width, level, top
        self.total[new] = volume * (value @ self.weights)
        self.errors[new] = volume[:, None] * np.abs(value @ self.differences)
        # What the last bit of E changes, and that of x: it moves what is between two nodes by a
        # share of the cell.
        nats = np.where(value > 0, np.abs(log_p), 0.0)
        rounding = (value * nats) @ self.weights
        others = _product([rule()[1] / 2] * (self.dimensions - 1))
        for j in range(self.dimensions):
            grid = (n, 15**j, 15, 15 ** (self.dimensions - j - 1))
            changes = np.abs(np.diff(value.reshape(grid), axis=2)).sum(2)
            at = x[:, j].reshape(n, m)
            reach = np.maximum(at.max(1) - at.min(1), 1e-300)
            share = np.minimum(np.abs(at).max(1) / reach, 1 / eps)
            rounding += share * (changes.reshape(n, -1) @ others)
        self.rounding[new] = eps * volume * rounding
        self.count += n

    def cut(self, cells: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cut cells along axes; ends and widths of the halves, which are to be added next."""
        rows = np.arange(len(cells))
        width = self.width[cells].copy()
        width[rows, axis] /= 2
        upper = self.low[cells].copy()
        upper[rows, axis] += width[rows, axis]
        self.axis[cells] = axis
        self.child[cells] = self.count + 2 * rows
        low = np.stack([self.low[cells], upper], 1).reshape(-1, self.dimensions)
        return low, np.repeat(width, 2, 0)

    def longest(self, cells: np.ndarray) -> np.ndarray:
        """The axis along which each cell is longest."""
        return np.argmax(self.width[cells], 1)

    def worst(self, cells: np.ndarray) -> np.ndarray:
        """The axis of the largest error of each cell, of those along which it can be cut."""
        long_enough = self.width[cells] > _SMALLEST
        return np.argmax(np.where(long_enough, self.errors[cells], -1.0), 1)

    def can_be_cut(self, cells: np.ndarray) -> np.ndarray:
        """Whether double precision leaves room between a cell's nodes."""
        return np.asarray((self.width[cells] > _SMALLEST).any(1))

    def holding(self, u: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """The uncut cell that holds each of some coordinates, all of them inside of `cell`."""
        cell = cell.copy()
        moving = np.flatnonzero(self.axis[cell] >= 0)
        while moving.size:
            here = cell[moving]
            child = self.child[here]
            upper = u[moving, self.axis[here]] >= self.low[child + 1, self.axis[here]]
            cell[moving] = child + upper
            moving = moving[self.axis[cell[moving]] >= 0]
        return cell

    def interpolated(self, cell: int, u: np.ndarray) -> np.ndarray:
        """The integrand at points of a cell, divided by exp(top), by a polynomial."""
        _, _, _, inverse = rule()
        local = 2 * (u - self.low[cell]) / self.width[cell] - 1
        top = self.top[cell]
        value = np.exp(self.level[cell] - (top if np.isfinite(top) else 0.0))
        value = (legvander(local[:, 0], 14) @ inverse) @ value.reshape(15, -1)
        for j in range(1, self.dimensions):
            basis = legvander(local[:, j], 14) @ inverse
            value = np.matmul(basis[:, None], value.reshape(len(u), 15, -1))[:, 0]
        return value[:, 0]


def _product(factors: list[np.ndarray]) -> np.ndarray:
    """Products of an entry of each, in C order."""
    result = np.ones(1)
    for factor in factors:
        result = np.multiply.outer(result, factor).reshape(math.prod((len(result), len(factor))))
    return result
