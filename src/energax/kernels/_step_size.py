"""A step size that meets a target acceptance, found while chains run."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from energax.energies import AbstractEnergy
from energax.energies._parameters import finite_array, is_traced
from energax.kernels._base import AbstractKernel, Info, with_steps
from energax.kernels._tuning import AbstractStepwiseTunableKernel, AbstractTuning

_RANGE = 1e15
"""A step size stays within this factor of the one given, whatever the acceptance says."""

UNLIMITED = float("inf")

_FRESH_STARTS = (0.1, 0.25, 0.5)
"""Parts of the warm-up after which the search starts again from where it is: what was learnt
before chains have reached the typical set says nothing of it."""


class StepSizeSearch(eqx.Module):
    """Doubled or halved until the acceptance crosses its target, then dual averaging
    (M. D. Hoffman and A. Gelman, "The No-U-Turn sampler", 2014, section 3.2), which is blackjax's.
    """

    step_size: Float[Array, ""]
    """To be used next."""
    first: Float[Array, ""]
    target: Float[Array, ""]
    largest: float = eqx.field(static=True)
    averaging: Any
    """The state of dual averaging; of no meaning while the step size doubles or halves."""
    direction: Float[Array, ""]
    """While it does, which of them, +1 or -1; 0 before the first step."""
    searching: Bool[Array, ""]

    def __init__(
        self, step_size: Float[Array, ""], target: Float[Array, ""], largest: float = UNLIMITED
    ):
        self.step_size = self.first = step_size
        self.target = target
        self.largest = largest
        self.averaging = _settled(step_size, target)
        self.direction = jnp.zeros_like(step_size)
        self.searching = jnp.ones((), bool)

    def after(
        self,
        info: Info,
        *,
        counts: Bool[Array, " chains"] | None = None,
        worst: Bool[Array, ""] | bool = False,
        restart: Bool[Array, ""] | bool = False,
    ) -> "StepSizeSearch":
        """With one more step of all chains. A step that tells nothing changes nothing.

        **Arguments:**

        - `counts`: which chains' acceptance is one of this step size; all if `None`.
        - `worst`: whether those that accept least have the say.
        - `restart`: whether the search starts again after this step, from where it is.
        """
        acceptance, n = pooled_acceptance(info, counts=counts, worst=worst)
        dtype, known = self.step_size.dtype, n > 0
        acceptance = jnp.where(known, acceptance.astype(dtype), self.target)
        _, update, _ = _dual_averaging(self.target)
        direction = jnp.where(acceptance > self.target, 1.0, -1.0).astype(dtype)
        crossed = self.searching & (self.direction != 0) & (direction != self.direction)
        searching = self.searching & ~crossed
        averaging = select(
            crossed, _settled(self.step_size, self.target), update(self.averaging, acceptance)
        )
        tuned = jnp.where(crossed, self.step_size, jnp.exp(averaging.log_step_size))
        step_size = self._within(jnp.where(searching, self.step_size * 2.0**direction, tuned))
        new = (step_size, averaging, direction, searching)
        old = (self.step_size, self.averaging, self.direction, self.searching)
        step_size, averaging, direction, searching = select(known, new, old)
        return eqx.tree_at(
            lambda s: (s.step_size, s.averaging, s.direction, s.searching),
            self,
            (
                step_size,
                averaging,
                jnp.where(restart, 0.0, direction).astype(dtype),
                searching | restart,
            ),
        )

    def found(self) -> Float[Array, ""]:
        """The average of what dual averaging tried, or where the search stands."""
        _, _, average = _dual_averaging(self.target)
        # An average of nothing, where the search was still on, is no step size.
        known = ~self.searching & (self.averaging.step > 1)
        return jnp.where(known, self._within(average(self.averaging)), self.step_size)

    def _within(self, step_size: Array) -> Array:
        most = jnp.minimum(self.first * _RANGE, self.largest)
        return jnp.clip(step_size, self.first / _RANGE, most)


class AbstractStepSizeKernel(AbstractStepwiseTunableKernel):
    """A kernel whose one setting is a step size, found in warm-up for a target acceptance."""

    step_size: eqx.AbstractVar[Float[Array, ""]]
    largest: eqx.AbstractClassVar[float]
    """Beyond this a longer step changes nothing."""

    @abc.abstractmethod
    def aim(self, energy: AbstractEnergy) -> Float[Array, ""] | None:
        """The acceptance to aim at on the energy's space; `None` if nothing is to be tuned."""

    def calmed(self, factor: ArrayLike) -> AbstractKernel:
        return with_steps(self, factor)

    def told_step(
        self, energy: AbstractEnergy, state: Any, key: Key[Array, ""]
    ) -> tuple[Any, Info, Bool[Array, ""]]:
        """A step, and whether its acceptance depends on the step size."""
        return *self.step(energy, state, key), jnp.ones((), bool)

    def tuning(self, energy: AbstractEnergy, n_steps: Array) -> "StepSizeTuning | None":
        target = self.aim(energy)
        if target is None:
            return None
        search = StepSizeSearch(self.step_size, target.astype(self.step_size.dtype), self.largest)
        starts = parts_of(n_steps, _FRESH_STARTS)
        return StepSizeTuning(self, search, starts, jnp.zeros((), jnp.int32))


