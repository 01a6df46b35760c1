"""Small images in rows and columns, on axes whose unit is the inch."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from energax.plots._style import FONT, INK, LINE, SMALL, new_figure

_CAPTION = 0.17
"""Inches under a tile for a line of text."""
TITLE = 0.28
"""Inches above a sheet for its title."""


@dataclass(frozen=True)
class Sheet:
    """Where the tiles of one sheet go: all lengths in inches."""

    n: int
    """How many tiles."""
    columns: int
    """Tiles in a row."""
    width: float
    """Of the whole sheet."""
    ratio: float
    """Height over width of a tile."""
    captioned: bool = False
    """Whether a line of text stands under each tile."""
    gap: float = 0.06
    """Between tiles."""

    @property
    def tile(self) -> tuple[float, float]:
        """Width and height of a tile."""
        width = (self.width - (self.columns - 1) * self.gap) / self.columns
        return width, width * self.ratio

    @property
    def pitch(self) -> float:
        """From the top of a row of tiles to the top of the next."""
        return self.tile[1] + self.gap + (_CAPTION if self.captioned else 0.0)

    @property
    def height(self) -> float:
        """Of the whole sheet."""
        return -(-self.n // self.columns) * self.pitch - self.gap


def inch_axes(width: float, height: float) -> tuple[Any, Any]:
    """A figure and axes over all of it: x to the right, y down, in inches."""
    figure = new_figure(width, height, constrained=False)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    _frame(axes)
    return figure, axes


def draw_sheet(
    axes: Any,
    sheet: Sheet,
    images: np.ndarray,
    *,
    left: float,
    top: float,
    cmap: str,
    limits: tuple[float, float],
    captions: list[str] | None = None,
) -> Any:
    """Draw the tiles of a sheet; returns the last image, for a colour bar."""
    from matplotlib.patches import Rectangle

    width, height = sheet.tile
    image = None
    for i, pixels in enumerate(images[: sheet.n]):
        row, column = divmod(i, sheet.columns)
        x, y = left + column * (width + sheet.gap), top + row * sheet.pitch
        image = axes.imshow(
            pixels,
            extent=(x, x + width, y + height, y),
            cmap=cmap,
            vmin=limits[0],
            vmax=limits[1],
            aspect="auto",
            interpolation="antialiased",
            origin="upper",
        )
        # A tile whose edge is white would otherwise run into the page.
        edge = Rectangle((x, y), width, height, fill=False, edgecolor=LINE, linewidth=0.6)
        axes.add_patch(edge)
        if captions is not None:
            write(axes, x + width / 2, y + height + 0.03, captions[i], size=SMALL - 0.5)
    _frame(axes)
    return image


def write(
    axes: Any,
    x: float,
    y: float,
    text: str,
    *,
    size: float,
    bold: bool = False,
    align: str = "center",
) -> None:
    """A line of text whose top is at (x, y) inches."""
    axes.text(
        x,
        y,
        text,
        ha=align,
        va="top",
        fontsize=size,
        fontfamily=FONT,
        color=INK,
        fontweight="bold" if bold else "normal",
    )


def _frame(axes: Any) -> None:
    # imshow moves the limits to the image it drew.
    width, height = axes.figure.get_size_inches()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
