"""`sample`: draws of any energy by the best method it allows."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from energax.energies import (
    AbstractBipartite,
    AbstractBlocked,
    AbstractEnergy,
    AbstractTractable,
    unfreeze,
)
from energax.exact import draw_enumerated
from energax.kernels import AbstractKernel, BlockGibbs, RandomWalkMetropolis
from energax.random import as_count, as_key
from energax.sampling._chains import run_chains
from energax.sampling._draws import Draws
from energax.spaces import Clamped, State

_FEW_STATES = 2**14
"""Up to this many states are listed rather than walked: that takes milliseconds and is exact."""


def default_kernel(energy: AbstractEnergy) -> AbstractKernel:
    """The Markov move that suits an energy best."""
    if isinstance(unfreeze(energy), AbstractBipartite | AbstractBlocked):
        return BlockGibbs()
    return RandomWalkMetropolis()


def sample(
    energy: AbstractEnergy,
    n: int,
    *,
    key: Key[Array, ""],
    kernel: AbstractKernel | None = None,
    chains: int = 16,
    warmup: int = 500,
    thin: int = 1,
    start: State | Draws | None = None,
) -> Draws:
    """`n` draws of x in all, over all chains, from one compiled program.

    Without a `kernel` the best method is chosen and named in the result: exact independent draws
    where the energy allows (a normalised family, a few thousand states), otherwise a Markov
    chain. Chains start at the space's base draws, at rows of data, or where earlier draws ended.

    **Arguments:**

    - `n`: draws in all; each chain gives `n / chains`, rounded up.
    - `kernel`: a Markov move; chosen if `None`.
    - `chains`: how many run side by side.
    - `warmup`: steps thrown away first.
    - `thin`: steps from one kept state to the next.
    - `start`: rows with a leading axis, used in turn, or earlier `Draws`.

    **Returns:** `Draws`, with axes (chain, draw, *shape).

    **Raises:** `ValueError` for numbers out of range, a kernel that does not fit the energy, or
    starts that are not states of its space.

    ```python
    import energax as ex

    draws = ex.sample(ex.RBM.init(ex.key(0), n_visible=6, n_hidden=4), 1000, key=ex.key(1))
    draws.converged
    ```
    """
    if not isinstance(energy, AbstractEnergy):
        raise ValueError(f"sample needs an energy, got {type(energy).__name__}")
    n, chains, thin = as_count(n, "n"), as_count(chains, "chains"), as_count(thin, "thin")
    warmup = as_count(warmup, "warmup", least=0)
    key = as_key(key)
    if kernel is None and start is None:
        exact = _exact_draws(energy, n, key)
        if exact is not None:
            return exact
    kernel = default_kernel(energy) if kernel is None else kernel
    if not isinstance(kernel, AbstractKernel):
        raise ValueError(f"kernel must be a kernel such as ex.BlockGibbs(), got {kernel!r}")
    kernel.check(energy)
    chains = min(chains, n)
    key_start, key_run = jax.random.split(key)
    x = start_states(energy, chains, start=start, key=key_start)
    draws, energies, acceptance, final = run_chains(
        energy,
        kernel,
        x,
        key_run,
        n_draws=-(-n // chains),
        warmup=jnp.asarray(warmup, jnp.int32),
        thin=jnp.asarray(thin, jnp.int32),
    )
    return Draws(draws, energies, acceptance, method=type(kernel).__name__, final=final)


def start_states(
    energy: AbstractEnergy, n: int, *, start: State | Draws | None, key: Key[Array, ""]
) -> State:
    """`n` states to start chains from, stacked on a leading axis."""
    if start is None:
        return jax.vmap(energy.space.draw)(jax.random.split(key, n))
    rows: Any = start.final if isinstance(start, Draws) else start
    space = energy.space
    inner = space.space if isinstance(space, Clamped) else space
    rows = inner.convert(jax.tree.map(np.asarray, rows), name="start")
    rows = jax.vmap(space.clamp)(rows)  # a start need not know what is observed
    have = len(jax.tree.leaves(rows)[0])
    return jax.tree.map(lambda leaf: leaf[jnp.arange(n) % have], rows)


def _exact_draws(energy: AbstractEnergy, n: int, key: Key[Array, ""]) -> Draws | None:
    model = unfreeze(energy)
    if isinstance(model, AbstractTractable):
        rows, method = _direct_draws(model, jax.random.split(key, n)), "exact draws"
    elif model.space.is_discrete and (model.space.cardinality or _FEW_STATES + 1) <= _FEW_STATES:
        # Listing the free entries of a clamped space takes the mask's values: no tracing there.
        listed = draw_enumerated if isinstance(model.space, Clamped) else _listed_draws
        rows, method = listed(model, n, key=key), "enumeration"
    else:
        return None
    x = jax.tree.map(lambda leaf: leaf[None], rows)
    energies = _energies(model, rows)[None]
    return Draws(x, energies, jnp.ones((1,)), method=method, independent=True, final=rows)


@eqx.filter_jit
def _direct_draws(model: AbstractTractable, keys: Key[Array, " n"]) -> State:
    return jax.vmap(model.draw)(keys)


@eqx.filter_jit
def _listed_draws(model: AbstractEnergy, n: int, *, key: Key[Array, ""]) -> State:
    return draw_enumerated(model, n, key=key)


@eqx.filter_jit
def _energies(model: AbstractEnergy, rows: State) -> Float[Array, " n"]:
    return jax.vmap(model.energy)(rows)
