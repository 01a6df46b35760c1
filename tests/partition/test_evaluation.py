"""`evaluate` on models small enough to check every number."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
import registry
from energax.partition import _evaluation, evaluate

TINY = {"n_chains": 60, "n_temperatures": 300, "n_samples": 8, "sample_steps": 20}


@pytest.fixture(scope="module")
def machine():
    """A machine, rows for training and testing, and their evaluation."""
    rbm = registry._rbm()
    rows = np.asarray(ex.sample(rbm, 300, key=ex.key(0)).flat)
    return (
        rbm,
        rows[:200],
        rows[200:],
        evaluate(rbm, rows[:200], rows[200:], key=ex.key(1), most_rows=150, **TINY),
    )


def test_the_estimate_is_held_against_the_exact_value(machine):
    rbm, _, _, found = machine
    exact = found.exact_log_partition
    assert exact.value == pytest.approx(oracles.log_z(rbm), rel=1e-5)
    assert exact.exact
    estimate = found.log_partition
    assert not estimate.exact
    assert estimate.trusted
    assert 0 < estimate.std_error < 0.1
    assert abs(estimate.value - exact.value) < 5 * estimate.std_error
    assert estimate.diagnostics["base"] == "Bernoulli"


def test_likelihoods_rest_on_the_exact_value(machine):
    rbm, train, test, found = machine
    log_p = np.log(oracles.probabilities(rbm))
    spread = train[np.linspace(0, 199, 150).astype(int)]  # not the first: rows may come sorted
    for part, rows in ((found.train, spread), (found.test, test)):
        each = log_p[oracles.index_of(rbm.space, rows)]
        assert part.mean == pytest.approx(each.mean(), rel=1e-4)
        assert part.n_rows == len(rows)


def test_the_baseline_is_the_rates_of_the_training_rows(machine):
    _, train, test, found = machine
    assert "independent pixels" in found.baseline
    rate = (train.sum(0) + 0.5) / (len(train) + 1)
    each = np.where(test == 1, np.log(rate), np.log(1 - rate)).sum(1)
    assert found.baseline_test.mean == pytest.approx(each.mean(), rel=1e-4)
    assert found.test.mean > found.baseline_test.mean


def test_energies_rank_the_rows(machine):
    rbm, _, test, found = machine
    assert {name: e.shape for name, e in found.energies.items()} == {
        "train": (150,),
        "test": (100,),
        "noise": (1000,),
    }
    e = np.asarray(jax.vmap(rbm.energy)(test))
    np.testing.assert_allclose(found.energies["test"], e, rtol=1e-5)
    assert e[found.hardest[0]] == e.max()
    assert e[found.easiest[0]] == e.min()
    assert found.energies["noise"].mean() > found.energies["test"].mean()


def test_samples_are_chains_from_base_draws(machine):
    _, _, _, found = machine
    assert found.samples.n_chains == 8
    assert found.samples.x.shape[2:] == (4,)
    assert found.samples.method == "BlockGibbs"
    assert set(found.seconds) == {"annealing", "enumeration", "samples"}


def test_the_estimate_may_be_a_bracket(machine):
    rbm, train, test, _ = machine
    settings = TINY | {"n_temperatures": 50}
    found = evaluate(rbm, train, test, key=ex.key(1), method="bracket", **settings)
    estimate, exact = found.log_partition, found.exact_log_partition
    assert set(estimate.parts) == {"forward", "reverse", "mbar"}
    assert estimate.trusted
    assert estimate.lower < exact.value < estimate.upper
    assert estimate.diagnostics["base"] == "Bernoulli"
    assert estimate.diagnostics["n_temperatures"] == 50
    assert set(found.seconds) == {"bracket", "enumeration", "samples"}


def test_ctrl_c_in_the_samples_ends_the_evaluation(machine, monkeypatch):
    def stopped(*arguments, **settings):
        draws = ex.sample(*arguments, **settings)
        return dataclasses.replace(draws, stopped=True)

    monkeypatch.setattr(_evaluation, "sample", stopped)
    rbm, train, test, _ = machine
    with pytest.raises(KeyboardInterrupt):
        evaluate(rbm, train, test, key=ex.key(0), **TINY)


def test_a_real_model_has_no_enumeration():
    model = ex.NeuralEnergy(lambda x: -jnp.sum((x - 1) ** 2) / 2, ex.Real(1))
    rows = np.random.default_rng(0).normal(1.0, 1.0, (60, 1))
    found = evaluate(model, rows[:40], rows[40:], key=ex.key(0), **TINY | {"n_temperatures": 100})
    assert found.exact_log_partition is None
    estimate = found.log_partition
    assert abs(estimate.value - 0.5 * np.log(2 * np.pi)) < 6 * estimate.std_error + 1e-3
    assert (found.test.lower, found.test.upper) != (found.test.mean, found.test.mean)
    assert found.baseline == "independent normal entries"


def test_rows_are_named():
    with pytest.raises(ValueError, match="test rows must have shape"):
        evaluate(registry._rbm(), np.zeros((3, 4)), np.zeros((3, 5)), key=ex.key(0))
    with pytest.raises(ValueError, match="training rows must hold only 0 and 1"):
        evaluate(registry._rbm(), np.full((3, 4), 7), np.zeros((3, 4)), key=ex.key(0))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_samples": 0}, "n_samples must be an integer of at least 1"),
        ({"most_rows": 0}, "most_rows must be an integer of at least 1"),
        ({"sample_steps": -1}, "sample_steps must be an integer of at least 1"),
        ({"n_temperatures": 1}, "n_temperatures must be an integer of at least 2"),
        ({"method": "guess"}, 'method must be "annealing" or "bracket"'),
        ({"n_chains": 1}, "n_chains must be an integer of at least 2"),
        ({"level": 2.0}, "level must lie between 0 and 1"),
        ({"key": 0}, "key must be one random key"),
    ],
)
def test_bad_settings_are_refused_before_any_work(settings, words):
    rows = np.zeros((5, 4))
    with oracles.refused(words):
        evaluate(registry._rbm(), rows, rows, **{"key": ex.key(0), **settings})


def test_a_likelihood_needs_what_log_partition_returns():
    with oracles.refused("log_z must be what ex.log_partition returns, got float"):
        ex.log_likelihood(registry._rbm(), np.zeros((5, 4)), 3.2)


def test_what_is_known_is_not_estimated():
    rows = np.asarray(ex.sample(ex.Gaussian(np.zeros(2)), 60, key=ex.key(0)).flat)
    closed = evaluate(ex.Gaussian(np.zeros(2), 2.0), rows, rows, key=ex.key(1), **TINY)
    assert closed.exact_log_partition.method == "closed form"
    assert closed.exact_log_partition.value == 0
    bits = rows > 0
    rbm = registry._rbm(2, 3)
    frozen = evaluate(ex.freeze(rbm), bits, bits, key=ex.key(1), **TINY)
    assert frozen.exact_log_partition.value == pytest.approx(oracles.log_z(rbm), rel=1e-5)
