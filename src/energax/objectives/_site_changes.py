"""What changing one entry of a discrete state changes in its energy."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from energax.energies import AbstractEnergy, AbstractSitewise, Frozen, Product, Shifted, Tempered
from energax.energies.algebra import AbstractConditioned
from energax.energies.algebra._tempered import scaled
from energax.kernels._sites import Sites, changed, sites_of
from energax.spaces import Spin, State


def site_changes(energy: AbstractEnergy, x: State, site: Int[Array, ""]) -> Float[Array, " values"]:
    """E with one entry at each of its values, in their order, less E(x): 0 for the present one.

    So p(x_site | the rest) = 1 / sum exp(-changes). Values that an entry of a `Joint` does not
    have count `+inf`. What is no `AbstractSitewise`, nor made of some, is evaluated at every other
    value.

    **Arguments:**

    - `site`: the entry's number, counted through all arrays of a state, each in C order.
    """
    all_sites = sites_of(energy.space)
    counts = n_values_of(all_sites)
    values = jnp.arange(max(sites.n_values for sites in all_sites))
    return jnp.where(values < counts[site], _changes(energy, x, site), jnp.inf)


def floats_a_site(energy: AbstractEnergy) -> int:
    """About how many numbers `site_changes` holds for one entry."""
    if isinstance(energy, Frozen | Shifted | Tempered | AbstractConditioned):
        return floats_a_site(energy.inner)
    if isinstance(energy, Product):
        return max(floats_a_site(factor) for factor in energy.factors)
    if isinstance(energy, AbstractSitewise):
        return energy.floats_a_site
    all_sites = sites_of(energy.space)
    most = max(sites.n_values for sites in all_sites)
    return most * sum(sites.size for sites in all_sites)


def n_values_of(all_sites: list[Sites]) -> Int[Array, " entries"]:
    """How many values each entry has, through all arrays of a state."""
    each = [jnp.full((sites.size,), sites.n_values) for sites in all_sites]
    return jnp.concatenate(each)


def _changes(energy: AbstractEnergy, x: State, site: Int[Array, ""]) -> Float[Array, " values"]:
    if isinstance(energy, Frozen):
        return _changes(energy._held(), x, site)
    if isinstance(energy, Shifted):
        return _changes(energy.inner, x, site)
    if isinstance(energy, AbstractConditioned):
        return _changes(energy.inner, energy.space.clamp(x), site)
    if isinstance(energy, Tempered):
        return scaled(energy.beta, _changes(energy.inner, x, site))
    if isinstance(energy, Product):
        each = [_changes(factor, x, site) for factor in energy.factors]
        return sum(each[1:], each[0])
    if isinstance(energy, AbstractSitewise):
        return energy.site_changes(x, site)
    return _by_evaluation(energy, x, site)


def _by_evaluation(
    energy: AbstractEnergy, x: State, site: Int[Array, ""]
) -> Float[Array, " values"]:
    all_sites = sites_of(energy.space)
    here, n = energy.energy(x), n_values_of(all_sites)[site]
    most = max(sites.n_values for sites in all_sites)
    shifts = jnp.arange(1, most)
    others = jax.vmap(lambda s: energy.energy(changed(all_sites, x, site, s)))(shifts)
    changes = jnp.concatenate([jnp.zeros((1,), here.dtype), others - here])
    # From the order of shifts, round in a ring, to that of the values.
    values = jnp.arange(most)
    return changes[(values - _number_at(all_sites, x, site)) % n]


def _number_at(all_sites: list[Sites], x: State, site: Int[Array, ""]) -> Int[Array, ""]:
    """Which of its values an entry has."""
    numbers = []
    for sites, leaf in zip(all_sites, jax.tree.leaves(x), strict=True):
        flat = leaf.reshape(-1)
        numbers.append((flat > 0 if isinstance(sites.space, Spin) else flat).astype(int))
    return jnp.concatenate(numbers)[site]
