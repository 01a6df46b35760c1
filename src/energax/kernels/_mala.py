"""MALA: a Langevin step as a proposal, accepted by the test of Metropolis and Hastings."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key

from energax.energies import AbstractEnergy
from energax.energies._parameters import finite_array
from energax.kernels._adaptation import as_inverse_mass, spread_over
from energax.kernels._base import Info
from energax.kernels._coordinates import free_entries, holds_entries
from energax.kernels._gradient_kernel import AbstractGradientKernel
from energax.kernels._gradient_state import (
    DIVERGED,
    GradientState,
    cleaned,
    completed,
    failed,
    log_density_in,
)
from energax.kernels._step_size import as_fraction
from energax.random import bernoulli, normal


class MALA(AbstractGradientKernel):
    """The Metropolis-adjusted Langevin algorithm: one gradient a step, exact.

    With step size h and diagonal preconditioner S it proposes

        u' = u + h S grad log p(u) + sqrt(2 h S) z,    z ~ N(0, 1),

    and accepts it by the ratio of p(u') q(u | u') to p(u) q(u' | u). Entries of a `Box` move in
    coordinates without ends; observed entries stay.

    In warm-up (`sample`'s, say) the step size and S are found, from all chains together; without
    one they are what is given here.

    **Arguments:**

    - `step_size`: h, in squared units of x where S is 1.
    - `inverse_mass`: S, one number or one a coordinate.
    - `target_acceptance`: what warm-up aims at. 0.574 is best in many dimensions (G. O. Roberts
      and J. S. Rosenthal, "Optimal scaling of discrete approximations to Langevin diffusions",
      1998).
    - `adapt`: whether warm-up tunes at all.

    **Raises:** `ValueError` for settings out of range.

    ```python
    import energax as ex
    import jax.numpy as jnp

    target = ex.NeuralEnergy(lambda x: -jnp.sum(x**4), ex.Real(3))
    draws = ex.sample(target, 400, key=ex.key(0), kernel=ex.MALA(), chains=4, warmup=50)
    ```

    Source: J. Besag, discussion of "Representations of knowledge in complex systems" (1994);
    G. O. Roberts and R. L. Tweedie, "Exponential convergence of Langevin distributions and their
    discrete approximations" (1996).
    """

    # blackjax's MALA has no preconditioner, and does not say what was proposed, so that an energy
    # of NaN would look like a refusal. Hence the dozen lines here.
    step_size: Float[Array, ""]
    inverse_mass: Float[Array, "..."]
    target_acceptance: Float[Array, ""]
    adapt: bool = eqx.field(static=True)

    is_exact: ClassVar[bool] = True

    def __init__(
        self,
        step_size: ArrayLike = 0.1,
        inverse_mass: ArrayLike = 1.0,
        *,
        target_acceptance: ArrayLike = 0.574,
        adapt: bool = True,
    ):
        self.step_size = finite_array(step_size, "step_size", shape=(), positive=True)
        self.inverse_mass = as_inverse_mass(inverse_mass)
        self.target_acceptance = as_fraction(target_acceptance, "target_acceptance")
        self.adapt = bool(adapt)

    def step(
        self, energy: AbstractEnergy, state: GradientState, key: Key[Array, ""]
    ) -> tuple[GradientState, Info]:
        key_propose, key_accept = jax.random.split(key)
        u, dtype = state.position, state.position.dtype
        step = self.step_size.astype(dtype) * spread_over(self.inverse_mass, energy)
        noise = normal(key_propose, u.shape, dtype)
        if holds_entries(energy.space):
            noise = jnp.where(free_entries(energy.space), noise, 0.0)
        force = cleaned(state.gradient)
        proposal = u + step * force + jnp.sqrt(2 * step) * noise
        log_density, gradient = jax.value_and_grad(log_density_in(energy))(proposal)
        # log q(u'|u) = -|z|^2 / 2, and the noise that leads back is -(z + push + push').
        push = jnp.sqrt(step / 2) * force
        both = push + jnp.sqrt(step / 2) * cleaned(gradient)
        log_ratio = log_density - state.log_density - 0.5 * jnp.sum(both * (2 * noise + both))
        # From an infinite energy (a start outside the support) every finite one is uphill; what
        # is not a number is no way to go.
        nowhere = (log_density == -jnp.inf) | jnp.isnan(log_ratio)
        log_ratio = jnp.where(nowhere, -jnp.inf, log_ratio)
        sane = 0.5 * jnp.sum(push * (2 * noise + push)) < DIVERGED
        visible = failed(log_density, gradient) & sane
        probability = jnp.where(visible, 1.0, jnp.exp(jnp.minimum(log_ratio, 0.0)))
        accept = bernoulli(key_accept, probability)
        new = completed(energy, proposal, log_density, gradient)
        kept = jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, state)
        return kept, Info(probability, kept.energy)
