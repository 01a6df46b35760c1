"""A density in the plane, and where the chains went."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from energax.energies import AbstractEnergy
from energax.plots._style import BLUE, GREEN, ORANGE, VERMILLION, WIDTH, dress, new_figure
from energax.random import as_count
from energax.sampling import Draws
from energax.spaces import Box, Real

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

    Modes that no dot lies on were never found. What lies outside the energy's space is blank.

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
    if not isinstance(energy.space, Real | Box) or energy.space.shape != (2,):
        raise ValueError(f"the energy must be over two real entries, got {energy.space}")
    n_points, n_chains = as_count(n_points, "n_points", least=2), as_count(n_chains, "n_chains")
    x = np.asarray(draws.x)
    dots = x.reshape(-1, 2)
    dots = dots[np.isfinite(dots).all(1)]
    if not dots.size:
        raise ValueError("no draw is finite: there is nothing to show")
    margin = 0.1 * np.ptp(dots, axis=0) + 1e-3
    low = _corner(dots.min(0) - margin if low is None else low, "low")
    high = _corner(dots.max(0) + margin if high is None else high, "high")
    if not (low < high).all():
        raise ValueError(f"low must lie below high, got {low.tolist()} and {high.tolist()}")
    axis = [np.linspace(a, b, n_points) for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*axis, indexing="xy"), -1)
    grid = jnp.asarray(grid, energy.space.structure.dtype)
    inside = np.asarray(jax.vmap(jax.vmap(energy.space.contains))(grid))
    level = np.asarray(jax.vmap(jax.vmap(energy.energy))(grid), np.float64)
    level = np.where(inside, level, np.nan)
    if not np.isfinite(level).any():
        raise ValueError("E is nowhere finite in the rectangle: choose other corners")
    density = np.exp(level[np.isfinite(level)].min() - level)
    figure = new_figure(width, 0.75 * width)
    axes = figure.add_subplot()
    box = (low[0], high[0], low[1], high[1])
    # The root shows the outskirts as well.
    axes.imshow(np.sqrt(density), origin="lower", extent=box, cmap="Greys", vmax=2.0, aspect="auto")
    axes.plot(*dots.T, ".", color=BLUE, markersize=2.5, alpha=0.6, markeredgewidth=0)
    for chain, colour in zip(x[:n_chains], _COLOURS * len(x), strict=False):
        axes.plot(*chain[-_PATH:].T, color=colour, linewidth=0.5, alpha=0.7)
    paths = min(n_chains, len(x))
    dress(axes, x="x[0]", y="x[1]", title=f"{draws.method}: {len(x)} chains, paths of {paths}")
    axes.grid(False)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    return figure


def _corner(value: ArrayLike, name: str) -> np.ndarray:
    corner = np.asarray(value, np.float64)
    if corner.shape not in ((), (2,)) or not np.isfinite(corner).all():
        raise ValueError(f"{name} must be one or two finite numbers, got {value!r}")
    return np.broadcast_to(corner, (2,))
