"""`sample`: draws of any energy by the best method it allows."""

from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy, AbstractTractable, check_energy, unfreeze
from energax.exact import affordable_plan, draw_eliminated, draw_enumerated
from energax.kernels import AbstractEnsembleKernel, AbstractKernel
from energax.kernels._base import as_kernel
from energax.random import LARGEST_COUNT, as_count, as_key
from energax.sampling._collect import AbstractCollector, Collect, as_collect, outputs_of
from energax.sampling._default_kernel import default_kernel
from energax.sampling._draws import Draws
from energax.sampling._in_chunks import run_in_chunks
from energax.sampling._rows import TRACE
from energax.spaces import Clamped, State

_FEW_STATES = 2**14
"""Up to this many states are listed rather than walked: that takes milliseconds and is exact."""


def sample(
    energy: AbstractEnergy,
    n: int,
    *,
    key: Key[Array, ""],
    kernel: AbstractKernel | None = None,
    chains: int = 16,
    warmup: int = 500,
    thin: int = 1,
    start: State | Draws | Literal["base"] | None = None,
    collect: Collect | None = None,
    progress: bool = False,
) -> Draws:
    """`n` draws of x in all, over all chains.

    Without a `kernel` the best method is chosen and named in the result: exact independent draws
    where the energy allows (a normalised family, a few thousand states, a narrow factor graph) and
    they are to be kept, otherwise a Markov chain. Chains start at the space's base draws, at rows
    of data, or where earlier draws ended.

    Draws come from one compiled program. If they take more than a second it is called in chunks of
    half a second, which change no bit of them. Between chunks the bar moves and Ctrl-C is heeded:
    the run then ends with the draws it has, which `Draws.stopped` says and `start` goes on from.

    A chain whose energy is NaN or `-inf` at a draw is named in `problems` and left out of R-hat,
    effective sizes and summaries; the others go on.

    **Arguments:**

    - `n`: draws in all; each chain gives `n / chains`, rounded up.
    - `kernel`: a Markov move; chosen if `None`. One that tunes itself does so in the warm-up, and
      `Draws.kernel` is what it became: give that, with `warmup=0`, to go on without tuning again.
    - `chains`: how many run side by side, at most `n` of them.
    - `warmup`: steps thrown away first.
    - `thin`: steps from one kept state to the next.
    - `start`: rows with a leading axis, used in turn; earlier `Draws`, for their last states; or
      `"base"`, the space's base draws, which `None` means too where chains are run at all.
    - `collect`: what is kept of a draw in place of x. A function of one state: its values, an
      array or a tree of them. A collector such as `ex.sampling.Mean(f)`, or a dictionary of
      collectors: a running summary, and memory that does not grow with `n`. A function written
      anew for every call compiles anew.
    - `progress`: show a bar on standard error.

    **Returns:** `Draws`, with axes (chain, draw, *shape).

    **Raises:** `ValueError` for numbers out of range, an energy that does not return one real
    number, a kernel that does not fit the energy or the number of chains, or starts that are not
    states of its space.

    ```python
    import energax as ex

    draws = ex.sample(ex.RBM.init(ex.key(0), n_visible=6, n_hidden=4), 1000, key=ex.key(1))
    draws.converged
    ```
    """
    if not isinstance(energy, AbstractEnergy):
        raise ValueError(f"sample needs an energy, got {type(energy).__name__}")
    n, chains = as_count(n, "n"), as_count(chains, "chains")
    warmup = as_count(warmup, "warmup", least=0, most=LARGEST_COUNT)
    thin = as_count(thin, "thin", most=LARGEST_COUNT)
    key = as_key(key)
    check_energy(energy)
    collect = as_collect(collect, energy.space)
    summarised = isinstance(collect, AbstractCollector)
    if kernel is None and start is None and not summarised:
        exact = _exact_draws(energy, n, key, collect)
        if exact is not None:
            return exact
    kernel = default_kernel(energy, warmed_up=warmup > 0) if kernel is None else kernel
    as_kernel(kernel).check(energy)
    if not isinstance(kernel, AbstractEnsembleKernel):  # which may take some numbers only
        chains = min(chains, n)
    n_draws = as_count(-(-n // chains), "n / chains", most=LARGEST_COUNT)
    key_start, key_run = jax.random.split(key)
    run, done, stopped = run_in_chunks(
        energy,
        kernel,
        start_states(energy, chains, start=start, key=key_start),
        key_run,
        # A summary of a long run has the same shape however long: no new program.
        n_draws=jnp.asarray(n_draws, jnp.int32) if summarised and n_draws >= TRACE else n_draws,
        warmup=jnp.asarray(warmup, jnp.int32),
        thin=jnp.asarray(thin, jnp.int32),
        collect=collect,
        progress=progress,
    )
    return Draws(
        run.kept if collect is None else None,
        run.energy,
        run.acceptance,
        method=type(kernel).__name__,
        final=run.states.x,
        kernel=run.kernel,
        states=run.states,
        start_energy=run.start_energy,
        kept=None if collect is None else run.kept,
        collector=collect if summarised else None,
        n=done * chains,
        n_asked=n_draws * chains,
        stopped=stopped,
    )


def start_states(
    energy: AbstractEnergy,
    n: int,
    *,
    start: State | Draws | Literal["base"] | None,
    key: Key[Array, ""],
) -> State:
    """`n` states to start chains from, stacked on a leading axis."""
    if start is None or (isinstance(start, str) and start == "base"):
        return jax.vmap(energy.space.draw)(jax.random.split(key, n))
    if isinstance(start, str):
        raise ValueError(f'start must be rows, earlier draws or "base", got {start!r}')
    rows: Any = start.final if isinstance(start, Draws) else start
    space = energy.space
    inner = space.space if isinstance(space, Clamped) else space
    rows = inner.convert(jax.tree.map(np.asarray, rows), name="start")
    rows = jax.vmap(space.clamp)(rows)  # a start need not know what is observed
    have = len(jax.tree.leaves(rows)[0])
    return jax.tree.map(lambda leaf: leaf[jnp.arange(n) % have], rows)


def _exact_draws(energy: AbstractEnergy, n: int, key: Key[Array, ""], collect: Any) -> Draws | None:
    """Independent draws, all held at once, where the energy gives them."""
    model = unfreeze(energy)
    if isinstance(model, AbstractTractable):
        rows, method = _direct_draws(model, jax.random.split(key, n)), "exact draws"
    elif model.space.is_discrete and (model.space.cardinality or _FEW_STATES + 1) <= _FEW_STATES:
        # Listing the free entries of a clamped space takes the mask's values: no tracing there.
        listed = draw_enumerated if isinstance(model.space, Clamped) else _listed_draws
        rows, method = listed(model, n, key=key), "enumeration"
    elif affordable_plan(model) is not None:
        rows, method = draw_eliminated(model, n, key=key), "elimination"
    else:
        return None
    energies, kept = _judged(model, rows, collect)
    x, kept = jax.tree.map(lambda leaf: leaf[None], (rows if collect is None else None, kept))
    return Draws(
        x,
        energies[None],
        jnp.ones((1,)),
        method=method,
        independent=True,
        final=rows,
        kept=kept,
    )


@eqx.filter_jit
def _direct_draws(model: AbstractTractable, keys: Key[Array, " n"]) -> State:
    return jax.vmap(model.draw)(keys)


@eqx.filter_jit
def _listed_draws(model: AbstractEnergy, n: int, *, key: Key[Array, ""]) -> State:
    return draw_enumerated(model, n, key=key)


@eqx.filter_jit
def _judged(model: AbstractEnergy, rows: State, collect: Any) -> tuple[Float[Array, " n"], Any]:
    kept = None if collect is None else jax.vmap(lambda x: outputs_of(collect, x))(rows)
    return jax.vmap(model.energy)(rows), kept
