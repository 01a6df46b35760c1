"""Many chains as one compiled program."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from energax.energies import AbstractEnergy
from energax.kernels import AbstractKernel
from energax.sampling._collect import AbstractCollector, Collect
from energax.sampling._rows import Begun, Rows, begin, draws_in, fill, n_rows_of
from energax.spaces import State


class Run(eqx.Module):
    """What a run of chains leaves."""

    kept: Any
    """x of every draw, or what `collect` made of it: axes (chain, draw, ...). Of a collector its
    memory, axes (chain, ...)."""
    energy: Float[Array, "chains kept"]
    """E of every draw; with a collector of at most 1,024 draws, evenly over the run."""
    acceptance: Float[Array, " chains"]
    """The mean acceptance of each chain's steps after the warm-up."""
    start_energy: Float[Array, " chains"]
    """E where each chain started."""
    kernel: AbstractKernel
    """The kernel as the warm-up tuned it."""
    states: Any
    """The kernel's last states, one a chain."""


@eqx.filter_jit
def run_chains(
    energy: AbstractEnergy,
    kernel: AbstractKernel,
    x: State,
    key: Key[Array, ""],
    *,
    n_draws: int | Int[Array, ""],
    warmup: Array,
    thin: Array,
    collect: Collect | None = None,
) -> Run:
    """Warm up, then keep every `thin`-th state, or what `collect` makes of it.

    **Arguments:**

    - `x`: where chains start, stacked on a leading axis.
    - `n_draws`: of each chain. With a collector it may be an array of at least 1,024, and the
      program is the same for every such number.
    - `warmup`, `thin`: steps, as arrays, so that other numbers compile nothing.
    - `collect`: a function of one state, or a collector.
    """
    n_rows = n_rows_of(n_draws, collect)
    begun, rows = begin(energy, kernel, x, key, n_rows=n_rows, warmup=warmup, collect=collect)
    begun, rows = fill(energy, begun, rows, 0, n_rows, n_draws=n_draws, thin=thin, collect=collect)
    return run_of(begun, rows, n_rows, n_draws, collect)


def run_of(begun: Begun, rows: Rows, n_rows: int, n_draws: Any, collect: Any) -> Run:
    """What is in the first rows of a run of `n_draws` a chain, the only ones that are filled."""
    in_all = rows.energy.shape[1]
    kept, energies = rows.kept, rows.energy
    if n_rows < in_all:
        kept, energies = jax.tree.map(lambda leaf: leaf[:, :n_rows], (kept, energies))
    done = jnp.asarray(draws_in(n_rows, n_draws, in_all), rows.acceptance.dtype)
    return Run(
        begun.memory if isinstance(collect, AbstractCollector) else kept,
        energies,
        jnp.sum(rows.acceptance, 1) / done,
        begun.start_energy,
        begun.kernel,
        begun.states,
    )
