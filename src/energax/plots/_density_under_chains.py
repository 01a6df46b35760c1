"""A density in the plane, and where the chains went."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from energax.energies import AbstractEnergy
from energax.plots._style import BLUE, GREEN, ORANGE, VERMILLION, WIDTH, dress, new_figure
from energax.sampling import Draws

if TYPE_CHECKING:
    import matplotlib.figure

_PATH = 100
"""So many draws of a path can still be followed by eye."""

_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE)


def density_under_chains(
    energy: AbstractEnergy,
    draws: Draws,
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    n_chains: int = 2,
    n_points: int = 200,
    width: float = WIDTH,
) -> "matplotlib.figure.Figure":
    """exp(-E) over a rectangle in grey, all draws as dots, the last 100 of a few chains as paths.

    Modes that no dot lies on were never found.

    **Arguments:**

    - `energy`: over two real entries.
    - `draws`: of it, x kept.
    - `low`, `high`: the rectangle's corners, one number or two; by default a little more than
      what the draws cover.
    - `n_chains`: whose paths are drawn.
    - `n_points`: of the grid, along each side.
    - `width`: in inches.

    **Raises:** `ValueError` unless x has two entries; `ImportError` if matplotlib is missing.

    ```python
    import energax as ex
    from energax.plots import density_under_chains

    banana = ex.Banana()
    draws = ex.sample(banana, 80, key=ex.key(0), kernel=ex.MALA(), chains=4, warmup=20)
    figure = density_under_chains(banana, draws, n_points=20)
    ```
    """
    if draws.x is None or isinstance(draws.x, dict) or np.shape(draws.x)[2:] != (2,):
        raise ValueError("density_under_chains needs draws whose x has shape (2,)")
    x = np.asarray(draws.x)
    dots = x.reshape(-1, 2)
    dots = dots[np.isfinite(dots).all(1)]
    margin = 0.1 * np.ptp(dots, axis=0) + 1e-3
    low = np.broadcast_to(dots.min(0) - margin if low is None else np.asarray(low), (2,))
    high = np.broadcast_to(dots.max(0) + margin if high is None else np.asarray(high), (2,))
    if not (low < high).all():
        raise ValueError(f"low must lie below high, got {low.tolist()} and {high.tolist()}")
    axis = [np.linspace(a, b, n_points) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axis, indexing="xy"), -1)
    level = jax.vmap(jax.vmap(energy.energy))(jnp.asarray(grid, energy.space.structure.dtype))
    level = np.asarray(level, np.float64)
    density = np.exp(np.nanmin(level) - level)
    figure = new_figure(width, 0.75 * width)
    axes = figure.add_subplot()
    box = (low[0], high[0], low[1], high[1])
    # The root shows the outskirts as well.
    axes.imshow(np.sqrt(density), origin="lower", extent=box, cmap="Greys", aspect="auto")
    axes.plot(*dots.T, ".", color=BLUE, markersize=1.5, alpha=0.25, markeredgewidth=0)
    for chain, colour in zip(x[:n_chains], _COLOURS * len(x), strict=False):
        axes.plot(*chain[-_PATH:].T, color=colour, linewidth=0.5, alpha=0.7)
    paths = min(n_chains, len(x))
    dress(axes, x="x[0]", y="x[1]", title=f"{draws.method}: {len(x)} chains, paths of {paths}")
    axes.grid(False)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    return figure
