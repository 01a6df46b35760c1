"""Alternating: the parts of a `Joint`, each moved by a kernel of its own, given the others."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key

from energax.energies import AbstractEnergy, keeps_terms
from energax.kernels._base import (
    AbstractEnsembleKernel,
    AbstractKernel,
    AbstractKernelState,
    Info,
)
from energax.kernels._metropolis import MetropolisState, from_terms
from energax.kernels._tuning import AbstractStepwiseTunableKernel, AbstractTuning
from energax.spaces import AbstractSpace, Joint, State


class Part(AbstractEnergy):
    """p(one part of a `Joint` | the other parts): its states are the part's own."""

    inner: AbstractEnergy
    name: str = eqx.field(static=True)
    others: dict[str, Any]

    fixed: ClassVar[tuple[str, ...]] = ("others",)

    @property
    def space(self) -> AbstractSpace:
        joint = self.inner.space
        assert isinstance(joint, Joint)
        return joint.parts[self.name]

    def energy(self, x: State) -> Float[Array, ""]:
        return self.inner.energy({**self.others, self.name: x})

    def terms(self, x: State) -> Any:
        return self.inner.terms({**self.others, self.name: x})

    def energy_of(self, terms: Any) -> Float[Array, ""]:
        return self.inner.energy_of(terms)


class AlternatingState(AbstractKernelState):
    """The states of the parts' kernels. That of the last part fits the present x; the others were
    made before later parts moved, and are made again before they are used."""

    parts: dict[str, Any]

    def __init__(self, parts: dict[str, Any]):
        self.parts = parts

    @property
    def x(self) -> dict[str, Any]:
        return {name: state.x for name, state in self.parts.items()}


