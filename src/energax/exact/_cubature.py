"""log Z of a continuous energy in few dimensions, by cells that are cut where it matters.

`scipy.integrate.cubature` needs far fewer points for a plain density. It is not taken: it reports
an error below its tolerance where it has met no part of a narrow mode (benchmarks/quadrature.py),
it cuts one cell at a time, and SciPy before 1.15 lacks it.
"""

import math
from dataclasses import dataclass

import numpy as np

from energax.energies import AbstractEnergy, check_energy
from energax.exact._cells import Cells
from energax.exact._coordinates import Coordinates, LogDensity
from energax.exact._probing import found_mass
from energax.exact._witnesses import Witnesses
from energax.random import as_count
from energax.spaces import Box, Real

MOST_DIMENSIONS = 4
_FIRST_CELLS = {1: 4, 2: 4, 3: 4, 4: 2}
"""Cells an axis before the first error is looked at, by dimensions."""
_MOST_POINTS = 1 << 20
"""Points that are spread over the space; a sixteenth of them in one dimension."""
_WIDER = 4
"""How many times as wide as a cell that holds mass its neighbours may be."""
_LEAST_MASS = 0.01
"""Of the error that is allowed: cells that hold less ask nothing of their neighbours."""
_MOST_ERROR = 0.1
"""Relative errors from which an estimate of the error is no good itself."""


@dataclass(frozen=True)
class Quadrature:
    """log Z by quadrature, in nats, with its error."""

    value: float
    error: float
    """Estimated, rounding included; infinite where it is not known."""
    n_evaluations: int
    n_cells: int
    rounding: float
    """The part of the error that is the rounding of E and x in the model's own precision."""
    converged: bool
    """Whether the rest of the error is below the tolerance, or below what rounding does."""
    reason: str = ""
    """A sentence of advice where `converged` is false."""


