"""Conditioning: some of x observed, the rest still random."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Key

from energax.energies._base import AbstractBlocked, AbstractEnergy, AbstractTractable
from energax.energies._parameters import is_traced
from energax.energies.algebra._frozen import Frozen, freeze
from energax.energies.algebra._rules import CONDITION, find
from energax.energies.algebra._shifted import Shifted
from energax.spaces import AbstractSpace, Binary, Clamped, Count, Joint, Spin, State


class AbstractConditioned(AbstractEnergy):
    """p(x outside the mask | x inside it): states keep their full shape, observed values held."""

    inner: eqx.AbstractVar[AbstractEnergy]
    values: eqx.AbstractVar[State]
    mask: eqx.AbstractVar[Bool[Array, "..."]]

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


class Conditioned(AbstractConditioned):
    """An energy of which some entries are observed."""

    inner: AbstractEnergy
    values: State
    mask: Bool[Array, "..."]


class ConditionedBlocked(AbstractConditioned, AbstractBlocked):
    """The same of an energy that redraws itself in blocks: so does what is left of it."""

    inner: AbstractBlocked
    values: State
    mask: Bool[Array, "..."]

    def sweep(self, x: State, key: Key[Array, ""], held: Bool[Array, "..."] | None = None) -> State:
        mask = self.mask if held is None else self.mask | held
        return self.inner.sweep(self.space.clamp(x), key, mask)


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
    if isinstance(energy, Frozen):
        return freeze(condition(energy.inner, values, mask))
    if mask is None:
        return _condition_parts(energy, values)
    space = energy.space
    if isinstance(space, Joint):
        raise ValueError("a mask needs an array-valued space; name the parts of a Joint instead")
    if isinstance(space, Count) and space.total is not None:
        raise ValueError(f"no entry of {space} can be held: the others would miss the total")
    shape = space.structure.shape
    if not isinstance(mask, Tracer):
        mask = np.asarray(mask)
        if mask.dtype != np.bool_:
            raise ValueError(f"mask must be boolean (true where observed), got {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"mask must have shape {shape}, got {mask.shape}")
    if np.shape(values) != shape:
        raise ValueError(f"values must have shape {shape}, got {np.shape(values)}")
    if is_traced(values, mask, *jax.tree.leaves(space)):  # not known yet, so not checked
        values = jnp.asarray(values).astype(space.structure.dtype)
    else:
        values = _checked(values, np.asarray(mask), space)
    mask = jnp.asarray(mask)
    rule = find(CONDITION, energy)
    kept = None if rule is None else rule(energy, values, mask)
    if kept is not None:
        return kept
    if isinstance(energy, AbstractBlocked):
        return ConditionedBlocked(energy, values, mask)
    return Conditioned(energy, values, mask)


def _checked(values: Any, mask: np.ndarray, space: AbstractSpace) -> Array:
    """`values` as a state of `space`; what stands outside the mask is not looked at."""
    if isinstance(space, Clamped):
        held, clash = np.asarray(space.mask), np.asarray(space.values)
        state = _checked(values, mask, space.space)
        again = mask & held & (np.asarray(state) != clash)
        if again.any():
            at = tuple(int(i) for i in np.argwhere(again)[0])
            raise ValueError(
                f"values must agree with what is observed already, {clash[at]} at {at}, got"
                f" {np.asarray(state)[at]}"
            )
        return state
    with jax.ensure_compile_time_eval():
        # Put something legal there: 1 is in both codes of two values, {0, 1} and {-1, 1}.
        two_valued = isinstance(space, Binary | Spin)
        legal = np.ones(mask.shape) if two_valued else space.draw(jax.random.key(0))
        rows = np.where(mask, np.asarray(values), np.asarray(legal))[None]
        return space.convert(rows, name="values")[0]


def _parts(energy: AbstractEnergy) -> dict[str, AbstractSpace]:
    space = energy.space
    if not isinstance(space, Joint):
        raise ValueError(f"parts can be named only in a Joint space, got {space}: give a mask")
    return space.parts


def _condition_parts(energy: AbstractEnergy, values: Any) -> AbstractEnergy:
    parts = _parts(energy)
    if not isinstance(values, dict) or not values or not set(values) <= set(parts):
        got = sorted(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"values must be a dictionary of some of {sorted(parts)}, got {got}")
    if set(values) == set(parts):
        raise ValueError("every part is observed: nothing is left to model")
    checked = {name: _checked_part(value, parts[name], name) for name, value in values.items()}
    if isinstance(energy, ConditionedParts):
        return ConditionedParts(energy.inner, {**energy.values, **checked})
    return ConditionedParts(energy, checked)


def _checked_part(value: Any, part: AbstractSpace, name: str) -> State:
    if is_traced(*jax.tree.leaves((value, part))):
        part.check(value, name=name)
        return jax.tree.map(lambda v, s: jnp.asarray(v).astype(s.dtype), value, part.structure)
    return jax.tree.map(lambda leaf: leaf[0], part.convert(_one_row(value), name=name))


def _one_row(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _one_row(part) for name, part in value.items()}
    return np.asarray(value)[None]


def merged(
    held: Array, held_mask: Array, values: Array, mask: Array
) -> tuple[Array, Bool[Array, "..."]]:
    """Two sets of observed entries as one; the first stays where both observe."""
    return jnp.where(held_mask, held, values), held_mask | mask


def _again(a: Conditioned, values: Array, mask: Array) -> Conditioned:
    return Conditioned(a.inner, *merged(a.values, a.mask, values, mask))


def _again_blocked(a: ConditionedBlocked, values: Array, mask: Array) -> ConditionedBlocked:
    return ConditionedBlocked(a.inner, *merged(a.values, a.mask, values, mask))


def _shifted(a: Shifted, values: Array, mask: Array) -> Shifted | None:
    rule = find(CONDITION, a.inner)
    inner = None if rule is None else rule(a.inner, values, mask)
    if isinstance(inner, Shifted):
        return Shifted(inner.inner, a.constant + inner.constant)
    return Shifted(inner, a.constant) if isinstance(inner, AbstractTractable) else None


CONDITION[Conditioned] = _again
CONDITION[ConditionedBlocked] = _again_blocked
CONDITION[Shifted] = _shifted
