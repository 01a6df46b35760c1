"""The weights behind an annealed log Z."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from energax.diagnostics import log_mean_weight
from energax.partition import LogPartition
from energax.plots._style import (
    BLUE,
    FAINT,
    TWO_COLUMNS,
    VERMILLION,
    WIDTH,
    dress,
    legend,
    new_figure,
)

if TYPE_CHECKING:
    import matplotlib.figure


def annealing_weights(
    log_weights: LogPartition | ArrayLike,
    exact: LogPartition | float | None = None,
    *,
    width: float = WIDTH,
) -> "matplotlib.figure.Figure":
    """A histogram of log weights, with the log Z they give, its interval and the exact value.

    log Z is the logarithm of the *mean weight*, so it lies above the mean of the log weights: the
    further, the more unequal the weights are.

    **Arguments:**

    - `log_weights`: an annealed `LogPartition`, or its log weights alone, shape (chains,), taken
      against a base with Z = 1.
    - `exact`: log Z where it is known.
    - `width`: in inches.

    **Raises:** `ValueError` if there are fewer than two weights or no finite one; `ImportError` if
    matplotlib is missing.

    ```python
    import numpy as np
    from energax.plots import annealing_weights

    annealing_weights(np.array([3.1, 3.3, 2.9, 3.0]), exact=3.08)
    ```
    """
    given = log_weights if isinstance(log_weights, LogPartition) else None
    if given is not None and "log_weights" not in given.diagnostics:
        raise ValueError(f"log_weights must come from annealing, got log Z by {given.method}")
    raw = given.diagnostics["log_weights"] if given is not None else log_weights
    weights = np.asarray(raw, np.float64)
    finite = weights[np.isfinite(weights)]
    if finite.size < 2:
        raise ValueError(f"log_weights must hold at least two finite values, got {finite.size}")
    usable = weights < np.inf  # nor NaN; -inf is a weight of zero
    own = log_mean_weight(weights[usable])
    if given is None:
        value, lower, upper, level, shift = own.value, own.lower, own.upper, 0.95, 0.0
        if not usable.all():
            value, lower, upper = np.nan, -np.inf, np.inf
    else:
        value, lower, upper, level = given.value, given.lower, given.upper, given.level
        # The base's log Z, which is part of the estimate but of no weight.
        shift = value - own.value if np.isfinite(value) else 0.0
    finite = finite + shift
    truth = exact.value if isinstance(exact, LogPartition) else exact

    figure = new_figure(width, 2.6)
    from matplotlib.ticker import MaxNLocator

    ax = figure.add_subplot()
    marks = [m for m in (value, truth) if m is not None and np.isfinite(m)]
    ends = [end for end in (lower, upper) if np.isfinite(end)]
    low, high = min([*finite, *marks, *ends]), max([*finite, *marks, *ends])
    margin = 0.04 * (high - low) or 0.5
    missing = weights.size - finite.size
    note = f", {missing} not finite" if missing else ""
    ax.hist(
        finite,
        bins=min(40, max(8, finite.size // 4)),
        color=FAINT,
        alpha=0.6,
        edgecolor="white",
        linewidth=0.4,
        label=f"{weights.size} chains{note}",
    )
    ax.axvspan(
        max(lower, low - margin),
        min(upper, high + margin),
        color=BLUE,
        alpha=0.18,
        linewidth=0,
        label=f"{100 * level:g}% interval"
        + ("" if np.isfinite(lower) and np.isfinite(upper) else " (open)"),
    )
    if np.isfinite(value):
        ax.axvline(value, color=BLUE, linewidth=1.8, label="log Z estimated")
    if truth is not None and np.isfinite(truth):
        ax.axvline(truth, color=VERMILLION, linewidth=1.6, linestyle=(0, (4, 2)), label="exact")
    ax.xaxis.set_major_locator(MaxNLocator(8 if width >= TWO_COLUMNS else 4))
    ax.set_xlim(low - margin, high + margin)
    dress(ax, x="log weight + log Z of the base (nats)", y="chains")
    legend(ax, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4 if width >= TWO_COLUMNS else 2)
    return figure
