"""Densities to a power: inverse temperatures."""

import math
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float

from energax.energies._base import AbstractBlocked, AbstractEnergy
from energax.energies.algebra._conditioned import ConditionedBlocked
from energax.energies.algebra._product import shift
from energax.energies.algebra._rules import POWER, find
from energax.energies.algebra._shifted import Shifted
from energax.spaces import AbstractSpace, State, float_dtype


class Tempered(AbstractEnergy):
    """E(x) times `beta`. At beta = 0 every state of the space is equally likely."""

    inner: AbstractEnergy
    beta: Float[Array, ""]

    fixed: ClassVar[tuple[str, ...]] = ("beta",)

    @property
    def space(self) -> AbstractSpace:
        return self.inner.space

    def energy(self, x: State) -> Float[Array, ""]:
        return scaled(self.beta, self.inner.energy(x))

    def terms(self, x: State) -> Any:
        return self.inner.terms(x)

    def energy_of(self, terms: Any) -> Float[Array, ""]:
        return scaled(self.beta, self.inner.energy_of(terms))


def scaled(beta: Array, energy: Array) -> Array:
    """beta * energy, with 0 * inf = 0: at infinite temperature nothing is excluded."""
    return jnp.where(beta == 0, jnp.zeros_like(energy), beta * energy)


def as_beta(beta: ArrayLike, most: float = math.inf) -> Float[Array, ""]:
    """An inverse temperature as an array, or a `ValueError`."""
    if not isinstance(beta, Tracer):
        expected = "of at least 0" if most == math.inf else f"from 0 to {most:g}"
        try:
            with np.errstate(over="ignore"):
                value = np.asarray(beta, float_dtype())
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"beta must be a number, got {type(beta).__name__}") from None
        if value.shape != () or not (np.isfinite(value) and 0 <= value <= most):
            raise ValueError(
                f"beta must be one finite number {expected} in {value.dtype}, got {beta!r}"
            )
    return jnp.asarray(beta, float_dtype())


def temper(energy: AbstractEnergy, beta: ArrayLike) -> AbstractEnergy:
    """The density to the power `beta`, its inverse temperature.

    A rule keeps structure: a Gaussian to a power is a Gaussian. `beta` is an array leaf, so
    changing it compiles nothing.

    **Raises:** `ValueError` if `energy` is no energy or `beta` no finite non-negative number.
    """
    if not isinstance(energy, AbstractEnergy):
        raise ValueError(f"expected an energy, got {type(energy).__name__}")
    beta = as_beta(beta)
    if isinstance(energy, Tempered):
        return Tempered(energy.inner, as_beta(energy.beta * beta))
    if isinstance(energy, Shifted):
        inner = temper(energy.inner, beta)
        if isinstance(inner, Tempered):
            return Tempered(energy, beta)
        return shift(inner, beta * energy.constant)
    rule = find(POWER, energy)
    kept = None if rule is None else rule(energy, beta)
    return Tempered(energy, beta) if kept is None else kept


def _blocked(a: ConditionedBlocked, beta: Array) -> ConditionedBlocked | None:
    inner = temper(a.inner, beta)
    if isinstance(inner, AbstractBlocked):
        return ConditionedBlocked(inner, a.values, a.mask)
    return None


POWER[ConditionedBlocked] = _blocked
