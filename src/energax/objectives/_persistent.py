"""Persistent contrastive divergence: chains that live as long as the training."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels import AbstractKernel, refresh_chains, start_chains
from energax.objectives._base import AbstractObjective, Step, contrast, count_field
from energax.objectives._centring import centre, check_centring, first_offsets
from energax.objectives._chains import advance, calmed, check_moves
from energax.sampling import default_kernel
from energax.spaces import State


class PersistentState(eqx.Module):
    """The chains, and the units' running means if the gradient is centred."""

    chains: Any
    offsets: Any


class PersistentContrastiveDivergence(AbstractObjective):
    """Maximum likelihood whose model states come from chains that are never started anew.

    While the parameters change slowly the chains stay near the model's distribution, and the
    gradient near that of the likelihood; with exact draws for chains it is unbiased.

    **Arguments:**

    - `n_steps`: steps of every chain a gradient.
    - `n_chains`: how many; their mean is weighed as one, whatever the batch's size.
    - `kernel`: the chains' moves; the energy's default if `None`.
    - `centred`: take an RBM's gradient about the units' running means.

    Sources: L. Younes, "Estimation and annealing for Gibbsian fields" (1988); T. Tieleman,
    "Training restricted Boltzmann machines using approximations to the likelihood gradient"
    (2008).
    """

    n_steps: int = count_field("n_steps", 1)
    n_chains: int = count_field("n_chains", 100)
    kernel: AbstractKernel | None = None
    centred: bool = False

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        check_centring(energy, self.centred)
        return AbstractObjective.prepare(self, energy, data)

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> PersistentState:
        check_moves(energy, self.kernel)
        kernel = default_kernel(energy) if self.kernel is None else self.kernel
        key_draw, key_init = jax.random.split(key)
        x = jax.vmap(energy.space.draw)(jax.random.split(key_draw, self.n_chains))
        chains = start_chains(energy, kernel, x, key_init)
        return PersistentState(chains, first_offsets(energy, rows) if self.centred else None)

    def gradient(
        self,
        energy: AbstractEnergy,
        batch: State,
        state: PersistentState,
        *,
        key: Key[Array, ""],
    ) -> Step:
        kernel = default_kernel(energy) if self.kernel is None else self.kernel
        # The energy has changed since the chains last moved.
        chains = refresh_chains(energy, kernel, state.chains)
        chains, moves = advance(energy, kernel, chains, self.n_steps, key)
        gradient, measures, energies = contrast(energy, batch, chains.x)
        gradient, offsets = centre(energy, gradient, batch, state.offsets)
        measures = {**measures, **moves}
        return Step(gradient, PersistentState(chains, offsets), measures, energies)

    def calmed(self, energy: AbstractEnergy, factor: Float[Array, ""]) -> AbstractObjective:
        return calmed(energy, self, factor)

    def chains(self, state: PersistentState) -> State:
        return state.chains.x
