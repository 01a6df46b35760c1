"""Contrastive divergence: chains that start at the data."""

from typing import Any

import jax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels import AbstractKernel, start_chains
from energax.objectives._base import AbstractObjective, Step, contrast, count_field
from energax.objectives._centring import centre, check_centring, first_offsets
from energax.objectives._chains import advance, calmed, check_moves
from energax.sampling import default_kernel
from energax.spaces import State


class ContrastiveDivergence(AbstractObjective):
    """CD-k: the model's states are the batch itself after `n_steps` steps of the kernel.

    Cheap, and biased: it sees the model only near the data, so likelihood stays behind that of
    persistent chains, by more the fewer the steps.

    **Arguments:**

    - `n_steps`: k.
    - `kernel`: the chains' moves; the energy's default if `None`.
    - `centred`: take an RBM's gradient about the units' running means.

    Source: G. Hinton, "Training products of experts by minimizing contrastive divergence"
    (2002).
    """

    n_steps: int = count_field("n_steps", 1)
    kernel: AbstractKernel | None = None
    centred: bool = False

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> Any:
        check_moves(energy, self.kernel)
        return first_offsets(energy, rows) if self.centred else None

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        check_centring(energy, self.centred)
        return AbstractObjective.prepare(self, energy, data)

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        kernel = default_kernel(energy) if self.kernel is None else self.kernel
        key_init, key_walk = jax.random.split(key)
        chains = start_chains(energy, kernel, batch, key_init)
        chains, moves = advance(energy, kernel, chains, self.n_steps, key_walk)
        gradient, measures, _ = contrast(energy, batch, chains.x)
        gradient, offsets = centre(energy, gradient, batch, state)
        return Step(gradient, offsets, {**measures, **moves})

    def calmed(self, energy: AbstractEnergy, factor: Float[Array, ""]) -> AbstractObjective:
        return calmed(energy, self, factor)
