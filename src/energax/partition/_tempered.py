"""Replica exchange run for its energies: what every rung's draws weigh on every other rung."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Key

from energax.diagnostics import chance_rhat, convergence
from energax.energies import AbstractEnergy, AbstractTractable, path, unfreeze
from energax.kernels import (
    AbstractKernel,
    LadderReport,
    ReplicaExchange,
    ladder_report,
    start_chains,
    terms_of,
    tune_chains,
    walk,
)
from energax.partition._annealed import check_exact
from energax.partition._bases import chains_kernel
from energax.partition._starts import dispersed_starts
from energax.random import as_count
from energax.spaces import State

_CHUNK = 10
"""Draws between two looks for Ctrl-C."""


@dataclass(frozen=True, eq=False)
class TemperedRun:
    """Draws of a model at several temperatures, from independent ladders of replicas."""

    betas: np.ndarray
    """Inverse temperatures from 0 to 1, as the warm-up placed them, shape (rungs,)."""
    log_ratios: np.ndarray
    """log of exp(-E_l(x)) / exp(-E_k(x)) of each draw x of rung k, on every rung l: axes (ladder,
    draw, k, l)."""
    slopes: np.ndarray
    """-dE_beta(x)/d beta at each draw of each rung: axes (ladder, draw, rung)."""
    bends: np.ndarray
    """-d^2 E_beta(x)/d beta^2 at each draw of each rung; 0 on a geometric path."""
    x: State
    """The draws at beta = 1: axes (ladder, draw, *shape)."""
    energy: np.ndarray
    """Their E: axes (ladder, draw)."""
    kernel: ReplicaExchange
    """As the warm-up tuned it."""
    report: LadderReport
    """How well replicas travel."""
    base_log_normaliser: float
    """log Z at beta = 0."""
    n_steps: int
    """Steps of all replicas together, those of the warm-up too."""

    @property
    def n_ladders(self) -> int:
        """How many independent ladders."""
        return self.energy.shape[0]

    @property
    def problems(self) -> list[str]:
        """What speaks against the draws at beta = 1, each a sentence of advice."""
        if not np.isfinite(self.energy).all():
            return ["a replica met an energy that is not finite: look at E where it went"]
        found = list(self.report.problems)
        rhat, limit = self.rhat
        if not rhat <= limit:
            found.append(
                f"chains at beta = 1 have not mixed (R-hat {rhat:.2f}, of independent draws below"
                f" {limit:.2f}): take more steps or more replicas"
            )
        return found

    @cached_property
    def rhat(self) -> tuple[float, float]:
        """The largest R-hat of the draws' entries and energy, and what it would be by chance. NaN
        where an energy is not finite."""
        n_ladders, n_draws = self.energy.shape
        if not np.isfinite(self.energy).all():
            return np.nan, np.nan
        leaves = [
            np.asarray(leaf).reshape(n_ladders, n_draws, -1) for leaf in jax.tree.leaves(self.x)
        ]
        every = np.concatenate([self.energy[..., None], *leaves], axis=2)
        found = convergence(every)
        moved = found.rhat[~found.constant]
        limit = max(1.05, chance_rhat(n_ladders, n_draws, max(moved.size, 1), alarm=1e-3))
        return (float(np.max(moved)) if moved.size else 1.0), limit


def tempered_run(
    energy: AbstractEnergy,
    base: AbstractTractable,
    *,
    key: Key[Array, ""],
    n_ladders: int = 25,
    n_replicas: int = 8,
    n_draws: int = 40,
    thin: int = 10,
    warmup: int = 500,
    kernel: AbstractKernel | None = None,
    x: State | None = None,
) -> TemperedRun:
    """Replica exchange along `ex.path(base, energy)`, in independent ladders.

    What `log_partition_mbar`, `log_partition_bridge` and `log_partition_thermodynamic` are made
    from, and where draws of the model come from that start reverse annealing.

    **Arguments:**

    - `base`: drawn from exactly, over the same space; Z is known.
    - `n_ladders`: how many, independent of each other.
    - `n_replicas`: rungs of each, placed in the warm-up.
    - `n_draws`, `thin`: of each ladder, and steps from one to the next.
    - `warmup`: steps before.
    - `kernel`: moves each replica; must be exact; chosen if `None`.
    - `x`: where the ladders start, one state each, stacked; if `None`, half where descents found
      modes (or at the space's own draws, where there is no gradient), half at draws of the base.

    **Raises:** `ValueError` for numbers out of range, a kernel that is not exact, or a base over
    another space.

    ```python
    import energax as ex
    from energax.partition import tempered_run

    ising = ex.Ising(6, 0.4)
    run = tempered_run(ising, ex.Uniform(ising.space), key=ex.key(0), n_replicas=4)
    print(run.report.summary)
    ```
    """
    counts = [("n_ladders", n_ladders, 2), ("n_draws", n_draws, 4), ("thin", thin, 1)]
    n_ladders, n_draws, thin = (as_count(n, name, least=least) for name, n, least in counts)
    n_replicas = as_count(n_replicas, "n_replicas", least=2)
    warmup = as_count(warmup, "warmup", least=0)
    energy = unfreeze(energy)
    start = path(base, energy)
    inner = chains_kernel(start) if kernel is None else kernel
    check_exact(inner, start)
    exchange = ReplicaExchange(inner, n_replicas=n_replicas, base=start.base)
    exchange.check(energy)
    key_x, key_begin, key_run = jax.random.split(key, 3)
    if x is None:
        x = _dispersed(energy, start.base, key_x, n_ladders)
    began: Any = _begin(energy, exchange, x, key_begin, jnp.asarray(warmup, jnp.int32))
    (tuned, states), parts = began, []
    for first in range(0, n_draws, _CHUNK):
        states, part = _draw(
            energy,
            tuned,
            states,
            jax.random.fold_in(key_run, first),
            jnp.asarray(thin, jnp.int32),
            n_draws=min(_CHUNK, n_draws - first),
        )
        parts.append(jax.tree.map(np.asarray, part))
    log_ratios, slopes, bends, rows, values = jax.tree.map(
        lambda *leaves: np.moveaxis(np.concatenate(leaves), 0, 1), *parts
    )
    return TemperedRun(
        betas=np.asarray(tuned.betas, np.float64),
        log_ratios=log_ratios.astype(np.float64),
        slopes=slopes.astype(np.float64),
        bends=bends.astype(np.float64),
        x=rows,
        energy=values.astype(np.float64),
        kernel=tuned,
        report=ladder_report(tuned, states),
        base_log_normaliser=float(base.log_normaliser()),
        n_steps=n_ladders * n_replicas * (warmup + n_draws * thin),
    )


@eqx.filter_jit
def _dispersed(
    energy: AbstractEnergy, base: AbstractTractable, key: Key[Array, ""], n: int
) -> State:
    """Half of the chains start where modes were found, the others from the base."""
    key_base, key_space = jax.random.split(key)
    of_base = jax.vmap(base.draw)(jax.random.split(key_base, n))
    of_space = dispersed_starts(energy, key_space, n)
    possible = jnp.isfinite(jax.vmap(energy.energy)(of_space))
    taken = possible & (jnp.arange(n) < n // 2)  # the first ones are the most unlike

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(taken.reshape(-1, *[1] * (a.ndim - 1)), b, a)

    return jax.tree.map(choose, of_base, of_space)


@eqx.filter_jit
def _begin(energy, kernel, x, key, warmup):
    key_init, key_warm = jax.random.split(key)
    with jax.default_matmul_precision("highest"):
        states = start_chains(energy, kernel, x, key_init)
        return tune_chains(energy, kernel, states, warmup, key_warm)


@eqx.filter_jit
def _draw(energy, kernel, states, key, thin, *, n_draws: int):
    """`n_draws` draws of every ladder, and what they weigh on every rung."""
    model = path(kernel.base, energy)
    betas = kernel.betas

    def of_replica(terms, level):
        here = model.at(betas[level])
        ratios = jax.vmap(lambda beta: here.log_increment(terms, beta))(betas)

        def log_density(beta):
            return -model.at(beta).energy_of(terms)

        # At the very ends 0 times an infinite energy counts as 0, which has no slope.
        inside = jnp.clip(here.beta, 1e-6, 1 - 1e-6)
        slope, bend = jax.jvp(jax.grad(log_density), (inside,), (jnp.ones_like(inside),))
        return ratios, slope, bend

    def of_ladder(state):
        found = jax.vmap(of_replica)(terms_of(model, state.replicas), state.level)
        order = jnp.argsort(state.level)
        return jax.tree.map(lambda leaf: leaf[order], found)

    def one(states, index):
        states, _ = walk(energy, kernel, states, thin, jax.random.fold_in(key, index))
        return states, (*jax.vmap(of_ladder)(states), states.x, states.energy)

    with jax.default_matmul_precision("highest"):
        return lax.scan(one, states, jnp.arange(n_draws))
