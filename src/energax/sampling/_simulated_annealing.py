"""Simulated annealing: chains that are cooled, and the best state they saw."""

from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy, check_energy, temper
from energax.kernels import (
    AbstractKernel,
    energies_of,
    retemper_chains,
    start_chains,
    step_chains,
)
from energax.kernels._tuning import AbstractStepwiseTunableKernel, learning_step
from energax.random import LARGEST_COUNT, as_count, as_key
from energax.sampling._default_kernel import default_kernel
from energax.sampling._draws import Draws, listed
from energax.sampling._sample import start_states
from energax.spaces import Numbers, State


@dataclass(frozen=True, eq=False)
class Cooled:
    """The best states that cooled chains saw. Nothing says that there are none better."""

    x: State
    """The best state of all chains, shape (*shape,): of those whose energy is finite."""
    energy: float
    """Its E."""
    best: State = field(repr=False)
    """The best state of each chain, axes (chain, *shape)."""
    best_energy: np.ndarray = field(repr=False)
    """The energy of each, shape (chain,): if many chains found the same, it may be the lowest."""
    path: np.ndarray = field(repr=False)
    """E of every chain after its steps at each temperature, shape (chain, temperature)."""
    betas: np.ndarray = field(repr=False)
    """The inverse temperatures, shape (temperature,)."""
    method: str
    """The kernel."""
    final: Any = field(default=None, repr=False)
    """Where the chains ended, axes (chain, *shape)."""

    @property
    def problems(self) -> list[str]:
        """What went wrong, each a sentence of advice; empty if nothing did."""
        seen = np.column_stack([self.path, self.best_energy])
        broken = np.flatnonzero((np.isnan(seen) | (seen == -np.inf)).any(1))
        found = []
        if broken.size:
            found.append(f"chains {listed(broken)} met an energy of NaN or -inf: look at E there")
        if not np.isfinite(self.energy):
            found.append("no chain saw a state of finite energy: start elsewhere")
        return found


def simulated_annealing(
    energy: AbstractEnergy,
    *,
    key: Key[Array, ""],
    kernel: AbstractKernel | None = None,
    betas: Numbers | None = None,
    steps: int = 1,
    chains: int = 16,
    start: State | Draws | None = None,
) -> Cooled:
    """Low states of E, from chains that sample exp(-beta E) while beta rises.

    One compiled program: at each beta the chains' states are made for the new temperature and
    move `steps` times, and the lowest E each has seen is kept on the way. Kernels that find a step
    size do so all the while, since the colder it is, the shorter are the steps that are accepted.

    **Arguments:**

    - `kernel`: moves the chains at every beta; chosen if `None`. A step size it is given is where
      the search starts; with `adapt=False` it stays.
    - `betas`: positive, in the order they are run through. `None` takes 1,000, evenly spaced in
      log beta from 0.1 to 10: right where differences of E that matter are about 1.
    - `steps`: at each beta.
    - `chains`: how many run side by side.
    - `start`: rows with a leading axis, used in turn, or earlier `Draws`; draws of the space if
      `None`.

    **Raises:** `ValueError` for numbers out of range, an energy that does not return one real
    number, or a kernel that does not fit.

    ```python
    import energax as ex
    from energax.sampling import simulated_annealing

    glass = ex.Ising([(0, 1), (1, 2), (2, 0)], coupling=[1.0, -0.5, 0.3])
    simulated_annealing(glass, key=ex.key(0), chains=2).energy
    ```

    Source: S. Kirkpatrick, C. D. Gelatt and M. P. Vecchi, "Optimization by simulated annealing"
    (1983).
    """
    if not isinstance(energy, AbstractEnergy):
        raise ValueError(f"simulated_annealing needs an energy, got {type(energy).__name__}")
    key = as_key(key)
    check_energy(energy)
    chains, steps = as_count(chains, "chains"), as_count(steps, "steps", most=LARGEST_COUNT)
    schedule = _schedule(betas)
    model = temper(energy, float(schedule[0]))
    kernel = default_kernel(model) if kernel is None else kernel
    if not isinstance(kernel, AbstractKernel):
        raise ValueError(f"kernel must be a kernel, got {type(kernel).__name__}")
    kernel.check(model)
    key_start, key_run = jax.random.split(key)
    x = start_states(energy, chains, start=start, key=key_start)
    best, energies, path, final = _cooled(
        energy, kernel, x, jnp.asarray(schedule), jnp.asarray(steps, jnp.int32), key_run
    )
    energies = np.asarray(energies, np.float64)
    winner = int(np.argmin(np.where(np.isfinite(energies), energies, np.inf)))
    return Cooled(
        x=jax.tree.map(lambda leaf: leaf[winner], best),
        energy=float(energies[winner]),
        best=best,
        best_energy=energies,
        path=np.asarray(path, np.float64).T,
        betas=schedule.astype(np.float64),
        method=f"simulated annealing, {type(kernel).__name__}",
        final=final,
    )


