"""Gibbs: every entry in turn drawn anew, given all the others."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from energax.energies import AbstractEnergy
from energax.kernels._base import Info
from energax.kernels._metropolis import AbstractMetropolis, MetropolisState
from energax.kernels._sites import Sites, changed, free_sites, sites_of
from energax.random import categorical


class Gibbs(AbstractMetropolis):
    """Draw one entry x_i from p(x_i | the others), then the next: nothing is refused, and nothing
    has to be known of the energy but its value.

    An entry of k values costs k - 1 evaluations, side by side; the value it has now is known.
    Entries that a condition holds are passed over.

    **Arguments:**

    - `scan`: `"sweep"`, a step visits every entry once, in order; `"random"`, a step visits one
      entry, chosen at random.

    Fits energies over `Binary`, `Spin` and `Categorical` spaces, conditioned ones, and `Joint`
    spaces of these. The values of a `Count` are too many to try.

    ```python
    import energax as ex
    import jax.numpy as jnp

    energy = ex.NeuralEnergy(lambda x: jnp.cos(x.sum()), ex.Categorical(8, n_states=5))
    draws = ex.sample(energy, 200, key=ex.key(0), kernel=ex.Gibbs(), chains=4, warmup=20)
    ```

    Source: S. Geman and D. Geman, "Stochastic relaxation, Gibbs distributions, and the Bayesian
    restoration of images" (1984).
    """

    scan: Literal["sweep", "random"] = eqx.field(static=True, default="sweep")

    def __check_init__(self):
        if self.scan not in ("sweep", "random"):
            raise ValueError(f'scan must be "sweep" or "random", got {self.scan!r}')

    def check(self, energy: AbstractEnergy) -> None:
        try:
            sites_of(energy.space)
        except ValueError as error:
            raise ValueError(
                f"Gibbs tries every value of an entry, and cannot on this space: {error};"
                " RandomWalkMetropolis moves on any"
            ) from None

    def step(
        self, energy: AbstractEnergy, state: MetropolisState, key: Key[Array, ""]
    ) -> tuple[MetropolisState, Info]:
        all_sites = sites_of(energy.space)
        step = self._at_random if self.scan == "random" else self._in_order
        new = step(energy, all_sites, state, key)
        return new, Info(jnp.ones_like(new.energy), new.energy)

    def _at_random(
        self,
        energy: AbstractEnergy,
        all_sites: list[Sites],
        state: MetropolisState,
        key: Key[Array, ""],
    ) -> MetropolisState:
        key_site, key_value = jax.random.split(key)
        n, free = sum(sites.size for sites in all_sites), free_sites(all_sites)
        if free is None:
            site, may_move = jax.random.randint(key_site, (), 0, n), None
        else:
            site = categorical(key_site, jnp.where(free, 0.0, -jnp.inf))
            may_move = free[site]  # of no free entry the first is chosen, and stays
        return _redrawn(energy, all_sites, state, site, key_value, may_move)

    def _in_order(
        self,
        energy: AbstractEnergy,
        all_sites: list[Sites],
        state: MetropolisState,
        key: Key[Array, ""],
    ) -> MetropolisState:
        for number, sites in enumerate(all_sites):
            if sites.n_values == 1:
                continue
            if sites.held is None:
                order, n_free = None, sites.size
            else:
                order, n_free = jnp.argsort(sites.held), jnp.sum(~sites.held)

            key_part = jax.random.fold_in(key, number)

            def body(i, state, sites=sites, order=order, key=key_part):
                site = sites.first + (i if order is None else order[i])
                return _redrawn(
                    energy, all_sites, state, site, jax.random.fold_in(key, i), None, sites.n_values
                )

            state = jax.lax.fori_loop(0, n_free, body, state)
        return state


def _redrawn(
    energy: AbstractEnergy,
    all_sites: list[Sites],
    state: MetropolisState,
    site: Int[Array, ""],
    key: Key[Array, ""],
    may_move: Array | None,
    n_values: int | None = None,
) -> MetropolisState:
    """The state with the value at `site` drawn given the rest.

    `n_values` says how many values the site has; without it, it may be any of `all_sites`.
    """
    most = max(sites.n_values for sites in all_sites) if n_values is None else n_values
    if most == 1:
        return state
    shifts = jnp.arange(1, most)

    def at(shift):
        terms = energy.terms(changed(all_sites, state.x, site, shift))
        return energy.energy_of(terms), terms

    others, other_terms = jax.vmap(at)(shifts)
    here = jnp.asarray(site)
    if n_values is None:
        allowed = jnp.zeros(shifts.shape, bool)
        for sites in all_sites:
            within = (here >= sites.first) & (here < sites.first + sites.size)
            allowed |= within & (shifts < sites.n_values)
        others = jnp.where(allowed, others, jnp.inf)
    if may_move is not None:
        others = jnp.where(may_move, others, jnp.inf)
    energies = jnp.concatenate([state.energy[None], others])
    shift = _drawn(energies, key)

    def chosen(now, rest):
        picked = rest[0] if most == 2 else rest[jnp.maximum(shift - 1, 0)]
        return jnp.where(shift == 0, now, picked)

    terms = jax.tree.map(chosen, state.terms, other_terms)
    return MetropolisState(changed(all_sites, state.x, here, shift), energies[shift], terms)


def _drawn(energies: Float[Array, " values"], key: Key[Array, ""]) -> Int[Array, ""]:
    """Which value; the first is the present one."""
    # Nothing to go to: stay. A failure (NaN or -inf) stays visible: go there.
    stuck = jnp.all(energies == jnp.inf)
    failed = jnp.isnan(energies) | (energies == -jnp.inf)
    logits = jnp.where(jnp.any(failed), jnp.where(failed, 0.0, -jnp.inf), -energies)
    return jnp.where(stuck, 0, categorical(key, logits))
