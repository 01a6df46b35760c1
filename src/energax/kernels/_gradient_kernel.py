"""What MALA, HMC and NUTS have in common: all but the step."""

import equinox as eqx
from jaxtyping import Array, ArrayLike, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels._adaptation import GradientTuning, spread_over
from energax.kernels._base import AbstractKernel, with_steps
from energax.kernels._coordinates import require_continuous
from energax.kernels._gradient_state import GradientState, state_at, state_of
from energax.kernels._tuning import AbstractStepwiseTunableKernel
from energax.spaces import State


class AbstractGradientKernel(AbstractStepwiseTunableKernel):
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

    def calmed(self, factor: ArrayLike) -> AbstractKernel:
        return with_steps(self, factor)

    def init(self, energy: AbstractEnergy, x: State, key: Key[Array, ""]) -> GradientState:
        return state_of(energy, x)

    def refresh(self, energy: AbstractEnergy, state: GradientState) -> GradientState:
        return state_at(energy, state.position)

    def energy_at(self, energy: AbstractEnergy, state: GradientState) -> Float[Array, ""]:
        return state.energy

    def tuning(self, energy: AbstractEnergy, n_steps: Array) -> GradientTuning | None:
        return GradientTuning(self, energy, n_steps) if self.adapt else None
