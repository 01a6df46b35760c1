"""What happens between the base and the model."""

from typing import TYPE_CHECKING, Any

import numpy as np

from energax.partition import LogPartition
from energax.plots._style import BLUE, TWO_COLUMNS, VERMILLION, WIDTH, dress, legend, new_figure

if TYPE_CHECKING:
    import matplotlib.figure

_LINES = {"forward": ("up", BLUE, "-"), "reverse": ("down", VERMILLION, (0, (4, 2)))}

_MOST_POINTS = 100
"""Steps of a longer path are averaged in bins: their noise would hide the curve."""


def annealing_path(log_z: LogPartition, *, width: float = WIDTH) -> "matplotlib.figure.Figure":
    """What chains met between the base, at beta 0, and the model, at beta 1.

    Three panels against beta, of a bracket in both directions:

    - the mean of -dE/dbeta, whose integral is log Z less that of the base where chains keep up
      with beta. Where up and down part, they lag behind, and temperatures or moves are missing;
    - the standard deviation of the log weights so far. The further beyond 1 it ends, the fewer
      chains the mean weight rests on;
    - the share of moves that the kernel accepted.

    **Arguments:**

    - `log_z`: by annealing, reverse annealing, or a bracket.
    - `width`: in inches.

    **Raises:** `ValueError` if it was found in another way; `ImportError` if matplotlib is missing.

    ```python
    import energax as ex
    from energax.plots import annealing_path

    z = ex.log_partition(ex.Ising(6, 0.4), key=ex.key(0), method="annealing", n_temperatures=200)
    figure = annealing_path(z)
    ```
    """
    walks = _walks(log_z)
    rows, columns = (1, 3) if width >= TWO_COLUMNS else (3, 1)
    figure = new_figure(width, rows * 2.3)
    grid = figure.add_gridspec(rows, columns)
    gain, spread, acceptance = (figure.add_subplot(grid[i]) for i in range(3))
    for (beta, path), (name, colour, dashes) in walks:
        middle = (beta[1:] + beta[:-1]) / 2
        style: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": 1.2}
        style["label"] = f"annealed {name}"
        gain.plot(*_binned(middle, np.diff(beta), path["gain"]), **style)
        spread.plot(beta[1:], path["spread"], **style)
        inner = beta[1:-1]
        acceptance.plot(
            *_binned(inner, np.ones(inner.size), np.asarray(path["acceptance"])[: inner.size]),
            **style,
        )
    dress(gain, x="beta", y="mean of \N{MINUS SIGN}dE/dbeta (nats)", title="Energy")
    dress(spread, x="beta", y="spread of log weights (nats)", title="Weights")
    dress(acceptance, x="beta", y="share accepted", title="Moves")
    for axes in figure.axes:
        axes.set_xlim(-0.02, 1.02)
    spread.set_ylim(bottom=0)
    acceptance.set_ylim(0, 1.05)
    if len(walks) > 1:
        legend(gain)
    return figure


def _walks(log_z: Any) -> list[tuple[tuple[np.ndarray, dict[str, Any]], tuple[str, str, Any]]]:
    """Each direction's betas and measures, and its name and style."""
    if not isinstance(log_z, LogPartition):
        raise ValueError(
            f"annealing_path needs what ex.log_partition returns, got {type(log_z).__name__}"
        )
    parts = {name: z for name, z in log_z.parts.items() if name in _LINES}
    if not parts and "path" in log_z.diagnostics:
        beta = log_z.diagnostics["path"]["beta"]
        parts = {"forward" if beta[-1] > beta[0] else "reverse": log_z}
    if not parts:
        raise ValueError(
            f"annealing_path needs log Z by annealing or a bracket, got one by {log_z.method}"
        )
    return [
        ((np.asarray(z.diagnostics["path"]["beta"]), z.diagnostics["path"]), _LINES[name])
        for name, z in parts.items()
    ]


def _binned(at: np.ndarray, widths: np.ndarray, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Sums of values over sums of widths, in bins of as many neighbours."""
    values = np.asarray(values, np.float64)
    edges = np.unique(np.linspace(0, at.size, min(at.size, _MOST_POINTS) + 1).astype(int))[:-1]
    counts = np.diff([*edges, at.size])
    with np.errstate(invalid="ignore"):
        means = np.add.reduceat(values, edges) / np.add.reduceat(widths, edges)
    return np.add.reduceat(at, edges) / counts, means
