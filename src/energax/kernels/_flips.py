"""Entries of two values and the gradient of the energy between them.

What Gibbs-with-gradients and discrete Langevin share: the first-order guess of what each flip
changes, at the price of one gradient for all of them.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels._base import AbstractKernel, AbstractTermsState, Info
from energax.kernels._coordinates import free_entries, holds_entries
from energax.kernels._metropolis import from_terms, judged
from energax.random import bernoulli
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
        return flip_state(energy, energy.space.clamp(x))

    def refresh(self, energy: AbstractEnergy, state: FlipState) -> FlipState:
        return flip_state(energy, energy.space.clamp(state.x))

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


def may_flip(space: AbstractSpace) -> Bool[Array, " entries"] | None:
    """Which entries may move; `None` if all of them may."""
    return free_entries(space) if holds_entries(space) else None


def flip_state(energy: AbstractEnergy, x: Array) -> FlipState:
    """The state at x: one evaluation of the energy with its gradient."""

    def value(x):
        terms = energy.terms(x)
        return energy.energy_of(terms), terms

    (_, terms), gradient = jax.value_and_grad(value, has_aux=True)(x)
    gains = gradient * (x - flipped(energy.space, x))
    # A guess may be any function of x. Where the gradient is NaN (a kink, a state without
    # probability) there is none; sums of infinite ones would be NaN.
    gains = jnp.clip(jnp.where(jnp.isnan(gains), 0.0, gains), -1e30, 1e30)
    known = from_terms(energy, x, terms)
    return FlipState(x, known.energy, terms, gains.reshape(-1))


def accept_or_stay(
    energy: AbstractEnergy,
    state: FlipState,
    new: FlipState,
    log_proposal_ratio: Float[Array, ""],
    key: Key[Array, ""],
) -> tuple[FlipState, Info]:
    """The Metropolis-Hastings test, as for a `MetropolisState`, of a state already evaluated."""
    proposed, probability = judged(energy, state.energy, new.x, new.energy, log_proposal_ratio)
    accept = bernoulli(key, probability)
    new = FlipState(new.x, proposed, new.terms, new.gains)
    kept = jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, state)
    return kept, Info(probability, kept.energy)


def _inside(space: AbstractSpace) -> AbstractSpace:
    while isinstance(space, Clamped):
        space = space.space
    return space
