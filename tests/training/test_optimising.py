"""What is done to a gradient on its way into the parameters: averages, sums, limits, new rows."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_setups import SGD, Failing, Spy, assert_same, bits, rbm, train

import energax as ex

ML = ex.MaximumLikelihood()
EYE = np.eye(8)


def ones(**options):
    """Gradient ones, from zero: parameters after n steps of SGD(0.1) are -n / 10."""
    options = {"optimizer": SGD, "steps": 30, "batch_size": 2, "log_every": 5, **options}
    return ex.fit(ex.Bernoulli(jnp.zeros(8)), EYE, Failing(999, "", 0.0), key=ex.key(0), **options)


def expected_average(ema, steps):
    """The recurrence by hand: what is kept grows to `ema`."""
    average, parameter = 0.0, 0.0
    for done in range(steps):
        keep = min(ema, (1 + done) / (10 + done))
        parameter -= 0.1
        average = keep * average + (1 - keep) * parameter
    return average


@pytest.mark.parametrize("ema", [0.5, 0.999])
def test_the_average_follows_the_parameters(ema):
    run = ones(ema=ema)
    np.testing.assert_allclose(run.ema.logits, expected_average(ema, 30), rtol=1e-5)
    np.testing.assert_allclose(run.energy.logits, -3.0, rtol=1e-5)
    assert ones().ema is None


def test_the_average_is_of_what_trains_and_changes_nothing_else(tmp_path):
    start = ex.freeze(rbm(1)) * rbm()
    objective = ex.ContrastiveDivergence(kernel=ex.RandomWalkMetropolis())
    run = train(start, objective=objective, steps=12, ema=0.9)
    assert bits(run.ema.factors[0]) == bits(start.factors[0])
    assert bits(run.ema.factors[1]) != bits(run.energy.factors[1])
    assert jax.tree.structure(run.ema) == jax.tree.structure(run.energy)
    assert bits(run.energy) == bits(train(start, objective=objective, steps=12).energy)
    path = tmp_path / "state.ckpt"
    train(start, objective=objective, steps=8, ema=0.9, checkpoint=path)
    rest = train(start, objective=objective, steps=12, ema=0.9, checkpoint=path)
    assert_same(rest, run)
    assert bits(rest.ema) == bits(run.ema)
    with pytest.raises(ValueError, match=r"run.ema is '0.9', expected '0.99'"):
        train(start, objective=objective, steps=12, ema=0.99, checkpoint=path)


def test_batches_that_are_accumulated_are_one_large_batch(x64):
    parts = train(objective=ML, batch_size=7, accumulate=2, steps=10)
    whole = train(objective=ML, batch_size=14, steps=10)
    np.testing.assert_allclose(parts.energy.weights, whole.energy.weights, rtol=1e-10, atol=1e-14)
    assert parts.history[-1]["loss"] == pytest.approx(whole.history[-1]["loss"], rel=1e-12)
    assert parts.history[-1]["epoch"] == whole.history[-1]["epoch"] == 5


def test_the_objectives_state_goes_from_batch_to_batch():
    run = ex.fit(
        ex.Bernoulli(jnp.zeros(12)),
        np.eye(12),
        Spy(),
        key=ex.key(1),
        optimizer=SGD,
        batch_size=2,
        accumulate=3,
        epochs=2,
    )
    table, seen = run.state.objective
    assert run.step == 4
    assert int(seen) == 12
    np.testing.assert_array_equal(np.asarray(table)[:12].reshape(2, 6, 12).sum(1), 1)


def test_a_long_gradient_is_shortened_to_the_norm_asked_for():
    assert ones().history[0]["gradient_norm"] == pytest.approx(math.sqrt(8))
    run = ones(clip=1.0)
    assert run.history[0]["gradient_norm"] == pytest.approx(math.sqrt(8))  # before it is shortened
    np.testing.assert_allclose(run.energy.logits, -3.0 / math.sqrt(8), rtol=1e-5)
    assert_same(ones(clip=3.0), ones())  # none is that long


def test_rows_are_augmented_anew_in_every_step():
    def shifted(x, key):
        return jnp.roll(x, jax.random.randint(key, (), 0, 8))

    options = {"key": ex.key(1), "optimizer": SGD, "batch_size": 8, "steps": 6}
    seen = [
        np.asarray(
            ex.fit(ex.Bernoulli(jnp.zeros(8)), EYE, Spy(), **options, **more).state.objective[0]
        )[:6]
        for more in ({}, {"augment": shifted}, {"augment": shifted})
    ]
    np.testing.assert_array_equal(seen[0], 1)  # every row once: a one in every place
    assert (seen[1] != 1).any()
    np.testing.assert_array_equal(seen[1].sum(1), 8)
    assert len({step.tobytes() for step in seen[1]}) == 6
    np.testing.assert_array_equal(seen[1], seen[2])


def test_augmented_rows_are_what_is_learnt(x64):
    # Bits flipped with probability 0.1: the fitted rate is that of the flipped data.
    rows = np.tile([[1, 0, 0]], (100, 1))

    def flipped(x, key):
        return jnp.where(jax.random.bernoulli(key, 0.1, x.shape), 1 - x, x)

    run = ex.fit(
        ex.Bernoulli(jnp.zeros(3)), rows, ML, key=ex.key(0), learning_rate=0.02, steps=3000,
        augment=flipped, ema=0.995,
    )  # fmt: skip
    # The average over some 200 steps of 100 rows: a standard error of 0.1, in a logit.
    expected = np.log(9) * np.array([1, -1, -1])
    np.testing.assert_allclose(run.ema.logits, expected, atol=0.25)


BAD = {
    "no accumulation": ({"accumulate": 0}, "accumulate must be an integer of at least 1, got 0"),
    "too many rows": ({"accumulate": 5}, "accumulate=5 batches of 7 are more than the 28 rows"),
    "clip of 0": ({"clip": 0.0}, "clip must be a positive norm, got 0.0"),
    "NaN clip": ({"clip": math.nan}, "clip must be a positive norm"),
    "endless clip": ({"clip": math.inf}, "clip must be a positive norm"),
    "ema of 1": ({"ema": 1.0}, "ema must lie between 0 and 1, such as 0.999, got 1.0"),
    "ema of 0": ({"ema": 0}, "ema must lie between 0 and 1"),
    "no function": ({"augment": 3}, "augment must be a function of a row and a key, got 3"),
    "another shape": ({"augment": lambda x, key: x[:3]}, "must return a row like x"),
    "another dtype": ({"augment": lambda x, key: x > 0}, "must return a row like x"),
    "no key": ({"augment": lambda x: x}, r"augment\(x, key\) failed on one row"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_are_refused(name, as_users_call):
    options, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        train(steps=4, **options)


# --- going on with a model that was saved ------------------------------------------------------


def test_a_saved_model_is_trained_further(tmp_path):
    first = train(steps=40)
    ex.save(first.energy, tmp_path / "rbm.energax")
    loaded = ex.load(tmp_path / "rbm.energax")
    assert_same(train(loaded, steps=20), train(first.energy, steps=20))


def test_part_of_a_saved_model_stays_while_the_rest_is_fitted(tmp_path):
    ex.save(train(steps=40).energy, tmp_path / "rbm.energax")
    loaded = ex.load(tmp_path / "rbm.energax")
    start = ex.freeze(loaded) * ex.Bernoulli(jnp.zeros(9))
    run = train(start, objective=PCD_FREE, steps=20)
    assert bits(run.energy.factors[0]) == bits(ex.freeze(loaded))
    assert np.abs(run.energy.factors[1].logits).max() > 0


PCD_FREE = ex.PersistentContrastiveDivergence(n_steps=2, n_chains=10)


# --- mixed precision ---------------------------------------------------------------------------


def test_chains_follow_a_network_that_computes_in_mixed_precision():
    rows = np.random.default_rng(0).normal([1.5, -0.5], 0.4, (400, 2))
    network = eqx.nn.MLP(2, "scalar", 32, 2, jax.nn.silu, key=ex.key(0))
    bowl = ex.freeze(ex.Gaussian(jnp.zeros(2)))
    start = ex.NeuralEnergy(ex.MixedPrecision(network), ex.Real(2)) * bowl
    kernel = ex.UnadjustedLangevin(0.02)
    objective = ex.PersistentContrastiveDivergence(5, 50, kernel=kernel)
    run = ex.fit(start, rows, objective, key=ex.key(1), learning_rate=3e-3, steps=800)
    assert run.ok
    assert run.alarms == []
    leaves = jax.tree.leaves(eqx.filter(run.energy, eqx.is_inexact_array))
    assert {leaf.dtype for leaf in leaves} == {np.dtype("float32")}
    chains = np.asarray(run.state.objective.chains.x)
    # 50 chains about the data's mean: a standard error of some 0.1 of each, and slack of 4.
    np.testing.assert_allclose(chains.mean(0), [1.5, -0.5], atol=0.4)
    assert np.abs(chains.mean(0)).max() > 0.6  # and not about 0, where they began
