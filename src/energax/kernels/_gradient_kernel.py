"""What MALA, HMC and NUTS have in common: all but the step."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels._adaptation import adapted, spread_over
from energax.kernels._base import AbstractTunableKernel
from energax.kernels._chains import walk
from energax.kernels._coordinates import require_continuous
from energax.kernels._gradient_state import GradientState, state_at, state_of
from energax.spaces import State


class AbstractGradientKernel(AbstractTunableKernel):
    """A kernel that follows the gradient, with a step size and a diagonal mass found in warm-up."""

    step_size: eqx.AbstractVar[Float[Array, ""]]
    inverse_mass: eqx.AbstractVar[Float[Array, "..."]]
    """One number, or one a coordinate."""
    target_acceptance: eqx.AbstractVar[Float[Array, ""]]
    adapt: eqx.AbstractVar[bool]
    """Whether warm-up tunes at all."""

    def check(self, energy: AbstractEnergy) -> None:
        require_continuous(self, energy)
        spread_over(self.inverse_mass, energy)

    def init(self, energy: AbstractEnergy, x: State, key: Key[Array, ""]) -> GradientState:
        return state_of(energy, x)

    def refresh(self, energy: AbstractEnergy, state: GradientState) -> GradientState:
        return state_at(energy, state.position)

    def energy_at(self, energy: AbstractEnergy, state: GradientState) -> Float[Array, ""]:
        return state.energy

    def tune(
        self, energy: AbstractEnergy, states: Any, n_steps: Array, key: Key[Array, ""]
    ) -> tuple["AbstractGradientKernel", Any]:
        if self.adapt:
            return adapted(energy, self, states, n_steps, key)
        return self, walk(energy, self, states, n_steps, key)[0]
