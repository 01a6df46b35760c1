"""log Z from both sides: annealed up, annealed down, and checked by a third estimate."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from energax.diagnostics import check_level
from energax.energies import AbstractEnergy, AbstractTractable, path, unfreeze
from energax.kernels import AbstractKernel
from energax.partition._annealed import (
    check_exact,
    log_partition_annealed,
    log_partition_reverse,
)
from energax.partition._bases import chains_kernel
from energax.partition._estimate import LogPartition, timed
from energax.partition._from_temperatures import mbar_of
from energax.partition._multistate import multistate
from energax.partition._sequential import spread_along
from energax.partition._tempered import TemperedRun, tempered_run
from energax.random import as_count
from energax.spaces import State

_REPLICAS = (8, 16, 32, 64)
"""Ladders that are tried: a few lengths, so that models of one shape share few programs."""

_TEMPERATURES = (500, 2000, 8000)
"""Lengths of annealing that are tried, for the same reason."""

_EFFORTS = (1, 4, 16)
"""How much longer replicas are run where they have not mixed."""

_FEWEST_SWAPS = 0.2
"""Below this rate between any two rungs a longer ladder is tried."""

_MANY_SWAPS = 0.6
"""Above this rate it is not the ladder that keeps replicas from mixing."""

_ACCURATE = 0.1
"""nats: annealing is taken to more temperatures until both standard errors are below this."""

_FAR = 4.0
"""Standard errors between two estimates from which on they are said to disagree."""

_ALIKE = 0.01
"""nats that no two estimates are asked to agree to."""


@timed
def log_partition_bracketed(
    energy: AbstractEnergy,
    base: AbstractTractable,
    *,
    key: Key[Array, ""],
    n_chains: int = 100,
    n_temperatures: int | None = None,
    n_ladders: int = 25,
    n_replicas: int | None = None,
    kernel: AbstractKernel | None = None,
    x: State | None = None,
    level: float = 0.95,
) -> LogPartition:
    """log Z between a lower limit from annealing up and an upper limit from annealing down.

    1. Replica exchange along `ex.path(base, energy)`, in independent ladders, finds where
       temperatures are needed and how far the kernel may step at each, and leaves draws of the
       model.
    2. Chains are annealed up from the base, and others down from those draws (from exact draws
       where the energy has them, or from `x`).
    3. The value joins both (Bennett's acceptance ratio on the two sets of weights); the interval
       runs from the lower limit of the first to the upper limit of the second.
    4. MBAR on replica exchange is a second opinion.

    Each is taken further where it is not accurate or not healthy. It is `trusted` if replicas mixed
    and travelled, weights going up and down have light tails, and the three estimates agree. If
    not, the lower end still holds, by Markov's inequality: an unbiased estimate of Z exceeds it
    k-fold with probability below 1/k. The upper end is open, unless the draws that went down were
    exact.

    A mode that neither the base's draws nor descents from thousands of places find is found by
    nothing here: give `x`, draws of the model known from elsewhere, where there are any.

    **Arguments:**

    - `base`: drawn from exactly, over the same space, positive wherever the model is.
    - `n_chains`: how many go up; down go as many or a few more, as many from each ladder, or
      one from each of `x`.
    - `n_temperatures`: of annealing; 500, 2,000 or 8,000, as many as are needed, if `None`.
    - `n_ladders`: independent ladders.
    - `n_replicas`: rungs; 8, 16, 32 or 64 if `None`.
    - `kernel`: moves chains and replicas; must be exact; chosen if `None`.
    - `x`: independent draws of the model, stacked, at least 2.

    **Raises:** `ValueError` for numbers out of range, a kernel that is not exact, a base over
    another space, or draws where the base has no probability.

    ```python
    import energax as ex
    import jax.numpy as jnp
    from energax.partition import log_partition_bracketed

    well = ex.NeuralEnergy(lambda x: -jnp.sum((x**2 - 1) ** 2), ex.Real(2))
    base = ex.Gaussian(jnp.zeros(2), 1.5)
    print(log_partition_bracketed(well, base, key=ex.key(0), n_temperatures=100).summary)
    ```

    Source: R. Grosse, Z. Ghahramani and R. Adams, "Sandwiching the marginal likelihood using
    bidirectional Monte Carlo" (2015); S. Syed et al., "Non-reversible parallel tempering" (2022).
    """
    n_chains = as_count(n_chains, "n_chains", least=2)
    n_ladders = as_count(n_ladders, "n_ladders", least=2)
    check_level(level)
    energy = unfreeze(energy)
    start = path(base, energy)
    kernel = chains_kernel(start) if kernel is None else kernel
    check_exact(kernel, start)
    key_tempered, key_draw, key_up, key_down = jax.random.split(key, 4)
    run, n_steps = _replicas(energy, base, kernel, n_ladders, n_replicas, key_tempered)
    down, n_sources = _starts(energy, run, n_chains, x, key_draw)
    exact_draws = x is None and isinstance(energy, AbstractTractable)
    lengths = _TEMPERATURES if n_temperatures is None else (n_temperatures,)
    found, mbar = None, mbar_of(run, level=level)
    for n, length in enumerate(lengths):
        betas = spread_along(run.betas, as_count(length, "n_temperatures", least=2))
        common = {
            "betas": betas,
            "kernel": run.kernel.kernel,
            "settings": _between(run, betas),
            "level": level,
        }
        keys = (jax.random.fold_in(k, n) for k in (key_up, key_down))
        up = log_partition_annealed(energy, base, key=next(keys), n_chains=n_chains, **common)
        back = log_partition_reverse(
            energy, base, down, key=next(keys), n_sources=n_sources, **common
        )
        n_steps += up.diagnostics["n_steps"] + back.diagnostics["n_steps"]
        found = _Both(up, back, mbar, run, n_sources, exact_draws)
        if found.accurate or run.problems:  # which longer annealing would not mend
            break
    assert found is not None
    z = found.joined(float(base.log_normaliser()), level, len(lengths))
    z.diagnostics["n_steps"] = n_steps
    return z


def _replicas(
    energy: AbstractEnergy,
    base: AbstractTractable,
    kernel: AbstractKernel,
    n_ladders: int,
    n_replicas: int | None,
    key: Key[Array, ""],
) -> tuple[TemperedRun, int]:
    """Replica exchange with rungs enough that replicas travel, for as long as they need to mix, and
    the steps of all that were tried."""
    lengths = list(_REPLICAS if n_replicas is None else (n_replicas,))
    efforts = list(_EFFORTS)
    tries, n_steps = 0, 0
    while True:
        run = tempered_run(
            energy,
            base,
            key=jax.random.fold_in(key, tries),
            n_ladders=n_ladders,
            n_replicas=lengths[0],
            thin=10 * efforts[0],
            warmup=500 * efforts[0],
            kernel=kernel,
        )
        tries += 1
        n_steps += run.n_steps
        rates = run.report.swap_rates
        if not np.isfinite(run.energy).all():  # which nothing longer would mend
            return run, n_steps
        if len(lengths) > 1 and not np.nanmin(rates) >= _FEWEST_SWAPS:
            wanted = 2 * run.report.barrier[-1] + 1
            lengths = [n for n in lengths[1:] if n >= wanted] or lengths[-1:]
        elif len(efforts) > 1 and run.problems:
            efforts = efforts[1:]
            if np.nanmin(rates) < _MANY_SWAPS:
                lengths = lengths[1:] or lengths
        else:
            return run, n_steps


def _starts(
    energy: AbstractEnergy, run: TemperedRun, n_chains: int, x: State | None, key: Key[Array, ""]
) -> tuple[State, int]:
    """Where chains that go down start, and how many independent sources that are."""
    if x is not None:
        x = energy.space.convert(jax.tree.map(np.asarray, x), name="x")
        return x, len(jax.tree.leaves(x)[0])
    if isinstance(energy, AbstractTractable):
        return _exact_draws(energy, key, n_chains), n_chains
    each = -(-n_chains // run.n_ladders)
    n_draws = run.energy.shape[1]
    # Evenly spread; of more than there are, some twice.
    at = np.round(np.linspace(n_draws / (each + 1), n_draws - 1, each)).astype(int)
    rows = jax.tree.map(lambda leaf: leaf[:, at].reshape(-1, *leaf.shape[2:]), run.x)
    return rows, run.n_ladders


@eqx.filter_jit
def _exact_draws(energy: AbstractTractable, key: Key[Array, ""], n: int) -> State:
    return jax.vmap(energy.draw)(jax.random.split(key, n))


def _between(run: TemperedRun, betas: np.ndarray) -> Any:
    """The kernel's settings at each beta, from those of the rungs."""
    settings = run.kernel.settings
    if settings is None:
        return None
    rungs = np.asarray(run.betas, np.float64)
    at = np.interp(betas, rungs, np.arange(len(rungs)))
    low = np.minimum(at.astype(int), len(rungs) - 2)
    share = at - low

    def between(leaf: Any) -> Any:
        each = np.asarray(leaf, np.float64)
        part = share.reshape(-1, *[1] * (each.ndim - 1))
        if (each > 0).all():
            each = np.log(each)
            mixed = np.exp((1 - part) * each[low] + part * each[low + 1])
        else:
            mixed = (1 - part) * each[low] + part * each[low + 1]
        return jnp.asarray(mixed, leaf.dtype)

    return jax.tree.map(between, settings)


@dataclass(frozen=True, eq=False)
class _Both:
    up: LogPartition
    down: LogPartition
    mbar: LogPartition
    run: TemperedRun
    n_sources: int
    exact_draws: bool

    @property
    def accurate(self) -> bool:
        errors = self.up.std_error, self.down.std_error
        return self.up.trusted and self.down.trusted and max(errors) <= _ACCURATE

    def joined(self, base_value: float, level: float, n_tries: int) -> LogPartition:
        """One record of all; `n_tries` lengths of annealing might have been the last."""
        from scipy.special import stdtrit  # takes a while to import: only who needs it pays

        up, down, mbar = self.up, self.down, self.mbar
        value, error = self._bennett(base_value)
        reasons = self._doubts(value, error)
        reach = float(stdtrit(self.n_sources - 1, 0.5 + level / 2)) * error
        method = (
            f"annealed both ways, {up.diagnostics['n_temperatures']} temperatures, checked by"
            f" {mbar.method}"
        )
        facts = {
            "forward": up,
            "reverse": down,
            "mbar": mbar,
            "replicas": mbar.diagnostics,
            "n_chains": up.diagnostics["n_chains"],
            "n_temperatures": up.diagnostics["n_temperatures"],
            "base": up.diagnostics["base"],
            "path": up.diagnostics["path"],
            "acceptance": up.diagnostics["acceptance"],
        }
        if reasons:
            # Markov's inequality holds for any unbiased estimate, however heavy its tail.
            slack = -np.log((1 - level) / 2 / n_tries)
            lower = min(up.lower, up.value - slack) if np.isfinite(up.value) else -np.inf
            upper = np.inf
            if self.exact_draws and np.isfinite(down.value):
                upper = max(down.upper, down.value + slack)
        else:
            lower, upper = min(up.lower, value - reach), max(down.upper, value + reach)
        return LogPartition(
            value=value,
            lower=float(lower),
            upper=float(upper),
            std_error=error,
            exact=False,
            method=method,
            trusted=not reasons,
            reason="; ".join(reasons),
            level=level,
            diagnostics=facts,
        )

    def _bennett(self, base_value: float) -> tuple[float, float]:
        """log Z from both sets of weights, and its standard error."""
        up, down = (z.diagnostics["log_weights"] for z in (self.up, self.down))
        if not (np.isfinite(up.max()) and np.isfinite(down.max())):
            return (self.up.value if np.isfinite(self.up.value) else np.nan), np.inf
        log_ratios = np.zeros((up.size + down.size, 2))
        log_ratios[: up.size, 1] = up
        log_ratios[up.size :, 0] = down
        each = down.size // self.n_sources
        sources = np.concatenate(
            [np.arange(up.size), up.size + np.repeat(np.arange(self.n_sources), each)]
        )
        both = multistate(log_ratios, np.array([up.size, down.size]), sources)
        return base_value + float(both.log_z[1]), float(both.std_error[1])

    def _doubts(self, value: float, error: float) -> list[str]:
        found = []
        for way, z in (("up", self.up), ("down", self.down)):
            if not z.trusted:
                found.append(f"annealed {way}, {z.reason}")
        found += self.run.problems
        gap = self.down.value - self.up.value
        if not abs(gap) <= _FAR * np.hypot(self.up.std_error, self.down.std_error) + _ALIKE:
            found.append(
                f"annealed down log Z is {gap:+.3g} nats from annealed up, beyond their errors:"
                " chains have missed a part of the model; take more temperatures, a wider base, or"
                " give draws of the model as x"
            )
        off = self.mbar.value - value
        if not abs(off) <= _FAR * np.hypot(self.mbar.std_error, error) + _ALIKE:
            found.append(
                f"replica exchange puts log Z {off:+.3g} nats from annealing, beyond their errors:"
                " take more steps, replicas and temperatures"
            )
        return found
