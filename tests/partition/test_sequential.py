"""Sequential Monte Carlo: unbiased runs, ladders of equal steps."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import energax as ex
import oracles
import registry
from energax.energies import AbstractPath
from energax.kernels import start_chains, step_chains
from energax.partition import adaptive_ladder, log_partition_smc
from energax.sampling import default_kernel

pytestmark = pytest.mark.slow

ALARM = 1e-4

CASES = {
    "rbm": (lambda: ex.Bernoulli(jnp.zeros(4)), lambda: registry._rbm(scale=4.0)),
    "spins": (lambda: ex.Uniform(ex.Spin(4)), lambda: ex.Ising(4, 1.0, 0.3)),
    "table": (
        lambda: ex.Uniform(ex.Categorical(2, 3)),
        lambda: registry._table(ex.Categorical(2, 3)) ** 3.0,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_runs_average_to_the_ratio_though_they_resample(name):
    base, model = (make() for make in CASES[name])
    betas = np.array([0.0, 0.5, 0.9, 1.0])
    found = log_partition_smc(model, base, key=ex.key(1), n_chains=40_000, n_runs=4000, betas=betas)
    assert found.diagnostics["resampled"] > 0.2
    truth = oracles.log_z(model)
    z = np.expm1(found.value - truth) / found.std_error
    assert 2 * stats.norm.sf(abs(z)) > ALARM / len(CASES)
    assert found.trusted


def test_the_interval_covers():
    base, model = (make() for make in CASES["rbm"])
    truth = oracles.log_z(model)
    found = [log_partition_smc(model, base, key=ex.key(i), n_chains=200) for i in range(100)]
    assert stats.binom.cdf(sum(z.lower <= truth <= z.upper for z in found), 100, 0.95) > 0.01
    assert all(z.trusted for z in found)


def test_each_step_of_an_adaptive_ladder_costs_as_much():
    base, model = (make() for make in CASES["spins"])
    ladder = adaptive_ladder(model, base, key=ex.key(0), cess=0.9, n_chains=4000)
    assert ladder[0] == 0
    assert ladder[-1] == 1
    assert (np.diff(ladder) > 0).all()
    start = ex.path(base, model)
    kernel = default_kernel(start)
    for here, there in itertools.pairwise(ladder[1:-1]):
        model_here = start.at(here)
        assert isinstance(model_here, AbstractPath)
        x = ex.exact.draw_enumerated(model_here, 4000, key=ex.key(1))
        states = start_chains(model_here, kernel, x, ex.key(2))
        states, _ = step_chains(model_here, kernel, states, ex.key(3))
        gains = np.array(
            [model_here.log_increment(start.terms(x), jnp.asarray(there)) for x in states.x[:500]]
        )
        w = np.exp(np.array(gains))
        assert w.mean() ** 2 / (w**2).mean() == pytest.approx(0.9, abs=0.03)
    closer = adaptive_ladder(model, base, key=ex.key(0), cess=0.99, n_chains=4000)
    assert len(closer) > 1.5 * len(ladder)


def test_a_ladder_of_more_temperatures_has_the_same_shape():
    base, model = (make() for make in CASES["spins"])
    options = {"key": ex.key(0), "cess": 0.9}
    few = adaptive_ladder(model, base, **options)
    many = adaptive_ladder(model, base, n_temperatures=50 * (len(few) - 1), **options)
    np.testing.assert_allclose(many[::50], few, atol=1e-6)
    found = ex.log_partition(model, key=ex.key(1), method="annealing", base=base, betas=many)
    assert abs(found.value - oracles.log_z(model)) < 5 * found.std_error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_runs": 4}, "n_runs must be an integer of at least 5"),
        ({"n_chains": 30}, "n_chains must be an integer of at least 40"),
        ({"n_chains": 110}, "multiple of n_runs"),
        ({"cess": 1.0}, "cess must lie between 0 and 1"),
        ({"betas": np.array([0.0, 1.0])}, "at least 3 numbers"),
        ({"kernel": ex.PackedGibbs()}, "PackedGibbs"),
    ],
)
def test_bad_settings_are_named(options, words):
    base, model = (make() for make in CASES["spins"])
    with pytest.raises(ValueError, match=words):
        log_partition_smc(model, base, key=ex.key(0), **options)
