"""Which rows are images."""

import math
from collections.abc import Sequence

_LEAST = 16
"""Shorter rows are too small to be worth looking at as a square."""


def guess_image_shape(shape: Sequence[int]) -> tuple[int, int] | None:
    """The height and width of a row that may be an image, else `None`.

    Two axes are taken as they are; a flat row is a square image if its length is a square number
    of at least 16.

    **Arguments:**

    - `shape`: of one row, without the axis over rows.

    ```python
    from energax.plots import guess_image_shape

    guess_image_shape((784,))  # (28, 28)
    ```
    """
    if len(shape) == 2:
        return int(shape[0]), int(shape[1])
    if len(shape) != 1 or shape[0] < _LEAST:
        return None
    side = math.isqrt(int(shape[0]))
    return (side, side) if side * side == shape[0] else None
