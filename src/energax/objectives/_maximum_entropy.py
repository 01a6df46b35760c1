"""The model of greatest entropy with given expectations."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy, ExponentialFamily, trainable
from energax.exact import log_partition_enumerated, log_partition_on_grid
from energax.objectives._base import AbstractObjective, Step
from energax.spaces import Box, State

_LARGEST_ERROR = 1e-3
"""Of an expectation, in standard deviations of its statistic: what a million rows would tell."""

_DESCENT, _LEAST_SHARE = 1e-4, 2.0**-40
"""The share of the descent its slope promises that a step must make (J. Nocedal and S. Wright,
"Numerical optimization", 2006, section 3.1), and where halving ends."""


class MaximumEntropy(AbstractObjective):
    """Fits an `ExponentialFamily` to expectations of its sufficient statistic.

    In place of rows, `fit` takes the moments m, shape (k,). The natural parameter that gives
    E[T(x)] = m minimises the convex log Z(eta) - eta . m; each step is a damped Newton step,
    halved until it descends, with the mean and covariance of T by enumeration (a discrete space)
    or on a grid.

    **Arguments:**

    - `n_points`, `low`, `high`: the grid for a continuous space, as in `log_partition_on_grid`.

    Source: E. Jaynes, "Information theory and statistical mechanics" (1957); damping by
    Y. Nesterov and A. Nemirovskii (1994), section 2.2; sufficient descent by L. Armijo (1966).
    """

    n_points: int = 200
    low: float | None = None
    high: float | None = None

    learns_from_rows: ClassVar[bool] = False

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        if not isinstance(energy, ExponentialFamily):
            raise ValueError(
                f"MaximumEntropy fits an ExponentialFamily, got {type(energy).__name__}"
            )
        expected = energy.natural_parameter.shape
        try:
            moments = np.atleast_1d(np.asarray(data, float))
        except (TypeError, ValueError):
            raise ValueError(f"data must be the moments, an array of shape {expected}") from None
        if moments.shape != expected:
            raise ValueError(
                f"data must be the moments, of shape {expected}, got shape {moments.shape}:"
                " average the sufficient statistic over your rows"
            )
        if not np.isfinite(moments).all():
            raise ValueError("moments must be finite")
        # Whether log Z can be had at all, and with this grid: said before training.
        if isinstance(energy.space, Box):
            log_partition_on_grid(energy, n_points=1, low=self.low, high=self.high)
        jax.eval_shape(self._log_z_at(energy), energy.natural_parameter)
        return jnp.asarray(moments, energy.natural_parameter.dtype)[None]

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> None:
        return None

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        assert isinstance(energy, ExponentialFamily)
        eta, moments = energy.natural_parameter, batch[0]

        log_z = self._log_z_at(energy)
        value, mean = jax.value_and_grad(log_z)(eta)
        covariance = jax.hessian(log_z)(eta)
        difference = mean - moments
        # Each statistic in units of its own spread, so that their scales do not matter. One that
        # never varies, or repeats another, leaves directions without curvature: hence the ridge.
        variance = jnp.diagonal(covariance)
        varies = variance > 10 * jnp.finfo(eta.dtype).eps * mean**2
        spread = jnp.where(varies, jnp.sqrt(jnp.where(varies, variance, 1.0)), 1.0)
        correlation = covariance / jnp.outer(spread, spread)
        ridge = 1e-6 * jnp.eye(eta.size, dtype=eta.dtype)
        newton = jnp.linalg.solve(correlation + ridge, difference / spread) / spread
        decrement = jnp.sqrt(jnp.maximum(difference @ newton, 0.0))
        step = newton / (1 + decrement)

        def overshoots(share: Array) -> Array:
            at = eta - share * step
            enough = value - eta @ moments - _DESCENT * share * (difference @ step)
            # Near the end the descent is below the rounding of log Z, and Newton's step is right.
            rounding = 8 * jnp.finfo(eta.dtype).eps * (1 + jnp.abs(value) + jnp.abs(eta @ moments))
            return ~(log_z(at) - at @ moments <= enough + rounding) & (share > _LEAST_SHARE)

        share = lax.while_loop(overshoots, lambda share: share / 2, jnp.ones((), eta.dtype))
        # A statistic with parameters of its own keeps them: only eta is fitted to moments.
        zeros = jax.tree.map(jnp.zeros_like, eqx.filter(energy, trainable(energy)))
        gradient = eqx.tree_at(lambda m: m.natural_parameter, zeros, share * step)
        entropy = value - eta @ mean
        measures = {
            "entropy": entropy,
            "moment_error": jnp.max(jnp.abs(difference)),
            "moment_error_scaled": jnp.max(jnp.abs(difference) / spread),
        }
        return Step(gradient, None, measures)

    def default_optimizer(self) -> optax.GradientTransformation:
        return optax.sgd(1.0)

    def complaint(self, measures: dict[str, float]) -> str:
        error = measures.get("moment_error_scaled", 0.0)
        if error > _LARGEST_ERROR:
            return (
                f"expectations are still off by {error:.2g} standard deviations: no model of this"
                " family may have these moments, or more steps are needed"
            )
        return ""

    def _log_z_at(self, energy: ExponentialFamily) -> Callable[[Array], Array]:
        """log Z as a function of eta."""
        return lambda eta: self._log_z(
            ExponentialFamily(energy.sufficient_statistic, eta, energy.space)
        )

    def _log_z(self, energy: ExponentialFamily) -> Float[Array, ""]:
        space, low, high = energy.space, self.low, self.high
        if space.is_discrete:
            return log_partition_enumerated(energy)
        if not isinstance(space, Box):
            return log_partition_on_grid(energy, n_points=self.n_points, low=low, high=high)
        # In a training step the ends of the box are traced, and a grid must know its own: so the
        # box is made a unit cube.
        start = space.low if low is None else jnp.full_like(space.low, low)
        width = (space.high if high is None else jnp.full_like(space.high, high)) - start

        def statistic(t: Array) -> Array:
            return energy.statistic(start + width * t)

        cube = ExponentialFamily(statistic, energy.natural_parameter, Box(space.shape))
        log_z = log_partition_on_grid(cube, n_points=self.n_points, low=0.0, high=1.0)
        return log_z + jnp.sum(jnp.log(width))