def log_partition_quadrature(
    energy: AbstractEnergy, *, tolerance: float = 1e-6, most_evaluations: int = 1 << 22
) -> Quadrature:
    r"""log of the integral of exp(-E) by adaptive quadrature, with an error estimate.

    Nothing has to be known of where the mass is. Ranges without an end are mapped to finite ones.
    Points spread over the space, and searches uphill from the best of them, tell where the
    density is high. On a cell stands a product of Gauss-Kronrod rules of 15 nodes; where it
    differs most from the rule of 7 nodes among them, the cell is cut in two, until the
    differences, summed, are below the tolerance. At last the rules' polynomials must agree with
    the density at the points met before: a cell that missed a narrow mode is cut on.

    A mode can still be missed that is narrower than the distance of the points (65,536 in one
    dimension, a million in more) and whose foot lies within another mode.

    **Arguments:**

    - `energy`: over `Real` or `Box`, of 1 to 4 entries; it need not be smooth.
    - `tolerance`: nats, between 1e-12 and 1. Rounding in the model's precision comes on top.
    - `most_evaluations`: about how many times the energy is evaluated at most.

    **Returns:** `Quadrature`.

    **Raises:** `ValueError` for another space, more dimensions, or a wrong option.

    ```python
    import energax as ex
    import jax.numpy as jnp

    well = ex.NeuralEnergy(lambda x: -jnp.sum((x**2 - 1) ** 2), ex.Real(2))
    found = ex.log_partition_quadrature(well)
    print(found.value, found.error)
    ```

    Source: Genz and Malik, "Remarks on algorithm 006: an adaptive algorithm for numerical
    integration over an N-dimensional rectangular region" (1980), for cutting along one axis.
    """
    check_energy(energy)
    space = energy.space
    if not isinstance(space, Real | Box):
        raise ValueError(f"quadrature needs a Real or Box space, got {space}")
    dimensions = math.prod(space.shape)
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise ValueError(
            f"quadrature is for 1 to {MOST_DIMENSIONS} dimensions, got {dimensions}: its cost grows"
            ' with a power of them; take log_partition(..., method="bracket")'
        )
    number = isinstance(tolerance, int | float | np.floating) and not isinstance(tolerance, bool)
    if not number or not 1e-12 <= tolerance <= 1:
        raise ValueError(f"tolerance must be between 1e-12 and 1 nats, got {tolerance!r}")
    most = as_count(most_evaluations, "most_evaluations")
    log_p = LogDensity(energy)
    n_points = min(_MOST_POINTS if dimensions > 1 else _MOST_POINTS >> 4, most // 4)
    coordinates, x, level = found_mass(log_p, max(n_points, 64))
    cells = Cells(dimensions, (most - log_p.n_evaluations) // 15**dimensions)
    witnesses = Witnesses(coordinates, x, level)
    return _refined(log_p, coordinates, cells, witnesses, float(tolerance))


def _refined(
    log_p: LogDensity,
    coordinates: Coordinates,
    cells: Cells,
    witnesses: Witnesses,
    tolerance: float,
) -> Quadrature:
    def add(low: np.ndarray, width: np.ndarray) -> None:
        x, log_slope = coordinates.points(cells.coordinates(low, width))
        cells.add(low, width, x, log_p(x), log_slope, float(np.finfo(log_p.dtype).eps))

    d, per_axis = cells.dimensions, _FIRST_CELLS[cells.dimensions]
    if cells.room() < 2 * per_axis**d:
        needed = log_p.n_evaluations + 2 * per_axis**d * 15**d
        reason = f"most_evaluations is too small to start with: raise it above {4 * needed // 3}"
        return Quadrature(math.nan, math.inf, log_p.n_evaluations, 0, math.inf, False, reason)
    add(np.full((1, d), -1.0), np.full((1, d), 2.0))
    while (wide := cells.leaves[(cells.width[cells.leaves] > 2 / per_axis).any(1)]).size:
        add(*cells.cut(wide, cells.longest(wide)))
    while True:
        state = _state(cells, tolerance)
        wrong, axis, missed = np.zeros(0, np.int64), None, False
        if not log_p.bad and state.error > state.limit:
            wrong = cells.leaves[_largest(state.errors, state.limit / 2)]
            wrong = wrong[cells.can_be_cut(wrong)]
            axis = cells.worst(wrong)
        elif not log_p.bad:
            wrong, axis = _unbalanced(cells, state)
            if not wrong.size:
                wrong = witnesses.missed(cells, state.log_z, 10 * state.limit)
                wrong = wrong[cells.can_be_cut(wrong)]
                axis, missed = cells.longest(wrong), wrong.size > 0
        room = cells.room() // 2
        if axis is None or not wrong.size or room == 0:
            return _result(log_p, cells, witnesses, state, missed or wrong.size > 0)
        add(*cells.cut(wrong[:room], axis[:room]))


@dataclass(frozen=True)
class _State:
    """What is known of Z; errors relative to it."""

    log_z: float
    masses: np.ndarray
    errors: np.ndarray
    error: float
    rounding: float
    limit: float


def _state(cells: Cells, tolerance: float) -> _State:
    leaves = cells.leaves
    top = cells.top[leaves]
    most = float(top.max())
    share = np.exp(top - (most if math.isfinite(most) else 0.0))
    total = float(share @ cells.total[leaves])
    log_z = most + math.log(total) if total > 0 else -math.inf
    share = share / total if total > 0 else share
    errors = share * cells.errors[leaves].sum(1)
    rounding = float(share @ cells.rounding[leaves])
    masses = share * cells.total[leaves]
    limit = max(tolerance, rounding)
    return _State(log_z, masses, errors, float(errors.sum()), rounding, limit)


def _largest(errors: np.ndarray, rest: float) -> np.ndarray:
    """The fewest entries without which the sum is at most `rest`, the largest first."""
    order = np.argsort(-errors, kind="stable")
    left = errors.sum() - np.cumsum(errors[order])
    return order[: int(np.searchsorted(-left, -rest)) + 1]


def _unbalanced(cells: Cells, state: _State) -> tuple[np.ndarray, np.ndarray]:
    """Cells far wider than a neighbour that holds some mass, and the axis along which they are.

    A narrow ridge may go on where its neighbours' nodes do not meet it.
    """
    leaves = cells.leaves[state.masses > _LEAST_MASS * state.limit]
    low, width = cells.low[leaves], cells.width[leaves]
    found, axes = [], []
    for j in range(cells.dimensions):
        for side in (-0.5, 1.5):
            u = low + width / 2
            u[:, j] = low[:, j] + side * width[:, j]
            inside = np.abs(u[:, j]) < 1
            other = cells.holding(u[inside], np.zeros(int(inside.sum()), np.int64))
            ratio = cells.width[other] / width[inside]
            wide = ratio.max(1) > _WIDER
            found.append(other[wide])
            axes.append(np.argmax(ratio[wide], 1))
    wrong, first = np.unique(np.concatenate(found), return_index=True)
    return wrong, np.concatenate(axes)[first]


def _result(
    log_p: LogDensity, cells: Cells, witnesses: Witnesses, state: _State, unfinished: bool
) -> Quadrature:
    together = state.error + state.rounding
    nats = -math.log1p(-together) if together < _MOST_ERROR else math.inf
    large = state.error > state.limit
    if large and math.isfinite(state.log_z):
        unfinished = witnesses.missed(cells, state.log_z, 10 * state.error).size > 0
    reason = ""
    if log_p.bad:
        reason = f"{log_p.bad}: the integral is not defined there, or not finite"
    elif not math.isfinite(state.log_z):
        reason = "no point of p > 0 was found"
    elif large and _reaches_infinity(cells, log_p, state):
        reason = "p falls so slowly far out that its integral is infinite, or cannot be told"
    elif unfinished:
        reason = "the cells disagree with points between their nodes: raise most_evaluations"
    if reason:
        nats = math.inf
    elif large:
        reason = (
            f"the estimated error is {nats:.1e} nats, above the tolerance: raise"
            " most_evaluations or tolerance"
        )
    count = len(cells.leaves)
    return Quadrature(
        state.log_z, nats, log_p.n_evaluations, count, state.rounding, not reason, reason
    )


def _reaches_infinity(cells: Cells, log_p: LogDensity, state: _State) -> bool:
    """Whether most of the error is that of cells whose integrand does not fall towards infinity."""
    leaves = cells.leaves
    low, width, top = cells.low[leaves], cells.width[leaves], cells.top[leaves]
    outer = np.zeros(len(leaves), bool)
    for j in range(cells.dimensions):
        level = cells.level[leaves].reshape(len(leaves), 15**j, 15, -1)
        if not np.isfinite(log_p.low[j]):
            outer |= (low[:, j] == -1) & (level[:, :, 0].max((1, 2)) > top - 1)
        if not np.isfinite(log_p.high[j]):
            outer |= (low + width == 1)[:, j] & (level[:, :, -1].max((1, 2)) > top - 1)
    return bool(state.errors[outer].sum() > state.error / 2)
