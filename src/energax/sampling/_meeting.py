"""Pairs of chains that share their randomness until they meet: the sums without bias over them."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from energax.energies import (
    AbstractBipartite,
    AbstractBlocked,
    AbstractEnergy,
    AbstractTractable,
    unfreeze,
)
from energax.kernels import (
    AbstractKernel,
    BlockGibbs,
    RandomWalkMetropolis,
    are_one,
    step_coupled,
)
from energax.sampling._default_kernel import default_kernel
from energax.spaces import Clamped, float_dtype


class Plan(eqx.Module):
    """Which steps of a pair count, and how much. With L for the lag and tau for the meeting,

        sum_{t=k}^{m} f(X_t) / (m - k + 1)  +  sum_{t=k+L}^{tau-1} v_t (f(X_t) - f(Y_{t-L})),

    v_t the number of multiples of L between max(L, t - m) and t - k over m - k + 1, has the
    expectation of f (P. Jacob, J. O'Leary and Y. Atchade, 2020; with a lag, N. Biswas, P. Jacob
    and P. Vanetti, 2019).
    """

    k: Int[Array, ""]
    m: Int[Array, ""]
    lag: Int[Array, ""]
    max_steps: Int[Array, ""]

    @classmethod
    def of(cls, *, k: int, m: int, lag: int, max_steps: int) -> "Plan":
        """Of Python's integers, which a compiled program then takes as numbers."""
        return cls(*(jnp.asarray(each, jnp.int32) for each in (k, m, lag, max_steps)))

    def is_averaged(self, t: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether step t is one from k to m."""
        return (t >= self.k) & (t <= self.m)

    def correction(self, t: Int[Array, ""]) -> Float[Array, ""]:
        """v_t; 0 before step k + L."""
        first = -jnp.maximum(self.lag, t - self.m) // self.lag  # rounded up, and negative
        count = (t - self.k) // self.lag + first + 1
        weight = count.astype(float_dtype()) / self.n_averaged.astype(float_dtype())
        return jnp.where(t >= self.k + self.lag, weight, 0.0)

    @property
    def n_averaged(self) -> Int[Array, ""]:
        """m - k + 1."""
        return self.m - self.k + 1


class Meetings(eqx.Module):
    """How pairs have fared."""

    time: Int[Array, " pairs"]
    """The step at which each met; of those that did not, the last one."""
    met: Bool[Array, " pairs"]
    failed: Bool[Array, " pairs"]
    """Which saw an energy of NaN or `-inf`."""

    def cost(self, plan: Plan) -> Int[Array, " pairs"]:
        """Steps of the kernel: X alone before Y starts, both until they meet, X alone again."""
        return plan.lag + 2 * (self.time - plan.lag) + jnp.maximum(plan.m - self.time, 0)


class _Pairs(eqx.Module):
    """Where all pairs stand."""

    x: Any
    y: Any
    meetings: Meetings


def meet(
    energy: AbstractEnergy,
    kernel: AbstractKernel,
    starts: tuple[Any, Any],
    plan: Plan,
    keys: Key[Array, " pairs"],
    carry: Any,
    collect: Callable[[Any, Int[Array, ""], Any, Any, Bool[Array, " pairs"]], Any],
) -> tuple[Any, Meetings]:
    """Walk all pairs side by side until each has met and has taken the steps up to m.

    **Arguments:**

    - `starts`: the kernel's states of the chains X and Y, on a leading axis of pairs.
    - `keys`: one a pair; the randomness of step t is `fold_in(key, t)`.
    - `carry`, `collect`: `collect(carry, t, x, y, apart)` is the carry after step t, from the
      states x of step t and y of step t - lag, and which of the pairs have not met.

    **Returns:** the last carry, and how the pairs fared.
    """

    def keys_of(t: Int[Array, ""]) -> Key[Array, " pairs"]:
        return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, t)

    def at_start(t: Int[Array, ""], pairs: _Pairs) -> _Pairs:
        return pairs

    def alone(t: Int[Array, ""], pairs: _Pairs) -> _Pairs:
        """X before Y starts, and after all have met."""
        before = pairs.meetings
        x, info = jax.vmap(kernel.step, in_axes=(None, 0, 0))(energy, pairs.x, keys_of(t))
        one = jax.vmap(lambda x, y: are_one(kernel, x, y))(x, pairs.y)
        met = before.met | ((t == plan.lag) & one)
        meetings = Meetings(before.time, met, before.failed | _is_failure(info.energy))
        return _Pairs(x, pairs.y, meetings)

    def together(t: Int[Array, ""], pairs: _Pairs) -> _Pairs:
        before = pairs.meetings
        step = jax.vmap(step_coupled, in_axes=(None, None, 0, 0))(
            energy, kernel, (pairs.x, pairs.y), keys_of(t)
        )
        met = before.met | step.met
        # A pair that has met and has taken its steps only waits for the others.
        failed = (~before.met | (t <= plan.m)) & _is_failure(step.info_x.energy)
        failed |= ~before.met & _is_failure(step.info_y.energy)
        y = jax.vmap(_where)(met, step.x, step.y)
        time = jnp.where(before.met, before.time, t)
        return _Pairs(step.x, y, Meetings(time, met, before.failed | failed))

    def unfinished(state: tuple[Int[Array, ""], _Pairs, Any]) -> Bool[Array, ""]:
        t, pairs, _ = state
        return (jnp.any(~pairs.meetings.met) | (t < plan.m)) & (t < plan.max_steps)

    def advanced(state: tuple[Int[Array, ""], _Pairs, Any]) -> tuple[Any, _Pairs, Any]:
        t, pairs, carry = state
        t = t + 1
        is_alone = (t <= plan.lag) | jnp.all(pairs.meetings.met)
        which = jnp.where(t == 0, 0, jnp.where(is_alone, 1, 2))
        pairs = lax.switch(which, (at_start, alone, together), t, pairs)
        return t, pairs, collect(carry, t, pairs.x, pairs.y, ~pairs.meetings.met)

    nobody = jnp.zeros(keys.shape, bool)
    pairs = _Pairs(*starts, Meetings(jnp.full(keys.shape, plan.lag), nobody, nobody))
    # The start is the first step of the loop, so that `collect` is compiled once.
    state = jnp.asarray(-1, jnp.int32), pairs, carry
    _, pairs, carry = lax.while_loop(unfinished, advanced, state)
    return carry, pairs.meetings


def check_base(base: Any, energy: AbstractEnergy) -> None:
    """Raise `ValueError` unless `base` is `None` or has exact draws over the energy's space."""
    if base is None:
        return
    if not isinstance(base, AbstractTractable):
        raise ValueError(f"base must be an energy with exact draws, got {type(base).__name__}")
    # Where values are observed, they are put in place in every start.
    wanted, got = (
        space.space if isinstance(space, Clamped) else space for space in (energy.space, base.space)
    )
    if not eqx.tree_equal(wanted, got):
        raise ValueError(f"base must be over the energy's space {wanted}, got one over {got}")


def meeting_kernel(energy: AbstractEnergy) -> AbstractKernel:
    """The best kernel of which two chains meet."""
    if not energy.space.is_discrete:
        return RandomWalkMetropolis()
    if isinstance(unfreeze(energy), AbstractBipartite | AbstractBlocked):
        return BlockGibbs()
    return default_kernel(energy)


def _where(condition: Bool[Array, ""], a: Any, b: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), a, b)


def _is_failure(energy: Float[Array, " pairs"]) -> Bool[Array, " pairs"]:
    return jnp.isnan(energy) | (energy == -jnp.inf)
