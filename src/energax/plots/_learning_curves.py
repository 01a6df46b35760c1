"""How training went."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from energax.plots._style import (
    BLUE,
    FAINT,
    GREEN,
    ORANGE,
    VERMILLION,
    WIDTH,
    dress,
    legend,
    panels,
)

if TYPE_CHECKING:
    import matplotlib.figure


class _Panel(NamedTuple):
    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]
    """Measure and label of each line."""
    zero: bool = False
    log: bool = False


_PANELS = (
    _Panel("Loss", "loss", (("loss", ""),)),
    _Panel(
        "Energies",
        "mean E (nats)",
        (("energy_data", "data"), ("energy_model", "model's chains"), ("energy_lowest", "lowest")),
    ),
    _Panel("Energy gap, data less model's chains", "nats", (("energy_gap", ""),), zero=True),
    _Panel("Validation gap, held-out less seen rows", "nats", (("validation_gap", ""),), zero=True),
    _Panel(
        "Held-out log-likelihood, and its interval",
        "nats",
        (
            ("log_likelihood", "value"),
            ("log_likelihood_low", "lower end"),
            ("log_likelihood_high", "upper end"),
        ),
    ),
    _Panel("Held-out pseudo-likelihood", "nats", (("validation_pseudo_likelihood", ""),)),
    _Panel(
        "Spread of energies",
        "nats",
        (("spread_data", "data"), ("spread_model", "model's chains")),
        log=True,
    ),
    _Panel("Entropy", "nats", (("entropy", ""),)),
    _Panel("Largest error of a moment", "absolute", (("moment_error", ""),), log=True),
    _Panel("Size of the gradient", "norm", (("gradient_norm", ""),), log=True),
    _Panel("Gradient's signal to noise", "ratio", (("gradient_signal", ""),)),
    _Panel("Acceptance", "probability", (("acceptance", ""),)),
    _Panel("Chains that do not move", "share", (("dead_chains", ""),)),
    _Panel("Variance of chains over the data's", "ratio", (("chain_spread", ""),), log=True),
    _Panel("R-hat of the chains' energies between rows", "ratio", (("chain_rhat", ""),), log=True),
    _Panel("Effective draws of the chains between rows", "draws", (("chain_ess", ""),), log=True),
)
_NOT_MEASURES = ("step", "epoch", "seconds")


def learning_curves(
    history: Sequence[Mapping[str, Any]], *, width: float = WIDTH
) -> "matplotlib.figure.Figure":
    """Every measure of a training run against the step, related ones in one panel.

    Numbers that are not finite leave a gap. An acceptance that is 1 throughout, as that of Gibbs
    sampling, is left out.

    **Arguments:**

    - `history`: the rows of `Fitted.history`.
    - `width`: in inches.

    **Raises:** `ValueError` if nothing was logged; `ImportError` if matplotlib is missing.

    ```python
    from energax.plots import learning_curves

    learning_curves([{"step": 100, "energy_gap": 0.3}, {"step": 200, "energy_gap": 0.1}])
    ```
    """
    if not history:
        raise ValueError("history must hold at least one row, got none")
    known = {name for panel in _PANELS for name, _ in panel.lines}
    names = list(dict.fromkeys(name for row in history for name in row))
    other = [n for n in names if n not in known and n not in _NOT_MEASURES]
    every = (*_PANELS, *(_Panel(n.replace("_", " ").capitalize(), "", ((n, ""),)) for n in other))
    shown = [panel for panel in every if any(_tells(history, name) for name, _ in panel.lines)]
    if not shown:
        raise ValueError(f"history must hold measures beside {_NOT_MEASURES}, got {names}")
    steps = np.asarray([row.get("step", i + 1) for i, row in enumerate(history)], float)
    figure, axes = panels(len(shown), width, 2.15)
    for ax, panel in zip(axes, shown, strict=True):
        _draw(ax, panel, steps, history)
    return figure


def _draw(ax: Any, panel: _Panel, steps: np.ndarray, history: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    alone = {"energy_gap": GREEN, "validation_gap": VERMILLION, "gradient_norm": ORANGE}
    colours = (BLUE, VERMILLION, GREEN)
    everything = []
    if panel.zero:
        ax.axhline(0.0, color=FAINT, linewidth=0.9)
    for (name, label), colour in zip(panel.lines, colours, strict=False):
        if not _tells(history, name):
            continue
        # A measure that only some rows have is a line from one of them to the next.
        there = [i for i, row in enumerate(history) if name in row]
        values = _values(history, name)[there]
        everything.append(values[np.isfinite(values)])
        ax.plot(
            steps[there],
            np.where(np.isfinite(values), values, np.nan),
            color=alone.get(name, colour),
            linestyle="-" if colour == BLUE else (0, (4, 1.5)),
            linewidth=1.3,
            marker="o" if len(there) < 12 else "",
            markersize=3,
            label=label,
        )
    values = np.concatenate(everything)
    if panel.log and values.size and (values > 0).all() and values.max() > 3 * values.min():
        ax.set_yscale("log")
    dress(ax, x="step", y=panel.unit, title=panel.title)
    ax.minorticks_off()
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if len(panel.lines) > 1:
        legend(ax)


def _values(history: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.asarray([row.get(name, np.nan) for row in history], float)


def _tells(history: Sequence[Mapping[str, Any]], name: str) -> bool:
    values = _values(history, name)
    if np.isnan(values).all():
        return False
    return not (name == "acceptance" and bool((values == 1).all()))
