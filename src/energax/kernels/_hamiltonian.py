"""What HMC and NUTS share: blackjax's metric and a leapfrog step, on an energy of ours."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from energax.energies import AbstractEnergy
from energax.kernels._coordinates import free_entries, holds_entries
from energax.kernels._gradient_state import DIVERGED, cleaned, failed


def metric_of(energy: AbstractEnergy, inverse_mass: Array) -> Any:
    """blackjax's metric with a diagonal mass, in which held entries have no momentum."""
    from blackjax.mcmc.metrics import gaussian_euclidean

    metric: Any = gaussian_euclidean(inverse_mass)
    if not holds_entries(energy.space):
        return metric
    free = free_entries(energy.space)

    def sample_momentum(key, position):
        return jnp.where(free, metric.sample_momentum(key, position), 0.0)

    return metric._replace(sample_momentum=sample_momentum)


def leapfrog(inverse_mass: Array) -> Callable[..., Any]:
    """blackjax's velocity Verlet without a force where the gradient is NaN.

    A trajectory that crosses such a place so stays a reversible map that preserves volume, and
    its end tells whether the model failed there.
    """

    def integrator(log_density: Callable, kinetic_energy: Callable) -> Callable:
        differentiated = jax.value_and_grad(log_density)

        def one_step(state: Any, step_size: Array) -> Any:
            half = 0.5 * step_size
            momentum = state.momentum + half * cleaned(state.logdensity_grad)
            position = state.position + step_size * (inverse_mass * momentum)
            value, gradient = differentiated(position)
            momentum = momentum + half * cleaned(gradient)
            return type(state)(position, momentum, value, gradient)

        return one_step

    return integrator


def failed_at(end: Any, inverse_mass: Array, before: Array) -> Bool[Array, ""]:
    """Whether the model failed at the end of a trajectory that began with momentum `before`, and
    not the step size: then the kinetic energy has grown out of all measure."""
    gain = 0.5 * jnp.sum(inverse_mass * (end.momentum - before) * (end.momentum + before))
    return failed(end.logdensity, end.logdensity_grad) & (gain < DIVERGED)
