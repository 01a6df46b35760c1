"""Marginals: parts of a joint state summed out."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from energax.energies._base import AbstractEnergy
from energax.energies._streaming import log_sum_exp
from energax.energies.algebra._frozen import Frozen, freeze
from energax.spaces import AbstractSpace, Joint, State

_AT_ONCE = 1 << 12
"""States of the summed parts that are evaluated side by side."""

_MOST = 1 << 32


class Marginal(AbstractEnergy):
    """E(x) = -log sum_y exp(-E(x, y)): some discrete parts of a `Joint` summed out exactly.

    Made by `ex.marginal`. A state is a dictionary of the parts that are left.
    """

    inner: AbstractEnergy
    summed: tuple[str, ...] = eqx.field(static=True)

    @property
    def space(self) -> Joint:
        return Joint({k: part for k, part in _parts(self.inner).items() if k not in self.summed})

    @property
    def summed_space(self) -> Joint:
        """The space of the parts that are summed out."""
        parts = _parts(self.inner)
        return Joint({name: parts[name] for name in self.summed})

    def energy(self, x: State) -> Float[Array, ""]:
        space, n = self.summed_space, self.summed_space.cardinality
        assert n is not None

        def log_value(number: Array) -> Float[Array, ""]:
            return self.inner.log_density({**x, **space.state(number)})

        return -log_sum_exp(log_value, n, block=_AT_ONCE)


def marginal(energy: AbstractEnergy, names: str | Sequence[str]) -> AbstractEnergy:
    """The model of some parts of a `Joint`, the others summed out:

    p(x) = sum over y of p(x, y), so E(x) = -log sum_y exp(-E(x, y))

    The sum is exact, over every state of the named parts; it has the same Z as the joint energy.

    **Arguments:**

    - `energy`: over a `Joint`.
    - `names`: the discrete part to sum out, or a list of them.

    **Raises:** `ValueError` unless they name parts that can be listed (at most 2^32 states
    together), and leave one.

    ```python
    import energax as ex

    space = ex.Joint(label=ex.Categorical((), 3), bits=ex.Binary(2))
    joint = ex.NeuralEnergy(lambda x: x["bits"].sum() * (x["label"] - 1.0), space)
    print(sorted(ex.marginal(joint, "label").space.parts))
    ```
    """
    if not isinstance(energy, AbstractEnergy):
        raise ValueError(f"marginal needs an energy, got {type(energy).__name__}")
    if isinstance(energy, Frozen):
        return freeze(marginal(energy.inner, names))
    parts = _parts(energy)
    given: Any = (names,) if isinstance(names, str) else names
    if not isinstance(given, Sequence) or not given or not set(given) <= set(parts):
        raise ValueError(f"names must be some of {sorted(parts)}, got {names!r}")
    if set(given) == set(parts):
        raise ValueError("every part is summed out: nothing is left to model")
    if isinstance(energy, Marginal):
        return Marginal(energy.inner, tuple(sorted({*energy.summed, *given})))
    summed = Joint({name: parts[name] for name in given})
    n = summed.cardinality if summed.is_discrete else None
    if n is None or n > _MOST:
        raise ValueError(
            f"the states of {sorted(given)} are listed: there must be at most 2^32 of them, got"
            f" {summed}"
        )
    return Marginal(energy, tuple(sorted(set(given))))


def _parts(energy: AbstractEnergy) -> dict[str, AbstractSpace]:
    space = energy.space
    if not isinstance(space, Joint):
        raise ValueError(f"parts can be named only in a Joint space, got {space}")
    return space.parts
