"""What objectives share that look at a state's entries one by one."""

import abc
from typing import Any

import equinox as eqx
import jax
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int, Key

from energax.energies import AbstractEnergy
from energax.kernels._sites import free_sites, sites_of
from energax.objectives._base import AbstractObjective, Step
from energax.objectives._pieces import chosen_pieces, pieces_at_once, step_by_pieces
from energax.objectives._site_changes import floats_a_site, site_changes
from energax.spaces import State


class AbstractSingleSites(AbstractObjective):
    """The mean over rows of a sum over entries: all but what an entry adds.

    Entries that a condition holds, or that have a single value, add nothing.
    """

    n_sites: eqx.AbstractVar[int | None]
    """Entries a row, drawn at random; all if `None`."""
    sites_at_once: eqx.AbstractVar[int | None]
    """Entries evaluated side by side; as many as fit into 64 MiB if `None`."""

    @abc.abstractmethod
    def site_loss(self, changes: Float[Array, " values"]) -> Float[Array, ""]:
        """What an entry adds, given what each of its values would change in the energy."""

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        n = _n_sites(self, energy)
        if self.n_sites is not None and self.n_sites > n:
            raise ValueError(
                f"n_sites must be at most the {n} entries of a state, got {self.n_sites}"
            )
        return AbstractObjective.prepare(self, energy, data)

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> None:
        _n_sites(self, energy)

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        def loss(energy: AbstractEnergy, x: State, site: Int[Array, ""]) -> dict[str, Array]:
            changes = site_changes(energy, x, site)
            return {"loss": self.site_loss(changes), "pseudo_likelihood": -logsumexp(-changes)}

        n_rows = len(jax.tree.leaves(batch)[0])
        free = free_sites(sites_of(energy.space))
        sites, weights = chosen_pieces(key, n_rows, _n_sites(self, energy), self.n_sites, free)
        at_once = self.sites_at_once or pieces_at_once(n_rows, floats_a_site(energy))
        return step_by_pieces(energy, batch, loss, sites, weights, at_once)


def _n_sites(objective: AbstractObjective, energy: AbstractEnergy) -> int:
    try:
        all_sites = sites_of(energy.space)
    except ValueError as error:
        raise ValueError(
            f"{type(objective).__name__} tries every value of an entry, and cannot on this space:"
            f" {error}"
        ) from None
    return sum(sites.size for sites in all_sites)
