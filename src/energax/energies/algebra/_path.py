"""Paths from a base one can draw from to a target: what annealing walks along."""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from energax.energies._base import AbstractEnergy, AbstractTractable
from energax.energies.algebra._frozen import unfreeze
from energax.energies.algebra._product import _checked, check_same_space
from energax.energies.algebra._rules import PATH, find
from energax.energies.algebra._tempered import Tempered, as_beta, scaled
from energax.spaces import AbstractSpace, State, float_dtype


class AbstractPath(AbstractEnergy):
    """Energies from a tractable base (`beta = 0`) to a target (`beta = 1`).

    A kernel's state keeps `terms(x)`, which do not depend on `beta`, so a step along the path
    costs no evaluation of the target.
    """

    base: eqx.AbstractVar[AbstractTractable]
    beta: eqx.AbstractVar[Float[Array, ""]]

    @abc.abstractmethod
    def at(self, beta: ArrayLike) -> "AbstractPath":
        """The same path at another point."""

    @abc.abstractmethod
    def log_increment(self, terms: Any, beta: Float[Array, ""]) -> Float[Array, ""]:
        """log of exp(-E_beta(x)) / exp(-E_self.beta(x)), formed as a sum of differences.

        The weights of a long annealing run are sums of these. Each is small, so the difference
        is taken before the sum over x's coordinates and not after it.
        """


class GeometricPath(AbstractPath):
    """E_beta = (1 - beta) E_base + beta E_target."""

    base: AbstractTractable
    target: AbstractEnergy
    beta: Float[Array, ""]

    fixed: ClassVar[tuple[str, ...]] = ("base", "beta")

    @property
    def space(self) -> AbstractSpace:
        return self.target.space

    def at(self, beta: ArrayLike) -> "GeometricPath":
        return GeometricPath(
            base=self.base, target=self.target, beta=jnp.asarray(beta, float_dtype())
        )

    def energy(self, x: State) -> Float[Array, ""]:
        return self.energy_of(self.terms(x))

    def terms(self, x: State) -> Any:
        return self.base.energy(x), self.target.energy(x)

    def energy_of(self, terms: Any) -> Float[Array, ""]:
        base, target = terms
        return scaled(1 - self.beta, base) + scaled(self.beta, target)

    def log_increment(self, terms: Any, beta: Float[Array, ""]) -> Float[Array, ""]:
        base, target = terms
        # A base state the target excludes weighs nothing from the first step on, and one that
        # lies where the base is zero (only reachable at beta > 0) never comes back to beta = 0.
        # A base that is NaN or -inf has failed, and the weight shows it.
        base = jnp.where(jnp.isneginf(base), jnp.nan, base)
        difference = jnp.where(base == jnp.inf, 0.0, base) - target
        return scaled(beta - self.beta, difference)


def path(base: AbstractEnergy, target: AbstractEnergy, beta: ArrayLike = 0.0) -> AbstractPath:
    """The annealing path from `base` to `target`, at `beta`.

    A rule keeps structure: between a Bernoulli base and an RBM it stays an RBM throughout.

    **Raises:** `ValueError` if `base` cannot be drawn from exactly, `target` is no energy, the
    spaces differ, or `beta` is not between 0 and 1.
    """
    base, target = unfreeze(base), unfreeze(target)
    if not isinstance(base, AbstractTractable):
        raise ValueError(
            f"base must be an energy with a known Z and exact draws, got {type(base).__name__}"
        )
    check_same_space(base, _checked(target))
    beta = as_beta(beta, most=1.0)
    rule = find(PATH, base, target)
    kept = None if rule is None else rule(base, target, beta)
    return GeometricPath(base=base, target=target, beta=beta) if kept is None else kept


def keeps_terms(energy: AbstractEnergy) -> bool:
    """Whether `energy.terms(x)` stays right when only its `beta` changes.

    A rule may have put beta into the parameters themselves, as for a Gaussian to a power.
    """
    return isinstance(energy, AbstractPath | Tempered)
