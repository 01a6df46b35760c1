"""Every registered kernel leaves every small model invariant, and reaches all of it.

The statistical tests share one budget: over all pairs an ideal kernel fails one of them, on fresh
seeds, with a chance below `ALARM`.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_moves import index, moves, pairs, registered, stack, states_of, target
from whole_ladder import whole

import energax as ex
import oracles
import registry
from energax.energies import AbstractBipartite, unfreeze
from energax.kernels import AbstractKernel, Info, MetropolisHastings, start_chains, step_chains
from energax.spaces import Clamped

pytestmark = pytest.mark.slow

ALARM = 1e-4
N_CHAINS = 1 << 20

GRADIENT = {"mala", "hmc", "nuts", "langevin", "underdamped langevin"}
"""Kernels that follow a gradient, which discrete states do not have."""

contract = pytest.mark.parametrize(("kernel_name", "energy_name"), pairs())


class GreedyClimb(AbstractKernel):
    """A search, not a sampler: goes to a neighbour only if it is likelier."""

    is_exact: ClassVar[bool] = False
    walk: ex.RandomWalkMetropolis = eqx.field(default_factory=ex.RandomWalkMetropolis)

    def init(self, energy, x, key) -> Any:
        return self.walk.init(energy, x, key)

    def step(self, energy, state, key) -> Any:
        new, info = self.walk.step(energy, state, key)
        uphill = new.energy <= state.energy
        kept = jax.tree.map(lambda a, b: jnp.where(uphill, a, b), new, state)
        return kept, Info(info.acceptance, kept.energy)

    def refresh(self, energy, state) -> Any:
        return self.walk.refresh(energy, state)


def test_every_pair_is_covered():
    energies = dict.fromkeys(name for _, name in pairs())
    assert list(energies) == list(registry.DISCRETE)
    discrete = {name for name, _ in pairs()}
    assert discrete == set(registry.KERNELS) - GRADIENT


@contract
def test_target_is_a_fixed_point(kernel_name, energy_name):
    made = registered(kernel_name, energy_name)
    np.testing.assert_allclose(made.probability.sum(1), 1.0, rtol=0, atol=1e-12)
    p = made.target
    np.testing.assert_allclose(p @ made.matrix, p, rtol=0, atol=1e-12)


@contract
def test_every_state_is_reached_from_every_other(kernel_name, energy_name):
    made = registered(kernel_name, energy_name)
    within = np.linalg.matrix_power(np.eye(len(made.matrix)) + made.matrix, len(made.matrix))
    legal = made.target > 0
    assert (within[np.ix_(legal, legal)] > 0).all()


@contract
def test_the_reported_energy_is_the_energy_of_the_new_state(kernel_name, energy_name):
    made = registered(kernel_name, energy_name)
    target = made.target[made.reached]
    possible = made.probability > 0
    legal = possible & (target > 0)
    assert np.ptp(made.energy[legal] + np.log(target[legal])) < 1e-10
    assert (made.energy[possible & (target == 0)] == np.inf).all()


def _step_from_exact(kernel, energy, seed: int) -> np.ndarray:
    """Counts of the states of chains that were drawn exactly and then took one step."""
    table, p = stack(states_of(energy.space)), target(energy)
    drawn = np.random.default_rng(seed).choice(len(p), N_CHAINS, p=p)

    @eqx.filter_jit
    def one_step(energy, kernel, x, key):
        key_init, key_step = jax.random.split(key)
        chains = start_chains(energy, kernel, x, key_init)
        return step_chains(energy, kernel, chains, key_step)[0].x

    x = one_step(energy, kernel, jax.tree.map(lambda leaf: leaf[drawn], table), ex.key(seed))
    return np.bincount(index(table, x), minlength=len(p))


def _two_sided(counts: np.ndarray, p: np.ndarray) -> float:
    tail = oracles.chi_squared_p(counts, p)
    return 2 * min(tail, 1 - tail)


def _ways_to_draw() -> list[tuple[str, str]]:
    """One pair for each way a kernel draws: by the space, and of layers by the model as well.

    A ladder adds to the random walks of its replicas no draws but those of swaps, and clusters draw
    alike whether or not they are held.
    """
    found = {}
    for kernel_name, energy_name in pairs():
        energy = unfreeze(registry.DISCRETE[energy_name]())
        layers = type(energy) if isinstance(energy, AbstractBipartite) else None
        space = energy.space
        if kernel_name in ("swendsen-wang", "wolff") and isinstance(space, Clamped):
            space = space.space
        way = (kernel_name, type(space), layers if kernel_name != "random walk" else None)
        if kernel_name == "replica exchange":
            way = (kernel_name, None, None)
        found.setdefault(way, (kernel_name, energy_name))
    return list(found.values())


@pytest.mark.parametrize(("kernel_name", "energy_name"), _ways_to_draw())
def test_chains_that_start_in_the_target_stay_there(kernel_name, energy_name):
    # What the matrices above take for granted: that the numbers drawn are as likely as they
    # should be, and independent of each other.
    energy = registry.DISCRETE[energy_name]()
    kernel = registry.KERNELS[kernel_name](energy)
    kernel, energy = whole(kernel, energy)
    counts = _step_from_exact(kernel, energy, seed=pairs().index((kernel_name, energy_name)))
    assert _two_sided(counts, target(energy)) > ALARM / len(_ways_to_draw())


def test_a_greedy_climber_fails_both_tests(x64):
    energy = registry.DISCRETE["table of spins"]()
    kernel, p = GreedyClimb(), target(energy)
    assert np.abs(p @ moves(kernel, energy).matrix - p).max() > 0.01
    assert _two_sided(_step_from_exact(kernel, energy, seed=0), p) < 1e-100


def _uneven(corrected: bool) -> tuple[MetropolisHastings, ex.AbstractEnergy]:
    """Labels 0, 1, 2 in a ring: one up with probability 2/3, one down with 1/3."""

    def propose(key, x):
        return (x + jnp.where(jax.random.randint(key, (), 0, 3) < 2, 1, 2)) % 3

    def log_ratio(x, y):
        return jnp.where((y - x) % 3 == 1, -jnp.log(2.0), jnp.log(2.0))

    levels = jnp.array([0.0, 1.0, -0.5])
    energy = ex.NeuralEnergy(lambda x: levels[x], ex.Categorical((), 3))
    return MetropolisHastings(propose, log_ratio if corrected else None), energy


def test_an_uneven_proposal_needs_its_correction(x64):
    kernel, energy = _uneven(corrected=True)
    p = target(energy)
    np.testing.assert_allclose(p @ moves(kernel, energy).matrix, p, rtol=0, atol=1e-12)
    assert _two_sided(_step_from_exact(kernel, energy, seed=1), p) > ALARM

    kernel, energy = _uneven(corrected=False)
    assert np.abs(p @ moves(kernel, energy).matrix - p).max() > 0.01
    assert _two_sided(_step_from_exact(kernel, energy, seed=1), p) < 1e-100
