"""Draws of a model beside real data."""

from typing import TYPE_CHECKING

from jaxtyping import ArrayLike

from energax.plots._style import (
    INK,
    SEQUENTIAL,
    SIZE,
    TWO_COLUMNS,
    WIDTH,
    as_images,
    as_table,
    colour_bar,
    heat_map,
    limits_of,
    panels,
)
from energax.plots._tiles import TITLE, Sheet, draw_sheet, inch_axes, write

if TYPE_CHECKING:
    import matplotlib.figure

_COLUMNS, _BETWEEN = 6, 0.35


def sample_sheet(
    samples: ArrayLike,
    real: ArrayLike,
    image_shape: tuple[int, int] | None,
    *,
    n: int = 36,
    captions: tuple[str, str] = ("Real data", "Draws of the model"),
    width: float = WIDTH,
) -> "matplotlib.figure.Figure":
    """Real rows on one side, a model's draws on the other, in one grey scale.

    Without an image shape both are heat maps, one line a row.

    **Arguments:**

    - `samples`, `real`: rows, shape (n, ...); the first `n` of each are shown.
    - `image_shape`: height and width of a row, or `None`.
    - `captions`: of the real rows and of the draws.
    - `width`: in inches; below 5 the two stand one above the other.

    **Raises:** `ValueError` if rows do not fit; `ImportError` if matplotlib is missing.

    ```python
    import numpy as np
    from energax.plots import sample_sheet

    rows = np.random.default_rng(0).random((36, 64)) < 0.3
    sample_sheet(rows, rows, (8, 8))
    ```
    """
    drawn, data = as_table(samples, "samples")[:n], as_table(real, "real")[:n]
    if drawn.shape[1] != data.shape[1]:
        raise ValueError(
            f"samples and real must have rows alike, got {drawn.shape[1]} and {data.shape[1]}"
            " entries"
        )
    limits = limits_of(drawn, data)
    sides = ((data, captions[0]), (drawn, captions[1]))
    if image_shape is None:
        figure, axes = panels(2, width, 3.0)
        image = None
        for ax, (rows, caption) in zip(axes, sides, strict=True):
            image = heat_map(
                ax, rows, cmap="cividis", limits=limits, x="entry", y="row", title=caption
            )
        colour_bar(figure, image, "value", ax=axes, pad=0.02, aspect=30)
        return figure
    beside = width >= TWO_COLUMNS
    each = (width - 0.04 - _BETWEEN) / 2 if beside else width - 0.04
    ratio = image_shape[0] / image_shape[1]
    sheets = [Sheet(len(rows), _COLUMNS, each, ratio) for rows, _ in sides]
    heights = [sheet.height + TITLE for sheet in sheets]
    total = max(heights) if beside else sum(heights) + _BETWEEN
    figure, axes = inch_axes(width, total + 0.04)
    for i, ((rows, caption), sheet) in enumerate(zip(sides, sheets, strict=True)):
        left = 0.02 + (i * (each + _BETWEEN) if beside else 0.0)
        top = 0.02 if beside or i == 0 else 0.02 + heights[0] + _BETWEEN
        write(axes, left, top, caption, size=SIZE, bold=True, align="left")
        images = as_images(rows, image_shape, "rows")
        draw_sheet(axes, sheet, images, left=left, top=top + TITLE, cmap=SEQUENTIAL, limits=limits)
    if beside:
        middle = 0.02 + each + _BETWEEN / 2
        axes.plot([middle, middle], [0.02, total], color=INK, linewidth=0.4, alpha=0.4)
    return figure
