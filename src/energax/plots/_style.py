"""What all figures share: colours, sizes, axes dressed alike.

Everything is set on the objects themselves, so that no `matplotlibrc` and no global state changes
a figure. Colours are those of M. Okabe and K. Ito, "Color universal design" (2008).
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike

if TYPE_CHECKING:
    import matplotlib.figure

WIDTH = 7.5
"""Inches: a page's width. From `TWO_COLUMNS` on, panels stand side by side."""
TWO_COLUMNS = 5.0
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#007A5A", "#B87A00"
INK, SOFT, FAINT, LINE = "#1b1f24", "#57606a", "#8c959f", "#d8dee4"
FONT = "DejaVu Sans"
SIZE, SMALL = 8.5, 7.5
DIVERGING, SEQUENTIAL = "RdBu_r", "gray"


def new_figure(width: float, height: float, *, constrained: bool = True) -> Any:
    """An empty white figure, sizes in inches.

    **Raises:** `ImportError` naming the extra if matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "energax[report]"') from error
    layout = "constrained" if constrained else None
    return Figure(figsize=(width, height), dpi=200, facecolor="white", layout=layout)


def panels(n: int, width: float, height: float) -> tuple["matplotlib.figure.Figure", list[Any]]:
    """A figure of `n` panels, each `height` inches high: two a row if the width allows, else one.

    An odd last panel takes the whole row.
    """
    columns = 2 if width >= TWO_COLUMNS and n > 1 else 1
    rows = -(-n // columns)
    figure = new_figure(width, rows * height)
    grid = figure.add_gridspec(rows, columns)
    cells = [grid[i // columns, i % columns] for i in range(n)]
    if n % columns:
        cells[-1] = grid[rows - 1, :]
    return figure, [figure.add_subplot(cell) for cell in cells]


def dress(axes: Any, *, x: str = "", y: str = "", title: str = "") -> None:
    """Labels, fonts, colours, and light horizontal lines behind the data."""
    from matplotlib.ticker import ScalarFormatter

    text = {"fontfamily": FONT, "fontsize": SIZE, "color": SOFT}
    axes.set_facecolor("white")
    axes.set_xlabel(x, **text)
    axes.set_ylabel(y, **text)
    if title:
        axes.set_title(title, loc="left", **(text | {"color": INK, "fontweight": "bold"}))
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set(color=FAINT, linewidth=0.8)
    axes.tick_params(
        colors=SOFT, labelsize=SMALL, labelfontfamily=FONT, width=0.8, length=3, direction="out"
    )
    for axis in (axes.xaxis, axes.yaxis):
        if isinstance(axis.get_major_formatter(), ScalarFormatter):
            axis.get_major_formatter().set_useOffset(False)
    axes.grid(False)
    axes.grid(True, axis="y", color=LINE, linewidth=0.6, linestyle="-")
    axes.set_axisbelow(True)


def legend(axes: Any, **options: Any) -> None:
    """A legend without a frame, above the panel where nothing is in its way."""
    from matplotlib.font_manager import FontProperties

    options = {"loc": "best", "frameon": False, "labelcolor": INK, "handlelength": 1.6} | options
    axes.legend(prop=FontProperties(family=FONT, size=SMALL), **options)


def colour_bar(figure: Any, image: Any, label: str, **options: Any) -> None:
    """A slim colour bar with a label."""
    bar = figure.colorbar(image, **options)
    bar.outline.set_visible(False)
    text = {"fontfamily": FONT, "fontsize": SIZE, "color": SOFT}
    bar.set_label(label, **text)
    bar.ax.tick_params(
        colors=SOFT, labelsize=SMALL, labelfontfamily=FONT, width=0.8, length=3, direction="out"
    )


def heat_map(
    axes: Any,
    table: np.ndarray,
    *,
    cmap: str,
    limits: tuple[float, float],
    x: str,
    y: str,
    title: str = "",
) -> Any:
    """A table as colours, one cell an entry; returns the image."""
    from matplotlib.ticker import MaxNLocator

    image = axes.imshow(
        table,
        cmap=cmap,
        vmin=limits[0],
        vmax=limits[1],
        aspect="auto",
        interpolation="nearest",
        origin="upper",
    )
    dress(axes, x=x, y=y, title=title)
    axes.grid(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    return image


def as_images(rows: ArrayLike, image_shape: tuple[int, int], name: str) -> np.ndarray:
    """Rows as images, shape (n, height, width).

    **Raises:** `ValueError` if the entries of a row do not fill an image.
    """
    flat = as_table(rows, name)
    if flat.shape[1] != math.prod(image_shape):
        raise ValueError(
            f"{name} must have rows of {math.prod(image_shape)} entries for images of shape"
            f" {image_shape}, got {flat.shape[1]}"
        )
    return flat.reshape(-1, *image_shape)


def as_table(rows: ArrayLike, name: str) -> np.ndarray:
    """Rows flattened, shape (n, entries), in float64.

    **Raises:** `ValueError` if there is no row.
    """
    array = np.asarray(rows, np.float64)
    if array.ndim < 1 or array.size == 0:
        raise ValueError(f"{name} must hold at least one row, got shape {array.shape}")
    return array.reshape(len(array), -1)


def limits_of(*arrays: np.ndarray) -> tuple[float, float]:
    """The least and largest finite value, apart by something."""
    finite = [array[np.isfinite(array)] for array in arrays]
    values = np.concatenate([array.ravel() for array in finite])
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low, low + 1.0)
