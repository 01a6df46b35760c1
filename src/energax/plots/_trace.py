"""One number along every chain."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from energax.plots._style import BLUE, FAINT, GREEN, SOFT, VERMILLION, WIDTH, dress, new_figure
from energax.sampling import Draws

if TYPE_CHECKING:
    import matplotlib.figure

_COLOURS = (BLUE, GREEN, SOFT, FAINT)
_MOST = 16


def trace(
    draws: Draws, coordinate: int | tuple[int, ...] | None = None, *, width: float = WIDTH
) -> "matplotlib.figure.Figure":
    """The energy, or one coordinate of x, along every chain: chains that mix look alike.

    Up to 16 chains are drawn, the failed ones (`draws.healthy` is false) first, in red, above the
    others. A cross marks a failed chain's last draw before something was not finite; it lies on
    the axis if there was none.

    **Arguments:**

    - `draws`: what `sample` returned.
    - `coordinate`: which entry of x, an index into its shape; the energy if `None`.
    - `width`: in inches.

    **Raises:** `ValueError` if there is no such coordinate, or x was not kept as one array;
    `ImportError` if matplotlib is missing.

    ```python
    import energax as ex
    from energax.plots import trace

    banana = ex.Banana()
    draws = ex.sample(banana, 80, key=ex.key(0), kernel=ex.MALA(), chains=4, warmup=20)
    figure = trace(draws, coordinate=1)
    ```
    """
    values, label = _values(draws, coordinate)
    broken = np.logical_not(draws.healthy)
    order = np.argsort(~broken, kind="stable")[:_MOST]
    figure = new_figure(width, 2.5)
    axes = figure.add_subplot()
    # Of a summarised run fewer energies are kept than there were draws.
    apart = draws.n / draws.energy.size
    steps = apart * np.arange(values.shape[1])
    for i, chain in enumerate(order):
        colour = VERMILLION if broken[chain] else _COLOURS[i % len(_COLOURS)]
        style = {"alpha": 1.0, "zorder": 3} if broken[chain] else {"alpha": 0.75}
        axes.plot(steps, values[chain], color=colour, linewidth=0.7, **style)
        if broken[chain]:
            _mark_end(axes, steps, values[chain], _first_failure(draws, chain))
    n = len(values)
    shown = f"{n} chains" if n <= _MOST else f"{_MOST} of {n} chains"
    failed = f", {int(broken.sum())} failed" if broken.any() else ""
    dress(axes, x="draw", y=label, title=shown + failed)
    axes.margins(x=0.01)
    return figure


def _first_failure(draws: Draws, chain: int) -> int | None:
    """The first draw of a chain at which something was not finite; `None` if no draw tells."""
    sound = np.isfinite(np.asarray(draws.energy[chain]))
    kept = draws.kept if draws.x is None and draws.collector is None else draws.x
    for leaf in jax.tree.leaves(kept):
        values = np.asarray(leaf[chain])
        sound = sound & np.isfinite(values.reshape(len(values), -1)).all(1)
    return None if sound.all() else int(np.argmin(sound))


def _mark_end(axes: Any, steps: np.ndarray, values: np.ndarray, failure: int | None) -> None:
    if failure is None:
        return
    style = {"marker": "x", "color": VERMILLION, "s": 24, "linewidths": 1.4, "zorder": 4}
    if failure:
        axes.scatter([steps[failure - 1]], [values[failure - 1]], **style)
    else:
        where = axes.get_xaxis_transform()
        axes.scatter([steps[0]], [0.0], transform=where, clip_on=False, **style)


def _values(draws: Draws, coordinate: int | tuple[int, ...] | None) -> tuple[np.ndarray, str]:
    if coordinate is None:
        return np.asarray(draws.energy), "E (nats)"
    if draws.x is None or isinstance(draws.x, dict):
        raise ValueError("coordinate needs draws of x kept as one array: leave it out for E")
    x = np.asarray(draws.x)
    index = coordinate if isinstance(coordinate, tuple) else (coordinate,)
    shape = x.shape[2:]
    whole = all(isinstance(i, int | np.integer) and not isinstance(i, bool) for i in index)
    inside = (
        whole
        and len(index) == len(shape)
        and all(-n <= i < n for i, n in zip(index, shape, strict=True))
    )
    if not inside:
        raise ValueError(f"coordinate must be an index into shape {shape}, got {coordinate!r}")
    name = f"x[{', '.join(map(str, index))}]" if index else "x"
    return x[(slice(None), slice(None), *index)], name
