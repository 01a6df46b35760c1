"""Conditioning: some of x observed, the rest still random."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from energax.energies._base import AbstractEnergy
from energax.energies.algebra._rules import CONDITION, find
from energax.spaces import AbstractSpace, Clamped, Joint, State


class Conditioned(AbstractEnergy):
    """p(x outside the mask | x inside it): states keep their full shape, observed values held."""

    inner: AbstractEnergy
    values: State
    mask: Bool[Array, "..."]

    fixed: ClassVar[tuple[str, ...]] = ("values", "mask")

    @property
    def space(self) -> AbstractSpace:
        return Clamped(self.inner.space, self.values, self.mask)

    def energy(self, x: State) -> Float[Array, ""]:
        return self.inner.energy(self.space.clamp(x))

    def terms(self, x: State) -> Any:
        return self.inner.terms(self.space.clamp(x))

    def energy_of(self, terms: Any) -> Float[Array, ""]:
        return self.inner.energy_of(terms)


class ConditionedParts(AbstractEnergy):
    """p(the other parts | some parts of a `Joint`): states hold the other parts only."""

    inner: AbstractEnergy
    values: dict[str, Any]

    fixed: ClassVar[tuple[str, ...]] = ("values",)

    @property
    def space(self) -> AbstractSpace:
        return Joint({k: part for k, part in _parts(self.inner).items() if k not in self.values})

    def energy(self, x: State) -> Float[Array, ""]:
        return self.inner.energy({**x, **self.values})

    def terms(self, x: State) -> Any:
        return self.inner.terms({**x, **self.values})

    def energy_of(self, terms: Any) -> Float[Array, ""]:
        return self.inner.energy_of(terms)


def condition(energy: AbstractEnergy, values: Any, mask: Any = None) -> AbstractEnergy:
    """The model of what is not observed, given what is.

    - `condition(joint, {"label": 3})`: parts of a `Joint` by name. A state of the result is a
      dictionary of the other parts.
    - `condition(energy, values, mask)`: entries of an array, observed where `mask` is true. A
      state of the result keeps the full shape; samplers leave the observed entries alone.

    Values and masks are array leaves: new ones of the same shape compile nothing.

    **Raises:** `ValueError` if names, shapes or values do not fit the energy's space.
    """
    if not isinstance(energy, AbstractEnergy):
        raise ValueError(f"condition needs an energy, got {type(energy).__name__}")
    if mask is None:
        return _condition_parts(energy, values)
    shape = jax.tree.leaves(energy.space.structure)[0].shape
    if isinstance(energy.space, Joint):
        raise ValueError("a mask needs an array-valued space; name the parts of a Joint instead")
    if not isinstance(mask, Tracer):
        mask = np.asarray(mask)
        if mask.dtype != np.bool_:
            raise ValueError(f"mask must be boolean (true where observed), got {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"mask must have shape {shape}, got {mask.shape}")
    if not isinstance(values, Tracer) and not isinstance(mask, Tracer):
        values = np.asarray(values)
        if values.shape != shape:
            raise ValueError(f"values must have shape {shape}, got {values.shape}")
        # What stands outside the mask is not looked at: put there something legal.
        legal = np.asarray(energy.space.draw(jax.random.key(0)))
        values = energy.space.convert(np.where(mask, values, legal)[None], name="values")[0]
    mask = jnp.asarray(mask)
    rule = find(CONDITION, energy)
    kept = None if rule is None else rule(energy, values, mask)
    return Conditioned(energy, values, mask) if kept is None else kept


def _parts(energy: AbstractEnergy) -> dict[str, AbstractSpace]:
    space = energy.space
    if not isinstance(space, Joint):
        raise ValueError(f"parts can be named only in a Joint space, got {space}: give a mask")
    return space.parts


def _condition_parts(energy: AbstractEnergy, values: Any) -> AbstractEnergy:
    parts = _parts(energy)
    if not isinstance(values, dict) or not values or not set(values) <= set(parts):
        got = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"values must be a dictionary of some of {sorted(parts)}, got {got}")
    if set(values) == set(parts):
        raise ValueError("every part is observed: nothing is left to model")
    checked = {}
    for name, value in values.items():
        traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value))
        checked[name] = (
            value
            if traced
            else jax.tree.map(
                lambda leaf: leaf[0],
                parts[name].convert(jax.tree.map(lambda v: np.asarray(v)[None], value), name=name),
            )
        )
    if isinstance(energy, ConditionedParts):
        return ConditionedParts(energy.inner, {**energy.values, **checked})
    return ConditionedParts(energy, checked)
