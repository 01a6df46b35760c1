"""Energies of several kinds of rows."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike

from energax.plots._style import (
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    SOFT,
    VERMILLION,
    WIDTH,
    dress,
    legend,
    panels,
)

if TYPE_CHECKING:
    import matplotlib.figure

_COLOURS = {"train": BLUE, "test": VERMILLION, "noise": SOFT, "draws": GREEN}
_DASHES = {"train": "-", "test": (0, (4, 1.2)), "noise": "-", "draws": (0, (1, 1))}
_SPARE = (ORANGE, FAINT)
_SQUEEZED = 0.5
"""If all but the noise fill less than this share of the axis, they get a panel of their own."""


def energy_histograms(
    energies: Mapping[str, ArrayLike], *, bins: int | None = None, width: float = WIDTH
) -> "matplotlib.figure.Figure":
    """How E is spread over each kind of rows, as shares so that unequal numbers compare.

    Where `noise` lies so far off that the rest is squeezed, a second panel shows the rest alone.

    **Arguments:**

    - `energies`: E of the rows, by name, such as `Evaluation.energies`. Values that are not finite
      are counted in the legend.
    - `bins`: across each panel; fewer where a kind has few rows if `None`.
    - `width`: in inches.

    **Raises:** `ValueError` if there is no energy; `ImportError` if matplotlib is missing.

    ```python
    import numpy as np
    from energax.plots import energy_histograms

    energy_histograms({"train": np.array([-3.0, -2.5, -2.0]), "noise": np.array([0.0, 0.5])})
    ```
    """
    groups = {name: np.asarray(values, np.float64).ravel() for name, values in energies.items()}
    if not any(values.size for values in groups.values()):
        raise ValueError("energies must hold at least one value, got none")
    rest = {name: values for name, values in groups.items() if name != "noise"}
    shown = [(groups, "", 1.0)]
    if 0 < len(rest) < len(groups):
        low, high = _range(groups)
        inner_low, inner_high = _range(rest)
        if inner_high - inner_low < _SQUEEZED * (high - low):
            finer = min(4.0, (high - low) / (inner_high - inner_low))
            shown = [(groups, "All rows", finer), (rest, "Without noise", 1.0)]
    figure, axes = panels(len(shown), width, 2.7)
    fewest = min(values.size for values in (rest or groups).values())
    for ax, (part, title, finer) in zip(axes, shown, strict=True):
        chosen = round(min(finer * np.clip(1.7 * np.sqrt(fewest), 12, 50), 60))
        _draw(ax, part, chosen if bins is None else bins, title)
    return figure


def _draw(ax: Any, groups: dict[str, np.ndarray], bins: int, title: str) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    edges = np.linspace(*_range(groups), bins + 1)
    spare = iter(_SPARE * len(groups))
    for name, values in groups.items():
        finite = values[np.isfinite(values)]
        missing = values.size - finite.size
        label = f"{name} ({values.size:,})" + (f", {missing:,} not finite" if missing else "")
        colour = _COLOURS.get(name) or next(spare)
        counts, _ = np.histogram(finite, edges)
        shares = counts / max(values.size, 1)
        if name != "draws":
            ax.stairs(shares, edges, fill=True, color=colour, alpha=0.13)
        ax.stairs(
            shares,
            edges,
            color=colour,
            linewidth=1.3,
            linestyle=_DASHES.get(name, "-"),
            label=label,
        )
    top = ax.get_ylim()[1]
    # Room for the legend above the highest bar.
    ax.set_ylim(0, top * (1.1 + 0.08 * len(groups)))
    dress(ax, x="E (nats)", y="share of rows", title=title)
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if top >= 0.05 else None))
    legend(ax, loc="upper center", ncols=2, columnspacing=1.2)


def _range(groups: dict[str, np.ndarray]) -> tuple[float, float]:
    values = np.concatenate(list(groups.values()))
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)
