"""Numbers as they are printed."""

import math
from typing import SupportsFloat

_MINUS, _INFINITY = "\N{MINUS SIGN}", "\N{INFINITY}"


def format_number(value: SupportsFloat, decimals: int = 3, *, sign: bool = False) -> str:
    """A number for people: thousands apart, a true minus, words for what is no number.

    **Arguments:**

    - `decimals`: digits after the point.
    - `sign`: whether a plus is written.

    ```python
    from energax.plots import format_number

    format_number(-1234.5678, 1)  # "−1,234.6"
    ```
    """
    value = float(value)
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return _MINUS + _INFINITY if value < 0 else _INFINITY
    text = f"{value:{'+' if sign else ''},.{decimals}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("-+")  # no sign is left of what rounds to zero
    return text.replace("-", _MINUS)
