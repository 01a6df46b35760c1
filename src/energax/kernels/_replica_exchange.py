"""Replica exchange: replicas at several temperatures that swap places."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from energax.energies import (
    AbstractEnergy,
    AbstractPath,
    AbstractTractable,
    keeps_terms,
    path,
    temper,
)
from energax.energies._parameters import finite_array, is_traced
from energax.kernels._base import (
    AbstractEnsembleKernel,
    AbstractKernel,
    AbstractKernelState,
    AbstractTunableKernel,
    Info,
)
from energax.kernels._chains import terms_of, walk
from energax.kernels._ladder import Swaps, equalised
from energax.random import as_count, bernoulli
from energax.spaces import Numbers, State

_ROUNDS = 6
"""Rounds of warm-up, each twice as long as the one before and starting from its ladder."""


class ReplicaExchangeState(AbstractKernelState):
    """The replicas of one chain. `x` is the one at beta = 1."""

    x: State
    energy: Float[Array, ""]
    replicas: Any
    """The inner kernel's states, on a leading axis. They stay where they are: temperatures move."""
    level: Int[Array, " replicas"]
    """Where on the ladder each replica stands; 0 is the hottest rung."""
    odd: Bool[Array, ""]
    """Whether the next swaps are those of odd rungs with the next colder ones, or of even."""
    swaps: Swaps


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
            betas = _default_ladder(as_count(n_replicas, "n_replicas", least=2), beta_min, base)
        self.kernel = kernel
        self.betas = _as_ladder(betas, base)
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

    def check(self, energy: AbstractEnergy) -> None:
        model = self._at(energy, 0.5)
        try:
            self.kernel.check(model)
        except ValueError as error:
            raise ValueError(
                f"{type(self.kernel).__name__} cannot move on every rung, where the energy is a"
                f" {type(model).__name__}: {error}. With a base the rungs have the structure of"
                " ex.path(base, energy)"
            ) from None

    def init(self, energy: AbstractEnergy, x: State, key: Key[Array, ""]) -> ReplicaExchangeState:
        n, level = self.n_replicas, jnp.arange(self.n_replicas)
        replicas = self._each(
            lambda kernel, model, key: kernel.init(model, x, key),
            energy,
            level,
            jax.random.split(key, n),
        )
        coldest = jax.tree.map(lambda leaf: leaf[-1], replicas)
        return ReplicaExchangeState(
            x=x,
            energy=self._energy_at_one(energy, coldest),
            replicas=replicas,
            level=level,
            odd=jnp.zeros((), bool),
            swaps=Swaps.none(level, self.betas.dtype),
        )

    def step(
        self, energy: AbstractEnergy, state: ReplicaExchangeState, key: Key[Array, ""]
    ) -> tuple[ReplicaExchangeState, Info]:
        key_move, key_base, key_swap = jax.random.split(key, 3)
        replicas, info = self._each(
            lambda kernel, *given: kernel.step(*given),
            energy,
            state.level,
            state.replicas,
            jax.random.split(key_move, self.n_replicas),
        )
        if self.base is not None:
            replicas = self._redrawn(energy, state.level, replicas, key_base)
        coldest, hottest = state.level == self.n_replicas - 1, state.level == 0
        # Each rung's partner is the next colder one or the next hotter one, in turn; the ends
        # stay alone every other time.
        colder = (state.level % 2 == 1) == state.odd
        partner = jnp.where(colder, state.level + 1, state.level - 1)
        partner = jnp.where((colder & coldest) | (~colder & hottest), state.level, partner)
        gains = self._gains(energy, state.level, partner, replicas, info)

        pair = jnp.arange(self.n_replicas - 1)
        tried = (pair % 2 == 1) == state.odd
        probability = gains.swap_probability(jnp.argsort(state.level))
        swapped = tried & bernoulli(key_swap, probability)
        moves = swapped[jnp.minimum(jnp.minimum(state.level, partner), self.n_replicas - 2)]
        level = jnp.where(moves, partner, state.level)
        replicas = self._each(
            lambda kernel, *given: kernel.retemper(*given), energy, level, replicas
        )
        cold = jnp.argmax(level)
        new = ReplicaExchangeState(
            x=jax.tree.map(lambda leaf: leaf[cold], replicas.x),
            energy=jnp.where(moves, gains.there, gains.here)[cold],
            replicas=replicas,
            level=level,
            odd=~state.odd,
            swaps=state.swaps.after(probability, tried, level),
        )
        return new, Info(info.acceptance[jnp.argmax(state.level)], new.energy)

    def refresh(self, energy: AbstractEnergy, state: ReplicaExchangeState) -> ReplicaExchangeState:
        return self._seen(energy, self._with_replicas(energy, state, "refresh"))

    def retemper(self, energy: AbstractEnergy, state: ReplicaExchangeState) -> ReplicaExchangeState:
        # The terms of a path hold the energy's own beta: they are made again.
        if self.base is not None or not keeps_terms(energy):
            return self.refresh(energy, state)
        return self._seen(energy, self._with_replicas(energy, state, "retemper"))

    def energy_at(self, energy: AbstractEnergy, state: ReplicaExchangeState) -> Float[Array, ""]:
        return state.energy

    def tune(
        self,
        energy: AbstractEnergy,
        states: ReplicaExchangeState,
        n_steps: Array,
        key: Key[Array, ""],
    ) -> tuple["ReplicaExchange", ReplicaExchangeState]:
        first = self._with_settings(energy, states)
        n_steps = jnp.asarray(n_steps, jnp.int32)

        def end(i):
            # n_steps (2^i - 1) / (2^rounds - 1), without overflow.
            share, parts = 2 ** i.astype(jnp.int32) - 1, 2**_ROUNDS - 1
            return n_steps // parts * share + n_steps % parts * share // parts

        def one_round(i, carry):
            betas, settings, states = carry
            kernel = first._with(betas, settings)
            key_tune, key_walk = jax.random.split(jax.random.fold_in(key, i))
            length = end(i + 1) - end(i)
            if kernel.settings is not None:
                kernel, states = kernel._tuned_rungs(energy, states, length // 2, key_tune)
                length = length - length // 2
            states, _ = walk(energy, kernel, states, length, key_walk)
            kernel = kernel._with(
                kernel._better_ladder(states.swaps, last=i == _ROUNDS - 1), kernel.settings
            )
            states = jax.vmap(kernel._rewound, in_axes=(None, 0))(energy, states)
            return kernel.betas, kernel.settings, states

        carry = (first.betas, first.settings, states)
        betas, settings, states = jax.lax.fori_loop(0, _ROUNDS, one_round, carry)
        return first._with(betas, settings), states

    def _at(self, energy: AbstractEnergy, beta: ArrayLike) -> AbstractEnergy:
        """The energy on one rung."""
        return temper(energy, beta) if self.base is None else path(self.base, energy, beta)

    def _inner(self, level: Array) -> AbstractKernel:
        """The kernel of one rung."""
        if self.settings is None:
            return self.kernel
        return eqx.combine(jax.tree.map(lambda leaf: leaf[level], self.settings), self.kernel)

    def _each(
        self, method: Callable, energy: AbstractEnergy, level: Int[Array, " replicas"], *given: Any
    ) -> Any:
        """`method(kernel, model, ...)` of every replica at once, each on its own rung."""

        def one(level, *given):
            return method(self._inner(level), self._at(energy, self.betas[level]), *given)

        return jax.vmap(one)(level, *given)

    def _redrawn(
        self, energy: AbstractEnergy, level: Array, replicas: Any, key: Key[Array, ""]
    ) -> Any:
        """The replica at beta = 0 replaced by a draw from the base."""
        assert self.base is not None
        key_draw, key_init = jax.random.split(key)
        hot = jnp.argmin(level)
        model = self._at(energy, self.betas[0])
        fresh = self._inner(jnp.zeros((), level.dtype)).init(
            model, self.base.draw(key_draw), key_init
        )
        return jax.tree.map(lambda all, one: all.at[hot].set(one), replicas, fresh)

    def _gains(
        self,
        energy: AbstractEnergy,
        level: Int[Array, " replicas"],
        partner: Int[Array, " replicas"],
        replicas: Any,
        info: Info,
    ) -> "_Gains":
        """What each replica would gain on its partner's rung, from what is kept."""
        betas = self.betas.astype(info.energy.dtype)
        here_beta, there_beta = betas[level], betas[partner]
        if self.base is None:
            here, there = info.energy, info.energy * (there_beta / here_beta)
            # Formed as a difference of betas, not of two large energies.
            gain = info.energy * ((here_beta - there_beta) / here_beta)
        else:
            model = self._at(energy, 0.5)
            assert isinstance(model, AbstractPath)
            terms = terms_of(model, replicas)

            def both(here, there, terms):
                on_rung = model.at(here)
                gain = on_rung.log_increment(terms, there)
                return on_rung.energy_of(terms), model.at(there).energy_of(terms), gain

            here, there, gain = jax.vmap(both)(here_beta, there_beta, terms)
        # A replica outside the support belongs where it is hot, wherever that may end.
        outward = jnp.where(there_beta > here_beta, -jnp.inf, jnp.inf)
        gain = jnp.where(here == jnp.inf, jnp.where(there == jnp.inf, outward, jnp.inf), gain)
        gain = jnp.where((there == jnp.inf) & (here < jnp.inf), -jnp.inf, gain)
        return _Gains(here, there, gain)

    def _seen(self, energy: AbstractEnergy, state: ReplicaExchangeState) -> ReplicaExchangeState:
        """With x and its energy taken from the replica at beta = 1."""
        cold = jnp.argmax(state.level)
        one = jax.tree.map(lambda leaf: leaf[cold], state.replicas)
        value = self._energy_at_one(energy, one)
        return eqx.tree_at(lambda s: (s.x, s.energy), state, (one.x, value))

    def _energy_at_one(self, energy: AbstractEnergy, replica: Any) -> Float[Array, ""]:
        """E of a replica that stands at beta = 1."""
        kernel = self._inner(jnp.asarray(self.n_replicas - 1))
        return kernel.energy_at(self._at(energy, self.betas[-1]), replica)

    def _with_replicas(
        self, energy: AbstractEnergy, state: ReplicaExchangeState, method: str
    ) -> ReplicaExchangeState:
        replicas = self._each(
            lambda kernel, *given: getattr(kernel, method)(*given),
            energy,
            state.level,
            state.replicas,
        )
        return eqx.tree_at(lambda s: s.replicas, state, replicas)

    def _with(self, betas: Array, settings: Any) -> "ReplicaExchange":
        return eqx.tree_at(
            lambda k: (k.betas, k.settings), self, (betas, settings), is_leaf=lambda n: n is None
        )

    def _with_settings(
        self, energy: AbstractEnergy, states: ReplicaExchangeState
    ) -> "ReplicaExchange":
        """With room for the settings of every rung, in the shapes that tuning gives them."""
        kernel = self.kernel
        model = self._at(energy, self.betas[0])
        if self.settings is not None or not isinstance(kernel, AbstractTunableKernel):
            return self
        if not kernel.tunes(model):
            return self
        chains = jax.tree.map(lambda leaf: leaf[:, 0], states.replicas)
        like = eqx.filter_eval_shape(
            lambda chains, key: kernel.tune(model, chains, jnp.zeros((), jnp.int32), key)[0],
            chains,
            jax.random.key(0),
        )
        like = eqx.filter(
            like,
            lambda leaf: (
                isinstance(leaf, jax.ShapeDtypeStruct) and jnp.issubdtype(leaf.dtype, jnp.inexact)
            ),
        )
        settings = jax.tree.map(
            lambda a, b: jnp.broadcast_to(
                jnp.broadcast_to(a, b.shape).astype(b.dtype), (self.n_replicas, *b.shape)
            ),
            eqx.filter(kernel, eqx.is_inexact_array),
            like,
        )
        return self._with(self.betas, settings)

    def _tuned_rungs(
        self,
        energy: AbstractEnergy,
        states: ReplicaExchangeState,
        n_steps: Array,
        key: Key[Array, ""],
    ) -> tuple["ReplicaExchange", ReplicaExchangeState]:
        """The inner kernel tuned on every rung, by the replicas that stand there."""
        at = jnp.argsort(states.level, axis=1)
        by_rung = jax.tree.map(
            lambda leaf: jnp.swapaxes(jax.vmap(lambda one, at: one[at])(leaf, at), 0, 1),
            states.replicas,
        )

        def one(level, chains, key):
            kernel = self._inner(level)
            assert isinstance(kernel, AbstractTunableKernel)
            model = self._at(energy, self.betas[level])
            kernel, chains = kernel.tune(model, chains, n_steps, key)
            return eqx.filter(kernel, eqx.is_inexact_array), chains

        levels = jnp.arange(self.n_replicas)
        keys = jax.random.split(key, self.n_replicas)
        settings, replicas = jax.vmap(one)(levels, by_rung, keys)
        replicas = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), replicas)
        states = eqx.tree_at(
            lambda s: (s.replicas, s.level),
            states,
            (replicas, jnp.broadcast_to(levels, states.level.shape)),
        )
        return self._with(self.betas, settings), states

    def _better_ladder(self, swaps: Swaps, *, last: Array) -> Float[Array, " replicas"]:
        """Rungs that equalise the rejections of all chains; the last round only settles."""
        if not self.adapt:
            return self.betas
        weights = swaps.attempts.astype(swaps.rejection.dtype)
        tried = jnp.sum(weights, 0)
        rejection = jnp.sum(weights * swaps.rejection, 0) / jnp.maximum(tried, 1.0)
        better = equalised(self.betas, rejection)
        return jnp.where(last | jnp.any(tried == 0), self.betas, better)

    def _rewound(self, energy: AbstractEnergy, state: ReplicaExchangeState) -> ReplicaExchangeState:
        """The replicas on these rungs, and nothing counted."""
        state = self._seen(energy, self._with_replicas(energy, state, "retemper"))
        none = Swaps.none(state.level, self.betas.dtype)
        return eqx.tree_at(lambda s: s.swaps, state, none)


