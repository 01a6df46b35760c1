"""Discrete Langevin: every entry may flip at once, each by its own gradient."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key

from energax.energies import AbstractEnergy
from energax.energies._parameters import finite_array
from energax.kernels._base import Info
from energax.kernels._flips import (
    AbstractFlipKernel,
    FlipState,
    accept_or_stay,
    flip_state,
    flipped,
    may_flip,
)
from energax.kernels._step_size import AbstractStepSizeKernel, as_fraction
from energax.random import bernoulli


class DiscreteLangevin(AbstractFlipKernel, AbstractStepSizeKernel):
    """All entries are proposed at once, each on its own: a Langevin step between two values.

    With g the gradient of log p, x_i goes to its other value y_i with probability

        sigmoid(g_i (y_i - x_i) / 2 - (y_i - x_i)^2 / (2 a)),    a the step size,

    and the whole proposal is accepted by the ratio of Metropolis and Hastings. Without that test
    the move is not exact: its bias falls with the step size, as a Langevin step's does. One
    gradient a step.

    In warm-up (`sample`'s, say) the step size is found, from all chains together; without one,
    and without the test, it is what is given here. Where even the longest steps are accepted more
    often than the target, as on entries that hardly depend on each other, it ends at 1,000.

    **Arguments:**

    - `step_size`: a, in squared units of x. The larger, the more entries flip at once. A spin's
      two values are twice as far apart as a bit's: four times the step size flips as many.
    - `corrected`: whether proposals are tested.
    - `target_acceptance`: what warm-up aims at. 0.574 is best where many entries flip at once
      (H. Sun, H. Dai and D. Schuurmans, "Optimal scaling for locally balanced proposals in
      discrete spaces", 2022).
    - `adapt`: whether warm-up tunes at all.

    For networks over `Binary` and `Spin` spaces, conditioned ones too, whose energies are
    defined between the values as well.

    **Raises:** `ValueError` for settings out of range.

    ```python
    import energax as ex
    import equinox as eqx

    network = eqx.nn.MLP(16, "scalar", 8, 1, key=ex.key(0))
    energy = ex.NeuralEnergy(network, ex.Binary(16))
    kernel = ex.DiscreteLangevin(0.3)
    draws = ex.sample(energy, 200, key=ex.key(1), kernel=kernel, chains=4, warmup=50)
    ```

    Source: R. Zhang, X. Liu and Q. Liu, "A Langevin-like sampler for discrete distributions"
    (2022), equations 4 and 5.
    """

    step_size: Float[Array, ""]
    target_acceptance: Float[Array, ""]
    corrected: bool = eqx.field(static=True)
    adapt: bool = eqx.field(static=True)

    # Then the term in a adds at most 0.002 to what is put through the sigmoid.
    largest: ClassVar[float] = 1e3

    def __init__(
        self,
        step_size: ArrayLike = 0.2,
        *,
        corrected: bool = True,
        target_acceptance: ArrayLike = 0.574,
        adapt: bool = True,
    ):
        self.step_size = finite_array(step_size, "step_size", shape=(), positive=True)
        self.target_acceptance = as_fraction(target_acceptance, "target_acceptance")
        self.corrected = bool(corrected)
        self.adapt = bool(adapt)

    @property
    def is_exact(self) -> bool:
        return self.corrected

    def aim(self, energy: AbstractEnergy) -> Float[Array, ""] | None:
        return self.target_acceptance if self.adapt and self.corrected else None

    def step(
        self, energy: AbstractEnergy, state: FlipState, key: Key[Array, ""]
    ) -> tuple[FlipState, Info]:
        key_propose, key_accept = jax.random.split(key)
        free = may_flip(energy.space)
        distance = (state.x - flipped(energy.space, state.x)).reshape(-1) ** 2
        stay = distance / (2 * self.step_size.astype(distance.dtype))
        there = state.gains / 2 - stay
        flip = bernoulli(key_propose, jax.nn.sigmoid(there))
        if free is not None:
            flip &= free
        y = jnp.where(flip.reshape(state.x.shape), flipped(energy.space, state.x), state.x)
        new = flip_state(energy, y, state.doubt)
        if not self.corrected:
            return new, Info(jnp.ones_like(new.energy), new.energy)
        back = new.gains / 2 - stay
        each = _log_probability(back, flip) - _log_probability(there, flip)
        log_ratio = jnp.sum(each if free is None else jnp.where(free, each, 0.0))
        return accept_or_stay(state, new, log_ratio, key_accept)


def _log_probability(logits: Array, flip: Array) -> Array:
    """log of the chance of what each entry did."""
    return jax.nn.log_sigmoid(jnp.where(flip, logits, -logits))
