"""Hamiltonian Monte Carlo, run by blackjax."""

from typing import Any, ClassVar

import equinox as eqx
import jax
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


class HMC(AbstractGradientKernel):
    """Hamiltonian Monte Carlo: a new momentum, `n_leapfrog` steps of its dynamics, and the test of
    Metropolis at their end.

        du/dt = S p,    dp/dt = grad log p(u),    p ~ N(0, 1 / S)

    `n_leapfrog` gradients a step; exact. Entries of a `Box` move in coordinates without ends;
    observed entries stay.

    In warm-up (`sample`'s, say) the step size and S are found, from all chains together; without
    one they are what is given here.

    **Arguments:**

    - `step_size`: of one leapfrog step, in units of x where S is 1.
    - `n_leapfrog`: how many such steps a proposal takes.
    - `inverse_mass`: S, one number or one a coordinate.
    - `jitter`: every step draws its step size from (1 - jitter, 1 + jitter) times `step_size`.
      Without it trajectories may all be a whole or half a period long, as on a Gaussian they
      easily are, and then hardly mix (R. M. Neal, section 3.2).
    - `target_acceptance`: what warm-up aims at. Best is 0.651 in many dimensions (A. Beskos et
      al., "Optimal tuning of the hybrid Monte Carlo algorithm", 2013); 0.8 is safer in few.
    - `adapt`: whether warm-up tunes at all.

    **Raises:** `ValueError` for settings out of range.

    ```python
    import energax as ex
    import jax.numpy as jnp

    target = ex.NeuralEnergy(lambda x: -jnp.sum(x**4), ex.Real(3))
    draws = ex.sample(target, 400, key=ex.key(0), kernel=ex.HMC(), chains=4, warmup=50)
    ```

    Source: S. Duane et al., "Hybrid Monte Carlo" (1987); R. M. Neal, "MCMC using Hamiltonian
    dynamics" (2011). The implementation is blackjax's (A. Cabezas et al., 2024).
    """

    step_size: Float[Array, ""]
    inverse_mass: Float[Array, "..."]
    jitter: Float[Array, ""]
    target_acceptance: Float[Array, ""]
    n_leapfrog: int = eqx.field(static=True)
    adapt: bool = eqx.field(static=True)

    is_exact: ClassVar[bool] = True

    def __init__(
        self,
        step_size: ArrayLike = 0.1,
        n_leapfrog: int = 10,
        inverse_mass: ArrayLike = 1.0,
        *,
        jitter: ArrayLike = 0.5,
        target_acceptance: ArrayLike = 0.8,
        adapt: bool = True,
    ):
        self.step_size = finite_array(step_size, "step_size", shape=(), positive=True)
        self.n_leapfrog = as_count(n_leapfrog, "n_leapfrog")
        self.inverse_mass = as_inverse_mass(inverse_mass)
        self.jitter = as_fraction(jitter, "jitter", least=0.0)
        self.target_acceptance = as_fraction(target_acceptance, "target_acceptance")
        self.adapt = bool(adapt)

    def step(
        self, energy: AbstractEnergy, state: GradientState, key: Key[Array, ""]
    ) -> tuple[GradientState, Info]:
        from blackjax.mcmc import hmc

        mass = spread_over(self.inverse_mass, energy)
        key_jitter, key_move = jax.random.split(key)
        either_way = self.jitter.astype(mass.dtype) * jax.random.uniform(
            key_jitter, (), mass.dtype, -1.0, 1.0
        )
        move: Any = hmc.build_kernel(leapfrog(mass))
        here: Any = (state.position, state.log_density, state.gradient)
        new, info = move(
            key_move,
            hmc.HMCState(*here),
            log_density_in(energy),
            self.step_size.astype(mass.dtype) * (1 + either_way),
            metric_of(energy, mass),
            self.n_leapfrog,
        )
        # blackjax refuses an energy of NaN; here the chain goes there, for all to see.
        end = info.proposal
        visible = failed_at(end, mass, info.momentum)
        kept = completed(
            energy,
            jnp.where(visible, end.position, new.position),
            jnp.where(visible, end.logdensity, new.logdensity),
            jnp.where(visible, end.logdensity_grad, new.logdensity_grad),
        )
        return kept, Info(info.acceptance_rate, kept.energy)
