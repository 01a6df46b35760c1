"""Block Gibbs: everything redrawn, one block of independent entries after the other."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from energax.energies import (
    AbstractBipartite,
    AbstractBlocked,
    AbstractEnergy,
    keeps_terms,
    unfreeze,
)
from energax.kernels._base import AbstractKernel, AbstractKernelState, AbstractTermsState, Info
from energax.spaces import State


class BlockGibbsState(AbstractTermsState):
    """x and the energy's terms at it: for an RBM the hidden units' inputs."""

    x: State
    terms: Any


class SweepState(AbstractKernelState):
    """x alone: a sweep needs nothing else."""

    x: State


class BlockGibbs(AbstractKernel):
    """Every entry of x drawn once from its distribution given the others, in blocks; nothing is
    refused.

    On an energy with two layers: h from p(h | v), then v from p(v | h), two matrix products a
    step. The products with the new v are kept in the state, where the next step, the energy and
    the gradient of training find them. On an energy that knows blocks of its own, one after the
    other: of `Ising` and `Potts`, the colours of a checkerboard by slices, those of a sparse graph
    by gathers, the nodes of a dense one in turn by matrix products; likewise of `FactorGraph`,
    `GaussianMRF`, and conditioned models of all these.

    ```python
    import energax as ex

    draws = ex.sample(ex.Ising((8, 8), 0.3), 64, key=ex.key(0), kernel=ex.BlockGibbs(), warmup=50)
    ```

    Source: S. Geman and D. Geman, "Stochastic relaxation, Gibbs distributions, and the Bayesian
    restoration of images" (1984); for two layers G. Hinton, "Training products of experts by
    minimizing contrastive divergence" (2002).
    """

    is_exact: ClassVar[bool] = True

    def check(self, energy: AbstractEnergy) -> None:
        if not isinstance(unfreeze(energy), AbstractBipartite | AbstractBlocked):
            raise ValueError(
                "BlockGibbs needs an energy with two layers, such as an RBM, or one on a graph,"
                f" such as Ising, got {type(energy).__name__}"
            )

    def init(
        self, energy: AbstractEnergy, x: State, key: Key[Array, ""]
    ) -> BlockGibbsState | SweepState:
        if isinstance(unfreeze(energy), AbstractBlocked):
            return SweepState(energy.space.clamp(x))
        return BlockGibbsState(x, energy.terms(x))

    def step(
        self, energy: AbstractEnergy, state: BlockGibbsState | SweepState, key: Key[Array, ""]
    ) -> tuple[BlockGibbsState | SweepState, Info]:
        model = unfreeze(energy)
        if isinstance(model, AbstractBlocked):
            new = SweepState(model.sweep(state.x, key))
            value = model.energy(new.x)
        else:
            assert isinstance(model, AbstractBipartite)
            assert isinstance(state, BlockGibbsState)
            key_hidden, key_visible = jax.random.split(key)
            h = model.draw_hidden(state.terms, key_hidden)
            x = model.pack(model.draw_visible(h, key_visible), h)
            new = BlockGibbsState(x, model.terms(x))
            value = model.energy_of(new.terms)
        return new, Info(jnp.ones_like(value), value)

    def refresh(
        self, energy: AbstractEnergy, state: BlockGibbsState | SweepState
    ) -> BlockGibbsState | SweepState:
        if isinstance(state, SweepState):
            return SweepState(energy.space.clamp(state.x))
        return BlockGibbsState(state.x, energy.terms(state.x))

    def retemper(
        self, energy: AbstractEnergy, state: BlockGibbsState | SweepState
    ) -> BlockGibbsState | SweepState:
        return state if keeps_terms(energy) else self.refresh(energy, state)
