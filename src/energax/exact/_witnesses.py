"""Points whose density is known, against which the cells of a quadrature are held."""

import math

import numpy as np

from energax.exact._cells import Cells
from energax.exact._coordinates import Coordinates

_BLOCK = 1 << 13
"""Points at which a polynomial is evaluated at one time."""


class Witnesses:
    """Coordinates of points, shape (points, dimensions), and the log of the integrand there."""

    def __init__(self, coordinates: Coordinates, x: np.ndarray, log_p: np.ndarray):
        known = np.isfinite(log_p)
        u = coordinates.of_points(x[known])
        known_inside = (np.abs(u) < 1).all(1)
        self.u = u[known_inside]
        _, log_slope = coordinates.points(self.u)
        self.level = log_p[known][known_inside] + log_slope
        self.cell = np.zeros(len(self.u), np.int64)
        self.n_checked = 0

    def missed(self, cells: Cells, log_z: float, limit: float) -> np.ndarray:
        """Cells whose polynomial is wrong at a point by more than `limit` of Z a cell.

        Those that were right when they were looked at before are not looked at again.
        """
        if not math.isfinite(log_z):
            return np.zeros(0, np.int64)
        self.cell = cells.holding(self.u, self.cell)
        log_volume = np.log(cells.width[: cells.count]).sum(1)
        # A point can be missed by no more than its density, times the volume of its cell.
        matters = (self.cell >= self.n_checked) & (
            self.level + log_volume[self.cell] > log_z + math.log(limit)
        )
        rows = np.flatnonzero(matters)
        rows = rows[np.argsort(self.cell[rows], kind="stable")]
        held, first = np.unique(self.cell[rows], return_index=True)
        wrong = []
        for cell, points in zip(held.tolist(), np.split(rows, first)[1:], strict=True):
            factor = np.exp(cells.top[cell] - log_z + log_volume[cell])
            for start in range(0, len(points), _BLOCK):
                some = points[start : start + _BLOCK]
                known = np.exp(self.level[some] - log_z + log_volume[cell])
                thought = cells.interpolated(cell, self.u[some]) * factor
                if (np.abs(known - thought) > limit).any():
                    wrong.append(cell)
                    break
        self.n_checked = cells.count
        return np.array(wrong, np.int64)
