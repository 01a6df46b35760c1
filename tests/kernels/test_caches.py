"""What a kernel keeps of the energy: stale after the energy changed, right after a refresh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_moves import moves, stack, states_of
from whole_ladder import whole

import energax as ex
import registry
from energax.kernels import refresh_chains, retemper_chains, start_chains

CHANGES = {
    "rbm": (lambda: registry._rbm(seed=0), lambda: registry._rbm(seed=5)),
    "rbm.joint": (lambda: registry._rbm(3, 2).joint, lambda: registry._rbm(3, 2, seed=5).joint),
    "table of spins": (
        lambda: registry._table(ex.Spin(3), seed=0),
        lambda: registry._table(ex.Spin(3), seed=5),
    ),
}
"""An energy, and the same with other parameters."""

TEMPERED = {
    "annealed rbm": registry.DISCRETE["annealed rbm"],
    "geometric path": registry.DISCRETE["geometric path"],
    "path to ising": registry.DISCRETE["path to ising"],
    "path of shifted factors": lambda: ex.path(
        ex.Bernoulli(jnp.zeros(4)) ** 0.5, registry._rbm() * ex.Bernoulli(jnp.ones(4)), 0.3
    ),
}
"""Energies with a beta that annealing moves."""

changes = pytest.mark.parametrize(
    ("kernel_name", "energy_name"),
    [
        ("random walk", "rbm"),
        ("random walk", "table of spins"),
        ("block gibbs", "rbm"),
        ("block gibbs", "rbm.joint"),
        ("replica exchange", "table of spins"),
    ],
)


def _worst(made) -> float:
    return float(np.abs(made.target @ made.matrix - made.target).max())


@changes
def test_a_stale_state_is_a_wrong_sampler_and_a_refreshed_one_is_not(kernel_name, energy_name, x64):
    before, after = (make() for make in CHANGES[energy_name])
    _, before = whole(registry.KERNELS[kernel_name](before), before)
    kernel, after = whole(registry.KERNELS[kernel_name](after), after)

    def stale(x, key):
        return kernel.init(before, x, key)

    def refreshed(x, key):
        return kernel.refresh(after, stale(x, key))

    assert _worst(moves(kernel, after, start=stale)) > 1e-3
    assert _worst(moves(kernel, after, start=refreshed)) < 1e-12


@changes
def test_refreshing_is_starting_again(kernel_name, energy_name):
    before, after = (make() for make in CHANGES[energy_name])
    kernel = registry.KERNELS[kernel_name](after)
    x = states_of(after.space)[3]
    stale, fresh = (kernel.init(energy, x, ex.key(0)) for energy in (before, after))
    leaves = [jax.tree.leaves(s) for s in (stale, kernel.refresh(after, stale), fresh)]
    assert any((a != c).any() for a, _, c in zip(*leaves, strict=True))
    for _, b, c in zip(*leaves, strict=True):
        np.testing.assert_allclose(b, c, rtol=1e-6)


@pytest.mark.parametrize("energy_name", TEMPERED)
@pytest.mark.parametrize("kernel_name", registry.KERNELS)
def test_retempering_is_refreshing(kernel_name, energy_name, x64):
    path = TEMPERED[energy_name]()
    kernel = registry.KERNELS[kernel_name](path)
    try:
        kernel.check(path)
    except ValueError:
        pytest.skip("does not move on this energy")
    x = jax.tree.map(jnp.asarray, stack(states_of(path.space)[5:7]))

    @jax.jit
    def both(beta):
        states, colder = start_chains(path, kernel, x, ex.key(0)), path.at(beta)
        return [f(colder, kernel, states) for f in (retemper_chains, refresh_chains)]

    for beta in (0.0, 0.7, 1.0):
        quick, slow = (jax.tree.leaves(states) for states in both(beta))
        for a, b in zip(quick, slow, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-14)


def test_retempering_a_power(x64):
    energy = registry._table(ex.Spin(3))
    warm, cold = energy**0.5, energy**2.0
    kernel = ex.RandomWalkMetropolis()
    x = states_of(energy.space)[5]
    state = kernel.init(warm, x, ex.key(0))
    assert float(state.energy) == pytest.approx(0.5 * float(energy.energy(x)), rel=1e-14)
    state = kernel.retemper(cold, state)
    assert float(state.energy) == pytest.approx(2 * float(energy.energy(x)), rel=1e-14)


def test_retempering_evaluates_no_energy():
    calls = []

    def f(x):
        calls.append(1)
        return jnp.sum(x)

    path = ex.path(ex.Uniform(ex.Spin(3)), ex.NeuralEnergy(f, ex.Spin(3)), 0.2)
    kernel = ex.RandomWalkMetropolis()
    state = kernel.init(path, jnp.ones(3), ex.key(0))
    n_calls = len(calls)
    state = kernel.retemper(path.at(0.9), state)
    assert len(calls) == n_calls
    assert float(state.energy) == pytest.approx(float(path.at(0.9).energy(jnp.ones(3))), rel=1e-6)


def test_a_start_outside_the_space_keeps_its_infinite_energy():
    energy = ex.NeuralEnergy(lambda x: -x, ex.Box((), 0.0, 1.0))
    kernel = ex.RandomWalkMetropolis()
    state = kernel.init(energy**0.5, jnp.asarray(-2.0), ex.key(0))
    assert np.isposinf(state.energy)
    assert np.isposinf(kernel.retemper(energy**0.9, state).energy)
    assert np.isposinf(kernel.refresh(energy**0.9, state).energy)


@pytest.mark.parametrize("kernel", [ex.BlockGibbs(), ex.RandomWalkMetropolis()])
def test_retempering_where_a_rule_put_beta_into_the_parameters(kernel, x64):
    """The terms of `joint ** beta` depend on beta: they are made again."""
    joint = registry.DISCRETE["rbm.joint"]()
    cold, hot = joint**1.0, joint**0.3
    state = kernel.init(cold, cold.space.draw(ex.key(0)), ex.key(1))
    again = kernel.retemper(hot, state)
    expected = kernel.refresh(hot, state)
    for found, wanted in zip(jax.tree.leaves(again), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(found, wanted)
