"""Gibbs with gradients: flip the entry whose flip the gradient recommends."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from energax.energies import AbstractEnergy
from energax.kernels._base import Info
from energax.kernels._flips import (
    AbstractFlipKernel,
    FlipState,
    accept_or_stay,
    flip_state,
    flipped,
    may_flip,
)
from energax.random import categorical


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

    def step(
        self, energy: AbstractEnergy, state: FlipState, key: Key[Array, ""]
    ) -> tuple[FlipState, Info]:
        key_site, key_accept = jax.random.split(key)
        free = may_flip(energy.space)

        def logits(gains):
            return gains / 2 if free is None else jnp.where(free, gains / 2, -jnp.inf)

        there = logits(state.gains)
        site = categorical(key_site, there)
        chosen = jnp.arange(there.size) == site
        if free is not None:
            chosen &= free  # of no free entry the first is drawn, and stays
        y = jnp.where(chosen.reshape(state.x.shape), flipped(energy.space, state.x), state.x)
        new = flip_state(energy, y)
        log_ratio = _log_softmax_at(logits(new.gains), site) - _log_softmax_at(there, site)
        # Both are impossible only where nothing is free: x proposes itself.
        log_ratio = jnp.where(jnp.isnan(log_ratio), 0.0, log_ratio)
        return accept_or_stay(energy, state, new, log_ratio, key_accept)


def _log_softmax_at(logits: Float[Array, " n"], index: Int[Array, ""]) -> Float[Array, ""]:
    return logits[index] - jax.nn.logsumexp(logits)
