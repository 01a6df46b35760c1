"""Products of densities: an AND of what each energy says."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from energax.energies._base import AbstractEnergy, AbstractTractable
from energax.energies._parameters import as_list, is_traced
from energax.energies.algebra._frozen import Frozen
from energax.energies.algebra._rules import PRODUCT, find
from energax.energies.algebra._shifted import Shifted
from energax.spaces import AbstractSpace, State


class Product(AbstractEnergy):
    """p(x) proportional to the product of the factors' densities: energies add."""

    factors: tuple[AbstractEnergy, ...]

    @property
    def space(self) -> AbstractSpace:
        return self.factors[0].space

    def energy(self, x: State) -> Float[Array, ""]:
        return sum((factor.energy(x) for factor in self.factors[1:]), self.factors[0].energy(x))

    def terms(self, x: State) -> Any:
        return tuple(factor.terms(x) for factor in self.factors)

    def energy_of(self, terms: Any) -> Float[Array, ""]:
        each = [f.energy_of(t) for f, t in zip(self.factors, terms, strict=True)]
        return sum(each[1:], each[0])


def product(energies: Sequence[AbstractEnergy]) -> AbstractEnergy:
    """The product of several densities, p(x) proportional to prod_k exp(-E_k(x)).

    Two factors with a rule for their product become one: a product of Gaussians is a Gaussian.

    **Raises:** `ValueError` if there is none, one is not an energy, or their spaces differ.
    """
    energies = as_list(energies, AbstractEnergy, "product needs a list of energies")
    if not energies:
        raise ValueError("product needs at least one energy")
    return reduce(multiply, energies[1:], _checked(energies[0]))


def multiply(a: AbstractEnergy, b: AbstractEnergy) -> AbstractEnergy:
    """a * b. See `product`."""
    check_same_space(_checked(a), _checked(b))
    merged = _merge(a, b)
    if merged is not None:
        return merged
    factors = [*_factors(a)]
    for factor in _factors(b):
        for position, present in enumerate(factors):
            merged = _merge(present, factor)
            if merged is not None:
                factors[position] = merged
                break
        else:
            factors.append(factor)
    return factors[0] if len(factors) == 1 else Product(tuple(factors))


def _factors(energy: AbstractEnergy) -> tuple[AbstractEnergy, ...]:
    return energy.factors if isinstance(energy, Product) else (energy,)


def _merge(a: AbstractEnergy, b: AbstractEnergy) -> AbstractEnergy | None:
    if isinstance(a, Frozen) or isinstance(b, Frozen):
        return None
    if isinstance(a, Shifted) or isinstance(b, Shifted):
        inner_a, constant_a = (a.inner, a.constant) if isinstance(a, Shifted) else (a, 0.0)
        inner_b, constant_b = (b.inner, b.constant) if isinstance(b, Shifted) else (b, 0.0)
        merged = _merge(inner_a, inner_b)
        return None if merged is None else shift(merged, constant_a + constant_b)
    rule = find(PRODUCT, a, b)
    if rule is not None:
        return rule(a, b)
    rule = find(PRODUCT, b, a)
    return None if rule is None else rule(b, a)


def shift(energy: AbstractEnergy, constant: Any) -> AbstractEnergy:
    """`energy` plus a constant, kept tractable."""
    if isinstance(energy, Shifted):
        return Shifted(energy.inner, energy.constant + constant)
    if not isinstance(energy, AbstractTractable):
        raise ValueError(f"shift needs a tractable energy, got {type(energy).__name__}")
    return Shifted(energy, constant)


def _checked(energy: Any) -> AbstractEnergy:
    if not isinstance(energy, AbstractEnergy):
        raise ValueError(f"expected an energy, got {type(energy).__name__}")
    return energy


def check_same_space(a: AbstractEnergy, b: AbstractEnergy) -> None:
    """Raise `ValueError` unless two energies are over one space."""
    leaves_a, fields_a = jax.tree.flatten(a.space)
    leaves_b, fields_b = jax.tree.flatten(b.space)
    # Shapes and numbers of states are static fields; ends of a box and observed values are
    # leaves, which cannot be compared while they are traced.
    if fields_a != fields_b or not all(
        is_traced(x, y) or np.array_equal(x, y) for x, y in zip(leaves_a, leaves_b, strict=True)
    ):
        raise ValueError(f"energies must be over one space, got {a.space} and {b.space}")
