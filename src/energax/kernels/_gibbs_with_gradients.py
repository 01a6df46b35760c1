"""Gibbs with gradients: flip the entry whose flip the gradient recommends."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels._base import Info
from energax.kernels._flips import (
    AbstractFlipKernel,
    AbstractFlipState,
    accept_or_stay,
    flip_state,
    flipped,
    may_flip,
)
from energax.random import Choices, choices, choose
from energax.spaces import AbstractSpace


class ChoiceState(AbstractFlipState):
    """What a `FlipState` has, and what drawing an entry to flip takes of its gains."""

    x: Array
    energy: Float[Array, ""]
    terms: Any
    gains: Float[Array, " entries"]
    doubt: Float[Array, ""]
    choices: Choices


class GibbsWithGradients(AbstractFlipKernel):
    """One entry flips, chosen by what the gradient says its flip would gain; then Metropolis.

    With d_i the first-order guess of log p(x with i flipped) - log p(x), entry i is proposed with
    probability

        q(i | x) = softmax(d / 2)_i,

    and the flip accepted with probability min(1, p(y) q(i | y) / (p(x) q(i | x))). However poor
    the guess, the move is exact. One gradient a step, at the proposal; the way back needs it and
    the next step finds it.

    For networks over `Binary` and `Spin` spaces, conditioned ones too, whose energies are
    defined between the values as well. On other spaces `Gibbs` needs no gradient.

    ```python
    import energax as ex
    import equinox as eqx

    network = eqx.nn.MLP(16, "scalar", 8, 1, key=ex.key(0))
    energy = ex.NeuralEnergy(network, ex.Spin(16))
    kernel = ex.GibbsWithGradients()
    draws = ex.sample(energy, 200, key=ex.key(1), kernel=kernel, chains=4, warmup=50)
    ```

    Source: W. Grathwohl, K. Swersky, M. Hashemi, D. Duvenaud and C. Maddison, "Oops I took a
    gradient: scalable sampling for discrete distributions" (2021), algorithm 1.
    """

    is_exact: ClassVar[bool] = True

    def state_at(self, energy: AbstractEnergy, x: Array, doubt: Float[Array, ""]) -> ChoiceState:
        state = flip_state(energy, x, doubt)
        made = choices(_logits(energy.space, state.gains))
        return ChoiceState(x, state.energy, state.terms, state.gains, doubt, made)

    def step(
        self, energy: AbstractEnergy, state: ChoiceState, key: Key[Array, ""]
    ) -> tuple[ChoiceState, Info]:
        key_site, key_accept = jax.random.split(key)
        there = _logits(energy.space, state.gains)
        site = choose(key_site, there, state.choices)
        chosen = jnp.arange(there.size) == site
        free = may_flip(energy.space)
        if free is not None:
            chosen &= free  # of no free entry the first is drawn, and stays
        y = jnp.where(chosen.reshape(state.x.shape), flipped(energy.space, state.x), state.x)
        new = self.state_at(energy, y, state.doubt)
        log_back = _logits(energy.space, new.gains)[site] - new.choices.log_normaliser
        log_there = there[site] - state.choices.log_normaliser
        # Both are impossible only where nothing is free: x proposes itself.
        log_ratio = jnp.where(jnp.isnan(log_back - log_there), 0.0, log_back - log_there)
        return accept_or_stay(state, new, log_ratio, key_accept)


def _logits(space: AbstractSpace, gains: Float[Array, " entries"]) -> Float[Array, " entries"]:
    """log q of each entry, up to a constant; `-inf` of those that are held."""
    free = may_flip(space)
    return gains / 2 if free is None else jnp.where(free, gains / 2, -jnp.inf)
