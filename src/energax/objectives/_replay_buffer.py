"""Chains that start where earlier ones ended: a buffer of states, as deep models are trained."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from energax.energies import AbstractEnergy, AbstractTractable
from energax.kernels import (
    AbstractKernel,
    UnadjustedLangevin,
    motion_of,
    moving_chains,
    start_chains,
)
from energax.kernels._base import as_kernel
from energax.kernels._coordinates import is_continuous, noise_like, reflected
from energax.objectives._base import (
    AbstractObjective,
    Step,
    contrast,
    count_field,
    number_field,
)
from energax.objectives._chains import advance, calmed
from energax.sampling import default_kernel, has_gradient
from energax.sampling._meeting import check_base
from energax.spaces import State, float_dtype


class BufferState(eqx.Module):
    """The buffer."""

    x: State
    """States, on a leading axis of slots."""
    age: Int[Array, " slots"]
    """The kernel's steps behind each since it was started."""
    motion: Any
    """What the kernel keeps of a chain beside x (`AbstractKernel.motion`), by slot. Slots that no
    step has walked yet have zeros here, which are not used."""


class ReplayBuffer(AbstractObjective):
    """Maximum likelihood by short runs of chains from a buffer of states that earlier runs left.

    Each step draws `n_chains` of the buffer's slots, no slot twice, starts a share `fresh` of
    them anew, walks all of them `n_steps` steps of the kernel and puts them back into the slots
    they came from. So chains are as long as those of persistent contrastive divergence, about
    n_steps / fresh steps, and there are many more of them than are walked at a time; those that
    begin anew see to it that the model has no mode where no chain looks.

    The buffer holds where chains are and, of `UnderdampedLangevin`, how fast they go: between two
    visits a chain only stands still, and chains of `ex.sample` with the same kernel are walked
    as those here. Not so of a ladder (`ReplicaExchange`): only where its chain at the model is.

    Biased as far as these chains are from the model, which `age_model` (the mean number of steps
    behind the states that are contrasted) and `age_buffer` help to judge.

    **Arguments:**

    - `size`: slots of the buffer, on the device.
    - `n_chains`: slots a gradient.
    - `n_steps`: steps of the kernel a gradient.
    - `fresh`: the share started anew. `n_chains * fresh` need not be whole: a step starts the
      next smaller or larger number, that many on average.
    - `kernel`: the chains' moves. If `None`, `ex.UnadjustedLangevin()` on real entries, whose step
      and noise are to be set for the data at hand, and the energy's default on others.
    - `base`: an energy with exact draws over the same space, where chains start; draws of the
      space if `None`.
    - `data_noise`: the standard deviation of normal noise on the rows of the batch, reflected at
      the ends of a `Box`. It makes densities smoother, and is then part of what is fitted.
    - `energy_penalty`: alpha; alpha (mean E(data)^2 + mean E(model)^2) is added to the loss, which
      keeps energies near zero. Biased, as every penalty is.

    **Raises:** `ValueError` for settings out of range.

    ```python
    import energax as ex
    import jax.numpy as jnp
    import numpy as np

    rows = np.random.default_rng(0).normal([1.0, -1.0], 0.3, (200, 2))
    start = ex.Gaussian(jnp.zeros(2))
    objective = ex.ReplayBuffer(size=200, n_chains=50, n_steps=10)
    run = ex.fit(start, rows, objective, key=ex.key(1), steps=100)
    ```

    Sources: Y. Du and I. Mordatch, "Implicit generation and modeling with energy based models"
    (2019), algorithm 1; E. Nijkamp, M. Hill, S.-C. Zhu and Y. N. Wu, "Learning non-convergent
    non-persistent short-run MCMC toward energy-based model" (2019).
    """

    size: int = count_field("size", 10_000)
    n_chains: int = count_field("n_chains", 100)
    n_steps: int = count_field("n_steps", 60)
    fresh: float = number_field("fresh", 0.05, most=1.0)
    kernel: AbstractKernel | None = None
    base: AbstractTractable | None = None
    data_noise: float = number_field("data_noise", 0.0)
    energy_penalty: float = number_field("energy_penalty", 0.0)

    def __check_init__(self):
        if self.n_chains > self.size:
            raise ValueError(
                f"n_chains must be at most the buffer's size of {self.size}, since no slot is"
                f" drawn twice in a step, got {self.n_chains}"
            )

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        if self.data_noise and not is_continuous(energy.space):
            raise ValueError(f"data_noise needs real entries (Real, Box), got {energy.space}")
        check_base(self.base, energy)
        return AbstractObjective.prepare(self, energy, data)

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> BufferState:
        kernel = as_kernel(self._kernel(energy))
        kernel.check(energy)
        x = self._started(energy, self.size, key)
        motion = jax.eval_shape(
            lambda x: motion_of(kernel, start_chains(energy, kernel, x, key)), x
        )
        return BufferState(
            x,
            jnp.zeros(self.size, jnp.int32),
            jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), motion),
        )

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: BufferState, *, key: Key[Array, ""]
    ) -> Step:
        kernel = self._kernel(energy)
        key_slots, key_fresh, key_start, key_init, key_walk, key_noise = jax.random.split(key, 6)
        slots = _drawn(self.size, self.n_chains, key_slots)
        # Every slot is as likely to be the first as another: so which of them begin anew is random.
        anew = jnp.arange(self.n_chains, dtype=jnp.int32) < self._n_fresh(key_fresh)
        started = self._started(energy, self.n_chains, key_start)
        before = jnp.where(anew, 0, state.age[slots])
        age = before + self.n_steps
        x = _chosen(anew, started, state.x, slots)
        chains = start_chains(energy, kernel, x, key_init)
        chains = moving_chains(
            kernel, chains, _chosen(before == 0, motion_of(kernel, chains), state.motion, slots)
        )
        chains, moves = advance(energy, kernel, chains, self.n_steps, key_walk)
        if self.data_noise:
            batch = self._blurred(energy, batch, key_noise)
        gradient, measures, _ = contrast(energy, batch, chains.x, penalty=self.energy_penalty)

        def put_back(all: Any, new: Any) -> Any:
            return jax.tree.map(lambda a, n: a.at[slots].set(n, unique_indices=True), all, new)

        new = BufferState(
            put_back(state.x, chains.x),
            put_back(state.age, age),
            put_back(state.motion, motion_of(kernel, chains)),
        )
        ages = {
            "age_model": jnp.mean(age, dtype=float_dtype()),
            "age_buffer": jnp.mean(new.age, dtype=float_dtype()),
        }
        return Step(gradient, new, {**measures, **moves, **ages})

    def calmed(self, energy: AbstractEnergy, factor: Float[Array, ""]) -> AbstractObjective:
        return calmed(energy, self, factor, self._kernel)

    def chains(self, state: BufferState) -> State:
        return state.x

    def _kernel(self, energy: AbstractEnergy) -> AbstractKernel:
        if self.kernel is not None:
            return self.kernel
        if is_continuous(energy.space) and has_gradient(energy):
            return UnadjustedLangevin()
        return default_kernel(energy)

    def _started(self, energy: AbstractEnergy, n: int, key: Key[Array, ""]) -> State:
        draw = energy.space.draw if self.base is None else self.base.draw
        return jax.vmap(lambda key: energy.space.clamp(draw(key)))(jax.random.split(key, n))

    def _n_fresh(self, key: Key[Array, ""]) -> Int[Array, ""]:
        """A whole number whose mean is `n_chains * fresh`."""
        expected = self.n_chains * self.fresh
        more = jax.random.uniform(key) < expected - math.floor(expected)
        return math.floor(expected) + more.astype(jnp.int32)

    def _blurred(self, energy: AbstractEnergy, batch: State, key: Key[Array, ""]) -> State:
        noise = noise_like(batch, key)
        moved = jax.tree.map(lambda x, z: x + self.data_noise * z, batch, noise)
        return jax.vmap(lambda x: reflected(energy.space, x)[0])(moved)


def _chosen(first: Bool[Array, " n"], these: Any, kept: Any, slots: Int[Array, " n"]) -> Any:
    """`these` where `first`, and what is kept in the slots elsewhere."""
    return jax.tree.map(lambda t, k: jax.vmap(jnp.where)(first, t, k[slots]), these, kept)


def _drawn(size: int, n: int, key: Key[Array, ""]) -> Int[Array, " n"]:
    """`n` of `size` slots, no slot twice: one of each of n equal parts, turned by chance.

    Each slot is as likely as any other. A subset that is uniform among all would cost a permutation
    of the whole buffer at every step.
    """
    key_turn, key_within = jax.random.split(key)
    part = size // n
    turn = jax.random.randint(key_turn, (), 0, size)
    within = jax.random.randint(key_within, (n,), 0, part)
    return (turn + part * jnp.arange(n, dtype=turn.dtype) + within) % size
