"""Entries of two values and the gradient of the energy between them.

What Gibbs-with-gradients and discrete Langevin share: the first-order guess of what each flip
changes, at the price of one gradient for all of them.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels._base import AbstractKernel, AbstractTermsState, Info
from energax.kernels._coordinates import free_entries, holds_entries
from energax.kernels._metropolis import chance, counted
from energax.random import bernoulli
from energax.spaces import AbstractSpace, Binary, Clamped, Spin


class AbstractFlipState(AbstractTermsState):
    """x, its energy, the energy's terms, and what each flip is guessed to add to log p."""

    energy: eqx.AbstractVar[Float[Array, ""]]
    gains: eqx.AbstractVar[Float[Array, " entries"]]
    doubt: eqx.AbstractVar[Float[Array, ""]]
    """0 where x is a state of the space, else what its energy counts as, `+inf` or NaN: looked at
    once, for no flip changes it."""


class FlipState(AbstractFlipState):
    """What a kernel keeps that needs no more."""

    x: Array
    energy: Float[Array, ""]
    terms: Any
    gains: Float[Array, " entries"]
    doubt: Float[Array, ""]


class AbstractFlipKernel(AbstractKernel):
    """A kernel that follows the gradient between two values: all but the step."""

    def check(self, energy: AbstractEnergy) -> None:
        require_two_valued(self, energy)

    def state_at(
        self, energy: AbstractEnergy, x: Array, doubt: Float[Array, ""]
    ) -> AbstractFlipState:
        """The state at x: one evaluation of the energy with its gradient."""
        return flip_state(energy, x, doubt)

    def init(self, energy: AbstractEnergy, x: Array, key: Key[Array, ""]) -> AbstractFlipState:
        return self._looked_at(energy, x)

    def refresh(self, energy: AbstractEnergy, state: AbstractFlipState) -> AbstractFlipState:
        return self._looked_at(energy, state.x)

    def _looked_at(self, energy: AbstractEnergy, x: Array) -> AbstractFlipState:
        """The state at x, of which it is not known whether it is one of the space."""
        x = energy.space.clamp(x)
        return self.state_at(energy, x, counted(energy, x, jnp.zeros((), x.dtype)))

    def energy_at(self, energy: AbstractEnergy, state: AbstractFlipState) -> Float[Array, ""]:
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


def flip_state(energy: AbstractEnergy, x: Array, doubt: Float[Array, ""]) -> FlipState:
    """The state at x: one evaluation of the energy with its gradient."""

    def value(x):
        terms = energy.terms(x)
        return energy.energy_of(terms), terms

    (found, terms), gradient = jax.value_and_grad(value, has_aux=True)(x)
    gains = gradient * (x - flipped(energy.space, x))
    # A guess may be any function of x. Where the gradient is NaN (a kink, a state without
    # probability) there is none; sums of infinite ones would be NaN.
    gains = jnp.clip(jnp.where(jnp.isnan(gains), 0.0, gains), -1e30, 1e30)
    found = jnp.where(doubt == 0, found, doubt)
    return FlipState(x, found, terms, gains.reshape(-1), doubt)


def accept_or_stay(
    state: AbstractFlipState,
    new: AbstractFlipState,
    log_proposal_ratio: Float[Array, ""],
    key: Key[Array, ""],
) -> tuple[Any, Info]:
    """The Metropolis-Hastings test, as for a `MetropolisState`, of a state already evaluated."""
    probability = chance(state.energy, new.energy, log_proposal_ratio)
    accept = bernoulli(key, probability)
    kept = jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, state)
    return kept, Info(probability, kept.energy)


def _inside(space: AbstractSpace) -> AbstractSpace:
    while isinstance(space, Clamped):
        space = space.space
    return space
