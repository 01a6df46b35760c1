"""log Z from both sides: right where it is trusted, and not trusted where chains cannot know.

The coverage of many more models, and of harder ones, is in benchmarks/coverage.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import energax as ex
import oracles
import registry
from energax.exact import log_partition_enumerated
from energax.partition import (
    default_base,
    log_partition_bracketed,
    log_partition_mbar,
    tempered_run,
)
from energax.partition._starts import dispersed_starts

pytestmark = pytest.mark.slow

METHODS = ("bracket", "annealing", "smc", "mbar", "bridge", "thermodynamic integration")


def _glass(seed, n=8, strength=1.0):
    generator = np.random.default_rng(seed)
    pairs = [(i, j) for i in range(n) for j in range(i)]
    couplings = strength * generator.normal(size=len(pairs)) / np.sqrt(n)
    return ex.Ising(pairs, couplings.astype(np.float32), 0.3 * np.ones(n, np.float32))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_what_listing_finds(method):
    model = _glass(0)
    found = ex.log_partition(model, key=ex.key(0), method=method)
    assert not found.exact
    assert found.trusted
    assert 0 < found.std_error < 0.2
    assert abs(found.value - oracles.log_z(model)) < 5 * found.std_error
    assert found.lower < found.value < found.upper


def test_brackets_cover_and_are_trusted():
    """A right 95% interval fails with a chance of 1%."""
    n, covered = 40, 0
    for seed in range(n):
        model = _glass(seed, strength=2.0)
        found = log_partition_bracketed(model, ex.Uniform(model.space), key=ex.key(seed))
        assert found.trusted, found.reason
        covered += found.lower <= float(log_partition_enumerated(model)) <= found.upper
    assert stats.binom.cdf(covered, n, 0.95) > 0.01


@pytest.mark.parametrize("name", ["double well", "banana", "mueller brown", "many gaussians"])
def test_continuous_models_agree_with_quadrature(name):
    model = registry.CONTINUOUS[name]()
    base = default_base(model, key=ex.key(1))
    found = log_partition_bracketed(model, base, key=ex.key(0))
    exact = ex.exact.log_partition_on_grid(
        model, n_points=1500 if model.space.shape == () else 500, low=-12.0, high=12.0
    )
    assert found.lower < float(exact) < found.upper
    if name != "mueller brown":  # whose valleys annealing leaves rarely: right, and not sure
        assert found.trusted, found.reason
        assert found.upper - found.lower < 0.5


def test_the_bracket_says_what_it_is_made_of():
    model = _glass(1)
    found = log_partition_bracketed(
        model, ex.Uniform(model.space), key=ex.key(0), n_chains=50, n_temperatures=100
    )
    up, down = found.diagnostics["forward"], found.diagnostics["reverse"]
    assert found.lower <= up.lower
    assert found.upper >= down.upper
    assert up.diagnostics["n_temperatures"] == found.diagnostics["n_temperatures"] == 100
    assert down.diagnostics["n_chains"] == 50
    path = found.diagnostics["path"]
    assert path["beta"][0] == 0
    assert path["beta"][-1] == 1
    assert path["gain"].shape == path["spread"].shape == (100,)
    # The mean log weight is the sum of the gains.
    assert path["gain"].sum() == pytest.approx(up.diagnostics["log_weights"].mean(), rel=1e-4)
    assert "annealed both ways" in found.summary
    again = log_partition_bracketed(
        model, ex.Uniform(model.space), key=ex.key(0), n_chains=50, n_temperatures=100
    )
    assert (again.value, again.lower, again.upper) == (found.value, found.lower, found.upper)


def test_replicas_that_cannot_mix_are_not_trusted():
    """Two modes far apart, and moves too small to come from one to the other in the time given."""
    model = ex.NeuralEnergy(
        lambda x: jax.nn.logsumexp(-0.5 * jnp.square(x - jnp.array([-9.0, 9.0]))), ex.Real()
    )
    run = tempered_run(
        model,
        ex.Gaussian(jnp.asarray(0.0), 9.0),
        key=ex.key(0),
        n_replicas=2,
        n_draws=10,
        thin=1,
        warmup=0,
        kernel=ex.RandomWalkMetropolis(0.05),
    )
    assert any("have not mixed" in problem for problem in run.problems)
    found = log_partition_mbar(
        model,
        ex.Gaussian(jnp.asarray(0.0), 9.0),
        key=ex.key(0),
        n_replicas=2,
        n_draws=10,
        thin=1,
        warmup=0,
        kernel=ex.RandomWalkMetropolis(0.05),
    )
    assert not found.trusted
    assert "take more steps or more replicas" in found.reason


@pytest.mark.parametrize("level", [jnp.nan, -jnp.inf])
def test_an_energy_that_fails_is_not_trusted(level):
    model = ex.NeuralEnergy(lambda x: jnp.where(jnp.sum(x) == 4, -level, jnp.sum(x)), ex.Spin(4))
    found = log_partition_bracketed(model, ex.Uniform(model.space), key=ex.key(0))
    assert not found.trusted
    assert "not finite" in found.reason or "NaN or -inf" in found.reason
    assert found.upper == np.inf


def test_excluded_states_of_the_base_are_a_stated_consequence():
    """An energy of +inf on a part of the base's support: a smaller Z, exactly as it should be."""
    model = ex.NeuralEnergy(lambda x: jnp.where(jnp.sum(x) > 0, 0.5 * x[0], -jnp.inf), ex.Spin(5))
    found = log_partition_bracketed(model, ex.Uniform(model.space), key=ex.key(0))
    exact = oracles.log_z(model)
    assert found.trusted, found.reason
    assert found.lower <= exact <= found.upper


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_chains": 1}, "n_chains must be an integer of at least 2"),
        ({"n_ladders": 1}, "n_ladders must be an integer of at least 2"),
        ({"n_replicas": 1}, "n_replicas must be an integer of at least 2"),
        ({"n_temperatures": 1}, "n_temperatures must be an integer of at least 2"),
        ({"level": 0.0}, "level must lie"),
        ({"betas": np.array([0.0, 0.5, 1.0])}, "knows no betas: its options are n_chains"),
        ({"method": "annealing", "n_replicas": 3}, "knows no n_replicas"),
        ({"method": "mbar", "n_chains": 3}, "knows no n_chains: its options are n_ladders"),
        ({"method": "reverse annealing"}, "starts from draws of the model: give them as x"),
        ({"base": ex.Uniform(ex.Spin(3))}, "over one space"),
    ],
)
def test_bad_settings_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        ex.log_partition(_glass(0), key=ex.key(0), **({"method": "bracket"} | options))


