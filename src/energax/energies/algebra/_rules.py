"""The table of rules by which structure survives when energies are combined.

Classes are final, so a rule is found by exact type. A rule returns the combined energy, or
`None` where it does not apply to these values, and then the generic combination is used.
"""

from collections.abc import Callable
from typing import Any

from energax.energies._base import AbstractEnergy

PRODUCT: dict[tuple[type, type], Callable[[Any, Any], AbstractEnergy | None]] = {}
"""(type of a, type of b) -> rule(a, b) for a * b."""

POWER: dict[type, Callable[[Any, Any], AbstractEnergy | None]] = {}
"""type of a -> rule(a, beta) for a ** beta."""

CONDITION: dict[type, Callable[[Any, Any, Any], AbstractEnergy | None]] = {}
"""type of a -> rule(a, values, mask) for condition(a, values, mask)."""

PATH: dict[tuple[type, type], Callable[[Any, Any, Any], AbstractEnergy | None]] = {}
"""(type of base, type of target) -> rule(base, target, beta) for the path between them."""


def find(table: dict, *energies: AbstractEnergy) -> Callable | None:
    """The rule for these energies, in this order."""
    types = [type(energy) for energy in energies]
    return table.get(tuple(types) if len(types) > 1 else types[0])
