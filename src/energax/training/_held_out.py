"""What validation rows say of a model while it is trained: likelihoods."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int, Key

from energax.energies import AbstractEnergy, AbstractTractable, path, unfreeze
from energax.kernels._sites import free_sites, sites_of
from energax.objectives._pieces import chosen_pieces
from energax.objectives._site_changes import floats_a_site, site_changes
from energax.partition import base_rates, log_likelihood, log_partition
from energax.partition._annealed import check_exact
from energax.partition._bases import chains_kernel
from energax.partition._log_partition import exact_method
from energax.partition._quadrature import is_narrow
from energax.random import as_count
from energax.spaces import AbstractSpace, State

_EVALUATIONS = 4096
"""Values of entries that a pseudo-likelihood tries in all, about as many states as the validation
gap looks at."""

_FLOATS = 1 << 22
"""Numbers held at a time: 16 MiB of single precision, which stays near the processor."""


def most_pairs(space: AbstractSpace) -> int:
    """How many pairs of a row and one of its entries a pseudo-likelihood looks at; 0 where entries
    do not have a few values each."""
    try:
        all_sites = sites_of(space)
    except ValueError:
        return 0
    most = max((sites.n_values for sites in all_sites if sites.size), default=0)
    return max(1, _EVALUATIONS // most) if most else 0


class PseudoLikelihoods:
    """The mean log pseudo-likelihood of rows, from some entries of each, the same every time."""

    def __init__(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]):
        all_sites = sites_of(energy.space)
        n_sites, n_rows = sum(sites.size for sites in all_sites), len(jax.tree.leaves(rows)[0])
        n_chosen = min(n_sites, max(1, most_pairs(energy.space) // n_rows))
        free = free_sites(all_sites)
        self._rows = rows
        self._sites, self._weights = chosen_pieces(key, n_rows, n_sites, n_chosen, free)
        self._block = max(1, _FLOATS // (n_chosen * floats_a_site(energy)))

    def of(self, energy: AbstractEnergy) -> float:
        """Under a model, in nats a row."""
        given = self._rows, self._sites, self._weights
        return float(_pseudo_likelihood(energy, *given, self._block))


@eqx.filter_jit
def _pseudo_likelihood(
    energy: AbstractEnergy,
    rows: State,
    sites: Int[Array, "rows chosen"],
    weights: Float[Array, "rows chosen"],
    block: int,
) -> Float[Array, ""]:
    def of_row(given: Any) -> Array:
        x, sites, weights = given
        values = jax.vmap(lambda site: -logsumexp(-site_changes(energy, x, site)))(sites)
        return jnp.sum(jnp.where(weights > 0, weights.astype(values.dtype) * values, 0.0))

    return jnp.mean(lax.map(of_row, (rows, sites, weights), batch_size=block))


class LogLikelihoods:
    """The mean log-likelihood of rows every so many steps, with log Z by its best method."""

    def __init__(
        self,
        energy: AbstractEnergy,
        rows: State,
        held_out: State,
        every: int,
        *,
        key: Key[Array, ""],
    ):
        self.every = as_count(every, "likelihood_every")
        self._held_out, self._key = held_out, key
        self._base: AbstractTractable | None = None
        if exact_method(energy) is None and not is_narrow(energy):
            try:
                self._base, _ = base_rates(energy.space, rows)
                start = path(self._base, unfreeze(energy))
                check_exact(chains_kernel(start), start)
            except ValueError as error:
                raise ValueError(f"likelihood_every: log Z cannot be found here: {error}") from None

    def is_due(self, before: int, step: int) -> bool:
        """Whether a chunk from one step to another has come to a multiple of so many."""
        return step // self.every > before // self.every

    def of(self, energy: AbstractEnergy, step: int) -> dict[str, float]:
        """Under a model, in nats a row, with the ends of log Z's interval; without a value where
        log Z is not trusted."""
        key = jax.random.fold_in(self._key, step)
        if self._base is None:
            log_z = log_partition(energy, key=key)
        else:
            log_z = log_partition(energy, key=key, method="bracket", base=self._base)
        found = log_likelihood(energy, self._held_out, log_z)
        value = {"log_likelihood": found.mean} if found.trusted else {}
        ends = {"log_likelihood_low": found.lower, "log_likelihood_high": found.upper}
        return {name: v for name, v in {**value, **ends}.items() if not math.isnan(v)}
