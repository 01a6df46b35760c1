"""Single rows with their energies."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import ArrayLike

from energax.plots._numbers import format_number
from energax.plots._style import (
    FONT,
    SEQUENTIAL,
    SMALL,
    TWO_COLUMNS,
    WIDTH,
    as_images,
    as_table,
    colour_bar,
    heat_map,
    limits_of,
    new_figure,
)
from energax.plots._tiles import Sheet, draw_sheet, inch_axes

if TYPE_CHECKING:
    import matplotlib.figure


def row_sheet(
    rows: ArrayLike,
    energies: ArrayLike,
    image_shape: tuple[int, int] | None,
    *,
    n: int = 16,
    width: float = WIDTH,
) -> "matplotlib.figure.Figure":
    """Rows in the order given, with E in nats under each.

    Without an image shape they are the lines of a heat map, with E beside each.

    **Arguments:**

    - `rows`: shape (n, ...); the first `n` are shown.
    - `energies`: E of each row.
    - `image_shape`: height and width of a row, or `None`.
    - `width`: in inches.

    **Raises:** `ValueError` if there is not one energy a row, or rows do not fill the images;
    `ImportError` if matplotlib is missing.

    ```python
    import numpy as np
    from energax.plots import row_sheet

    row_sheet(np.eye(16), np.arange(16.0), (4, 4))
    ```
    """
    table, values = as_table(rows, "rows"), np.asarray(energies, np.float64)
    if values.shape != table.shape[:1]:
        raise ValueError(f"energies must have shape {table.shape[:1]}, got {values.shape}")
    table, labels = table[:n], [format_number(value, 1) for value in values[:n]]
    limits = limits_of(table)
    if image_shape is None:
        figure = new_figure(width, 0.9 + 0.2 * len(table))
        axes = figure.add_subplot()
        image = heat_map(axes, table, cmap="cividis", limits=limits, x="entry", y="E (nats)")
        axes.set_yticks(range(len(table)), labels, fontfamily=FONT, fontsize=SMALL)
        colour_bar(figure, image, "value", pad=0.02)
        return figure
    columns = min(len(table), 8 if width >= TWO_COLUMNS else 4)
    ratio = image_shape[0] / image_shape[1]
    sheet = Sheet(len(table), columns, width - 0.04, ratio, captioned=True, gap=0.1)
    figure, axes = inch_axes(width, sheet.height + 0.04)
    images = as_images(table, image_shape, "rows")
    captions = [f"E = {label}" for label in labels]
    draw_sheet(
        axes,
        sheet,
        images,
        left=0.02,
        top=0.02,
        cmap=SEQUENTIAL,
        limits=limits,
        captions=captions,
    )
    return figure
