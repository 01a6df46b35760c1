"""Kernels on continuous states: chains drawn exactly are still exact draws a step later.

One step of many chains is compared with as many fresh draws, coordinate by coordinate and in the
energy, by the two-sample test of Kolmogorov and Smirnov. Over all comparisons an ideal kernel
fails one, on fresh seeds, with a chance below `ALARM`.
"""

import contextlib

import energax as ex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import registry
from energax.energies import AbstractTractable
from energax.kernels import MetropolisHastings
from energax.sampling import start_chains, step_chains
from scipy import stats

ALARM = 1e-4
N_CHAINS = 50_000


def _pairs() -> list[tuple[str, str]]:
    found = []
    for energy_name, make in registry.CONTINUOUS.items():
        energy = make()
        for kernel_name, kernel in registry.KERNELS.items():
            with contextlib.suppress(ValueError):
                kernel(energy).check(energy)
                found.append((kernel_name, energy_name))
    return found


N_COMPARISONS = 3 * len(_pairs())


def _exact(energy, n: int, seed: int) -> np.ndarray:
    """Independent draws: the energy's own, or from a grid so fine that nothing shows."""
    if isinstance(energy, AbstractTractable):
        return np.asarray(jax.vmap(energy.draw)(jax.random.split(ex.key(seed), n)))
    generator = np.random.default_rng(seed)
    one_dimension = energy.space.shape == ()
    points, ends = (60_000, (-4.0, 4.0)) if one_dimension else (600, (-1.0, 1.0))
    width = (ends[1] - ends[0]) / points
    axis = ends[0] + width * (np.arange(points) + 0.5)
    grid = axis if one_dimension else np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    e = np.asarray(jax.jit(jax.vmap(energy.energy))(grid.astype(np.float32)), np.float64)
    p = np.exp(e.min() - e)
    x = grid[generator.choice(len(p), n, p=p / p.sum())]
    return (x + width * (generator.random(x.shape) - 0.5)).astype(np.float32)


def _p_values(kernel, energy, seed: int) -> list[float]:
    @jax.jit
    def step(x, key):
        key_init, key_step = jax.random.split(key)
        chains = start_chains(energy, kernel, jnp.asarray(x), key_init)
        x = step_chains(energy, kernel, chains, key_step)[0].x
        return x, jax.vmap(energy.energy)(x)

    after, after_energy = step(_exact(energy, N_CHAINS, seed), ex.key(1000 + seed))
    fresh = _exact(energy, N_CHAINS, 500 + seed)
    fresh_energy = jax.jit(jax.vmap(energy.energy))(fresh)
    columns = [(np.asarray(after_energy), np.asarray(fresh_energy))]
    rows = [np.asarray(x).reshape(N_CHAINS, -1) for x in (after, fresh)]
    columns += [(rows[0][:, i], rows[1][:, i]) for i in range(rows[0].shape[1])]
    return [float(stats.ks_2samp(a, b).pvalue) for a, b in columns]


@pytest.mark.parametrize(("kernel_name", "energy_name"), _pairs())
def test_chains_that_start_in_the_target_stay_there(kernel_name, energy_name):
    energy = registry.CONTINUOUS[energy_name]()
    kernel = registry.KERNELS[kernel_name](energy)
    seed = _pairs().index((kernel_name, energy_name))
    assert min(_p_values(kernel, energy, seed)) > ALARM / N_COMPARISONS


def test_a_walk_that_accepts_everything_is_seen():
    energy = registry.CONTINUOUS["double well"]()
    # A ratio so large that the test of Metropolis always says yes.
    kernel = MetropolisHastings(
        lambda key, x: x + 0.8 * jax.random.normal(key, x.shape), lambda x, y: jnp.asarray(1e9)
    )
    assert min(_p_values(kernel, energy, seed=0)) < 1e-12
