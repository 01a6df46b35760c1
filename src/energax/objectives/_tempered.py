"""Tempered contrastive divergence: persistent chains that cross between modes."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels import (
    AbstractKernel,
    ReplicaExchange,
    ReplicaExchangeState,
    refresh_chains,
    start_chains,
)
from energax.kernels._ladder import FEWEST_SWAPS
from energax.objectives._base import AbstractObjective, Step, contrast, count_field
from energax.objectives._centring import centre, check_centring, first_offsets
from energax.objectives._chains import advance, calmed
from energax.partition import base_rates
from energax.sampling import default_kernel
from energax.spaces import State

_STEPS_A_LADDER = 100
"""Steps of all chains after which the rungs are moved: enough tries of each swap, even with ten
chains, to tell their rates to some 2%."""


class TemperedState(eqx.Module):
    """The ladders of all chains, the kernel with its rungs, and the units' running means."""

    chains: ReplicaExchangeState
    kernel: ReplicaExchange
    offsets: Any


class TemperedContrastiveDivergence(AbstractObjective):
    """Persistent contrastive divergence whose chains are whole ladders of replica exchange.

    As a model learns, its modes grow apart, and chains that are moved a step at a time come to
    stay in theirs: the gradient then takes mass from where they sit, whatever is there. Here hot
    replicas cross, and hand what they find down the ladder. Only the replica at beta = 1 enters
    the contrast.

    Where the kernel's `adapt` is true, its rungs are moved every 100 steps, so that swaps stay as
    likely on each pair of them while the energy changes. `swap_rate` is the least of their rates,
    `round_trips` how often, in a chain, a replica has gone from cold to hot and back.

    `ex.PersistentContrastiveDivergence` with an `ex.ReplicaExchange` for its kernel does the same
    on a ladder that stays as it was given.

    **Arguments:**

    - `n_steps`: steps of every ladder a gradient.
    - `n_chains`: ladders.
    - `n_replicas`: rungs of the ladder that is made if `kernel` is `None`.
    - `kernel`: an `ex.ReplicaExchange`. If `None`, one of the energy's default kernel, where
      that moves on no power of the energy (as on an RBM's) from the base rates of the data.
    - `centred`: take an RBM's gradient about the units' running means.

    **Raises:** `ValueError` for settings out of range.

    ```python
    import energax as ex
    import numpy as np

    rows = np.eye(4)
    rbm = ex.RBM.init(ex.key(0), n_visible=4, n_hidden=3)
    objective = ex.TemperedContrastiveDivergence(n_chains=20, n_replicas=3)
    run = ex.fit(rbm, rows, objective, key=ex.key(1), steps=100)
    print(run.history[-1]["swap_rate"])
    ```

    Sources: G. Desjardins, A. Courville, Y. Bengio, P. Vincent and O. Delalleau, "Tempered Markov
    chain Monte Carlo for training of restricted Boltzmann machines" (2010); rungs that follow the
    model: G. Desjardins, A. Courville and Y. Bengio, "Adaptive parallel tempering for stochastic
    maximum likelihood learning of RBMs" (2010), moved here by the rule of S. Syed et al. (2022).
    """

    n_steps: int = count_field("n_steps", 1)
    n_chains: int = count_field("n_chains", 100)
    n_replicas: int = count_field("n_replicas", 8, least=2)
    kernel: ReplicaExchange | None = None
    centred: bool = False

    def __check_init__(self):
        if self.kernel is not None and not isinstance(self.kernel, ReplicaExchange):
            raise ValueError(
                "kernel must be an ex.ReplicaExchange, whose own kernel moves each replica, got"
                f" {type(self.kernel).__name__}"
            )

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        check_centring(energy, self.centred)
        return AbstractObjective.prepare(self, energy, data)

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> TemperedState:
        kernel = self._ladder(energy, rows) if self.kernel is None else self.kernel
        kernel.check(energy)
        key_draw, key_init = jax.random.split(key)
        x = jax.vmap(energy.space.draw)(jax.random.split(key_draw, self.n_chains))
        chains = start_chains(energy, kernel, x, key_init)
        return TemperedState(chains, kernel, first_offsets(energy, rows) if self.centred else None)

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: TemperedState, *, key: Key[Array, ""]
    ) -> Step:
        kernel, moving = state.kernel, self._moving(state.kernel)
        chains = refresh_chains(energy, moving, state.chains)
        chains, moves = advance(energy, moving, chains, self.n_steps, key)
        gradient, measures, energies = contrast(energy, batch, chains.x)
        gradient, offsets = centre(energy, gradient, batch, state.offsets)
        swaps = {
            "swap_rate": 1 - jnp.max(jnp.mean(chains.swaps.rejection, 0)),
            "round_trips": jnp.mean(chains.swaps.round_trips, dtype=chains.swaps.rejection.dtype),
        }
        if kernel.adapt:
            kernel, chains = _on_better_rungs(energy, kernel, chains)
        measures = {**measures, **moves, **swaps}
        return Step(gradient, TemperedState(chains, kernel, offsets), measures, energies)

    def calmed(self, energy: AbstractEnergy, factor: Float[Array, ""]) -> AbstractObjective:
        # Moves that have a step size need no base to move on powers of the energy.
        return calmed(energy, self, factor, lambda e: ReplicaExchange(default_kernel(e)))

    def chains(self, state: TemperedState) -> State:
        return state.chains.x

    def complaint(self, measures: dict[str, float]) -> str:
        rate = measures.get("swap_rate", 1.0)
        if rate < FEWEST_SWAPS:
            return (
                f"only {100 * rate:.1g}% of the swaps between some two rungs happen: chains hardly"
                " profit from the hot end; take more replicas"
            )
        if measures.get("round_trips", 1.0) == 0:
            return (
                "no replica went from cold to hot and back: chains do not profit from the hot end;"
                " take more steps, or more replicas"
            )
        return ""

    def _moving(self, rungs: ReplicaExchange) -> ReplicaExchange:
        """The moves, whose steps may have been calmed since `init`, on the rungs of the state."""
        if self.kernel is None:
            return rungs
        return eqx.tree_at(lambda k: k.betas, self.kernel, rungs.betas)

    def _ladder(self, energy: AbstractEnergy, rows: State) -> ReplicaExchange:
        inner = default_kernel(energy)
        ladder = ReplicaExchange(inner, n_replicas=self.n_replicas)
        if _moves(ladder, energy) or not _moves(inner, energy):
            return ladder
        base, _ = base_rates(energy.space, rows)
        return ReplicaExchange(inner, n_replicas=self.n_replicas, base=base)


def _moves(kernel: AbstractKernel, energy: AbstractEnergy) -> bool:
    try:
        kernel.check(energy)
    except ValueError:
        return False
    return True


def _on_better_rungs(
    energy: AbstractEnergy, kernel: ReplicaExchange, chains: ReplicaExchangeState
) -> tuple[ReplicaExchange, ReplicaExchangeState]:
    """The ladder moved, if enough swaps have been tried since it last was."""
    fixed = eqx.filter(kernel, eqx.is_array, inverse=True)

    def move() -> tuple[Any, ReplicaExchangeState]:
        moved, new = kernel.respaced(energy, chains)
        return eqx.filter(moved, eqx.is_array), new

    def stay() -> tuple[Any, ReplicaExchangeState]:
        return eqx.filter(kernel, eqx.is_array), chains

    due = chains.swaps.n_steps[0] >= _STEPS_A_LADDER
    arrays, chains = lax.cond(due, move, stay)
    return eqx.combine(arrays, fixed), chains
