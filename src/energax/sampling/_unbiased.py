"""Expectations without the bias of a start: chains run in pairs until they meet."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from scipy.stats import t as student

from energax.diagnostics import check_level
from energax.energies import AbstractEnergy, AbstractTractable, check_energy
from energax.kernels import AbstractKernel, check_coupled
from energax.random import LARGEST_COUNT, as_count, as_key
from energax.sampling._collect import tried
from energax.sampling._meeting import Meetings, Plan, check_base, meet, meeting_kernel
from energax.spaces import State, float_dtype


@dataclass(frozen=True, eq=False)
class Unbiased:
    """An expectation estimated by pairs of chains, each pair without bias."""

    value: np.ndarray
    """The mean of the pairs' estimates, of the shape of f(x)."""
    std_error: np.ndarray
    """Its standard error over the pairs."""
    lower: np.ndarray
    """Lower end of the interval at `level`; `-inf` where `problems` says why."""
    upper: np.ndarray
    """Upper end."""
    level: float
    """Coverage of the interval."""
    estimates: np.ndarray = field(repr=False)
    """One estimate a pair, axes (pair, *shape)."""
    meeting_times: np.ndarray = field(repr=False)
    """The step at which each pair met, shape (pair,); of those that did not, the last one."""
    met: np.ndarray = field(repr=False)
    """Which pairs met, shape (pair,)."""
    failed: np.ndarray = field(repr=False)
    """Which pairs saw an energy of NaN or `-inf`, shape (pair,)."""
    cost: np.ndarray = field(repr=False)
    """Steps of the kernel that each pair took, shape (pair,)."""
    k: int
    m: int
    lag: int
    method: str

    @property
    def trusted(self) -> bool:
        """Whether every pair met with finite values, so that the estimates are unbiased."""
        return not self.problems

    @cached_property
    def problems(self) -> list[str]:
        """What speaks against the result, each a sentence of advice; empty if nothing does."""
        found, n = [], len(self.met)
        if self.failed.any():
            found.append(
                f"{int(self.failed.sum())} of {n} pairs met an energy of NaN or -inf: look at E"
            )
        finite = np.isfinite(self.estimates).reshape(n, -1).all(1)
        if (~finite & ~self.failed).any():
            found.append(
                f"f was not finite along {int((~finite & ~self.failed).sum())} of {n} pairs, and"
                " leaving them out would bias the rest: look at f along chains"
            )
        unmet = int((~self.met).sum())
        if unmet:
            found.append(
                f"{unmet} of {n} pairs did not meet within {int(self.meeting_times.max())} steps,"
                " and leaving them out would bias the rest: raise max_steps, or take a kernel that"
                " mixes faster"
            )
        return found

    def distance_after(self, step: int) -> float:
        """An upper bound on the total variation distance between a chain after `step` steps and
        the model, from the meeting times: when to stop warming up. Infinite while some pair has
        not met.

        Source: N. Biswas, P. Jacob and P. Vanetti, "Estimating convergence of Markov chains with
        L-lag couplings" (2019).
        """
        if not self.met.all():
            return np.inf
        late = np.ceil((self.meeting_times - self.lag - step) / self.lag)
        return float(np.maximum(late, 0).mean())

    @property
    def summary(self) -> str:
        """One line to print."""
        verdict = "; ".join(self.problems)
        times = self.meeting_times
        found = ""
        if self.value.ndim == 0:
            found = f"{float(self.value):.5g} +- {float(self.std_error):.2g}, "
        return (
            f"{found}{len(times)} pairs met after {np.median(times):.0f} steps (median),"
            f" {times.max()} at most" + (f": {verdict}" if verdict else "")
        )


