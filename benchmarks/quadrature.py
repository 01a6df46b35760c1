"""log Z by adaptive quadrature in one to four dimensions: evaluations, seconds, compiling, error.

    python benchmarks/quadrature.py

Two normal densities of scales 1 and 0.6, whose mixture has log Z = 0 exactly, in double precision,
to several tolerances; then a narrow mode within a wide one, and a thin ring.
`scipy.integrate.cubature` (SciPy 1.15 or later) integrates the same densities by the same compiled
programs; it is told nothing of where the mass is, and its error is one of Z. Results go to the
terminal and to `benchmarks/results/quadrature.json`.
"""

import math
import statistics
import time
from typing import Any

import jax
import numpy as np
import scipy.integrate
from measuring import CONSOLE, parser, save, use_cores, versions, warn_if_busy
from rich.table import Table

import energax as ex
from energax.exact._coordinates import LogDensity

THREADS = 2
MOST = 1 << 24
"""Evaluations at most, four times as many as ship."""
CUTS = 2000
"""Cells that SciPy may cut."""


def model_of(name: str, dimensions: int) -> ex.AbstractEnergy:
    """The density of a case."""
    if name == "thin ring":
        return ex.Ring(1.0, 0.003)
    mean = np.array([1.0, -1.0, 0.5, 0.3])[:dimensions]
    scale = {"mixture": 0.6, "narrow mode": 0.001}[name]
    narrow = ex.Gaussian(-mean, np.full(dimensions, scale))
    return ex.mixture([ex.Gaussian(mean, 1.0), narrow])


def case(name: str, dimensions: int, tolerance: float, repeats: int) -> dict[str, Any]:
    """One density to one tolerance."""
    energy = model_of(name, dimensions)
    exact = float(energy.log_normaliser())
    jax.clear_caches()
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        found = ex.log_partition_quadrature(energy, tolerance=tolerance, most_evaluations=MOST)
        seconds.append(time.perf_counter() - start)
    return {
        "density": name,
        "dimensions": dimensions,
        "tolerance": tolerance,
        "evaluations": found.n_evaluations,
        "cells": found.n_cells,
        "evaluations_in_cells": (2 * found.n_cells - 1) * 15**dimensions,
        "seconds": seconds[1:],
        "compile_seconds": seconds[0] - statistics.median(seconds[1:]),
        "estimated_error": found.error if math.isfinite(found.error) else None,
        "error": abs(found.value - exact) if math.isfinite(found.value) else None,
        "converged": found.converged,
        "reason": found.reason,
    }


def scipy_case(name: str, dimensions: int, tolerance: float) -> dict[str, Any]:
    """The same by SciPy, with the rule for one dimension and that for more."""
    energy = model_of(name, dimensions)
    log_p = LogDensity(energy)
    log_p(np.zeros((1, dimensions)))  # compiled before the clock starts
    start, before = time.perf_counter(), log_p.n_evaluations
    found = scipy.integrate.cubature(
        lambda x: np.exp(log_p(x)),
        np.full(dimensions, -np.inf),
        np.full(dimensions, np.inf),
        rule="gk15" if dimensions == 1 else "genz-malik",
        rtol=tolerance,
        max_subdivisions=CUTS,
    )
    return {
        "density": name,
        "dimensions": dimensions,
        "tolerance": tolerance,
        "evaluations": log_p.n_evaluations - before,
        "seconds": time.perf_counter() - start,
        "estimated_error": float(found.error),
        "error": _finite(float(np.log(found.estimate)) - float(energy.log_normaliser())),
        "converged": found.status == "converged",
    }


def _finite(number: float) -> float | None:
    return abs(number) if math.isfinite(number) else None


def show(rows: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Both tables in one."""
    table = Table(title="log Z by quadrature")
    columns = ("program", "density", "d", "tolerance", "evaluations", "seconds", "compiling s")
    for column in (*columns, "estimated error", "error"):
        table.add_column(column, justify="right")
    for name, some in (("energax", rows), ("scipy", theirs)):
        for row in some:
            spent = row["seconds"]
            spent = statistics.median(spent) if isinstance(spent, list) else spent
            shown = [row["estimated_error"], row["error"]]
            table.add_row(
                name,
                row["density"],
                str(row["dimensions"]),
                f"{row['tolerance']:.0e}",
                f"{row['evaluations']}",
                f"{spent:.2f}",
                f"{row['compile_seconds']:.2f}" if "compile_seconds" in row else "",
                *("unknown" if error is None else f"{error:.1e}" for error in shown),
            )
    CONSOLE.print(table)


def main() -> None:
    options = parser(__doc__, "quadrature")
    options.add_argument("--repeats", type=int, help="timings of each case (3; quick: 1)")
    arguments = options.parse_args()
    use_cores(THREADS)
    jax.config.update("jax_enable_x64", True)
    repeats = arguments.repeats or (1 if arguments.quick else 3)
    busy = warn_if_busy()
    cases = [("mixture", d, t) for d in (1, 2, 3, 4) for t in (1e-2, 1e-4, 1e-6)]
    cases = cases[:4] if arguments.quick else cases
    cases += [("narrow mode", d, 1e-6) for d in (1, 2)] + [("thin ring", 2, 1e-6)]
    rows = [case(*each, repeats) for each in cases]
    has_peer = hasattr(scipy.integrate, "cubature")
    theirs = [scipy_case(*each) for each in cases] if has_peer else []
    show(rows, theirs)
    save(
        arguments,
        "quadrature",
        {
            "versions": versions("energax", "jax", "jaxlib", "scipy"),
            "busy_before": busy,
            "threads": THREADS,
            "most_evaluations": MOST,
            "energax": rows,
            "scipy": theirs,
        },
    )


if __name__ == "__main__":
    main()
