"""Ladders of temperatures: what swaps tell of one, and where its rungs should stand."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from energax.energies._parameters import finite_array, is_traced

FEWEST_SWAPS = 0.1
"""Below this share of accepted swaps a rung is said to be too far from the next."""


class Swaps(eqx.Module):
    """What the swaps of one ladder have done, counted as they happen."""

    n_steps: Int[Array, ""]
    """Steps counted."""
    attempts: Int[Array, " pairs"]
    """Swaps tried between each rung and the next colder one."""
    rejection: Float[Array, " pairs"]
    """The mean probability with which they were refused."""
    phase: Int[Array, " replicas"]
    """Of each replica: 0 until it has been coldest, 1 when it was, 2 when it was hottest since."""
    round_trips: Int[Array, ""]
    """How often a replica came back to the coldest rung by way of the hottest."""

    @classmethod
    def none(cls, level: Int[Array, " replicas"], dtype: Any) -> "Swaps":
        """Nothing counted yet, of replicas that stand at these levels."""
        n = level.shape[0]
        return cls(
            n_steps=jnp.zeros((), jnp.int32),
            attempts=jnp.zeros((n - 1,), jnp.int32),
            rejection=jnp.zeros((n - 1,), dtype),
            phase=(level == n - 1).astype(jnp.int32),
            round_trips=jnp.zeros((), jnp.int32),
        )

    def recounted(self) -> "Swaps":
        """Counted from none again: the next swap of each pair is its first."""
        return eqx.tree_at(
            lambda s: (s.n_steps, s.attempts),
            self,
            (jnp.zeros_like(self.n_steps), jnp.zeros_like(self.attempts)),
        )

    def after(
        self,
        probability: Float[Array, " pairs"],
        tried: Bool[Array, " pairs"],
        level: Int[Array, " replicas"],
    ) -> "Swaps":
        """With one more step, whose swaps left the replicas at these levels."""
        attempts = self.attempts + tried.astype(jnp.int32)
        # A running mean: a sum of many steps would lose the small ones in float32.
        n = jnp.maximum(attempts, 1).astype(self.rejection.dtype)
        refused = (1 - probability).astype(self.rejection.dtype)
        change = jnp.where(tried, (refused - self.rejection) / n, 0.0)
        coldest, hottest = level == level.shape[0] - 1, level == 0
        home = coldest & (self.phase == 2)
        turned = jnp.where(hottest & (self.phase == 1), 2, self.phase)
        return Swaps(
            n_steps=self.n_steps + 1,
            attempts=attempts,
            rejection=self.rejection + change,
            phase=jnp.where(coldest, 1, turned),
            round_trips=self.round_trips + jnp.sum(home, dtype=jnp.int32),
        )


def equalised(
    betas: Float[Array, " replicas"], rejection: Float[Array, " pairs"]
) -> Float[Array, " replicas"]:
    """The rungs between the same ends at which every swap would be refused as often.

    Summed from the hot end, rejections are the barrier as a function of beta, whatever the
    rungs. It is interpolated and cut into equal parts (S. Syed et al., 2022).
    """
    barrier = jnp.cumsum(jnp.maximum(rejection, 1e-4))  # increasing, so that it can be inverted
    barrier = jnp.concatenate([jnp.zeros_like(barrier[:1]), barrier])
    even = barrier[-1] * jnp.linspace(0.0, 1.0, betas.shape[0], dtype=betas.dtype)
    inner = jnp.interp(even[1:-1], barrier, betas)
    return jnp.concatenate([betas[:1], inner, betas[-1:]])


def default_ladder(n: int, beta_min: Any, base: Any) -> np.ndarray:
    """Inverse temperatures evenly in their logarithm, or from 0 evenly where there is a base."""
    if base is not None:
        return np.linspace(0.0, 1.0, n)
    lowest = np.asarray(beta_min, float)
    if lowest.shape != () or not 0 < lowest < 1:
        raise ValueError(f"beta_min must be between 0 and 1, got {beta_min!r}")
    return np.geomspace(lowest, 1.0, n)


def as_ladder(betas: Any, base: Any) -> Array:
    """Inverse temperatures that increase to 1, from 0 where there is a base."""
    ladder = finite_array(betas, "betas")
    if ladder.ndim != 1 or ladder.shape[0] < 2:
        raise ValueError(f"betas must be a vector of at least 2 numbers, got shape {ladder.shape}")
    if is_traced(ladder):
        return ladder
    values = np.asarray(ladder)
    if not (np.diff(values) > 0).all() or values[-1] != 1:
        raise ValueError("betas must increase, and end at 1")
    if base is None and values[0] <= 0:
        raise ValueError("betas must be positive: beta = 0 needs a base to draw from")
    if base is not None and values[0] != 0:
        raise ValueError(f"with a base betas must begin at 0, got {values[0]:g}")
    return ladder


@dataclass(frozen=True, eq=False)
class LadderReport:
    """How well replicas travel along a ladder of temperatures, over all chains."""

    betas: np.ndarray
    """The inverse temperatures from hot to cold, the last 1, shape (replicas,)."""
    swap_rates: np.ndarray
    """The mean probability of a swap between each rung and the next, shape (replicas - 1,); NaN
    where none was tried."""
    barrier: np.ndarray
    """The communication barrier from the hottest rung to each: the sum of the rejection rates in
    between, shape (replicas,). What a target's modes cost, however many rungs there are."""
    round_trips: np.ndarray
    """How often, in each chain, a replica went from the coldest rung to the hottest and back,
    shape (chains,)."""
    n_steps: int
    """Steps of each chain these are of: since the warm-up."""

    @property
    def round_trip_rate(self) -> float:
        """Round trips a step of one chain, all replicas of it together."""
        return float(np.mean(self.round_trips)) / max(self.n_steps, 1)

    @property
    def ideal_rate(self) -> float:
        """The same were replicas to forget their past between swaps: 1 / (2 + 2 sum r / (1 - r)),
        r the rejection rates (S. Syed et al., 2022)."""
        odds = (1 - self.swap_rates) / np.maximum(self.swap_rates, 1e-12)
        return float(1 / (2 + 2 * odds.sum()))

    @property
    def problems(self) -> list[str]:
        """What speaks against the ladder, each a sentence of advice; empty if nothing does."""
        found = []
        if np.isnan(self.swap_rates).any():
            return ["no swap was tried yet: take more steps"]
        worst = int(np.argmin(self.swap_rates))
        if self.swap_rates[worst] < FEWEST_SWAPS:
            found.append(
                f"only {100 * self.swap_rates[worst]:.1g}% of swaps between beta ="
                f" {self.betas[worst]:.3g} and {self.betas[worst + 1]:.3g} happen: take more"
                f" replicas, about {int(np.ceil(2 * self.barrier[-1])) + 1}, or a longer warmup"
            )
        if not self.round_trips.any():
            found.append(
                "no replica went from cold to hot and back: draws do not profit from the hot end;"
                " take more steps, or more replicas"
            )
        return found

    @property
    def summary(self) -> str:
        """One line to print."""
        verdict = "; ".join(self.problems) or "replicas travel"
        return (
            f"{len(self.betas)} replicas, barrier {self.barrier[-1]:.2f}, swaps"
            f" {np.nanmin(self.swap_rates, initial=1):.0%} to"
            f" {np.nanmax(self.swap_rates, initial=0):.0%}, {int(self.round_trips.sum())} round"
            f" trips in {len(self.round_trips)} x {self.n_steps} steps: {verdict}"
        )