class _Gains(eqx.Module):
    here: Float[Array, " replicas"]
    """The energy of each replica on its rung."""
    there: Float[Array, " replicas"]
    """The same on its partner's rung."""
    gain: Float[Array, " replicas"]
    """The first less the second."""

    def swap_probability(self, at: Int[Array, " replicas"]) -> Float[Array, " pairs"]:
        """Of the replicas at each two neighbouring rungs; `at` says which stand there."""
        together = self.gain[at[:-1]] + self.gain[at[1:]]
        probability = jnp.exp(jnp.minimum(together, 0.0))
        probability = jnp.where(jnp.isnan(together), 0.0, probability)
        # A failure is carried to beta = 1 and stays there, where whoever looks at x sees it.
        failed = _is_failure(self.here) | _is_failure(self.there)
        return jnp.where(failed[at[1:]], 0.0, jnp.where(failed[at[:-1]], 1.0, probability))


def _is_failure(energy: Float[Array, "..."]) -> Bool[Array, "..."]:
    return jnp.isnan(energy) | (energy == -jnp.inf)


def _default_ladder(n: int, beta_min: Any, base: Any) -> np.ndarray:
    if base is not None:
        return np.linspace(0.0, 1.0, n)
    lowest = np.asarray(beta_min, float)
    if lowest.shape != () or not 0 < lowest < 1:
        raise ValueError(f"beta_min must be between 0 and 1, got {beta_min!r}")
    return np.geomspace(lowest, 1.0, n)


def _as_ladder(betas: Any, base: Any) -> Array:
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
