"""Warm-up of a ladder: rungs moved until swaps are refused as often on each, kernels tuned."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels._base import AbstractKernel, AbstractTunableKernel
from energax.kernels._chains import walk
from energax.kernels._ladder import Swaps, equalised
from energax.kernels._rungs import ReplicaExchangeState, Rungs

_ROUNDS = 6
"""Rounds of warm-up, each twice as long as the one before and starting from its ladder."""


def tuned(
    exchange: AbstractKernel,
    first: Rungs,
    energy: AbstractEnergy,
    states: ReplicaExchangeState,
    n_steps: Array,
    key: Key[Array, ""],
    *,
    adapt: bool,
) -> tuple[Any, ReplicaExchangeState]:
    """`n_steps` of all chains: the kernel with the rungs they led to, and the chains.

    **Arguments:**

    - `exchange`: the kernel that steps the chains, with the rungs' `betas` and `settings`.
    - `first`: its rungs before the warm-up.
    - `adapt`: whether the rungs move.
    """
    first = _with_settings(first, energy, states)
    n_steps = jnp.asarray(n_steps, jnp.int32)

    def end(i):
        # n_steps (2^i - 1) / (2^rounds - 1), without overflow.
        share, parts = 2 ** i.astype(jnp.int32) - 1, 2**_ROUNDS - 1
        return n_steps // parts * share + n_steps % parts * share // parts

    def one_round(i, carry):
        betas, settings, states = carry
        rungs = _with(first, betas, settings)
        key_tune, key_walk = jax.random.split(jax.random.fold_in(key, i))
        length = end(i + 1) - end(i)
        if settings is not None:
            settings, states = _tuned_kernels(rungs, energy, states, length // 2, key_tune)
            length = length - length // 2
        states, _ = walk(energy, _with(exchange, betas, settings), states, length, key_walk)
        if adapt:
            betas = _better_ladder(betas, states.swaps, last=i == _ROUNDS - 1)
        rungs = _with(first, betas, settings)
        states = jax.vmap(_rewound, in_axes=(None, None, 0))(rungs, energy, states)
        return betas, settings, states

    carry = (first.betas, first.settings, states)
    betas, settings, states = jax.lax.fori_loop(0, _ROUNDS, one_round, carry)
    return _with(exchange, betas, settings), states


def respaced(
    exchange: AbstractKernel,
    rungs: Rungs,
    energy: AbstractEnergy,
    states: ReplicaExchangeState,
) -> tuple[Any, ReplicaExchangeState]:
    """The kernel with its rungs moved once, by the swaps of all chains; these are then counted
    from none again, and what they told is kept until there is more."""
    betas = _better_ladder(rungs.betas, states.swaps, last=jnp.zeros((), bool))
    rungs = _with(rungs, betas, rungs.settings)

    def moved(state: ReplicaExchangeState) -> ReplicaExchangeState:
        state = rungs.again(energy, state, "retemper")
        return eqx.tree_at(lambda s: s.swaps, state, state.swaps.recounted())

    return _with(exchange, betas, rungs.settings), jax.vmap(moved)(states)


def _with(ladder: Any, betas: Array, settings: Any) -> Any:
    """Rungs, or the kernel made of them, with other numbers."""
    return eqx.tree_at(
        lambda k: (k.betas, k.settings), ladder, (betas, settings), is_leaf=lambda n: n is None
    )


def _with_settings(rungs: Rungs, energy: AbstractEnergy, states: ReplicaExchangeState) -> Rungs:
    """With room for the settings of every rung, in the shapes that tuning gives them."""
    kernel = rungs.kernel
    model = rungs.at(energy, rungs.betas[0])
    if rungs.settings is not None or not isinstance(kernel, AbstractTunableKernel):
        return rungs
    if not kernel.tunes(model):
        return rungs
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
            jnp.broadcast_to(a, b.shape).astype(b.dtype), (rungs.n, *b.shape)
        ),
        eqx.filter(kernel, eqx.is_inexact_array),
        like,
    )
    return _with(rungs, rungs.betas, settings)


def _tuned_kernels(
    rungs: Rungs,
    energy: AbstractEnergy,
    states: ReplicaExchangeState,
    n_steps: Array,
    key: Key[Array, ""],
) -> tuple[Any, ReplicaExchangeState]:
    """The settings of the inner kernel tuned on every rung, by the replicas that stand there."""
    at = jnp.argsort(states.level, axis=1)
    by_rung = jax.tree.map(
        lambda leaf: jnp.swapaxes(jax.vmap(lambda one, at: one[at])(leaf, at), 0, 1),
        states.replicas,
    )

    def one(level, chains, key):
        kernel = rungs.inner(level)
        assert isinstance(kernel, AbstractTunableKernel)
        model = rungs.at(energy, rungs.betas[level])
        kernel, chains = kernel.tune(model, chains, n_steps, key)
        return eqx.filter(kernel, eqx.is_inexact_array), chains

    levels = jnp.arange(rungs.n)
    settings, replicas = jax.vmap(one)(levels, by_rung, jax.random.split(key, rungs.n))
    replicas = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), replicas)
    states = eqx.tree_at(
        lambda s: (s.replicas, s.level),
        states,
        (replicas, jnp.broadcast_to(levels, states.level.shape)),
    )
    return settings, states


def _better_ladder(
    betas: Float[Array, " replicas"], swaps: Swaps, *, last: Array
) -> Float[Array, " replicas"]:
    """Rungs that equalise the rejections of all chains; the last round only settles."""
    weights = swaps.attempts.astype(swaps.rejection.dtype)
    tried = jnp.sum(weights, 0)
    rejection = jnp.sum(weights * swaps.rejection, 0) / jnp.maximum(tried, 1.0)
    return jnp.where(last | jnp.any(tried == 0), betas, equalised(betas, rejection))


def _rewound(
    rungs: Rungs, energy: AbstractEnergy, state: ReplicaExchangeState
) -> ReplicaExchangeState:
    """The replicas on these rungs, and nothing counted."""
    none = Swaps.none(state.level, rungs.betas.dtype)
    return eqx.tree_at(lambda s: s.swaps, rungs.again(energy, state, "retemper"), none)
