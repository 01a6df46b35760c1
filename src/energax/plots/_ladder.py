"""A ladder of temperatures."""

from typing import TYPE_CHECKING

import numpy as np

from energax.kernels import LadderReport
from energax.plots._style import BLUE, VERMILLION, WIDTH, dress, panels

if TYPE_CHECKING:
    import matplotlib.figure

_MOST_LABELS = 12
"""More betas would not fit side by side."""


def ladder(report: LadderReport, *, width: float = WIDTH) -> "matplotlib.figure.Figure":
    """Where the rungs of a replica exchange stand, and how often neighbours swap.

    The left panel shows the communication barrier up to each rung, steep where replicas pass with
    difficulty; the right one the swap rates, which a tuned ladder has equal, a bar between the
    betas of two neighbours.

    **Arguments:**

    - `report`: of `energax.kernels.ladder_report(draws.kernel, draws.states)`.
    - `width`: in inches.

    **Raises:** `ValueError` if it is something else; `ImportError` if matplotlib is missing.

    ```python
    import energax as ex
    from energax.kernels import ladder_report
    from energax.plots import ladder

    kernel = ex.ReplicaExchange(ex.RandomWalkMetropolis(), n_replicas=4)
    wells = ex.DoubleWell(height=8.0)
    draws = ex.sample(wells, 80, key=ex.key(0), kernel=kernel, chains=4, warmup=50)
    figure = ladder(ladder_report(draws.kernel, draws.states))
    ```
    """
    if not isinstance(report, LadderReport):
        raise ValueError(f"ladder needs a LadderReport, got {type(report).__name__}")
    figure, (left, right) = panels(2, width, 2.5)
    betas = np.asarray(report.betas)
    left.plot(betas, report.barrier, "o-", color=BLUE, markersize=3, linewidth=1.0)
    dress(left, x="beta", y="barrier up to here", title=f"{len(betas)} rungs")
    pairs = np.arange(1, len(betas))
    right.bar(pairs, report.swap_rates, color=BLUE, width=0.7)
    mean = float(np.nanmean(report.swap_rates)) if np.isfinite(report.swap_rates).any() else 0.0
    right.axhline(mean, color=VERMILLION, linewidth=1.0)
    right.set_ylim(0, 1)
    trips = int(np.sum(report.round_trips))
    dress(right, x="beta of the rungs", y="swap rate", title=f"{trips:,} round trips")
    # Rung i stands between the bars of pairs i and i + 1; the coldest is always named.
    every = -(-len(betas) // _MOST_LABELS)
    shown = np.arange(len(betas) - 1, -1, -every)[::-1]
    right.set_xticks(shown + 0.5, [f"{beta:.3g}" for beta in betas[shown]], rotation=45)
    return figure