class Alternating(AbstractStepwiseTunableKernel):
    """A step moves each part of a `Joint` once, in the order of their names, each by its kernel on
    p(part | the other parts).

    Exact if all its kernels are. What a kernel keeps of the energy is renewed when the other parts
    have moved: from the terms the kernel before it left, if both keep nothing else (`Gibbs` and
    the Metropolis kernels), and by one evaluation otherwise.

    **Arguments:**

    - `kernels`: one for each part, by name. The kernel of a part that is itself a `Joint` may be
      an `Alternating`, or one that moves on all of it.

    In warm-up (`sample`'s, say) kernels that tune themselves do so while the other parts move too,
    from all chains together: a step size suits the conditionals that the chains meet, on average.
    (A `ReplicaExchange` of a part keeps its ladder.)

    The acceptance it reports is the mean over parts.

    **Raises:** `ValueError` if `kernels` is no dictionary of kernels, or has one of many chains,
    which cannot take a condition of its own for each chain; in `check` if its names are not those
    of the parts, or a kernel does not fit its part.

    ```python
    import energax as ex
    import jax.numpy as jnp

    centres = jnp.array([-2.0, 0.0, 3.0])
    space = ex.Joint(label=ex.Categorical(n_states=3), x=ex.Real())
    energy = ex.NeuralEnergy(lambda s: -0.5 * (s["x"] - centres[s["label"]]) ** 2, space)
    kernel = ex.Alternating({"label": ex.Gibbs(), "x": ex.RandomWalkMetropolis(2.0)})
    draws = ex.sample(energy, 200, key=ex.key(0), kernel=kernel, chains=4, warmup=50)
    ```

    Source: L. Tierney, "Markov chains for exploring posterior distributions" (1994), section 2.4,
    on hybrid kernels.
    """

    kernels: dict[str, AbstractKernel]

    def __init__(self, kernels: dict[str, AbstractKernel]):
        if not isinstance(kernels, dict) or not kernels:
            raise ValueError(f"kernels must be a dictionary of kernels by part, got {kernels!r}")
        for name, kernel in kernels.items():
            if not isinstance(kernel, AbstractKernel):
                raise ValueError(
                    f"the kernel of part {name!r} must be a kernel, got {type(kernel).__name__}"
                )
            if isinstance(kernel, AbstractEnsembleKernel):
                raise ValueError(
                    f"{type(kernel).__name__} moves all chains at once, and for part {name!r} the"
                    " energy is another one in each chain: give a kernel of one chain"
                )
        self.kernels = {name: kernels[name] for name in sorted(kernels)}

    @property
    def is_exact(self) -> bool:
        return all(kernel.is_exact for kernel in self.kernels.values())

    def check(self, energy: AbstractEnergy) -> None:
        space = energy.space
        if not isinstance(space, Joint):
            raise ValueError(f"Alternating needs an energy over a Joint space, got {space}")
        if set(space.parts) != set(self.kernels):
            raise ValueError(
                f"Alternating needs a kernel for each of {list(space.parts)}, got"
                f" {list(self.kernels)}"
            )
        with jax.ensure_compile_time_eval():
            x = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), space.structure)
        for name, kernel in self.kernels.items():
            try:
                kernel.check(_part(energy, name, x))
            except ValueError as error:
                raise ValueError(f"part {name!r}: {error}") from None

    def calmed(self, factor: ArrayLike) -> "Alternating":
        calmer = {name: kernel.calmed(factor) for name, kernel in self.kernels.items()}
        if all(calmer[name] is kernel for name, kernel in self.kernels.items()):
            return self
        return Alternating(calmer)

    def init(self, energy: AbstractEnergy, x: State, key: Key[Array, ""]) -> AlternatingState:
        keys = jax.random.split(key, len(self.kernels))
        return AlternatingState(
            {
                name: kernel.init(_part(energy, name, x), x[name], key)
                for key, (name, kernel) in zip(keys, self.kernels.items(), strict=True)
            }
        )

    def motion(self, state: AlternatingState) -> Any:
        kept = {name: kernel.motion(state.parts[name]) for name, kernel in self.kernels.items()}
        return kept if jax.tree.leaves(kept) else None

    def moving(self, state: AlternatingState, motion: Any) -> AlternatingState:
        if motion is None:
            return state
        return AlternatingState(
            {
                name: kernel.moving(state.parts[name], motion[name])
                for name, kernel in self.kernels.items()
            }
        )

    def step(
        self, energy: AbstractEnergy, state: AlternatingState, key: Key[Array, ""]
    ) -> tuple[AlternatingState, Info]:
        steps = {name: kernel.step for name, kernel in self.kernels.items()}
        state, infos = self.moved(energy, state, key, steps)
        acceptance = sum(info.acceptance for info in infos.values()) / len(infos)
        return state, Info(jnp.asarray(acceptance), infos[self._last].energy)

    def moved(
        self,
        energy: AbstractEnergy,
        state: AlternatingState,
        key: Key[Array, ""],
        steps: dict[str, Callable],
    ) -> tuple[AlternatingState, dict[str, Any]]:
        """Each part moved once by its step, and what that told."""
        keys = jax.random.split(key, len(self.kernels))
        parts, told = dict(state.parts), {}
        before = parts[self._last]
        for part_key, (name, kernel) in zip(keys, self.kernels.items(), strict=True):
            here = _part(energy, name, AlternatingState(parts).x)
            if len(parts) > 1:
                parts[name] = _renewed(kernel, here, parts[name], before)
            parts[name], told[name] = steps[name](here, parts[name], part_key)
            before = parts[name]
        return AlternatingState(parts), told

    def tuning(self, energy: AbstractEnergy, n_steps: Array) -> "AlternatingTuning | None":
        space = energy.space
        x = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), space.structure)
        parts = {}
        for name, kernel in self.kernels.items():
            if isinstance(kernel, AbstractStepwiseTunableKernel):
                parts[name] = kernel.tuning(_part(energy, name, x), n_steps)
        parts = {name: tuning for name, tuning in parts.items() if tuning is not None}
        return AlternatingTuning(self, parts) if parts else None

    def refresh(self, energy: AbstractEnergy, state: AlternatingState) -> AlternatingState:
        here, last = _part(energy, self._last, state.x), state.parts[self._last]
        return self._renewed_from(self.kernels[self._last].refresh(here, last), energy, state)

    def retemper(self, energy: AbstractEnergy, state: AlternatingState) -> AlternatingState:
        last = state.parts[self._last]
        if keeps_terms(energy) and type(last) is MetropolisState:
            here = _part(energy, self._last, state.x)
            return self._renewed_from(from_terms(here, last.x, last.terms), energy, state)
        return self.refresh(energy, state)

    def _renewed_from(
        self, last: Any, energy: AbstractEnergy, state: AlternatingState
    ) -> AlternatingState:
        x, parts = state.x, {}
        for name, kernel in self.kernels.items():
            here = _part(energy, name, x)
            same = name == self._last
            parts[name] = last if same else _renewed(kernel, here, state.parts[name], last)
        return AlternatingState(parts)

    def energy_at(self, energy: AbstractEnergy, state: AlternatingState) -> Float[Array, ""]:
        name = self._last
        return self.kernels[name].energy_at(_part(energy, name, state.x), state.parts[name])

    @property
    def _last(self) -> str:
        return list(self.kernels)[-1]


class AlternatingTuning(AbstractTuning):
    """Each part's settings, from how its kernel does while the others move too."""

    kernel: Alternating
    parts: dict[str, AbstractTuning]
    """Of those of its kernels that have something to tune."""

    def step(
        self, energy: AbstractEnergy, state: AlternatingState, key: Key[Array, ""]
    ) -> tuple[AlternatingState, dict[str, Any]]:
        steps = {name: kernel.step for name, kernel in self.kernel.kernels.items()}
        tuned = {name: part.step for name, part in self.parts.items()}
        return self.kernel.moved(energy, state, key, {**steps, **tuned})

    def after(self, states: AlternatingState, told: dict[str, Any]) -> "AlternatingTuning":
        parts = {
            name: part.after(states.parts[name], told[name]) for name, part in self.parts.items()
        }
        return AlternatingTuning(self.kernel, parts)

    def found(self) -> Alternating:
        found = {name: part.found() for name, part in self.parts.items()}
        return Alternating({**self.kernel.kernels, **found})


def _part(energy: AbstractEnergy, name: str, x: dict[str, Any]) -> Part:
    return Part(energy, name, {other: x[other] for other in x if other != name})


def _renewed(kernel: AbstractKernel, here: Part, state: Any, before: Any) -> Any:
    """A part's state now that others have moved; `before` was made at the present x."""
    if type(state) is MetropolisState and type(before) is MetropolisState:
        return from_terms(here, state.x, before.terms)
    return kernel.refresh(here, state)
