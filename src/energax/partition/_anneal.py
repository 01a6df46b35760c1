"""Chains taken along a path of energies, and the weights they collect on the way."""

import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractPath
from energax.kernels import (
    AbstractKernel,
    retemper_chains,
    start_chains,
    step_chains,
    terms_of,
)
from energax.spaces import State

_CHUNK_SECONDS = 0.5
"""How long Ctrl-C waits."""


class Annealed(eqx.Module):
    """What annealing leaves."""

    log_weights: Float[Array, " chains"]
    """exp of them is an unbiased estimate of Z at the end over Z at the start."""
    acceptance: Float[Array, " chains"]
    """The mean acceptance of each chain."""
    x: State
    """Where the chains were when they were last weighed."""
    gains: Float[Array, " temperatures"]
    """The mean of what each step of beta added to the log weights."""
    spread: Float[Array, " temperatures"]
    """The standard deviation of the log weights after each step of beta."""
    accepted: Float[Array, " temperatures"]
    """The mean acceptance at each temperature but the last, where nothing moves (0)."""


class _Walk(eqx.Module):
    """Chains somewhere on the path."""

    states: Any
    total: Float[Array, " chains"]
    error: Float[Array, " chains"]
    accepted: Float[Array, " chains"]
    trace: tuple[Array, Array, Array]


def anneal(
    start: AbstractPath,
    kernel: AbstractKernel,
    betas: Float[Array, " rungs"],
    key: Key[Array, ""],
    *,
    n_chains: int | None = None,
    x: State | None = None,
    settings: Any = None,
) -> Annealed:
    """Chains moved along `betas`, up or down, and weighed.

    Held in memory: the chains, their weights, and the ladder. The weights are summed with
    Neumaier's compensation, so 100,000 temperatures lose nothing in float32. Chains advance in
    chunks of one compiled program, between which Ctrl-C is heeded.

    **Arguments:**

    - `betas`: where chains start, the temperatures between, and where they end.
    - `n_chains`: how many start from draws of the path's base, at `betas[0] = 0`.
    - `x`: where chains start, instead; draws of the path's energy at `betas[0]`.
    - `settings`: the kernel's own arrays, where they differ along the ladder, with a leading axis
      of rungs; as replica exchange finds them.

    ```python
    import energax as ex
    import jax.numpy as jnp
    from energax.partition import anneal

    path = ex.path(ex.Uniform(ex.Spin(6)), ex.Ising(6, 0.4))
    run = anneal(path, ex.BlockGibbs(), jnp.linspace(0.0, 1.0, 101), ex.key(0), n_chains=50)
    ```
    """
    key_draw, key_init, key_walk = jax.random.split(key, 3)
    if x is None:
        assert n_chains is not None, "either starts or their number"
        x = _base_draws(start, key_draw, n_chains)
    given = start, kernel, settings, betas
    walk = _begin(given, x, key_init)
    n_moves, done, size = betas.shape[0] - 2, 0, 1
    while done < n_moves:
        began = time.monotonic()
        span = jnp.asarray((done, done + size), jnp.int32)
        walk = _advance((given, span, key_walk), walk)
        jax.block_until_ready(walk.total)
        done += size
        wanted = size * _CHUNK_SECONDS / max(time.monotonic() - began, 1e-9)
        rest = n_moves - done
        size = rest if rest <= 1.5 * wanted else max(1, int(wanted))
    return _finish(given, walk)


@eqx.filter_jit
def _base_draws(start: AbstractPath, key: Key[Array, ""], n_chains: int) -> State:
    return jax.vmap(start.base.draw)(jax.random.split(key, n_chains))


@eqx.filter_jit
def _begin(given: tuple, x: State, key: Key[Array, ""]) -> _Walk:
    start, kernel, settings, betas = given
    with jax.default_matmul_precision("highest"):
        states = start_chains(start.at(betas[0]), at_rung(kernel, settings, 0), x, key)
    zero = jnp.zeros((len(jax.tree.leaves(x)[0]),), betas.dtype)
    none = jnp.zeros((betas.shape[0] - 1,), betas.dtype)
    states = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), states)
    return _Walk(states, zero, zero, zero, (none, none, none))


