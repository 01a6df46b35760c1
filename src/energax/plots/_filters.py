"""What the hidden units of a machine look for."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from energax.plots._style import (
    DIVERGING,
    TWO_COLUMNS,
    WIDTH,
    as_images,
    colour_bar,
    heat_map,
    new_figure,
)
from energax.plots._tiles import Sheet, draw_sheet, inch_axes

if TYPE_CHECKING:
    import matplotlib.figure

_BAR = 0.62
"""Inches below the tiles for the colour bar."""


def filters(
    weights: ArrayLike,
    image_shape: tuple[int, int] | None,
    *,
    n: int = 64,
    width: float = WIDTH,
) -> "matplotlib.figure.Figure":
    """The columns of an RBM's weights as images, the largest norm first.

    All share one scale, white at zero. Without an image shape the columns stand side by side in
    a heat map.

    **Arguments:**

    - `weights`: shape (visible, hidden).
    - `image_shape`: height and width of the visible units, or `None`.
    - `n`: at most this many columns.
    - `width`: in inches.

    **Raises:** `ValueError` if weights are no matrix or do not fit the images; `ImportError` if
    matplotlib is missing.

    ```python
    import numpy as np
    from energax.plots import filters

    filters(np.random.default_rng(0).normal(size=(64, 16)), (8, 8))
    ```
    """
    matrix = np.asarray(weights, np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"weights must have shape (visible, hidden), got {matrix.shape}")
    norms = np.linalg.norm(matrix, axis=0)
    order = np.argsort(-norms, kind="stable")[:n]
    shown = matrix[:, order]
    finite = np.abs(shown[np.isfinite(shown)])
    reach = float(finite.max()) if finite.size and finite.max() > 0 else 1.0
    if image_shape is None:
        figure = new_figure(width, 3.4)
        image = heat_map(
            figure.add_subplot(),
            shown,
            cmap=DIVERGING,
            limits=(-reach, reach),
            x="hidden unit, largest weights first",
            y="visible unit",
        )
        colour_bar(figure, image, "weight", pad=0.02)
        return figure
    images = as_images(shown.T, image_shape, "weights")
    columns = min(len(images), 8 if width >= TWO_COLUMNS else 4)
    sheet = Sheet(len(images), columns, width - 0.04, image_shape[0] / image_shape[1], gap=0.08)
    figure, axes = inch_axes(width, sheet.height + _BAR + 0.04)
    image = draw_sheet(
        axes, sheet, images, left=0.02, top=0.02, cmap=DIVERGING, limits=(-reach, reach)
    )
    height = sheet.height + _BAR + 0.04
    place = figure.add_axes((0.3, 0.42 / height, 0.4, 0.1 / height))
    colour_bar(figure, image, "weight (one scale for all)", cax=place, orientation="horizontal")
    return figure
