"""What kernels that follow the gradient of a density keep: shared by MALA, HMC and NUTS."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from energax.energies import AbstractEnergy
from energax.kernels._base import AbstractKernelState
from energax.kernels._coordinates import bounded, unbounded
from energax.spaces import State

DIVERGED = 1000.0
"""A trajectory that gained this much kinetic energy has left the density, and what the model says
where it went (an overflow, often NaN) is held against the step size, not the model. As Stan's."""


class GradientState(AbstractKernelState):
    """x, its energy, and the same point in coordinates without ends.

    There the density is p(x(u)) |dx/du|; on a space without ends u is x, flat.
    """

    x: State
    energy: Float[Array, ""]
    position: Float[Array, " coordinates"]
    log_density: Float[Array, ""]
    gradient: Float[Array, " coordinates"]
    """Of the log-density in u."""


def log_density_in(energy: AbstractEnergy) -> Callable[[Array], Array]:
    """-E(x(u)) + log |dx/du| as a function of u."""

    def log_density(u: Array) -> Array:
        x, log_jacobian = bounded(energy.space, u)
        return log_jacobian - energy.energy(x)

    return log_density


def state_of(energy: AbstractEnergy, x: State) -> GradientState:
    """The state at x, with the one gradient it takes."""
    return state_at(energy, unbounded(energy.space, x))


def state_at(energy: AbstractEnergy, position: Array) -> GradientState:
    """The state at u, with the one gradient it takes."""
    log_density, gradient = jax.value_and_grad(log_density_in(energy))(position)
    return completed(energy, position, log_density, gradient)


def completed(
    energy: AbstractEnergy, position: Array, log_density: Array, gradient: Array
) -> GradientState:
    """The state at u from what is known there; its energy is NaN if the model failed."""
    x, log_jacobian = bounded(energy.space, position)
    log_density = jnp.where(failed(log_density, gradient), jnp.nan, log_density)
    return GradientState(x, log_jacobian - log_density, position, log_density, gradient)


def failed(log_density: Float[Array, ""], gradient: Array) -> Bool[Array, ""]:
    """Whether the energy is NaN or `-inf`, or finite with a gradient of NaN."""
    value = jnp.isnan(log_density) | (log_density == jnp.inf)
    # A sum is NaN if an entry is; where p = 0 there is no gradient to speak of.
    return value | (jnp.isfinite(log_density) & jnp.isnan(jnp.sum(gradient)))


def cleaned(gradient: Array) -> Array:
    """No force where the gradient is NaN: beyond the support, or in a model that fails there."""
    return jnp.where(jnp.isnan(gradient), 0.0, gradient)
