"""Two chains that meet: pairs of steps, each of which alone is the kernel's own."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from energax.energies import AbstractEnergy
from energax.kernels._base import AbstractEnsembleKernel, AbstractKernel, Info
from energax.kernels._metropolis import MetropolisState, RandomWalkMetropolis, accept_or_stay
from energax.kernels._replica_exchange import ReplicaExchange
from energax.kernels._rungs import ReplicaExchangeState
from energax.random import bernoulli, normal
from energax.spaces import AbstractSpace, Box, Clamped, Joint, Real, State


class CoupledStep(eqx.Module):
    """Two chains after one step of both."""

    x: Any
    """The kernel's state of the first chain."""
    y: Any
    """That of the second."""
    info_x: Info
    info_y: Info
    met: Bool[Array, ""]
    """Whether the chains are now one."""


def step_coupled(
    energy: AbstractEnergy,
    kernel: AbstractKernel,
    pair: tuple[Any, Any],
    key: Key[Array, ""],
) -> CoupledStep:
    """One step of two chains with common randomness, so that they may meet.

    Looked at alone, each chain makes a step of `kernel`. Chains that have met stay together, real
    entries up to rounding: `met` and not an `==` says that they are one.

    - `RandomWalkMetropolis` on real entries: the two normal proposals agree with the largest
      probability there is, and are mirror images of each other otherwise; both are accepted by
      the same uniform number.
    - `ReplicaExchange`: both ladders move the replicas on each rung with the same key, and swap by
      the same numbers; a base draws the same state for both. They have met when all rungs have.
      Since swaps of even and odd rungs take turns, one has to be ahead by an even number of steps.
    - Everything else takes the same key twice. Of a Gibbs step that draws bits this is the
      maximal coupling of every bit given what it depends on: one uniform number is compared with
      both probabilities. Where all couplings are attractive it also keeps ordered chains ordered.

    **Arguments:**

    - `energy`, `kernel`: call `check_coupled` with them first; nothing is checked here.
    - `pair`: the kernel's states of both chains.
    - `key`: of both chains' randomness.

    **Returns:** a `CoupledStep`.

    Source: P. Jacob, J. O'Leary and Y. Atchade, "Unbiased Markov chain Monte Carlo methods with
    couplings" (2020).
    """
    x, y = pair
    if isinstance(kernel, RandomWalkMetropolis) and _is_real(energy.space):
        return _reflection_coupled(energy, kernel, x, y, key)
    (x, info_x), (y, info_y) = kernel.step(energy, x, key), kernel.step(energy, y, key)
    return CoupledStep(x, y, info_x, info_y, are_one(kernel, x, y))


def check_coupled(energy: AbstractEnergy, kernel: AbstractKernel, *, lag: int = 2) -> None:
    """Raise `ValueError` unless two chains of `kernel`, one `lag` steps ahead of the other, can be
    coupled so that they meet."""
    name = type(kernel).__name__
    if isinstance(kernel, AbstractEnsembleKernel):
        raise ValueError(
            f"{name} moves all chains and cannot be coupled: take a kernel of one chain"
        )
    if isinstance(kernel, ReplicaExchange):
        if lag % 2:
            raise ValueError(f"ladders whose swaps take turns meet at an even lag only, got {lag}")
        if not energy.space.is_discrete:
            raise ValueError(f"ladders on {energy.space} come close but never meet")
        check_coupled(energy, kernel.kernel)
    if not kernel.is_exact:
        raise ValueError(f"coupled chains need an exact kernel, got {name}")
    space = energy.space
    if isinstance(_unclamped(space), Joint) and not space.is_discrete:
        raise ValueError(f"a Joint with real parts cannot be coupled by any kernel, got {space}")
    kernel.check(energy)
    if not (space.is_discrete or (isinstance(kernel, RandomWalkMetropolis) and _is_real(space))):
        raise ValueError(
            f"two chains of {name} on {space} come close but never meet: take"
            " ex.RandomWalkMetropolis on real entries"
        )


def are_one(kernel: AbstractKernel, x: Any, y: Any) -> Bool[Array, ""]:
    """Whether two states of the kernel go on alike from here."""
    if isinstance(kernel, ReplicaExchange):
        return have_met(_by_rung(x), _by_rung(y)) & (x.odd == y.odd)
    return have_met(x.x, y.x)


def have_met(x: State, y: State) -> Bool[Array, ""]:
    """Whether two states are the same, entry by entry."""
    pairs = zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)
    return jnp.all(jnp.stack([jnp.all(a == b) for a, b in pairs]))


def _by_rung(state: ReplicaExchangeState) -> State:
    at = jnp.argsort(state.level)
    return jax.tree.map(lambda leaf: leaf[at], state.replicas.x)


def _unclamped(space: AbstractSpace) -> AbstractSpace:
    return space.space if isinstance(space, Clamped) else space


def _is_real(space: AbstractSpace) -> bool:
    return isinstance(_unclamped(space), Real | Box)


def _reflection_coupled(
    energy: AbstractEnergy,
    kernel: RandomWalkMetropolis,
    x: MetropolisState,
    y: MetropolisState,
    key: Key[Array, ""],
) -> CoupledStep:
    """Proposals x + s z and y + s w: equal with the largest probability, otherwise w is z
    reflected in the plane between x and y."""
    key_noise, key_meet, key_accept = jax.random.split(key, 3)
    dtype = x.x.dtype
    step = kernel.step_size.astype(dtype)
    noise = normal(key_noise, x.x.shape, dtype)
    gap = (x.x - y.x) / step
    squared = jnp.sum(gap**2)
    along = jnp.sum(gap * noise)
    # The density of w = z + gap, the noise that leads from y to x's proposal, over that of z.
    log_ratio = -along - squared / 2
    meet = bernoulli(key_meet, jnp.exp(jnp.minimum(log_ratio, 0.0)))
    mirrored = noise - 2 * along / jnp.where(squared > 0, squared, 1.0) * gap
    there = energy.space.clamp(x.x + step * noise)
    other = jnp.where(meet, there, energy.space.clamp(y.x + step * mirrored))
    none = jnp.zeros_like(x.energy)
    new_x, info_x = accept_or_stay(energy, x, there, none, key_accept)
    new_y, info_y = accept_or_stay(energy, y, other, none, key_accept)
    # XLA may compute the common proposal once for each chain and round it otherwise, so that the
    # two differ in the last bit: that they met is known from what was decided.
    accepted_x, accepted_y = (bernoulli(key_accept, i.acceptance) for i in (info_x, info_y))
    met = jnp.where(accepted_x & accepted_y, meet, ~accepted_x & ~accepted_y & (squared == 0))
    new_y = jax.tree.map(lambda a, b: jnp.where(met, a, b), new_x, new_y)
    return CoupledStep(new_x, new_y, info_x, info_y, met)
