"""The No-U-Turn sampler, run by blackjax."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key

from energax.energies import AbstractEnergy
from energax.energies._parameters import finite_array
from energax.kernels._adaptation import as_inverse_mass, spread_over
from energax.kernels._base import Info
from energax.kernels._gradient_kernel import AbstractGradientKernel
from energax.kernels._gradient_state import (
    GradientState,
    completed,
    log_density_in,
)
from energax.kernels._hamiltonian import failed_at, leapfrog, metric_of
from energax.kernels._step_size import as_fraction
from energax.random import as_count


class NUTS(AbstractGradientKernel):
    """The No-U-Turn sampler: Hamiltonian dynamics, both ways in time, until the trajectory turns
    back, and a draw from all of its points.

    It finds how far to go by itself, with at most 2^`max_depth` gradients a step; exact. Chains
    side by side wait for the longest trajectory among them. Entries of a `Box` move in
    coordinates without ends; observed entries stay.

    In warm-up (`sample`'s, say) the step size and the inverse mass are found, from all chains
    together; without one they are what is given here.

    **Arguments:**

    - `step_size`: of one leapfrog step, in units of x where the mass is 1.
    - `max_depth`: how often a trajectory may double.
    - `inverse_mass`: one number or one a coordinate.
    - `target_acceptance`: what warm-up aims at, averaged over a trajectory.
    - `adapt`: whether warm-up tunes at all.

    **Raises:** `ValueError` for settings out of range.

    ```python
    import energax as ex
    import jax.numpy as jnp

    target = ex.NeuralEnergy(lambda x: -jnp.sum(x**4), ex.Real(3))
    draws = ex.sample(target, 400, key=ex.key(0), kernel=ex.NUTS(), chains=4, warmup=50)
    ```

    Source: M. D. Hoffman and A. Gelman, "The No-U-Turn sampler" (2014); M. Betancourt, "A
    conceptual introduction to Hamiltonian Monte Carlo" (2017), for the multinomial draw. The
    implementation is blackjax's (A. Cabezas et al., 2024).
    """

    step_size: Float[Array, ""]
    inverse_mass: Float[Array, "..."]
    target_acceptance: Float[Array, ""]
    max_depth: int = eqx.field(static=True)
    adapt: bool = eqx.field(static=True)

    is_exact: ClassVar[bool] = True

    def __init__(
        self,
        step_size: ArrayLike = 0.1,
        max_depth: int = 10,
        inverse_mass: ArrayLike = 1.0,
        *,
        target_acceptance: ArrayLike = 0.8,
        adapt: bool = True,
    ):
        self.step_size = finite_array(step_size, "step_size", shape=(), positive=True)
        self.max_depth = as_count(max_depth, "max_depth")
        self.inverse_mass = as_inverse_mass(inverse_mass)
        self.target_acceptance = as_fraction(target_acceptance, "target_acceptance")
        self.adapt = bool(adapt)

    def step(
        self, energy: AbstractEnergy, state: GradientState, key: Key[Array, ""]
    ) -> tuple[GradientState, Info]:
        from blackjax.mcmc import hmc, nuts

        mass = spread_over(self.inverse_mass, energy)
        move: Any = nuts.build_kernel(leapfrog(mass))
        here: Any = (state.position, state.log_density, state.gradient)
        new, info = move(
            key,
            hmc.HMCState(*here),
            log_density_in(energy),
            self.step_size.astype(mass.dtype),
            metric_of(energy, mass),
            self.max_depth,
        )
        position, value, gradient = new
        # A trajectory ends where the energy is NaN, and blackjax goes back to another of its
        # points. Here the chain goes there, for all to see.
        for end in (info.trajectory_leftmost_state, info.trajectory_rightmost_state):
            visible = failed_at(end, mass, info.momentum)
            position = jnp.where(visible, end.position, position)
            value = jnp.where(visible, end.logdensity, value)
            gradient = jnp.where(visible, end.logdensity_grad, gradient)
        kept = completed(energy, position, value, gradient)
        # A mean over the trajectory, rounded.
        return kept, Info(jnp.minimum(info.acceptance_rate, 1.0), kept.energy)
