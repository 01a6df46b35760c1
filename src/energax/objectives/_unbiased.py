"""Contrastive divergence without its bias: pairs of chains that meet inside the training step."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from energax.energies import AbstractEnergy, AbstractTractable
from energax.kernels import AbstractKernel, ReplicaExchange, check_coupled, start_chains
from energax.kernels._base import as_kernel
from energax.objectives._base import AbstractObjective, Step, count_field, value_and_gradient
from energax.objectives._centring import centre, check_centring, first_offsets
from energax.objectives._chains import calmed
from energax.random import LARGEST_COUNT, as_count
from energax.sampling._meeting import Plan, check_base, meet, meeting_kernel
from energax.spaces import State, float_dtype


class UnbiasedContrastiveDivergence(AbstractObjective):
    """The likelihood's gradient without bias: of log Z by pairs of chains that run until they meet.

    X and Y start at the same state, X one step ahead, and share their randomness. With tau the
    step at which X_tau = Y_{tau - 1},

        sum_{t=k}^{m} f(X_t) / (m - k + 1) + sum_{t=k+1}^{tau-1} v_t (f(X_t) - f(Y_{t-1})),

    v_t = min(1, (t - k) / (m - k + 1)), has the expectation of f = grad E under the model, however
    long chains would take to converge. What the model's slow mixing costs instead is time: a
    step lasts until the last pair has met. Take k beyond most meeting times, and an m near the
    longest of them (`longest_meeting`), so long as a step lasts anyhow: what pairs that meet late
    add is divided by m - k + 1. Less is as right, and noisier.

    Terms are added up over all pairs as chains go, so that memory is that of one gradient.

    **Arguments:**

    - `n_pairs`: pairs a gradient, all of them at once.
    - `k`, `m`: the first and last step that are averaged, 0 <= k <= m.
    - `max_steps`: after which pairs that have not met are cut off, which biases: `not_met` is
      their share, and `fit` says so if there are any at the end.
    - `kernel`: exact, and of a kind whose chains can meet (`step_coupled` says which); chosen if
      `None`. Where modes are far apart, an `ex.ReplicaExchange` of discrete states with a base:
      its ladders, then one step more apart, meet once every rung has. Take few rungs.
    - `base`: where pairs start, over the energy's space; rows of the batch if `None`.
    - `centred`: take an RBM's gradient about the units' running means.

    **Raises:** `ValueError` for numbers out of range.

    ```python
    import energax as ex
    import numpy as np

    rows = np.eye(4)
    rbm = ex.RBM.init(ex.key(0), n_visible=4, n_hidden=3)
    objective = ex.UnbiasedContrastiveDivergence(n_pairs=20)
    run = ex.fit(rbm, rows, objective, key=ex.key(1), steps=100)
    print(run.history[-1]["meeting_time"])
    ```

    Sources: Y. Qiu, L. Zhang and X. Wang, "Unbiased contrastive divergence algorithm for training
    energy-based latent variable models" (2020); P. Jacob, J. O'Leary and Y. Atchade, "Unbiased
    Markov chain Monte Carlo methods with couplings" (2020), equation 2.1.
    """

    n_pairs: int = count_field("n_pairs", 100)
    k: int = count_field("k", 10, least=0)
    m: int = count_field("m", 20, least=0)
    max_steps: int = count_field("max_steps", 10_000)
    kernel: AbstractKernel | None = None
    base: AbstractTractable | None = None
    centred: bool = False

    def __check_init__(self):
        as_count(self.m, "m", least=self.k)
        as_count(self.max_steps, "max_steps", least=self.m + 1, most=LARGEST_COUNT)

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        check_centring(energy, self.centred)
        check_base(self.base, energy)
        check_coupled(energy, as_kernel(self._kernel(energy)))
        return AbstractObjective.prepare(self, energy, data)

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> Any:
        return first_offsets(energy, rows) if self.centred else None

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        kernel = self._kernel(energy)
        # Ladders, whose swaps take turns, meet at an even lag.
        lag = 2 if isinstance(kernel, ReplicaExchange) else 1
        plan = Plan.of(k=self.k, m=self.m, lag=lag, max_steps=self.max_steps)
        key_draw, key_init, key_walk = jax.random.split(key, 3)
        chains = start_chains(energy, kernel, self._starts(energy, batch, key_draw), key_init)
        keys = jax.random.split(key_walk, self.n_pairs)

        def low(energy: AbstractEnergy) -> Array:
            return jnp.mean(jax.vmap(energy.energy)(batch))

        first = value_and_gradient(energy, low)
        at_data, _ = first

        def collect(total: Any, t: Int[Array, ""], x: Any, y: Any, apart: Any) -> Any:
            """Less this step's share of the model's mean E, and of its gradient."""
            share = 1 / (self.n_pairs * (self.m - self.k + 1))
            averaged = jnp.where(plan.is_averaged(t), share, 0.0)
            weights = jnp.where(apart, plan.correction(t), 0.0) / self.n_pairs
            total = _less(energy, total, averaged + weights, x.x)
            return _less(energy, total, -weights, y.x)

        (gap, gradient), meetings = meet(
            energy, kernel, (chains, chains), plan, keys, first, collect
        )
        gradient, offsets = centre(energy, gradient, batch, state)
        dtype = float_dtype()
        # A failed chain is shown where the trainer looks, even if it failed where nothing counts.
        gap = jnp.where(jnp.any(meetings.failed), jnp.nan, gap)
        measures = {
            "energy_gap": gap,
            "energy_data": at_data,
            "energy_model": at_data - gap,
            "meeting_time": jnp.mean(meetings.time, dtype=dtype),
            "longest_meeting": jnp.max(meetings.time).astype(dtype),
            "kernel_steps": jnp.mean(meetings.cost(plan), dtype=dtype),
            "not_met": jnp.mean(~meetings.met, dtype=dtype),
        }
        return Step(gradient, offsets, measures)

    def calmed(self, energy: AbstractEnergy, factor: Float[Array, ""]) -> AbstractObjective:
        return calmed(energy, self, factor, meeting_kernel)

    def complaint(self, measures: dict[str, float]) -> str:
        share = measures.get("not_met", 0.0)
        if share > 0:
            return (
                f"{100 * share:.2g}% of the last pairs had not met after {self.max_steps} steps,"
                " and cutting them off biases the gradient: raise max_steps, take a kernel that"
                " mixes faster, or hold the weights smaller by weight decay"
            )
        return ""

    def _kernel(self, energy: AbstractEnergy) -> AbstractKernel:
        return meeting_kernel(energy) if self.kernel is None else self.kernel

    def _starts(self, energy: AbstractEnergy, batch: State, key: Key[Array, ""]) -> State:
        """One state a pair: rows of the batch in turn, or draws of the base."""
        if self.base is not None:
            x = jax.vmap(self.base.draw)(jax.random.split(key, self.n_pairs))
            return jax.vmap(energy.space.clamp)(x)
        n_rows = len(jax.tree.leaves(batch)[0])
        at = jnp.arange(self.n_pairs) % n_rows
        return jax.tree.map(lambda leaf: leaf[at], batch)


def _less(energy: AbstractEnergy, total: Any, weights: Float[Array, " pairs"], x: State) -> Any:
    """A value and its gradient less those of the weighted energies of states."""

    def weighted(energy: AbstractEnergy) -> Array:
        energies = jax.vmap(energy.energy)(x)
        return jnp.sum(weights.astype(energies.dtype) * energies)

    def subtracted() -> Any:
        return jax.tree.map(jnp.subtract, total, value_and_gradient(energy, weighted))

    # Most steps before k and after m count for nothing.
    return lax.cond(jnp.any(weights != 0), subtracted, lambda: total)
