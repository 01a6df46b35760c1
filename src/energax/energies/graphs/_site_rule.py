"""What a sweep has to know of a model."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array


class SiteRule(NamedTuple):
    """What a model's sites are and how they act on each other."""

    message: Callable[[Array], Array]
    """What values say to their neighbours, to be multiplied by the coupling and added up: the
    same shape, with the axes of `field` that come before the sites' put first."""
    draw: Callable[[Array, Any], Array]
    """New values from the sums of messages and fields, and a uniform number each."""
    nothing: int | float
    """A value whose message is 0."""
