"""The contract of every Markov move."""

import abc
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key

from energax.energies import AbstractEnergy
from energax.spaces import State


class Info(eqx.Module):
    """What a step tells about itself: numbers, of ensemble kernels one a chain."""

    acceptance: Float[Array, "..."]
    """The probability with which the move was accepted; 1 for moves that cannot be refused."""
    energy: Float[Array, "..."]
    """E at the new state."""


class AbstractKernelState(eqx.Module):
    """What the next step needs: the state x and whatever of the energy was computed at it."""

    x: eqx.AbstractVar[State]


class AbstractTermsState(AbstractKernelState):
    """A state that keeps the energy's terms at x, so that another `beta` costs no evaluation."""

    terms: eqx.AbstractVar[Any]


class AbstractKernel(eqx.Module):
    """A Markov move on one chain. Many chains are `jax.vmap`'s job.

    A subclass says whether it leaves exp(-E) exactly invariant (`is_exact`: a class variable, or
    a property of a kernel made of others), and keeps in its state what it would otherwise compute
    twice.
    """

    if TYPE_CHECKING:  # a class variable in most kernels, derived in some

        @property
        def is_exact(self) -> bool: ...
    else:
        is_exact: eqx.AbstractVar[bool]
        """Whether exp(-E) is invariant under a step, apart from rounding."""

    @abc.abstractmethod
    def init(self, energy: AbstractEnergy, x: State, key: Key[Array, ""]) -> Any:
        """The state of a chain that starts at x."""

    @abc.abstractmethod
    def step(self, energy: AbstractEnergy, state: Any, key: Key[Array, ""]) -> tuple[Any, Info]:
        """One move. `state` must have been made for this energy."""

    @abc.abstractmethod
    def refresh(self, energy: AbstractEnergy, state: Any) -> Any:
        """The same x with everything the state keeps computed again for another energy.

        To be called whenever parameters changed: a stale state is a wrong sampler.
        """

    def retemper(self, energy: AbstractEnergy, state: Any) -> Any:
        """As `refresh`, where only the energy's `beta` changed: from the kept terms, for free."""
        return self.refresh(energy, state)

    def energy_at(self, energy: AbstractEnergy, state: Any) -> Float[Array, "..."]:
        """E at the state's x, from what the state keeps where it keeps enough."""
        if isinstance(state, AbstractTermsState):
            return energy.energy_of(state.terms)
        return energy.energy(state.x)

    def motion(self, state: Any) -> Any:
        """What has to be kept beside x and the energy for a chain to go on as if it had never
        stopped: velocities. `None` if x is all."""
        return None

    def moving(self, state: Any, motion: Any) -> Any:
        """The state at the same x, with the `motion` of another."""
        return state

    def check(self, energy: AbstractEnergy) -> None:
        """Raise `ValueError` if this kernel cannot move on this energy."""
        return

    def calmed(self, factor: ArrayLike) -> "AbstractKernel":
        """The same moves with steps `factor` times as long; itself if it has no step size."""
        return self


def with_steps(kernel: Any, factor: ArrayLike) -> Any:
    """A kernel whose field `step_size` is `factor` times as large."""
    scaled = kernel.step_size * jnp.asarray(factor, kernel.step_size.dtype)
    return eqx.tree_at(lambda k: k.step_size, kernel, scaled)


class AbstractTunableKernel(AbstractKernel):
    """A kernel that finds settings of its own (a step size, a mass, a ladder) in warm-up.

    Tuning ends with the warm-up: from then on the kernel is the one `tune` returned, so that
    draws come from one fixed Markov chain.
    """

    @abc.abstractmethod
    def tune(
        self, energy: AbstractEnergy, states: Any, n_steps: Array, key: Key[Array, ""]
    ) -> tuple[AbstractKernel, Any]:
        """`n_steps` (which may be traced) of all chains, pooled: the tuned kernel, and the chains
        with states made for it. With no step nothing is tuned."""

    def tunes(self, energy: AbstractEnergy) -> bool:
        """Whether there is anything to tune on this energy."""
        return True


class AbstractEnsembleKernel(AbstractKernel):
    """A Markov move on all chains at once: chains packed in the bits of a word, chains last.

    The same methods, on the whole batch: `init` takes x with a leading axis of chains and one
    key, `step` returns an `Info` with one entry a chain, and the state's `x` is the batch. Chains
    are independent of each other unless the kernel says otherwise.
    """

    def energy_at(self, energy: AbstractEnergy, state: Any) -> Float[Array, " chains"]:
        return jax.vmap(energy.energy)(state.x)


def as_kernel(kernel: Any) -> AbstractKernel:
    """The kernel itself, or `ValueError` if it is none."""
    if not isinstance(kernel, AbstractKernel):
        raise ValueError(f"kernel must be a kernel such as ex.BlockGibbs(), got {kernel!r}")
    return kernel
