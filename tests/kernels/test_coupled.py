"""Coupled steps: each chain alone makes the kernel's own step, and together they meet."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import energax as ex
import oracles
import registry
from energax.kernels import AbstractKernel, ReplicaExchange, check_coupled, have_met, step_coupled

pytestmark = pytest.mark.slow

ALARM = 1e-5


def _steps(energy, kernel, x, y, n: int, seed: int = 0):
    """`n` coupled steps from one pair of states."""

    def one(key):
        pair = tuple(kernel.init(energy, each, key) for each in (x, y))
        step = step_coupled(energy, kernel, pair, key)
        return step.x.x, step.y.x, step.met

    keys = jax.random.split(ex.key(seed), n)
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))


def test_normal_proposals_meet_as_often_as_they_can():
    """On a flat energy every proposal is accepted, so that the step shows the proposals."""
    flat = ex.NeuralEnergy(lambda x: 0.0 * jnp.sum(x), ex.Real(2))
    x, y, step = jnp.array([0.3, -0.2]), jnp.array([-0.5, 0.6]), 0.8
    n = 100_000
    a, b, met = _steps(flat, ex.RandomWalkMetropolis(step), x, y, n)
    gap = (np.asarray(x) - np.asarray(y)) / step
    for moved, start in ((a, x), (b, y)):
        noise = (moved - np.asarray(start)) / step
        along = noise @ gap / np.linalg.norm(gap)
        across = noise @ np.array([-gap[1], gap[0]]) / np.linalg.norm(gap)
        assert stats.kstest(along, "norm").pvalue > ALARM
        assert stats.kstest(across, "norm").pvalue > ALARM
    np.testing.assert_allclose(a[met], b[met], atol=1e-6)
    overlap = 2 * stats.norm.cdf(-np.linalg.norm(gap) / 2)  # one less the total variation
    assert stats.binomtest(int(met.sum()), n, overlap).pvalue > ALARM


def test_bits_meet_as_often_as_they_can():
    """Each visible bit given the same hidden ones agrees; the hidden ones as often as can be."""
    rbm = registry._rbm(4, 1)
    x, y = jnp.array([0.0, 0, 1, 1]), jnp.array([1.0, 1, 0, 1])
    n = 50_000
    starts = ({"hidden": jnp.zeros(1), "visible": v} for v in (x, y))
    a, b, met = _steps(rbm.joint, ex.BlockGibbs(), *starts, n)
    p, q = (float(jax.nn.sigmoid(rbm.hidden_input(v)[0])) for v in (x, y))
    same = int((a["hidden"] == b["hidden"]).all(1).sum())
    assert stats.binomtest(same, n, 1 - abs(p - q)).pvalue > ALARM
    equal = (a["hidden"] == b["hidden"]).all(1)
    assert (a["visible"][equal] == b["visible"][equal]).all()
    np.testing.assert_array_equal(met[equal], True)


@pytest.mark.parametrize(
    ("energy", "kernel", "x"),
    [
        (registry._rbm(), ex.BlockGibbs(), np.array([0.0, 1, 1, 0])),
        (registry._table(ex.Spin(3)), ex.RandomWalkMetropolis(), np.array([1.0, -1, 1])),
        (ex.Gaussian(jnp.zeros(2)), ex.RandomWalkMetropolis(1.0), np.array([0.4, -0.7])),
        (registry.CONTINUOUS["box"](), ex.RandomWalkMetropolis(1.0), np.array([0.4, -0.7])),
    ],
)
def test_chains_that_have_met_stay_together(energy, kernel, x):
    x = jnp.asarray(x, jnp.float32)
    a, b, met = _steps(energy, kernel, x, x, 1000)
    assert met.all()
    np.testing.assert_allclose(a, b, atol=1e-6)
    assert len(np.unique(a, axis=0)) > 1


def test_observed_entries_stay():
    held = ex.condition(ex.Gaussian(jnp.zeros(3)), np.array([0.5, 0, 0]), np.array([1, 0, 0]) > 0)
    x, y = jnp.array([0.5, 1.0, 0.0]), jnp.array([0.5, -1.0, 0.3])
    a, b, met = _steps(held, ex.RandomWalkMetropolis(1.0), x, y, 1000)
    assert (a[:, 0] == 0.5).all()
    assert (b[:, 0] == 0.5).all()
    assert 0 < met.mean() < 1


def test_ladders_meet_when_every_rung_has_and_then_go_on_alike():
    """From far starts, and though replicas may stand in other places of the two."""
    rbm = registry._rbm(scale=1.6)
    ladder = ReplicaExchange(ex.BlockGibbs(), n_replicas=4, base=ex.Bernoulli(np.zeros(4)))

    @jax.jit
    @jax.vmap
    def run(key):
        x, y = (ladder.init(rbm, start, key) for start in (jnp.zeros(4), jnp.ones(4)))
        y = eqx.tree_at(lambda s: (s.level,), y, (y.level[::-1],))
        y = ladder.refresh(rbm, y)

        def one(pair, key):
            step = step_coupled(rbm, ladder, pair, key)
            return (step.x, step.y), (step.met, step.x.x, step.y.x)

        return jax.lax.scan(one, (x, y), jax.random.split(key, 80))[1]

    met, x, y = (np.asarray(a) for a in run(jax.random.split(ex.key(0), 200)))
    assert met[:, -1].all()
    assert not met[:, 0].all()
    assert (np.diff(met.astype(int), axis=1) >= 0).all()  # once one, always one
    assert (x[met] == y[met]).all()
    some = (x == y).all(-1) & ~met
    assert some.any()  # the cold replicas alone do not tell


class _Inexact(AbstractKernel):
    is_exact: ClassVar[bool] = False

    def init(self, energy, x, key) -> Any: ...

    def step(self, energy, state, key) -> Any: ...

    def refresh(self, energy, state) -> Any: ...


def test_chains_that_cannot_meet_are_refused():
    with oracles.refused("never meet", "MALA", "Real"):
        check_coupled(ex.Gaussian(jnp.zeros(2)), ex.MALA())
    ladder = ReplicaExchange(ex.RandomWalkMetropolis())
    check_coupled(registry._rbm(), ladder)
    with oracles.refused("even lag", "3"):
        check_coupled(registry._rbm(), ladder, lag=3)
    with oracles.refused("never meet", "Real"):
        check_coupled(ex.Gaussian(jnp.zeros(2)), ladder)
    with oracles.refused("PackedGibbs", "moves all chains"):
        check_coupled(ex.Ising((4, 4)), ex.PackedGibbs())
    both = ex.NeuralEnergy(lambda x: -(x["a"] ** 2), ex.Joint(a=ex.Real(), b=ex.Spin()))
    for kernel in (ex.RandomWalkMetropolis(), ex.MALA()):
        with oracles.refused("a Joint with real parts cannot be coupled by any kernel"):
            check_coupled(both, kernel)
    with oracles.refused("exact", "_Inexact"):
        check_coupled(registry._rbm(), _Inexact())
    with oracles.refused("BlockGibbs needs"):
        check_coupled(registry._table(ex.Spin(3)), ex.BlockGibbs())


def test_met_is_every_entry():
    a = {"u": jnp.zeros(2), "v": jnp.ones(())}
    assert have_met(a, a)
    assert not have_met(a, {**a, "v": jnp.zeros(())})
    assert not have_met(a, {**a, "u": jnp.array([0.0, 1.0])})
