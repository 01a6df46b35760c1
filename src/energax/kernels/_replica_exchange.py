"""Replica exchange: replicas at several temperatures that swap places."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key

from energax.energies import AbstractEnergy, AbstractTractable, keeps_terms
from energax.kernels._base import (
    AbstractEnsembleKernel,
    AbstractKernel,
    AbstractTunableKernel,
    Info,
)
from energax.kernels._ladder import as_ladder, default_ladder
from energax.kernels._ladder_tuning import respaced, tuned
from energax.kernels._rungs import ReplicaExchangeState, Rungs
from energax.kernels._swapping import gains
from energax.random import as_count, bernoulli
from energax.spaces import Numbers, State


class ReplicaExchange(AbstractTunableKernel):
    """Parallel tempering: replicas of x sample exp(-beta E) at several beta, hot ones cross
    between modes, and neighbours i, j swap places with probability

        min(1, exp((beta_i - beta_j) (E(x_i) - E(x_j)))).

    Each step moves every replica by `kernel`, then tries the swaps of even rungs or of odd ones,
    in turn. This alternation is not reversible, and carries replicas along the ladder in a
    straight line where swaps chosen at random would let them diffuse. A chain of `ReplicaExchange`
    is one whole ladder: its x is the replica at beta = 1.

    In warm-up the rungs are moved until every swap is refused as often, from all chains together;
    a kernel that tunes itself does so on each rung. `ladder_report` tells how it went.

    **Arguments:**

    - `kernel`: moves each replica. For an RBM with `BlockGibbs` give a `base`: an RBM's energy
      times beta is no RBM's, but the path from base rates to it is.
    - `betas`: inverse temperatures, increasing to 1. `None` spaces `n_replicas` of them evenly
      in log beta, from `beta_min`; with a `base` evenly from 0.
    - `base`: an energy with exact draws over the same space. Then beta runs from 0, where the
      replica is drawn afresh from the base at every step, along `ex.path(base, energy)`. Without
      one it is `energy ** beta`, and exp(-beta E) must have a finite integral.
    - `adapt`: whether warm-up moves the rungs. The two ends stay.

    **Raises:** `ValueError` for numbers out of range or an ensemble kernel.

    ```python
    import energax as ex
    import jax.numpy as jnp

    two_modes = ex.NeuralEnergy(lambda x: -10 * (x**2 - 1) ** 2, ex.Real())
    kernel = ex.ReplicaExchange(ex.RandomWalkMetropolis(0.5), n_replicas=4)
    draws = ex.sample(two_modes, 400, key=ex.key(0), kernel=kernel, chains=4, warmup=50)
    ```

    Source: S. Syed, A. Bouchard-Cote, G. Deligiannidis and A. Doucet, "Non-reversible parallel
    tempering: a scalable highly parallel MCMC scheme" (2022).
    """

    kernel: AbstractKernel
    betas: Float[Array, " replicas"]
    base: AbstractTractable | None
    settings: Any
    """The inner kernel's numbers on each rung, where warm-up has tuned them; otherwise `None`."""
    adapt: bool = eqx.field(static=True)

    def __init__(
        self,
        kernel: AbstractKernel,
        betas: Numbers | None = None,
        *,
        n_replicas: int = 8,
        beta_min: float = 0.05,
        base: AbstractTractable | None = None,
        adapt: bool = True,
    ):
        if not isinstance(kernel, AbstractKernel) or isinstance(kernel, AbstractEnsembleKernel):
            raise ValueError(
                f"kernel must be a kernel of single chains, got {type(kernel).__name__}"
            )
        if base is not None and not isinstance(base, AbstractTractable):
            raise ValueError(f"base must be an energy with exact draws, got {type(base).__name__}")
        if betas is None:
            betas = default_ladder(as_count(n_replicas, "n_replicas", least=2), beta_min, base)
        self.kernel = kernel
        self.betas = as_ladder(betas, base)
        self.base = base
        self.settings = None
        self.adapt = bool(adapt)

    @property
    def n_replicas(self) -> int:
        """How many replicas, one a rung."""
        return self.betas.shape[0]

    @property
    def is_exact(self) -> bool:
        return self.kernel.is_exact

    @property
    def _rungs(self) -> Rungs:
        return Rungs(self.kernel, self.betas, self.base, self.settings)

    def check(self, energy: AbstractEnergy) -> None:
        model = self._rungs.at(energy, 0.5)
        try:
            self.kernel.check(model)
        except ValueError as error:
            raise ValueError(
                f"{type(self.kernel).__name__} cannot move on every rung, where the energy is a"
                f" {type(model).__name__}: {error}. With a base the rungs have the structure of"
                " ex.path(base, energy)"
            ) from None

    def calmed(self, factor: ArrayLike) -> "ReplicaExchange":
        calmer, settings = self.kernel.calmed(factor), self.settings
        if calmer is self.kernel:
            return self
        if settings is None:
            return eqx.tree_at(lambda k: k.kernel, self, calmer)
        set_apart = jax.tree.map(lambda n: n is not None, settings, is_leaf=lambda n: n is None)

        def on_rung(numbers: Any) -> Any:
            return eqx.filter(eqx.combine(numbers, self.kernel).calmed(factor), set_apart)

        each = jax.vmap(on_rung)(settings)
        return eqx.tree_at(lambda k: (k.kernel, k.settings), self, (calmer, each))

    def init(self, energy: AbstractEnergy, x: State, key: Key[Array, ""]) -> ReplicaExchangeState:
        return self._rungs.start(energy, x, key)

    def step(
        self, energy: AbstractEnergy, state: ReplicaExchangeState, key: Key[Array, ""]
    ) -> tuple[ReplicaExchangeState, Info]:
        key_move, key_base, key_swap = jax.random.split(key, 3)
        rungs = self._rungs
        replicas, info = rungs.each(
            lambda kernel, *given: kernel.step(*given),
            energy,
            state.level,
            state.replicas,
            # One a rung and not one a replica: coupled ladders move alike, whoever stands there.
            jax.random.split(key_move, rungs.n)[state.level],
        )
        if self.base is not None:
            replicas = rungs.redrawn(energy, state.level, replicas, key_base)
        coldest, hottest = state.level == rungs.n - 1, state.level == 0
        # Each rung's partner is the next colder one or the next hotter one, in turn; the ends
        # stay alone every other time.
        colder = (state.level % 2 == 1) == state.odd
        partner = jnp.where(colder, state.level + 1, state.level - 1)
        partner = jnp.where((colder & coldest) | (~colder & hottest), state.level, partner)
        gained = gains(rungs, energy, state.level, partner, replicas, info)

        pair = jnp.arange(rungs.n - 1)
        tried = (pair % 2 == 1) == state.odd
        probability = gained.swap_probability(jnp.argsort(state.level))
        swapped = tried & bernoulli(key_swap, probability)
        moves = swapped[jnp.minimum(jnp.minimum(state.level, partner), rungs.n - 2)]
        level = jnp.where(moves, partner, state.level)
        replicas = rungs.each(
            lambda kernel, *given: kernel.retemper(*given), energy, level, replicas
        )
        cold = jnp.argmax(level)
        new = ReplicaExchangeState(
            x=jax.tree.map(lambda leaf: leaf[cold], replicas.x),
            energy=jnp.where(moves, gained.there, gained.here)[cold],
            replicas=replicas,
            level=level,
            odd=~state.odd,
            swaps=state.swaps.after(probability, tried, level),
        )
        return new, Info(info.acceptance[jnp.argmax(state.level)], new.energy)

    def refresh(self, energy: AbstractEnergy, state: ReplicaExchangeState) -> ReplicaExchangeState:
        return self._rungs.again(energy, state, "refresh")

    def retemper(self, energy: AbstractEnergy, state: ReplicaExchangeState) -> ReplicaExchangeState:
        # The terms of a path hold the energy's own beta: they are made again.
        if self.base is not None or not keeps_terms(energy):
            return self.refresh(energy, state)
        return self._rungs.again(energy, state, "retemper")

    def energy_at(self, energy: AbstractEnergy, state: ReplicaExchangeState) -> Float[Array, ""]:
        return state.energy

    def respaced(
        self, energy: AbstractEnergy, states: ReplicaExchangeState
    ) -> tuple["ReplicaExchange", ReplicaExchangeState]:
        """This kernel with its rungs where the swaps of all chains (a leading axis of `states`)
        would be refused as often, and the chains on them: for energies that change as chains go.
        """
        return respaced(self, self._rungs, energy, states)

    def tune(
        self,
        energy: AbstractEnergy,
        states: ReplicaExchangeState,
        n_steps: Array,
        key: Key[Array, ""],
    ) -> tuple["ReplicaExchange", ReplicaExchangeState]:
        return tuned(self, self._rungs, energy, states, n_steps, key, adapt=self.adapt)
