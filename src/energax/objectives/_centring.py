"""Gradients about the units' running means."""

from typing import Any

import jax
from jaxtyping import Array

from energax.energies import AbstractCentrable, AbstractEnergy
from energax.spaces import State

_MEMORY = 0.99
"""What a running mean keeps of itself a step: a hundred batches."""

_FIRST_ROWS = 1000
"""Rows the first means are taken over."""


def check_centring(energy: AbstractEnergy, centred: bool) -> None:
    """Raise `ValueError` if centring is asked of an energy that has none."""
    if centred and not isinstance(energy, AbstractCentrable):
        raise ValueError(
            f"centred=True needs an energy with centred gradients, such as an RBM, got"
            f" {type(energy).__name__}"
        )


def first_offsets(energy: AbstractEnergy, rows: State) -> Any:
    """The means over the first rows."""
    assert isinstance(energy, AbstractCentrable)
    return energy.offsets(jax.tree.map(lambda leaf: leaf[:_FIRST_ROWS], rows))


def centre(energy: AbstractEnergy, gradient: Any, batch: State, offsets: Any) -> tuple[Any, Any]:
    """The centred gradient and the next means; both unchanged where `offsets` is `None`."""
    if offsets is None:
        return gradient, None
    assert isinstance(energy, AbstractCentrable)
    here = energy.offsets(batch)

    def blend(old: Array, new: Array) -> Array:
        return _MEMORY * old + (1 - _MEMORY) * new

    offsets = jax.tree.map(blend, offsets, here)
    return energy.centred(gradient, offsets), offsets
