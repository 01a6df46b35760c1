"""log Z by quadrature, as one record with the other methods."""

import math

from energax.energies import AbstractEnergy
from energax.exact import log_partition_quadrature
from energax.partition._estimate import LogPartition, timed
from energax.spaces import Box, Real

_UNASKED = 2
"""Dimensions up to which quadrature is tried unasked. In three it still ends in seconds
(benchmarks/quadrature.py), but its points lie so far apart that even a mode of some width may be
missed; in two a needle may."""


def is_narrow(energy: AbstractEnergy) -> bool:
    """Whether quadrature is tried unasked."""
    space = energy.space
    return isinstance(space, Real | Box) and 1 <= math.prod(space.shape) <= _UNASKED


@timed
def by_quadrature(
    energy: AbstractEnergy,
    *,
    level: float = 0.95,
    tolerance: float = 1e-6,
    most_evaluations: int = 1 << 22,
) -> LogPartition:
    """log Z by `log_partition_quadrature`: nothing is drawn, the interval is value -+ error."""
    found = log_partition_quadrature(energy, tolerance=tolerance, most_evaluations=most_evaluations)
    known = math.isfinite(found.error)
    return LogPartition(
        found.value,
        found.value - found.error if known else -math.inf,
        found.value + found.error if known else math.inf,
        found.error,
        False,
        f"quadrature, {found.n_evaluations} evaluations, error {found.error:.1e}",
        found.converged,
        found.reason,
        level,
        {
            "error": found.error,
            "rounding": found.rounding,
            "n_evaluations": found.n_evaluations,
            "n_cells": found.n_cells,
        },
    )
