"""Mixtures: an OR of what each energy says."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from energax.energies._base import AbstractEnergy, AbstractNormalised
from energax.energies._parameters import as_list
from energax.energies.algebra._frozen import unfreeze
from energax.energies.algebra._product import _checked, check_same_space
from energax.random import categorical
from energax.spaces import AbstractSpace, Numbers, State, float_dtype


class Mixture(AbstractNormalised):
    """p(x) = sum_k w_k p_k(x) with normalised members: normalised, and drawn from directly.

    A member may be frozen: then its parameters stay.
    """

    members: tuple[AbstractEnergy, ...]
    log_weights: Float[Array, " members"]

    @property
    def space(self) -> AbstractSpace:
        return self.members[0].space

    def energy(self, x: State) -> Float[Array, ""]:
        return _mixed_energy(self.members, jax.nn.log_softmax(self.log_weights), x)

    def draw(self, key: Key[Array, ""]) -> State:
        key_member, *keys = jax.random.split(key, len(self.members) + 1)
        chosen = categorical(key_member, self.log_weights)
        draws = [_normalised(m).draw(k) for m, k in zip(self.members, keys, strict=True)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves)[chosen], *draws)


class MixtureOfEnergies(AbstractEnergy):
    """E(x) = -log sum_k w_k exp(-E_k(x)): members weigh in by w_k times their own Z."""

    members: tuple[AbstractEnergy, ...]
    log_weights: Float[Array, " members"]

    @property
    def space(self) -> AbstractSpace:
        return self.members[0].space

    def energy(self, x: State) -> Float[Array, ""]:
        return _mixed_energy(self.members, self.log_weights, x)


def _normalised(member: AbstractEnergy) -> AbstractNormalised:
    inner = unfreeze(member)
    assert isinstance(inner, AbstractNormalised)
    return inner


def _mixed_energy(members, log_weights, x):
    energies = jnp.stack([member.energy(x) for member in members])
    return -logsumexp(log_weights - energies)


def mixture(
    energies: Sequence[AbstractEnergy], weights: Numbers | None = None
) -> Mixture | MixtureOfEnergies:
    """The mixture of several models.

    Of normalised members it is the usual mixture, itself normalised. Of others the weights
    apply to the *unnormalised* densities exp(-E_k), because their Z are not known.

    **Arguments:**

    - `energies`: at least one, all over one space.
    - `weights`: positive numbers, shape (members,), scaled to sum to 1; equal if `None`.

    **Raises:** `ValueError` if spaces differ, or the weights are not as said.
    """
    every = as_list(energies, AbstractEnergy, "mixture needs a list of energies")
    members = tuple(_checked(energy) for energy in every)
    if not members:
        raise ValueError("mixture needs at least one energy")
    for member in members[1:]:
        check_same_space(members[0], member)
    weights = np.ones(len(members)) if weights is None else np.asarray(weights, float)
    if weights.shape != (len(members),):
        raise ValueError(f"weights must have shape ({len(members)},), got {weights.shape}")
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(f"weights must be positive and finite, got {weights}")
    log_weights = jnp.asarray(np.log(weights / weights.sum()), float_dtype())
    if all(isinstance(unfreeze(member), AbstractNormalised) for member in members):
        return Mixture(members, log_weights)
    return MixtureOfEnergies(members, log_weights)