class StepSizeTuning(AbstractTuning):
    """A step size alone."""

    kernel: Any
    search: StepSizeSearch
    starts: Int[Array, " starts"]
    n_done: Int[Array, ""]

    def step(
        self, energy: AbstractEnergy, state: Any, key: Key[Array, ""]
    ) -> tuple[Any, tuple[Info, Bool[Array, ""]]]:
        kernel = _with_step_size(self.kernel, self.search.step_size)
        state, info, counts = kernel.told_step(energy, state, key)
        return state, (info, counts)

    def after(self, states: Any, told: tuple[Info, Bool[Array, " chains"]]) -> "StepSizeTuning":
        info, counts = told
        n_done = self.n_done + 1
        restart = jnp.any(n_done == self.starts)
        search = self.search.after(info, counts=counts, restart=restart)
        return StepSizeTuning(self.kernel, search, self.starts, n_done)

    def found(self) -> AbstractKernel:
        return _with_step_size(self.kernel, self.search.found())


def pooled_acceptance(
    info: Info,
    *,
    counts: Bool[Array, " chains"] | None = None,
    worst: Bool[Array, ""] | bool = False,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mean acceptance over the chains that count and have not failed, and how many these are.

    An acceptance that is not a number counts as 0. The `worst` chains are given the say by a
    harmonic mean, so that steps become short enough for all of them (M. D. Hoffman and
    P. Sountsov, "Tuning-free generalized Hamiltonian Monte Carlo", 2022).
    """
    sound = jnp.isfinite(info.energy)
    sound = sound if counts is None else sound & counts
    acceptance = jnp.where(jnp.isfinite(info.acceptance), info.acceptance, 0.0)
    n = jnp.sum(sound, dtype=acceptance.dtype)
    mean = jnp.sum(jnp.where(sound, acceptance, 0.0)) / jnp.maximum(n, 1.0)
    least = jnp.finfo(acceptance.dtype).tiny
    harmonic = n / jnp.sum(jnp.where(sound, 1 / jnp.maximum(acceptance, least), 0.0))
    return jnp.where(worst, harmonic, mean), n


def parts_of(n_steps: Array, fractions: tuple[float, ...]) -> Int[Array, " parts"]:
    """After how many steps these parts of them are done."""
    parts = jnp.asarray(fractions, jnp.float32)
    return (parts * jnp.asarray(n_steps).astype(jnp.float32)).astype(jnp.int32)


def as_fraction(value: ArrayLike, name: str, *, least: float | None = None) -> Array:
    """A number between 0 and 1, neither of them unless 0 is the `least`."""
    fraction = finite_array(value, name, shape=(), positive=least is None)
    if not is_traced(fraction) and not (least or 0.0) <= float(fraction) < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {float(fraction):g}")
    return fraction


def select(condition: Bool[Array, ""], new: Any, old: Any) -> Any:
    """One of two trees."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _with_step_size(kernel: Any, step_size: Array) -> Any:
    return eqx.tree_at(lambda k: k.step_size, kernel, step_size)


def _settled(step_size: Array, target: Array) -> Any:
    """Dual averaging from here, shrinking to here: the search has come near already."""
    start, _, _ = _dual_averaging(target)
    begun = start(step_size)._replace(mu=jnp.log(step_size))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, step_size.dtype), begun)


def _dual_averaging(target: Array) -> Any:
    from blackjax.adaptation.step_size import dual_averaging_adaptation

    make: Any = dual_averaging_adaptation
    return make(target)