def ladder_report(kernel: Any, states: Any) -> LadderReport:
    """What a run of `ReplicaExchange` says about its ladder.

    **Arguments:**

    - `kernel`: as the warm-up left it: `draws.kernel`, or what `tune_chains` returned.
    - `states`: its last states, with a leading axis of chains: `draws.states`.

    **Raises:** `ValueError` if these are no states of replica exchange.

    Source: S. Syed, A. Bouchard-Cote, G. Deligiannidis and A. Doucet, "Non-reversible parallel
    tempering: a scalable highly parallel MCMC scheme" (2022).
    """
    swaps = getattr(states, "swaps", None)
    if not isinstance(swaps, Swaps) or jnp.ndim(swaps.n_steps) != 1:
        raise ValueError(
            "ladder_report needs the states of many chains of ReplicaExchange, got"
            f" {type(states).__name__}"
        )
    counted = jax.tree.map(np.asarray, swaps)
    tried = counted.attempts.sum(0)
    refused = (counted.attempts * counted.rejection.astype(np.float64)).sum(0)
    with np.errstate(invalid="ignore"):
        rejection = np.where(tried > 0, refused / np.maximum(tried, 1), np.nan)
    return LadderReport(
        betas=np.asarray(kernel.betas, np.float64),
        swap_rates=1 - rejection,
        barrier=np.concatenate([[0.0], np.cumsum(rejection)]),
        round_trips=counted.round_trips,
        n_steps=int(counted.n_steps.max()),
    )
