"""The entries of discrete states, one by one: how many values each has, which of them may move."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from energax.spaces import AbstractSpace, Binary, Categorical, Clamped, Joint, Spin, State


class Sites(eqx.Module):
    """The entries of one array of a discrete state, flat."""

    space: Any
    held: Bool[Array, " entries"] | None
    """Where an observed value is held; `None` if nowhere."""
    first: int = eqx.field(static=True)
    """How many entries the arrays before this one have."""

    @property
    def size(self) -> int:
        return int(np.prod(self.space.shape, dtype=np.int64))

    @property
    def n_values(self) -> int:
        return self.space.n_states if isinstance(self.space, Categorical) else 2

    def other(self, values: Array, shift: Array) -> Array:
        """The values that come `shift` after the given ones, round in a ring; 0 gives the same."""
        if isinstance(self.space, Categorical):
            return (values + shift.astype(values.dtype)) % self.n_values
        flipped = -values if isinstance(self.space, Spin) else 1 - values
        return jnp.where(shift == 0, values, flipped)


def sites_of(space: AbstractSpace) -> list[Sites]:
    """The entries of each array of a state, in the order of `jax.tree.leaves`.

    **Raises:** `ValueError` for a space whose entries do not have a few values each.
    """
    found: list[Sites] = []

    def add(part: AbstractSpace, held: Array | None) -> None:
        if isinstance(part, Joint):
            for each in part.parts.values():
                add(each, None)
        elif isinstance(part, Clamped):
            mask = part.mask.reshape(-1)
            add(part.space, mask if held is None else mask | held)
        elif isinstance(part, Binary | Spin | Categorical):
            found.append(Sites(part, held, sum(sites.size for sites in found)))
        else:
            raise ValueError(f"expected entries that have a few values each, got {part}")

    add(space, None)
    return found


def changed(all_sites: list[Sites], x: State, site: Int[Array, ""], shift: Int[Array, ""]) -> State:
    """x with the value at one site, counted through all arrays, replaced by another."""
    leaves, structure = jax.tree.flatten(x)
    new = []
    for sites, leaf in zip(all_sites, leaves, strict=True):
        flat = leaf.reshape(-1)
        # Compared and not scattered: XLA merges it into whatever reads the result.
        here = jnp.arange(sites.first, sites.first + sites.size) == site
        new.append(jnp.where(here, sites.other(flat, shift), flat).reshape(leaf.shape))
    return jax.tree.unflatten(structure, new)


def free_sites(all_sites: list[Sites]) -> Bool[Array, " entries"] | None:
    """Which entries may move, through all arrays; `None` if all of them may."""
    if all(sites.held is None and sites.n_values > 1 for sites in all_sites):
        return None
    each = []
    for sites in all_sites:
        free = jnp.full((sites.size,), sites.n_values > 1)
        each.append(free if sites.held is None else free & ~sites.held)
    return jnp.concatenate(each)
