"""Numbers and judgements as words."""

import math
from collections.abc import Mapping
from typing import SupportsFloat, SupportsInt

from energax.partition import LogPartition
from energax.plots import format_number

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
"""For a cell with nothing to say; before a negative number."""

WAYS = {"forward": "up", "reverse": "down"}
"""Which way the chains of a bracket's parts went."""

PARTS = {"forward": "Annealed up", "reverse": "Annealed down", "mbar": "Replica exchange"}
"""What a bracket is made of."""


def nats(value: SupportsFloat, *, sign: bool = False) -> str:
    """A number of nats to three places."""
    return format_number(value, 3, sign=sign)


def interval(lower: SupportsFloat, upper: SupportsFloat) -> str:
    """Both ends, to three places."""
    return f"{nats(lower)} to {nats(upper)}"


def percent(level: float) -> str:
    """0.95 as 95%."""
    return f"{100 * level:g}%"


def count(value: SupportsInt) -> str:
    """A whole number, thousands apart."""
    return f"{int(value):,}"


def plural(value: SupportsInt, one: str, many: str = "") -> str:
    """A count and its noun: `1 row`, `2 rows`."""
    return f"{count(value)} {one if int(value) == 1 else many or one + 's'}"


def duration(seconds: float | None) -> str:
    """Seconds, or minutes and hours where there are many."""
    if seconds is None or not math.isfinite(seconds):
        return "not recorded"
    if seconds < 0.1:
        return "under 0.1 s"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def seed_in(mapping: Mapping[str, str]) -> str:
    """The entry whose name begins with `seed`, else a dash."""
    return next((v for k, v in mapping.items() if k.lower().startswith("seed")), DASH)


def sentence(text: str) -> str:
    """Text with a full stop, and a capital unless it begins with a name such as log Z."""
    text = text.strip()
    if not text:
        return text
    start = text if text.startswith("log Z") else text[0].upper() + text[1:]
    return start + ("" if text[-1] in ".!?" else ".")


def contains(estimate: LogPartition, exact: LogPartition) -> bool:
    """Whether the estimate's interval holds the exact value."""
    return estimate.lower <= exact.value <= estimate.upper


def estimator(z: LogPartition) -> str:
    """What the estimate is called."""
    return "Bracket" if z.parts else "Annealing"


def comparison(estimate: LogPartition, exact: LogPartition | None) -> list[str]:
    """How the estimate of log Z stands to the exact value, in sentences."""
    if exact is None and estimate.parts:
        return [
            "There is no exact value to compare with: the model's states cannot all be listed.",
            "Chains that went up from the base give a lower limit, chains that came down from the"
            " model an upper one, and replica exchange is a second opinion. A mode that none of"
            " them met is missed by all: log Z is then too small and likelihoods too high.",
        ]
    if exact is None:
        return [
            "There is no exact value to compare with: the model's states cannot all be listed.",
            "Annealing that misses a mode makes log Z too small and likelihoods too high; the"
            " checks in the table would not always notice.",
        ]
    if not (math.isfinite(exact.value) and math.isfinite(estimate.value)):
        return ["The two cannot be compared: one of them is not finite."]
    difference = estimate.value - exact.value
    side = "above" if difference > 0 else "below"
    far = f"The estimate lies {nats(abs(difference))} nats {side} the exact value"
    if math.isfinite(estimate.std_error) and estimate.std_error > 0:
        far += f": {abs(difference) / estimate.std_error:.1f} standard errors"
    level = percent(estimate.level)
    if contains(estimate, exact):
        return [f"The {level} interval contains the exact value.", f"{far}."]
    misses = 1 / (1 - estimate.level)
    return [
        f"The {level} interval does not contain the exact value.",
        f"{far}.",
        f"At {level} about one interval in {misses:.0f} misses.",
    ]