def unbiased(
    energy: AbstractEnergy,
    f: Callable[[State], Any],
    *,
    key: Key[Array, ""],
    kernel: AbstractKernel | None = None,
    k: int = 100,
    m: int = 1000,
    lag: int = 1,
    replicates: int = 100,
    max_steps: int = 100_000,
    base: AbstractTractable | None = None,
    level: float = 0.95,
) -> Unbiased:
    """E[f(x)] with a standard error that holds without asking whether chains have converged.

    Pairs of chains X, Y, the one `lag` steps ahead of the other, share their randomness until
    they meet at time tau. With L for the lag,

        sum_{t=k}^{m} f(X_t) / (m - k + 1)  +  sum_{t=k+L}^{tau-1} v_t (f(X_t) - f(Y_{t-L})),

    v_t the number of multiples of L between max(L, t - m) and t - k over m - k + 1, has exactly
    the expectation E[f(x)], whatever the start and k and m. These only set its variance: take k
    beyond most meeting times and m several times k. Pairs are independent, so that their spread
    is the error. All of them run in one compiled program.

    **Arguments:**

    - `f`: of one unbatched state; an array of any shape, of real numbers.
    - `kernel`: exact, and of a kind whose chains can meet (`step_coupled`); chosen if `None`.
    - `k`, `m`: the first and last step that are averaged, 0 <= k <= m.
    - `lag`: how far the one chain is ahead; for `ex.ReplicaExchange` an even number.
    - `replicates`: pairs.
    - `max_steps`: after which a pair that has not met is given up, and reported.
    - `base`: where chains start, over the energy's space; draws of the space if `None`.

    **Raises:** `ValueError` for numbers out of range, an energy or an f that fails on one state,
    a kernel whose chains cannot meet, or a base over another space.

    ```python
    import energax as ex
    from energax.sampling import unbiased

    rbm = ex.RBM.init(ex.key(0), n_visible=4, n_hidden=3)
    unbiased(rbm, lambda v: v[0], key=ex.key(1), k=5, m=20).value
    ```

    Source: P. Jacob, J. O'Leary and Y. Atchade, "Unbiased Markov chain Monte Carlo methods with
    couplings" (2020); with a lag, Biswas, Jacob and Vanetti (2019).
    """
    if not isinstance(energy, AbstractEnergy):
        raise ValueError(f"unbiased needs an energy, got {type(energy).__name__}")
    key = as_key(key)
    check_level(level)
    check_energy(energy)
    k, lag = as_count(k, "k", least=0), as_count(lag, "lag", most=LARGEST_COUNT - 1)
    m = as_count(m, "m", least=k, most=LARGEST_COUNT - 1)
    replicates = as_count(replicates, "replicates", least=2)
    max_steps = as_count(max_steps, "max_steps", least=max(m, lag) + 1, most=LARGEST_COUNT)
    kernel = meeting_kernel(energy) if kernel is None else kernel
    if not isinstance(kernel, AbstractKernel):
        raise ValueError(f"kernel must be a kernel, got {type(kernel).__name__}")
    check_coupled(energy, kernel, lag=lag)
    check_base(base, energy)
    if not callable(f):
        raise ValueError(f"f must be a function of one state, got {type(f).__name__}")
    like = tried(f, energy.space.structure, name="f")
    if not isinstance(like, jax.ShapeDtypeStruct):
        raise ValueError(f"f must return one array, got {like!r}")
    plan = Plan.of(k=k, m=m, lag=lag, max_steps=max_steps)
    found, meetings = _estimates(energy, kernel, f, base, plan, key, n=replicates)
    estimates = np.asarray(found, np.float64)
    met, failed = np.asarray(meetings.met), np.asarray(meetings.failed)
    with np.errstate(invalid="ignore"):  # of values that are not finite, which are reported
        value = estimates.mean(0)
        error = estimates.std(0, ddof=1) / np.sqrt(replicates)
        width = student.isf((1 - level) / 2, replicates - 1) * error
        known = np.isfinite(estimates).all(0) & bool(met.all() and not failed.any())
        lower = np.where(known, value - width, -np.inf)
        upper = np.where(known, value + width, np.inf)
    return Unbiased(
        value=np.asarray(value),
        std_error=np.asarray(error),
        lower=lower,
        upper=upper,
        level=level,
        estimates=estimates,
        meeting_times=np.asarray(meetings.time),
        met=met,
        failed=failed,
        cost=np.asarray(meetings.cost(plan)),
        k=k,
        m=m,
        lag=lag,
        method=f"coupled chains, {type(kernel).__name__}",
    )


@eqx.filter_jit
def _estimates(
    energy: AbstractEnergy,
    kernel: AbstractKernel,
    f: Callable,
    base: AbstractTractable | None,
    plan: Plan,
    key: Key[Array, ""],
    *,
    n: int,
) -> tuple[Float[Array, "pairs ..."], Meetings]:
    """Every pair's estimate of E[f(x)]."""
    draw = energy.space.draw if base is None else base.draw
    each = jax.vmap(lambda key: jax.random.split(key, 3))(jax.random.split(key, n))
    keys_x, keys_y, keys = each[:, 0], each[:, 1], each[:, 2]
    dtype = float_dtype()

    def start(key):
        key_draw, key_init = jax.random.split(key)
        return kernel.init(energy, energy.space.clamp(draw(key_draw)), key_init)

    def value(x):
        return jnp.asarray(f(x), dtype)

    def one(t, sums, x, y, apart):
        mean, correction = sums
        here = value(x)
        # A running mean, exact for any number.
        steps = jnp.maximum(t - plan.k + 1, 1).astype(dtype)
        mean = jnp.where(plan.is_averaged(t), mean + (here - mean) / steps, mean)
        weight = plan.correction(t)
        counts = apart & (t >= plan.k + plan.lag)
        return mean, correction + jnp.where(counts, weight * (here - value(y)), 0.0)

    def collect(sums, t, x, y, apart):
        return jax.vmap(one, in_axes=(None, 0, 0, 0, 0))(t, sums, x.x, y.x, apart)

    starts = jax.vmap(start)(keys_x), jax.vmap(start)(keys_y)
    none = jnp.zeros_like(jax.vmap(value)(starts[0].x))
    sums, meetings = meet(energy, kernel, starts, plan, keys, (none, none), collect)
    mean, correction = sums
    return mean + correction, meetings
