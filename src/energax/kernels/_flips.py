"""Entries of two values and the gradient of the energy between them.

What Gibbs-with-gradients and discrete Langevin share: the first-order guess of what each flip
changes, at the price of one gradient for all of them.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels._base import AbstractKernel, AbstractTermsState
from energax.spaces import AbstractSpace, Binary, Clamped, Spin


class FlipState(AbstractTermsState):
    """x, its energy, the energy's terms, and what each flip is guessed to add to log p."""

    x: Array
    energy: Float[Array, ""]
    terms: Any
    gains: Float[Array, " entries"]


class AbstractFlipKernel(AbstractKernel):
    """A kernel that follows the gradient between two values: all but the step."""

    def check(self, energy: AbstractEnergy) -> None:
        require_two_valued(self, energy)

    def init(self, energy: AbstractEnergy, x: Array, key: Key[Array, ""]) -> FlipState:
        return flip_state(energy, x)

    def refresh(self, energy: AbstractEnergy, state: FlipState) -> FlipState:
        return flip_state(energy, state.x)

    def energy_at(self, energy: AbstractEnergy, state: FlipState) -> Float[Array, ""]:
        return state.energy


def require_two_valued(kernel: AbstractKernel, energy: AbstractEnergy) -> None:
    """Raise `ValueError` unless every entry of x is one of two numbers, held ones included."""
    space = energy.space
    if not isinstance(_inside(space), Binary | Spin):
        raise ValueError(
            f"{type(kernel).__name__} follows the gradient between two values of an entry and needs"
            f" a Binary or Spin space, got {space}: labels and counts are integers, along which an"
            " energy has no gradient (Gibbs needs none)"
        )


def flipped(space: AbstractSpace, x: Array) -> Array:
    """Every entry at its other value."""
    return -x if isinstance(_inside(space), Spin) else 1 - x


def free_entries(space: AbstractSpace) -> Bool[Array, " entries"] | None:
    """Which entries may move; `None` if all of them may."""
    held = None
    while isinstance(space, Clamped):
        mask = space.mask.reshape(-1)
        held = mask if held is None else held | mask
        space = space.space
    return None if held is None else ~held


def flip_state(energy: AbstractEnergy, x: Array) -> FlipState:
    """The state at x: one evaluation of the energy with its gradient."""

    def value(x):
        terms = energy.terms(x)
        return energy.energy_of(terms), terms

    (value_at_x, terms), gradient = jax.value_and_grad(value, has_aux=True)(x)
    gains = gradient * (x - flipped(energy.space, x))
    # A guess may be any function of x. Where the gradient is NaN (a kink, a state without
    # probability) there is none; sums of infinite ones would be NaN.
    gains = jnp.clip(jnp.where(jnp.isnan(gains), 0.0, gains), -1e30, 1e30)
    value_at_x = jnp.where(energy.space.contains(x), value_at_x, jnp.inf)
    value_at_x = jnp.where(jnp.any(jnp.isnan(x)), jnp.nan, value_at_x)
    return FlipState(x, value_at_x, terms, gains.reshape(-1))


def _inside(space: AbstractSpace) -> AbstractSpace:
    while isinstance(space, Clamped):
        space = space.space
    return space
