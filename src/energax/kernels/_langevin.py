"""Langevin dynamics as simulated: one gradient a step, nothing refused, a bias of the step size."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key

from energax.energies import AbstractEnergy
from energax.energies._parameters import finite_array
from energax.kernels._base import (
    AbstractKernel,
    AbstractKernelState,
    Info,
    with_steps,
)
from energax.kernels._coordinates import noise_like, reflected, require_continuous
from energax.spaces import State


class LangevinState(AbstractKernelState):
    """x alone: a step takes the gradient there, once."""

    x: State


class UnadjustedLangevin(AbstractKernel):
    """The unadjusted Langevin algorithm, one gradient a step:

        x <- x - step_size grad E(x) + noise_scale z,    z ~ N(0, 1).

    With noise of sqrt(2 step_size) its draws are those of exp(-E) up to a bias that shrinks with
    the step size; on a Gaussian of variance v the variance is v / (1 - step_size / (2 v)). Deep
    energy-based models are often trained with larger steps and less noise, as `noise_scale`
    allows: such chains search rather than sample, at a temperature of
    noise_scale^2 / (2 step_size).

    Not exact: `MALA` is the same move with the test that makes it so. A step over a wall of a
    `Box` is reflected; observed entries stay.

    **Arguments:**

    - `step_size`: in squared units of x.
    - `noise_scale`: the noise's standard deviation, in units of x; sqrt(2 step_size) if `None`.

    **Raises:** `ValueError` for settings out of range.

    ```python
    import energax as ex
    import jax.numpy as jnp

    target = ex.NeuralEnergy(lambda x: -jnp.sum(x**4), ex.Real(3))
    kernel = ex.UnadjustedLangevin(0.01)
    draws = ex.sample(target, 400, key=ex.key(0), kernel=kernel, chains=4, warmup=50)
    ```

    Source: G. Parisi, "Correlation functions and computer simulations" (1981); G. O. Roberts and
    R. L. Tweedie, "Exponential convergence of Langevin distributions and their discrete
    approximations" (1996). Step and noise apart: E. Nijkamp et al., "On the anatomy of
    MCMC-based maximum likelihood learning of energy-based models" (2020).
    """

    step_size: Float[Array, ""]
    noise_scale: Float[Array, ""] | None

    is_exact: ClassVar[bool] = False

    def __init__(self, step_size: ArrayLike = 0.01, noise_scale: ArrayLike | None = None):
        self.step_size = finite_array(step_size, "step_size", shape=(), positive=True)
        self.noise_scale = (
            None
            if noise_scale is None
            else finite_array(noise_scale, "noise_scale", shape=(), positive=True)
        )

    def check(self, energy: AbstractEnergy) -> None:
        require_continuous(self, energy)

    def calmed(self, factor: ArrayLike) -> "UnadjustedLangevin":
        """Steps `factor` times as long, at the same temperature."""
        scale = self.noise_scale
        if scale is not None:
            scale = scale * jnp.sqrt(jnp.asarray(factor, scale.dtype))
        shorter = with_steps(self, factor)
        return eqx.tree_at(lambda k: k.noise_scale, shorter, scale, is_leaf=lambda n: n is None)

    def init(self, energy: AbstractEnergy, x: State, key: Key[Array, ""]) -> LangevinState:
        return LangevinState(x)

    def step(
        self, energy: AbstractEnergy, state: LangevinState, key: Key[Array, ""]
    ) -> tuple[LangevinState, Info]:
        scale = jnp.sqrt(2 * self.step_size) if self.noise_scale is None else self.noise_scale
        x, _ = reflected(
            energy.space,
            jax.tree.map(
                lambda x, g, z: x - self.step_size.astype(x.dtype) * g + scale.astype(x.dtype) * z,
                state.x,
                jax.grad(energy.energy)(state.x),
                noise_like(state.x, key),
            ),
        )
        value = energy.energy(x)
        return LangevinState(x), Info(jnp.ones_like(value), value)

    def refresh(self, energy: AbstractEnergy, state: LangevinState) -> LangevinState:
        return state


class UnderdampedState(AbstractKernelState):
    """x, its velocity, and the gradient of the energy at x."""

    x: State
    velocity: State
    gradient: State


class UnderdampedLangevin(AbstractKernel):
    """Langevin dynamics with inertia, by the splitting BAOAB: one gradient a step.

        dx = v dt,    dv = -grad E(x) dt - friction v dt + sqrt(2 friction) dW

    Half a kick (B), half a drift (A), friction and noise (O), then A and B again. The bias of x
    shrinks with the square of the step size and is 0 on a Gaussian; of v it is not.

    Not exact: `HMC` is the dynamics with the test that makes it so. At a wall of a `Box` the
    velocity is reflected; observed entries stay.

    **Arguments:**

    - `step_size`: the time step, in units of x (the mass is 1).
    - `friction`: how fast the velocity forgets, per unit of time.

    **Raises:** `ValueError` for settings out of range.

    ```python
    import energax as ex
    import jax.numpy as jnp

    target = ex.NeuralEnergy(lambda x: -jnp.sum(x**4), ex.Real(3))
    kernel = ex.UnderdampedLangevin(0.1, friction=1.0)
    draws = ex.sample(target, 400, key=ex.key(0), kernel=kernel, chains=4, warmup=50)
    ```

    Source: B. Leimkuhler and C. Matthews, "Rational construction of stochastic numerical methods
    for molecular sampling" (2013).
    """

    step_size: Float[Array, ""]
    friction: Float[Array, ""]

    is_exact: ClassVar[bool] = False

    def __init__(self, step_size: ArrayLike = 0.1, friction: ArrayLike = 1.0):
        self.step_size = finite_array(step_size, "step_size", shape=(), positive=True)
        self.friction = finite_array(friction, "friction", shape=(), positive=True)

    def check(self, energy: AbstractEnergy) -> None:
        require_continuous(self, energy)

    def calmed(self, factor: ArrayLike) -> AbstractKernel:
        return with_steps(self, factor)

    def init(self, energy: AbstractEnergy, x: State, key: Key[Array, ""]) -> UnderdampedState:
        return UnderdampedState(x, noise_like(x, key), jax.grad(energy.energy)(x))

    def step(
        self, energy: AbstractEnergy, state: UnderdampedState, key: Key[Array, ""]
    ) -> tuple[UnderdampedState, Info]:
        noise = noise_like(state.x, key)
        kept = jnp.exp(-self.friction * self.step_size)
        added = jnp.sqrt(-jnp.expm1(-2 * self.friction * self.step_size))

        def plus(a: State, factor: Array, b: State) -> State:
            return jax.tree.map(lambda a, b: a + factor.astype(a.dtype) * b, a, b)

        def drift(x: State, velocity: State) -> tuple[State, State]:
            x, sign = reflected(energy.space, plus(x, self.step_size / 2, velocity))
            return x, jax.tree.map(jnp.multiply, sign, velocity)

        velocity = plus(state.velocity, -self.step_size / 2, state.gradient)
        x, velocity = drift(state.x, velocity)
        velocity = jax.tree.map(
            lambda v, z: kept.astype(v.dtype) * v + added.astype(v.dtype) * z, velocity, noise
        )
        x, velocity = drift(x, velocity)
        value, gradient = jax.value_and_grad(energy.energy)(x)
        velocity = plus(velocity, -self.step_size / 2, gradient)
        return UnderdampedState(x, velocity, gradient), Info(jnp.ones_like(value), value)

    def motion(self, state: UnderdampedState) -> State:
        return state.velocity

    def moving(self, state: UnderdampedState, motion: State) -> UnderdampedState:
        return UnderdampedState(state.x, motion, state.gradient)

    def refresh(self, energy: AbstractEnergy, state: UnderdampedState) -> UnderdampedState:
        return UnderdampedState(state.x, state.velocity, jax.grad(energy.energy)(state.x))
