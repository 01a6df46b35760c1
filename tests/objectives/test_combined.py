"""Several objectives at once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import energax as ex
from oracles import refused

ROWS = np.random.default_rng(0).normal([1.0, -1.0], 0.3, (60, 2)).astype(np.float32)


def _chains():
    return ex.ReplayBuffer(size=40, n_chains=20, n_steps=3, kernel=ex.UnadjustedLangevin(0.05))


def test_the_gradient_is_the_weighted_sum():
    energy = ex.Gaussian(jnp.zeros(2))
    parts = [_chains(), ex.DenoisingScoreMatching(0.2), ex.DenoisingScoreMatching(0.4)]
    weights = [1.0, 0.5, 3.0]
    both = ex.CombinedObjective(parts, weights)
    rows = both.prepare(energy, ROWS)
    state = both.init(energy, rows, key=ex.key(1))
    step = both.gradient(energy, rows, state, key=ex.key(2))
    keys = jax.random.split(ex.key(2), 3)
    alone = [
        each.gradient(energy, rows, s, key=k) for each, s, k in zip(parts, state, keys, strict=True)
    ]
    wanted = jax.tree.map(
        lambda *gs: sum(w * g for w, g in zip(weights, gs, strict=True)),
        *(one.gradient for one in alone),
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), step.gradient, wanted)
    # Two of them have a loss: the second says whose.
    assert float(step.measures["loss"]) == float(alone[1].measures["loss"])
    assert float(step.measures["loss_3"]) == float(alone[2].measures["loss"])
    assert "energy_gap" in step.measures
    assert "weighted_loss" not in step.measures  # chains do not tell theirs


def test_chains_live_on_and_are_calmed():
    energy = ex.Gaussian(jnp.zeros(2))
    both = ex.CombinedObjective([ex.DenoisingScoreMatching(0.2), _chains()])
    state = both.init(energy, jnp.asarray(ROWS), key=ex.key(0))
    assert both.chains(state).shape == (40, 2)
    calm = both.calmed(energy, jnp.asarray(0.5))
    assert float(calm.objectives[1].kernel.step_size) == pytest.approx(0.025)
    assert calm.weights == both.weights
    still = ex.CombinedObjective([ex.DenoisingScoreMatching(0.2), ex.ScoreMatching()])
    assert still.calmed(energy, jnp.asarray(0.5)) is still
    assert still.chains(still.init(energy, jnp.asarray(ROWS), key=ex.key(0))) is None


def test_score_matching_and_likelihood_together_find_a_gaussian():
    # Both have their minimum at the data's own moments.
    energy = ex.Gaussian(jnp.zeros(2))
    both = ex.CombinedObjective([ex.MaximumLikelihood(), ex.ScoreMatching()], [1.0, 0.1])
    run = ex.fit(energy, ROWS, both, key=ex.key(0), steps=800, learning_rate=0.02, batch_size=60)
    np.testing.assert_allclose(run.energy.mean, ROWS.mean(0), atol=0.02)
    np.testing.assert_allclose(run.energy.scale, ROWS.std(0), atol=0.02)
    last = run.history[-1]
    assert last["weighted_loss"] == pytest.approx(
        last["loss"] + 0.1 * last["score_matching"], rel=1e-4
    )


def test_a_sum_that_rises_is_met():
    both = ex.CombinedObjective([ex.MaximumLikelihood(), ex.MaximumLikelihood()])
    rows = np.random.default_rng(0).random((60, 8)) < 0.5
    run = ex.fit(
        ex.Bernoulli(jnp.full(8, 0.1)),
        rows,
        both,
        key=ex.key(0),
        steps=400,
        log_every=20,
        optimizer=optax.sgd(-0.05),  # uphill
        batch_size=60,
        retries=0,
    )
    assert run.status == "diverged"
    assert run.alarms[0]["cause"] == "loss"


def test_each_complains_of_its_own_measures():
    both = ex.CombinedObjective([ex.ConditionalLikelihood("y"), ex.NoiseContrastiveEstimation()])
    assert "told apart" not in both.complaint({"accuracy": 1.0, "accuracy_2": 0.7})
    assert "told apart" in both.complaint({"accuracy": 0.6, "accuracy_2": 1.0})


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (([],), "at least one"),
        (([ex.MaximumEntropy()],), "learn from rows"),
        ((["cd"],), "learn from rows"),
        (([ex.ScoreMatching()], [1.0, 2.0]), "one entry an objective"),
        (([ex.ScoreMatching()], [0.0]), "positive"),
        ((ex.ScoreMatching(),), "sequence of objectives"),
        (([ex.ScoreMatching()], [float("nan")]), "positive"),
    ],
)
def test_bad_settings_are_refused(settings, told):
    with refused(told):
        ex.CombinedObjective(*settings)


def test_what_one_objective_refuses_all_do():
    both = ex.CombinedObjective([ex.ContrastiveDivergence(), ex.DenoisingScoreMatching(0.1)])
    rbm = ex.RBM.init(ex.key(0), n_visible=4, n_hidden=2)
    with refused("without ends"):
        both.prepare(rbm, np.zeros((5, 4)))
