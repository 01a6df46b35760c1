"""Energies that training leaves alone."""

from typing import Any

import equinox as eqx
import jax
from jax import lax
from jaxtyping import Array, Float

from energax.energies._base import AbstractEnergy
from energax.spaces import AbstractSpace, State


class Frozen(AbstractEnergy):
    """The same energy, none of whose parameters is trained."""

    inner: AbstractEnergy

    @property
    def space(self) -> AbstractSpace:
        return self.inner.space

    def _held(self) -> AbstractEnergy:
        return jax.tree.map(
            lambda leaf: lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf,
            self.inner,
        )

    def energy(self, x: State) -> Float[Array, ""]:
        return self._held().energy(x)

    def terms(self, x: State) -> Any:
        return self._held().terms(x)

    def energy_of(self, terms: Any) -> Float[Array, ""]:
        return self._held().energy_of(terms)


def freeze(energy: AbstractEnergy) -> Frozen:
    """Mark an energy as not trained: `fit` leaves its parameters as they are.

    Samplers, estimators, `condition`, `mixture` and `path` see through it, so an RBM that is frozen
    is still sampled as one. A product does not: merged with a factor that trains, there would be
    no frozen part left to mark.
    """
    if not isinstance(energy, AbstractEnergy):
        raise ValueError(f"freeze needs an energy, got {type(energy).__name__}")
    return energy if isinstance(energy, Frozen) else Frozen(energy)


def unfreeze(energy: AbstractEnergy) -> AbstractEnergy:
    """The energy inside `freeze`, or the energy itself."""
    return energy.inner if isinstance(energy, Frozen) else energy
