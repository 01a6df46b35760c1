"""Kernels on continuous states: chains drawn exactly are still exact draws a step later.

One step of many chains is compared with as many fresh draws, coordinate by coordinate and in the
energy, by the two-sample test of Kolmogorov and Smirnov. Over all comparisons an ideal kernel
fails one, on fresh seeds, with a chance below `ALARM`.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from whole_ladder import Together, whole

import energax as ex
import registry
from energax.energies import AbstractTractable
from energax.kernels import MetropolisHastings, start_chains, step_chains

pytestmark = pytest.mark.slow

ALARM = 1e-4
N_CHAINS = 50_000


ALIKE = ("banana", "funnel", "many gaussians")
"""What these ask of a kernel, others of the registry ask already."""

_CURVED = ("multivariate gaussian", "exponential", "double well", "box")
ENOUGH = {
    "nuts": _CURVED,
    "hmc": (*_CURVED, "gaussian mixture", "ring", "gaussian mrf", "mueller brown"),
    "mala": (*_CURVED, "gaussian mixture", "ring", "gaussian mrf", "mueller brown"),
    "replica exchange": ("double well",),
}
"""Of an energy, these kernels see the value and the gradient, and they take long to compile; a
ladder's replicas are random walks."""


def _pairs() -> list[tuple[str, str]]:
    found = []
    for energy_name, make in registry.CONTINUOUS.items():
        if energy_name in ALIKE:
            continue
        energy = make()
        for kernel_name, kernel in registry.KERNELS.items():
            if energy_name not in ENOUGH.get(kernel_name, registry.CONTINUOUS):
                continue
            if not kernel(energy).is_exact:
                continue
            with contextlib.suppress(ValueError):
                kernel(energy).check(energy)
                found.append((kernel_name, energy_name))
    return found


N_COMPARISONS = 3 * len(_pairs())


def _from_grid(energy, n: int, seed: int) -> np.ndarray:
    """Independent draws of a density on a grid so fine that nothing shows; of a ladder, on every
    rung."""
    if isinstance(energy, Together):
        rungs = [energy.rung(i) for i in range(energy.space.n)]
        return np.stack([_from_grid(rung, n, seed + i) for i, rung in enumerate(rungs)], 1)
    generator = np.random.default_rng(seed)
    one_dimension = energy.space.shape == ()
    plane = (-1.0, 1.0) if isinstance(energy.space, ex.Box) else (-2.5, 3.0)
    points, ends = (60_000, (-4.0, 4.0)) if one_dimension else (600, plane)
    width = (ends[1] - ends[0]) / points
    axis = ends[0] + width * (np.arange(points) + 0.5)
    grid = axis if one_dimension else np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    e = np.asarray(jax.jit(jax.vmap(energy.energy))(grid.astype(np.float32)), np.float64)
    p = np.exp(e.min() - e)
    x = grid[generator.choice(len(p), n, p=p / p.sum())]
    return (x + width * (generator.random(x.shape) - 0.5)).astype(np.float32)


def _p_values(kernel, energy, seed: int) -> list[float]:
    tractable = isinstance(energy, AbstractTractable)
    rows = None if tractable else _from_grid(energy, 2 * N_CHAINS, seed)

    @jax.jit
    def step(key):
        """One step from half of the exact draws, and the other half."""
        key_draw, key_init, key_step = jax.random.split(key, 3)
        if tractable:
            exact = jax.vmap(energy.draw)(jax.random.split(key_draw, 2 * N_CHAINS))
        else:
            exact = jnp.asarray(rows)
        chains = start_chains(energy, kernel, exact[:N_CHAINS], key_init)
        after = step_chains(energy, kernel, chains, key_step)[0].x
        x = jnp.stack([after, exact[N_CHAINS:]])
        return x.reshape(2, N_CHAINS, -1), jax.vmap(jax.vmap(energy.energy))(x)

    x, e = (np.asarray(a) for a in step(ex.key(seed)))
    columns = [e, *np.moveaxis(x, -1, 0)]
    return [float(stats.ks_2samp(*column).pvalue) for column in columns]


@pytest.mark.parametrize(("kernel_name", "energy_name"), _pairs())
def test_chains_that_start_in_the_target_stay_there(kernel_name, energy_name):
    energy = registry.CONTINUOUS[energy_name]()
    kernel, energy = whole(registry.KERNELS[kernel_name](energy), energy)
    seed = _pairs().index((kernel_name, energy_name))
    assert min(_p_values(kernel, energy, seed)) > ALARM / N_COMPARISONS


def test_a_walk_that_accepts_everything_is_seen():
    energy = registry.CONTINUOUS["double well"]()
    # A ratio so large that the test of Metropolis always says yes.
    kernel = MetropolisHastings(
        lambda key, x: x + 0.8 * jax.random.normal(key, x.shape), lambda x, y: jnp.asarray(1e9)
    )
    assert min(_p_values(kernel, energy, seed=0)) < 1e-12
