"""The contract of every Markov move."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.spaces import State


class Info(eqx.Module):
    """What a step tells about itself."""

    acceptance: Float[Array, ""]
    """The probability with which the move was accepted; 1 for moves that cannot be refused."""
    energy: Float[Array, ""]
    """E at the new state."""


class AbstractKernelState(eqx.Module):
    """What the next step needs: the state x and whatever of the energy was computed at it."""

    x: eqx.AbstractVar[State]


class AbstractKernel(eqx.Module):
    """A Markov move on one chain. Many chains are `jax.vmap`'s job.

    A subclass says whether it leaves exp(-E) exactly invariant (`is_exact`), and keeps in its
    state what it would otherwise compute twice.
    """

    is_exact: eqx.AbstractClassVar[bool]
    """Whether exp(-E) is invariant under a step, apart from rounding."""

    @abc.abstractmethod
    def init(self, energy: AbstractEnergy, x: State, key: Key[Array, ""]) -> Any:
        """The state of a chain that starts at x."""

    @abc.abstractmethod
    def step(self, energy: AbstractEnergy, state: Any, key: Key[Array, ""]) -> tuple[Any, Info]:
        """One move. `state` must have been made for this energy."""

    @abc.abstractmethod
    def refresh(self, energy: AbstractEnergy, state: Any) -> Any:
        """The same x with everything the state keeps computed again for another energy.

        To be called whenever parameters changed: a stale state is a wrong sampler.
        """

    def retemper(self, energy: AbstractEnergy, state: Any) -> Any:
        """As `refresh`, where only the energy's `beta` changed: from the kept terms, for free."""
        return self.refresh(energy, state)

    def check(self, energy: AbstractEnergy) -> None:
        """Raise `ValueError` if this kernel cannot move on this energy."""
        return
