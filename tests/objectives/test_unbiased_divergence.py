"""Gradients from pairs of chains that meet: without bias where they meet, and told where not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_gradients import each, energy_gradients, gibbs_matrix, likelihood_gradient

import energax as ex
import oracles
import registry

pytestmark = pytest.mark.slow

ROWS = np.random.default_rng(0).integers(0, 2, (7, 4))
Unbiased = ex.UnbiasedContrastiveDivergence


def _steps(objective, energy, rows, n, seed=0):
    """`n` independent steps of an objective without a state."""
    step = jax.jit(jax.vmap(lambda key: objective.gradient(energy, rows, None, key=key)))
    return step(jax.random.split(ex.key(seed), n))


def _sticky():
    """A machine with heavy weights, on which a sweep forgets little."""
    return registry._rbm(scale=1.6)


@pytest.mark.parametrize("averaged", [False, True])
def test_a_machines_gradient_is_unbiased(averaged, x64):
    """Of a machine whose CD-k would be far off: at once and from the data, and averaged and from
    a base. 4,000 gradients; false alarm 1e-5 over all 19 parameters, and once more for the
    model's mean energy."""
    rbm = _sticky()
    rows = rbm.space.convert(ROWS)
    objective = Unbiased(n_pairs=3, k=0, m=0)
    if averaged:
        objective = Unbiased(n_pairs=9, k=1, m=4, base=ex.Bernoulli(np.full(4, 2.0)))
    steps = _steps(objective, rbm, rows, 4000)
    oracles.assert_mean(each(steps.gradient, 4000), likelihood_gradient(rbm, rows))
    mean = oracles.probabilities(rbm) @ oracles.energies(rbm)
    oracles.assert_mean(steps.measures["energy_model"], mean)
    time, cost, longest, not_met = (
        np.asarray(steps.measures[name])
        for name in ("meeting_time", "kernel_steps", "longest_meeting", "not_met")
    )
    assert not not_met.any()
    assert time.min() >= 1
    assert time.mean() > 2
    assert (longest >= time).all()
    # X alone to step 1, both to the meeting, X alone to step m.
    if averaged:
        assert (cost >= np.maximum(2 * time - 1, time + 3) - 1e-9).all()
    else:
        np.testing.assert_allclose(cost, 2 * time - 1)


def test_an_ising_models_gradient_is_unbiased(x64):
    # Couplings of both signs and fields; 4,000 gradients, false alarm 1e-5 over all of them.
    energy = registry.GRAPHS["ising on a graph"]()
    rows = jnp.asarray(2.0 * np.random.default_rng(1).integers(0, 2, (5, 6)) - 1.0)
    steps = _steps(Unbiased(n_pairs=5, k=0, m=2), energy, rows, 4000)
    oracles.assert_mean(each(steps.gradient, 4000), likelihood_gradient(energy, rows))


def test_ladders_give_an_unbiased_gradient_and_meet_across_modes(x64):
    """On a machine with two far modes, from one of them. 600 gradients, false alarm 1e-5."""
    rbm = ex.RBM(np.full((6, 2), 3.5), np.full(6, -3.2), np.full(2, -10.5))
    rows = jnp.zeros((1, 6))
    ladder = ex.ReplicaExchange(ex.BlockGibbs(), n_replicas=5, base=ex.Bernoulli(np.zeros(6)))
    steps = _steps(Unbiased(n_pairs=5, k=2, m=4, kernel=ladder), rbm, rows, 600)
    oracles.assert_mean(each(steps.gradient, 600), likelihood_gradient(rbm, rows))
    assert np.min(steps.measures["meeting_time"]) >= 2
    assert np.max(steps.measures["longest_meeting"]) < 200


def test_a_gaussians_gradient_is_unbiased(x64):
    """By reflected random walks. Z is 1 whatever the parameters: the model's mean gradient is 0."""
    energy = ex.Gaussian(jnp.array([0.5, -1.0]), jnp.array([0.7, 1.5]))
    rows = jnp.asarray(np.random.default_rng(2).normal(size=(4, 2)))
    objective = Unbiased(n_pairs=4, k=2, m=6, kernel=ex.RandomWalkMetropolis(1.0))
    steps = _steps(objective, energy, rows, 3000)
    exact = jax.grad(lambda e: jnp.mean(jax.vmap(e.energy)(rows)))(energy)
    oracles.assert_mean(each(steps.gradient, 3000), each(exact, 1)[0])


def test_cut_off_after_one_step_it_is_contrastive_divergence(x64):
    """Pairs that start at every row and are never corrected beyond X_1: biased as CD-1 is."""
    rbm = _sticky()
    rows = rbm.space.convert(ROWS)
    at = energy_gradients(rbm)
    start = np.bincount(oracles.index_of(rbm.space, rows), minlength=len(at)) / len(rows)
    steps = _steps(Unbiased(n_pairs=7, k=0, m=0, max_steps=1), rbm, rows, 4000)
    found = each(steps.gradient, 4000)
    oracles.assert_mean(found, (start - start @ gibbs_matrix(rbm)) @ at)
    with pytest.raises(AssertionError):
        oracles.assert_mean(found, likelihood_gradient(rbm, rows))
    assert np.mean(steps.measures["not_met"]) > 0.1


def test_pairs_that_do_not_meet_are_complained_of():
    frozen = ex.Ising((3, 3), 1.5)
    rows = 1.0 - 2.0 * np.eye(9).reshape(9, 3, 3)
    objective = Unbiased(n_pairs=20, k=0, m=2, max_steps=3, base=ex.Uniform(frozen.space))
    run = ex.fit(frozen, rows, objective, key=ex.key(0), steps=3)
    assert run.ok
    assert run.history[-1]["not_met"] > 0
    assert "had not met after 3 steps" in run.message
    assert "raise max_steps" in run.message
    assert Unbiased().complaint({"not_met": 0.0}) == ""


def test_a_failing_energy_ends_the_run():
    def bad(x):
        return jnp.where(jnp.sum(x) > 3, jnp.nan, 0.0) * x[0]

    energy = ex.NeuralEnergy(bad, ex.Spin(4)) * ex.Ising(4, 0.1)
    run = ex.fit(
        energy, -np.ones((5, 4)), Unbiased(kernel=ex.Gibbs(), n_pairs=5), key=ex.key(0), steps=20
    )
    assert run.status == "diverged"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 5, "m": 3}, ("m must be", "at least 5", "3")),
        ({"k": -1}, ("k must be", "at least 0")),
        ({"n_pairs": 0}, ("n_pairs must be",)),
        ({"m": 50, "k": 5, "max_steps": 50}, ("max_steps", "at least 51")),
    ],
)
def test_bad_settings_are_named(options, words):
    with oracles.refused(*words):
        Unbiased(**options)


def test_kernels_that_do_not_meet_are_refused_before_training():
    rbm = registry._rbm()
    with oracles.refused("exact kernel", "DiscreteLangevin"):
        Unbiased(kernel=ex.DiscreteLangevin(corrected=False)).prepare(rbm, ROWS)
    with oracles.refused("never meet", "HMC"):
        Unbiased(kernel=ex.HMC()).prepare(ex.Gaussian(jnp.zeros(2)), np.zeros((3, 2)))
    with oracles.refused("base must be over"):
        Unbiased(base=ex.Bernoulli(jnp.zeros(5))).prepare(rbm, ROWS)
    with oracles.refused("centred"):
        Unbiased(centred=True).prepare(ex.Ising(4, 0.1), 2 * ROWS - 1)
