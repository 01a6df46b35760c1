"""A ladder of replica exchange as one chain, whose state is the states on all rungs.

The replica at beta = 1 alone is no Markov chain: what is invariant is the product of the rungs.
"""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

import energax as ex
from energax.kernels import AbstractKernel, AbstractKernelState, Info, ReplicaExchange


class Rungs(NamedTuple):
    """Where the states on all rungs lie, from hot to cold on a leading axis."""

    space: Any
    n: int


class Together(ex.AbstractEnergy):
    """The energy of all rungs at once."""

    exchange: ReplicaExchange
    model: ex.AbstractEnergy

    @property
    def space(self) -> Any:
        return Rungs(self.model.space, self.exchange.n_replicas)

    def rung(self, i: int) -> ex.AbstractEnergy:
        """The energy on one of them."""
        return self.exchange._rungs.at(self.model, self.exchange.betas[i])

    def hot_energy(self, x):
        """Of all rungs but the last."""
        each = [self.rung(i).energy(_at(x, i)) for i in range(self.exchange.n_replicas - 1)]
        return jnp.sum(jnp.stack(each))

    def energy(self, x):
        return self.hot_energy(x) + self.model.energy(_at(x, -1))


class WholeLadderState(AbstractKernelState):
    x: Any
    state: Any


class WholeLadder(AbstractKernel):
    """A `ReplicaExchange` on a `Together`."""

    exchange: ReplicaExchange
    level: tuple[int, ...] = eqx.field(static=True)
    """On which rung each replica begins."""
    odd: bool = eqx.field(static=True, default=False)
    """Which swaps come first."""

    is_exact: ClassVar[bool] = True

    def init(self, energy: Any, x, key) -> Any:
        level = jnp.asarray(self.level)
        state = self.exchange.init(energy.model, _at(x, -1), key)
        state = eqx.tree_at(
            lambda s: (s.level, s.odd, s.replicas.x),
            state,
            (level, jnp.asarray(self.odd), jax.tree.map(lambda leaf: leaf[level], x)),
        )
        return WholeLadderState(x, self.exchange.refresh(energy.model, state))

    def step(self, energy: Any, state, key) -> Any:
        new, info = self.exchange.step(energy.model, state.state, key)
        x = rungs(new)
        return WholeLadderState(x, new), Info(info.acceptance, info.energy + energy.hot_energy(x))

    def refresh(self, energy: Any, state) -> Any:
        return WholeLadderState(state.x, self.exchange.refresh(energy.model, state.state))


def rungs(state):
    """The states of one ladder, from hot to cold."""
    at = jnp.argsort(state.level)
    return jax.tree.map(lambda leaf: leaf[at], state.replicas.x)


def whole(kernel: AbstractKernel, energy: ex.AbstractEnergy) -> tuple[AbstractKernel, Any]:
    """A pair whose x is a Markov chain: of a ladder, all of its rungs."""
    if not isinstance(kernel, ReplicaExchange):
        return kernel, energy
    n = kernel.n_replicas
    return WholeLadder(kernel, (n - 1, *range(n - 1))), Together(kernel, energy)


def _at(x, i: int):
    return jax.tree.map(lambda leaf: leaf[i], x)
