"""Metropolis: propose a perturbation, accept it by the ratio of probabilities."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Key

from energax.energies import AbstractEnergy, keeps_terms
from energax.energies._parameters import finite_array
from energax.kernels._base import AbstractKernel, AbstractTermsState, Info
from energax.kernels._perturbation import entries_changed, perturb, real_dimensions
from energax.kernels._step_size import UNLIMITED, AbstractStepSizeKernel, as_fraction
from energax.random import bernoulli
from energax.spaces import AbstractSpace, State


class MetropolisState(AbstractTermsState):
    """x, its energy, and the energy's terms."""

    x: State
    energy: Float[Array, ""]
    terms: Any


class AbstractMetropolis(AbstractKernel):
    """A kernel that keeps a `MetropolisState`: all but the step."""

    is_exact: ClassVar[bool] = True

    def init(self, energy: AbstractEnergy, x: State, key: Key[Array, ""]) -> MetropolisState:
        return evaluated(energy, energy.space.clamp(x))

    def refresh(self, energy: AbstractEnergy, state: MetropolisState) -> MetropolisState:
        return evaluated(energy, energy.space.clamp(state.x))

    def retemper(self, energy: AbstractEnergy, state: MetropolisState) -> MetropolisState:
        return retempered(energy, state)

    def energy_at(self, energy: AbstractEnergy, state: MetropolisState) -> Float[Array, ""]:
        return state.energy


class RandomWalkMetropolis(AbstractMetropolis, AbstractStepSizeKernel):
    """The random walk as first taught: perturb x to y; go to y if it is likelier, and with
    probability p(y) / p(x) if it is not.

    The sometimes-downhill step is what makes it a sampler and not a search. Real entries get
    normal noise; of discrete ones a single entry changes; of a `Joint` one part, chosen at random.
    Observed entries stay, and are not proposed.

    In warm-up (`sample`'s, say) the step size is found, from all chains together; without one it
    is what is given here. On a discrete space there is nothing to find.

    **Arguments:**

    - `step_size`: the noise's standard deviation on real entries; discrete spaces ignore it.
    - `target_acceptance`: what warm-up aims at, where real entries are proposed. `None` is what
      suits normal densities in as many dimensions d as x has free real entries: about
      0.234 + 0.206 / d, from 0.44 in one to 0.234 in many (A. Gelman, G. O. Roberts and
      W. R. Gilks, "Efficient Metropolis jumping rules", 1996, table 1).
    - `adapt`: whether warm-up tunes at all.

    **Raises:** `ValueError` for settings out of range.

    Source: N. Metropolis et al., "Equation of state calculations by fast computing machines"
    (1953).
    """

    step_size: Float[Array, ""]
    target_acceptance: Float[Array, ""] | None
    adapt: bool = eqx.field(static=True)

    largest: ClassVar[float] = UNLIMITED

    def __init__(
        self,
        step_size: ArrayLike = 0.5,
        *,
        target_acceptance: ArrayLike | None = None,
        adapt: bool = True,
    ):
        self.step_size = finite_array(step_size, "step_size", shape=(), positive=True)
        self.target_acceptance = (
            None
            if target_acceptance is None
            else as_fraction(target_acceptance, "target_acceptance")
        )
        self.adapt = bool(adapt)

    def step(
        self, energy: AbstractEnergy, state: MetropolisState, key: Key[Array, ""]
    ) -> tuple[MetropolisState, Info]:
        state, info, _ = self.told_step(energy, state, key)
        return state, info

    def told_step(
        self, energy: AbstractEnergy, state: MetropolisState, key: Key[Array, ""]
    ) -> tuple[MetropolisState, Info, Bool[Array, ""]]:
        key_propose, key_accept = jax.random.split(key)
        y = perturb(energy.space, state.x, self.step_size, key_propose)
        new, info = accept_or_stay(energy, state, y, jnp.zeros_like(state.energy), key_accept)
        return new, info, _moves_real_entries(energy.space, state.x, y)

    def aim(self, energy: AbstractEnergy) -> Float[Array, ""] | None:
        dimensions = real_dimensions(energy.space)
        if not self.adapt or not dimensions:
            return None
        if self.target_acceptance is not None:
            return self.target_acceptance
        # Of a `Joint` each part is proposed alone, and counts alike: also one of a `Joint` within,
        # though that is proposed less often.
        each = jnp.stack(dimensions).astype(self.step_size.dtype)
        best = jnp.where(each > 0, 0.234 + 0.206 / jnp.maximum(each, 1.0), 0.0)
        return jnp.sum(best) / jnp.maximum(jnp.sum(each > 0, dtype=best.dtype), 1.0)


def _moves_real_entries(space: AbstractSpace, x: State, y: State) -> Bool[Array, ""]:
    """Whether y is a proposal for real entries: those of a discrete part change one of its own."""
    dimensions = real_dimensions(space)
    if not dimensions:
        return jnp.zeros((), bool)
    return jnp.any(jnp.stack(dimensions) > 0) & ~entries_changed(space, x, y)


