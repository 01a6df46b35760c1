"""What a sweep has to know of a model."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array


class SiteRule(NamedTuple):
    """What a model's sites are and how they act on each other."""

    message: Callable[[Array], Array]
    """What values say to their neighbours, to be multiplied by the coupling and added up: the
    same shape, with the axes of `field` that come before the sites' put first."""
    weigh: Callable[[Array], Array]
    """What a draw needs of the sums of messages and fields."""
    pick: Callable[[Array, Any], Array]
    """New values from that and a uniform number each."""
    nothing: int | float
    """A value whose message is 0."""
    two_values: tuple[float, float] | None = None
    """The values of a site where there are but two, the second positive and the first not."""