@eqx.filter_jit
def _cooled(
    energy: AbstractEnergy,
    kernel: AbstractKernel,
    x: State,
    betas: Float[Array, " temperatures"],
    steps: Array,
    key: Key[Array, ""],
) -> tuple[State, Array, Array, State]:
    key_init, key_walk = jax.random.split(key)
    first = temper(energy, betas[0])
    states = start_chains(first, kernel, x, key_init)
    here = _untempered(energies_of(first, kernel, states), betas[0])
    tuning = None
    if isinstance(kernel, AbstractStepwiseTunableKernel):
        tuning = kernel.tuning(first, betas.shape[0] * steps)
    learnt, rest = eqx.partition(tuning, eqx.is_array)

    def stepped(model, states, learnt, key):
        """One step of all chains, E at their ends, and what of the kernel is learnt from it."""
        if tuning is None:
            states, info = step_chains(model, kernel, states, key)
            return states, info.energy, learnt
        states, after = learning_step(model, eqx.combine(learnt, rest), states, key)
        return states, energies_of(model, kernel, states), eqx.filter(after, eqx.is_array)

    def cool(carry, inputs):
        states, learnt, best, lowest, here = carry
        index, beta = inputs
        model = temper(energy, beta)
        states = retemper_chains(model, kernel, states)
        key_beta = jax.random.fold_in(key_walk, index)

        def move(i, carry):
            states, learnt, best, lowest, _ = carry
            key_step = jax.random.fold_in(key_beta, i)
            states, value, learnt = stepped(model, states, learnt, key_step)
            here = _untempered(value, beta)
            lower = (here < lowest) & jnp.isfinite(here)  # -inf is a failure
            best, lowest = _where(lower, states.x, best), jnp.where(lower, here, lowest)
            return states, learnt, best, lowest, here

        carry = lax.fori_loop(0, steps, move, (states, learnt, best, lowest, here))
        return carry, carry[-1]

    start = jnp.where(jnp.isfinite(here), here, jnp.inf)
    inputs = (jnp.arange(betas.shape[0]), betas)
    carry = (states, learnt, states.x, start, here)
    (states, _, best, _, _), path = lax.scan(cool, carry, inputs)
    return best, jax.vmap(energy.energy)(best), path, states.x


def _untempered(energy: Float[Array, " chains"], beta: Array) -> Float[Array, " chains"]:
    return energy / beta.astype(energy.dtype)


def _where(choose: Array, new: State, old: State) -> State:
    """Chain by chain."""

    def each(a, b):
        return jnp.where(choose.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(each, new, old)


def _schedule(betas: Any) -> np.ndarray:
    dtype = jnp.zeros(()).dtype
    if betas is None:
        return np.geomspace(0.1, 10.0, 1000).astype(dtype)
    try:
        schedule = np.asarray(betas, dtype)
    except (TypeError, ValueError):
        raise ValueError(f"betas must be a vector of numbers, got {betas!r}") from None
    if schedule.ndim != 1 or not schedule.size:
        raise ValueError(f"betas must be a vector, got shape {schedule.shape}")
    if not (np.isfinite(schedule) & (schedule > 0)).all():
        raise ValueError("betas must be positive and finite")
    return schedule