class MetropolisHastings(AbstractMetropolis):
    """Metropolis with any proposal, corrected where going and coming back differ.

    **Arguments:**

    - `propose`: `propose(key, x) -> y`.
    - `log_proposal_ratio`: `log_proposal_ratio(x, y)` = log q(x | y) - log q(y | x), the way
      back over the way there. `None` says the proposal is symmetric.

    A proposal outside the energy's space is rejected. Of a conditioned energy that is one which
    changes an observed entry: `propose` has to leave those as they are. (Putting them back after
    the proposal would change q, and with it what the chain samples.)

    ```python
    import energax as ex
    import jax
    import jax.numpy as jnp

    # A multiplicative walk on x > 0: y = x exp(0.5 z) needs the ratio y / x.
    kernel = ex.MetropolisHastings(
        lambda key, x: x * jnp.exp(0.5 * jax.random.normal(key, x.shape)),
        lambda x, y: jnp.sum(jnp.log(y) - jnp.log(x)),
    )
    ```

    Source: W. K. Hastings, "Monte Carlo sampling methods using Markov chains and their
    applications" (1970).
    """

    propose: Callable[[Key[Array, ""], State], State]
    log_proposal_ratio: Callable[[State, State], Array] | None = None

    def __check_init__(self):
        for name in ("propose", "log_proposal_ratio"):
            value = getattr(self, name)
            if not callable(value) and not (name == "log_proposal_ratio" and value is None):
                raise ValueError(f"{name} must be callable, got {type(value).__name__}")

    def step(
        self, energy: AbstractEnergy, state: MetropolisState, key: Key[Array, ""]
    ) -> tuple[MetropolisState, Info]:
        key_propose, key_accept = jax.random.split(key)
        y = self.propose(key_propose, state.x)
        energy.space.check(y, name="what propose returned")
        ratio = jnp.zeros_like(state.energy)
        if self.log_proposal_ratio is not None:
            ratio = jnp.asarray(self.log_proposal_ratio(state.x, y), ratio.dtype)
            if ratio.shape != ():
                raise ValueError(
                    f"log_proposal_ratio must return one number, got shape {ratio.shape}: sum"
                    " over the entries of x"
                )
        return accept_or_stay(energy, state, y, ratio, key_accept)


def accept_or_stay(
    energy: AbstractEnergy,
    state: MetropolisState,
    y: State,
    log_proposal_ratio: Float[Array, ""],
    key: Key[Array, ""],
) -> tuple[MetropolisState, Info]:
    """The Metropolis-Hastings test: to y with probability min(1, p(y) q(x|y) / p(x) q(y|x)).

    A y outside the space or with an energy of `+inf` is refused. A failure stays visible: NaN or
    `-inf` at a y of the space, or a y that itself holds NaN, is accepted into the state, so that
    whoever runs the chain can say the model failed.
    """
    terms = energy.terms(y)
    proposed, probability = judged(
        energy, state.energy, y, energy.energy_of(terms), log_proposal_ratio
    )
    accept = bernoulli(key, probability)
    new = MetropolisState(y, proposed, terms)
    kept = jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, state)
    return kept, Info(probability, kept.energy)


def judged(
    energy: AbstractEnergy,
    current: Float[Array, ""],
    y: State,
    proposed: Float[Array, ""],
    log_proposal_ratio: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """E(y) as the test of `accept_or_stay` counts it, and the probability to go there."""
    proposed = counted(energy, y, proposed)
    return proposed, chance(current, proposed, log_proposal_ratio)


def counted(energy: AbstractEnergy, x: State, value: Float[Array, ""]) -> Float[Array, ""]:
    """E(x) as a test counts it: NaN where x holds NaN, `+inf` outside the space.

    There an energy may be anything, NaN too: that says nothing against the model.
    """
    return jnp.where(_holds_nan(x), jnp.nan, jnp.where(energy.space.contains(x), value, jnp.inf))


def chance(
    current: Float[Array, ""], proposed: Float[Array, ""], log_proposal_ratio: Float[Array, ""]
) -> Float[Array, ""]:
    """The probability to go from one energy to another, as it is counted; 1 to a failure."""
    # From an infinite energy (a start outside the support) every finite one is uphill.
    log_ratio = jnp.where(proposed == jnp.inf, -jnp.inf, current - proposed + log_proposal_ratio)
    failed = jnp.isnan(proposed) | (proposed == -jnp.inf)
    return jnp.where(failed, 1.0, jnp.exp(jnp.minimum(log_ratio, 0.0)))


def _holds_nan(x: State) -> Bool[Array, ""]:
    found = jnp.zeros((), bool)
    for leaf in jax.tree.leaves(x):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            found |= jnp.any(jnp.isnan(leaf))
    return found


def evaluated(energy: AbstractEnergy, x: State) -> MetropolisState:
    """The state at x, from one evaluation."""
    return from_terms(energy, x, energy.terms(x))


def retempered(energy: AbstractEnergy, state: MetropolisState) -> MetropolisState:
    """The same x where only the energy's `beta` changed: from the kept terms if they are right."""
    if keeps_terms(energy):
        return from_terms(energy, state.x, state.terms)
    return evaluated(energy, state.x)


def from_terms(energy: AbstractEnergy, x: State, terms: Any) -> MetropolisState:
    """The state at x whose terms are known: nothing is evaluated again."""
    return MetropolisState(x, counted(energy, x, energy.energy_of(terms)), terms)
