"""The rungs of a ladder: which kernel moves which energy on each, and the replicas on them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from energax.energies import AbstractEnergy, AbstractTractable, path, temper
from energax.kernels._base import AbstractKernel, AbstractKernelState
from energax.kernels._ladder import Swaps
from energax.spaces import State


class ReplicaExchangeState(AbstractKernelState):
    """The replicas of one chain. `x` is the one at beta = 1."""

    x: State
    energy: Float[Array, ""]
    replicas: Any
    """The inner kernel's states, on a leading axis. They stay where they are: temperatures move."""
    level: Int[Array, " replicas"]
    """Where on the ladder each replica stands; 0 is the hottest rung."""
    odd: Bool[Array, ""]
    """Whether the next swaps are those of odd rungs with the next colder ones, or of even."""
    swaps: Swaps


class Rungs(eqx.Module):
    """What a `ReplicaExchange` is made of."""

    kernel: AbstractKernel
    betas: Float[Array, " replicas"]
    base: AbstractTractable | None
    settings: Any

    @property
    def n(self) -> int:
        """How many."""
        return self.betas.shape[0]

    def at(self, energy: AbstractEnergy, beta: ArrayLike) -> AbstractEnergy:
        """The energy on one rung."""
        return temper(energy, beta) if self.base is None else path(self.base, energy, beta)

    def inner(self, level: Array) -> AbstractKernel:
        """The kernel of one rung."""
        if self.settings is None:
            return self.kernel
        return eqx.combine(jax.tree.map(lambda leaf: leaf[level], self.settings), self.kernel)

    def each(
        self, method: Callable, energy: AbstractEnergy, level: Int[Array, " replicas"], *given: Any
    ) -> Any:
        """`method(kernel, model, ...)` of every replica at once, each on its own rung."""

        def one(level, *given):
            return method(self.inner(level), self.at(energy, self.betas[level]), *given)

        return jax.vmap(one)(level, *given)

    def start(self, energy: AbstractEnergy, x: State, key: Key[Array, ""]) -> ReplicaExchangeState:
        """One replica at x on every rung."""
        level = jnp.arange(self.n)
        replicas = self.each(
            lambda kernel, model, key: kernel.init(model, x, key),
            energy,
            level,
            jax.random.split(key, self.n),
        )
        coldest = jax.tree.map(lambda leaf: leaf[-1], replicas)
        return ReplicaExchangeState(
            x=x,
            energy=self._energy_at_one(energy, coldest),
            replicas=replicas,
            level=level,
            odd=jnp.zeros((), bool),
            swaps=Swaps.none(level, self.betas.dtype),
        )

    def again(
        self, energy: AbstractEnergy, state: ReplicaExchangeState, method: str
    ) -> ReplicaExchangeState:
        """The same replicas where the energy or the rungs changed, by the kernel's `method`:
        `refresh` or `retemper`."""
        replicas = self.each(
            lambda kernel, *given: getattr(kernel, method)(*given),
            energy,
            state.level,
            state.replicas,
        )
        cold = jnp.argmax(state.level)
        one = jax.tree.map(lambda leaf: leaf[cold], replicas)
        return eqx.tree_at(
            lambda s: (s.x, s.energy, s.replicas),
            state,
            (one.x, self._energy_at_one(energy, one), replicas),
        )

    def redrawn(
        self, energy: AbstractEnergy, level: Array, replicas: Any, key: Key[Array, ""]
    ) -> Any:
        """The replica at beta = 0 replaced by a draw from the base."""
        assert self.base is not None
        key_draw, key_init = jax.random.split(key)
        hot = jnp.argmin(level)
        model = self.at(energy, self.betas[0])
        fresh = self.inner(jnp.zeros((), level.dtype)).init(
            model, self.base.draw(key_draw), key_init
        )
        return jax.tree.map(lambda all, one: all.at[hot].set(one), replicas, fresh)

    def _energy_at_one(self, energy: AbstractEnergy, replica: Any) -> Float[Array, ""]:
        """E of a replica that stands at beta = 1."""
        kernel = self.inner(jnp.asarray(self.n - 1))
        return kernel.energy_at(self.at(energy, self.betas[-1]), replica)