def test_a_method_nobody_knows_is_named():
    with oracles.refused("closed form", "bracket", "guess"):
        ex.log_partition(_glass(0), key=ex.key(0), method="guess")


def test_few_ladders_and_inexact_kernels_are_refused():
    model, base = _glass(0), ex.Uniform(ex.Spin(8))
    options = {"key": ex.key(0), "n_ladders": 1}
    with pytest.raises(ValueError, match="n_ladders must be an integer of at least 2, got 1"):
        tempered_run(model, base, **options)
    with pytest.raises(ValueError, match="annealing needs an exact kernel, got UnadjustedLangevin"):
        tempered_run(
            ex.NeuralEnergy(lambda x: -jnp.sum(x**2), ex.Real(2)),
            ex.Gaussian(jnp.zeros(2)),
            key=ex.key(0),
            kernel=ex.UnadjustedLangevin(0.1),
        )


def test_descents_find_a_narrow_mode_far_away():
    """One descent in a few hundred ends in it."""

    def log_density(x):
        wide, narrow = jnp.sum((x + 4.0) ** 2), jnp.sum((x - 4.0) ** 2) / 0.09
        return jnp.logaddexp(-0.5 * wide, -0.5 * narrow + 8.0)

    starts = dispersed_starts(ex.NeuralEnergy(log_density, ex.Real(3)), ex.key(0), 30)
    assert starts.shape == (30, 3)
    ends = np.sort(np.asarray(starts).round(2), axis=0)
    assert (np.abs(ends - 4) < 0.05).all(1).sum() >= 3
    assert (np.abs(ends + 4) < 0.05).all(1).sum() >= 3


def test_starts_without_a_gradient_are_the_spaces_own_draws():
    for space in (ex.Spin(5), ex.Box(2, 0.0, 1.0), ex.Categorical(3, 4)):
        starts = dispersed_starts(ex.NeuralEnergy(jnp.sum, space), ex.key(0), 6)
        assert space.convert(np.asarray(starts), name="starts").shape[0] == 6
    nowhere = ex.NeuralEnergy(lambda x: jnp.nan * jnp.sum(x), ex.Real(2))
    assert np.isfinite(dispersed_starts(nowhere, ex.key(0), 6)).all()


def test_a_model_whose_draws_never_change_has_nothing_to_mix():
    model = ex.NeuralEnergy(lambda x: jnp.zeros(()), ex.Categorical((), 1))
    found = log_partition_mbar(model, ex.Uniform(model.space), key=ex.key(0), n_replicas=2)
    assert found.value == pytest.approx(0.0, abs=1e-6)
    assert found.diagnostics["rhat"] == 1.0