@eqx.filter_jit(donate="all-except-first")
def _advance(arguments: tuple, walk: _Walk) -> _Walk:
    """The steps of beta from `span[0]` to `span[1]`, each followed by a move."""
    (start, kernel, settings, betas), span, key = arguments

    def step(index, walk):
        walk = _weighed(start, betas, index, walk)
        model = start.at(betas[index + 1])
        mover = at_rung(kernel, settings, index + 1)
        states = retemper_chains(model, mover, walk.states)
        states, info = step_chains(model, mover, states, jax.random.fold_in(key, index))
        states = jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), states, walk.states)
        gains, spread, moved = walk.trace
        accepted = info.acceptance.astype(betas.dtype)
        moved = moved.at[index].set(jnp.mean(accepted))
        return _Walk(
            states, walk.total, walk.error, walk.accepted + accepted, (gains, spread, moved)
        )

    # Accelerators multiply in fewer bits unless told otherwise.
    with jax.default_matmul_precision("highest"):
        return lax.fori_loop(span[0], span[1], step, walk)


@eqx.filter_jit
def _finish(given: tuple, walk: _Walk) -> Annealed:
    start, _, _, betas = given
    n = betas.shape[0] - 1
    # The last temperature only weighs: a move there would change no weight.
    with jax.default_matmul_precision("highest"):
        walk = _weighed(start, betas, n - 1, walk)
    return Annealed(
        walk.total + walk.error, walk.accepted / max(n - 1, 1), walk.states.x, *walk.trace
    )


def _weighed(start: AbstractPath, betas: Array, index: Any, walk: _Walk) -> _Walk:
    """With the weight of the step from rung `index` to the next one."""
    model, beta = start.at(betas[index]), betas[index + 1]
    terms = terms_of(model, walk.states)
    part = jax.vmap(lambda terms: model.log_increment(terms, beta))(terms)
    part = part.astype(betas.dtype)
    raised, error = added(walk.total, walk.error, part)
    gains, spread, moved = walk.trace
    trace = gains.at[index].set(jnp.mean(part)), spread.at[index].set(jnp.std(raised)), moved
    return _Walk(walk.states, raised, error, walk.accepted, trace)


def added(total: Array, error: Array, part: Array) -> tuple[Array, Array]:
    """`total + part`, and `error` with what that sum lost to rounding (A. Neumaier, 1974)."""
    raised = total + part
    bigger = jnp.abs(total) >= jnp.abs(part)
    lost = jnp.where(bigger, (total - raised) + part, (part - raised) + total)
    # A weight of zero stays one: inf - inf is no rounding error.
    return raised, error + jnp.where(jnp.isfinite(raised), lost, 0.0)


def at_rung(kernel: AbstractKernel, settings: Any, rung: Any) -> AbstractKernel:
    """The kernel with the settings of one rung."""
    if settings is None:
        return kernel
    return eqx.combine(jax.tree.map(lambda leaf: leaf[rung], settings), kernel)


def as_ladder(betas: Any, n_temperatures: int) -> np.ndarray:
    """`betas` as a ladder from 0 to 1; `n_temperatures` even steps if `None`.

    **Raises:** `ValueError` if it does not increase from 0 to 1.
    """
    dtype = jnp.zeros(()).dtype
    if betas is None:
        return np.linspace(0.0, 1.0, n_temperatures + 1).astype(dtype)
    try:
        ladder = np.asarray(betas, dtype)
    except (TypeError, ValueError):
        raise ValueError(f"betas must be numbers from 0 to 1, got {betas!r}") from None
    if ladder.ndim != 1 or ladder.size < 3 or ladder[0] != 0 or ladder[-1] != 1:
        raise ValueError("betas must be a vector of at least 3 numbers from 0 to 1")
    if not (np.diff(ladder) > 0).all():
        raise ValueError("betas must increase")
    return ladder
