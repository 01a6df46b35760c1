"""Block Gibbs on a bipartite energy: all hidden units, then all visible ones."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from energax.energies import AbstractBipartite, AbstractEnergy, keeps_terms, unfreeze
from energax.kernels._base import AbstractKernel, AbstractTermsState, Info
from energax.spaces import State


class BlockGibbsState(AbstractTermsState):
    """x and the energy's terms at it: for an RBM the hidden units' inputs."""

    x: State
    terms: Any


class BlockGibbs(AbstractKernel):
    """h from p(h | v), then v from p(v | h): two matrix products a step, nothing refused.

    The products with the new v are kept in the state, where the next step, the energy and the
    gradient of training find them.

    Source: G. Hinton, "Training products of experts by minimizing contrastive divergence"
    (2002).
    """

    is_exact: ClassVar[bool] = True

    def check(self, energy: AbstractEnergy) -> None:
        if not isinstance(unfreeze(energy), AbstractBipartite):
            raise ValueError(
                "BlockGibbs needs an energy with two layers, such as an RBM, got"
                f" {type(energy).__name__}"
            )

    def init(self, energy: AbstractEnergy, x: State, key: Key[Array, ""]) -> BlockGibbsState:
        return BlockGibbsState(x, energy.terms(x))

    def step(
        self, energy: AbstractEnergy, state: BlockGibbsState, key: Key[Array, ""]
    ) -> tuple[BlockGibbsState, Info]:
        model = unfreeze(energy)
        assert isinstance(model, AbstractBipartite)
        key_hidden, key_visible = jax.random.split(key)
        h = model.draw_hidden(state.terms, key_hidden)
        x = model.pack(model.draw_visible(h, key_visible), h)
        new = BlockGibbsState(x, model.terms(x))
        value = model.energy_of(new.terms)
        return new, Info(jnp.ones_like(value), value)

    def refresh(self, energy: AbstractEnergy, state: BlockGibbsState) -> BlockGibbsState:
        return BlockGibbsState(state.x, energy.terms(state.x))

    def retemper(self, energy: AbstractEnergy, state: BlockGibbsState) -> BlockGibbsState:
        return state if keeps_terms(energy) else self.refresh(energy, state)
