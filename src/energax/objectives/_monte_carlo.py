"""Monte Carlo maximum likelihood: fresh chains from the base at every step."""

from typing import Any

import jax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels import AbstractKernel, start_chains
from energax.objectives._base import AbstractObjective, Step, contrast, count_field
from energax.objectives._chains import advance, calmed, check_moves
from energax.sampling import default_kernel
from energax.spaces import State


class MonteCarloMaximumLikelihood(AbstractObjective):
    """The likelihood's gradient with the model's mean estimated by chains from the base.

    Each step starts `n_samples` chains at the space's base draws, walks them `n_steps` steps and
    takes grad E(x) - grad E(x'). One sample makes a noisy gradient that is right on average, as
    far as the chains get to the model in that many steps.

    **Arguments:**

    - `n_steps`: steps of each fresh chain.
    - `n_samples`: chains a gradient.
    - `kernel`: their moves; the energy's default if `None`.
    """

    n_steps: int = count_field("n_steps", 100)
    n_samples: int = count_field("n_samples", 1)
    kernel: AbstractKernel | None = None

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> None:
        check_moves(energy, self.kernel)

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        kernel = default_kernel(energy) if self.kernel is None else self.kernel
        key_draw, key_init, key_walk = jax.random.split(key, 3)
        x = jax.vmap(energy.space.draw)(jax.random.split(key_draw, self.n_samples))
        chains = start_chains(energy, kernel, x, key_init)
        chains, moves = advance(energy, kernel, chains, self.n_steps, key_walk)
        gradient, measures, _ = contrast(energy, batch, chains.x)
        return Step(gradient, None, {**measures, **moves})

    def calmed(self, energy: AbstractEnergy, factor: Float[Array, ""]) -> AbstractObjective:
        return calmed(energy, self, factor)
