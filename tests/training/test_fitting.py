"""`fit` finds exact answers, sees every row as often as it says, and moves only what trains."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training_setups import (
    ADAM,
    BARS,
    SGD,
    STEEP,
    Spy,
    assert_same,
    bits,
    log_likelihood,
    rbm,
    train,
    without_seconds,
)

import energax as ex
import oracles
import registry
from energax.exact import expectation

ML = ex.MaximumLikelihood()


def exactly(energy, rows, *, steps=120, optimizer=STEEP, objective=ML):
    """Full-batch training, long enough to stand still."""
    run = ex.fit(
        energy, rows, objective, key=ex.key(0), optimizer=optimizer, steps=steps, batch_size=1000
    )
    assert run.ok, run.message
    return run.energy


# --- exact answers -----------------------------------------------------------------------------


def test_bernoulli_maximum_likelihood_is_the_log_odds_of_the_data(x64):
    rows = np.random.default_rng(0).random((50, 4)) < [0.2, 0.5, 0.7, 0.9]
    share = rows.mean(0)
    fitted = exactly(ex.Bernoulli(jnp.zeros(4)), rows)
    np.testing.assert_allclose(fitted.logits, np.log(share / (1 - share)), rtol=1e-9, atol=1e-9)


def test_softmax_maximum_likelihood_is_the_frequencies(x64):
    rows = np.random.default_rng(1).choice(3, 60, p=[0.2, 0.3, 0.5])
    fitted = exactly(ex.Softmax(jnp.zeros(3)), rows)
    np.testing.assert_allclose(
        jax.nn.softmax(fitted.logits), np.bincount(rows, minlength=3) / 60, atol=1e-9
    )


def test_gaussian_maximum_likelihood_is_mean_and_standard_deviation(x64):
    rows = np.random.default_rng(2).normal([1.0, -0.5], [0.5, 1.5], (80, 2))
    fitted = exactly(ex.Gaussian(jnp.zeros(2)), rows, steps=200, optimizer=optax.sgd(0.3))
    np.testing.assert_allclose(fitted.mean, rows.mean(0), atol=1e-7)
    np.testing.assert_allclose(fitted.scale, rows.std(0), atol=1e-7)


def test_poisson_maximum_likelihood_is_the_mean(x64):
    rows = np.random.default_rng(3).poisson([0.7, 3.0], (40, 2))
    fitted = exactly(ex.Poisson(jnp.ones(2)), rows, optimizer=optax.sgd(0.3))
    np.testing.assert_allclose(fitted.rate, rows.mean(0), atol=1e-9)


FAMILIES = {
    "spins": (ex.Spin(3), lambda x: jnp.stack([x[0], x[1] * x[2]])),
    "joint": (
        ex.Joint(a=ex.Spin(2), b=ex.Categorical((), 3)),
        lambda x: jnp.stack([x["a"][0] * x["a"][1], jnp.where(x["b"] == 2, x["a"][0], 0.0)]),
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_maximum_likelihood_matches_moments(name, x64):
    space, statistic = FAMILIES[name]
    family = ex.ExponentialFamily(statistic, np.zeros(2), space)
    rows = jax.vmap(space.draw)(jax.random.split(ex.key(4), 40))
    moments = jnp.mean(jax.vmap(statistic)(rows), 0)
    fitted = exactly(family, rows, steps=200, optimizer=optax.sgd(1.0))
    np.testing.assert_allclose(expectation(fitted, statistic), moments, atol=1e-8)
    # The same model is the one of greatest entropy with these moments.
    entropic = ex.fit(family, moments, ex.MaximumEntropy(), key=ex.key(0), steps=30).energy
    np.testing.assert_allclose(entropic.natural_parameter, fitted.natural_parameter, atol=1e-6)


def test_an_rbm_learns_a_distribution_it_can_hold_exactly(x64):
    # Two hidden units suffice for any p over 2 visible ones (Le Roux and Bengio, 2008).
    rows = np.array([[0, 0]] * 4 + [[0, 1]] * 1 + [[1, 0]] * 2 + [[1, 1]] * 3)
    start = rbm(3, n_visible=2, n_hidden=2)
    fitted = exactly(start, rows, steps=1500, optimizer=ADAM)
    np.testing.assert_allclose(oracles.probabilities(fitted), [0.4, 0.1, 0.2, 0.3], atol=1e-6)
    assert np.abs(oracles.probabilities(start) - [0.4, 0.1, 0.2, 0.3]).max() > 0.1


def test_one_step_is_the_gradient_times_the_learning_rate(x64):
    start = jnp.array([0.3, -1.0])
    rows = np.array([[1, 0], [1, 1], [0, 0], [1, 0]])
    run = ex.fit(ex.Bernoulli(start), rows, ML, key=ex.key(0), optimizer=SGD, steps=1)
    by_hand = start - 0.1 * (1 / (1 + np.exp(-start)) - rows.mean(0))
    np.testing.assert_allclose(run.energy.logits, by_hand, rtol=1e-12)
    by_hand = float(np.log1p(np.exp(start)).sum() - rows.mean(0) @ np.asarray(start))
    assert run.history[0]["loss"] == pytest.approx(by_hand, rel=1e-12)


def test_moments_that_no_model_has_are_complained_of():
    family = ex.ExponentialFamily(lambda x: jnp.sum(x), np.zeros(1), ex.Binary(3))
    run = ex.fit(family, [3.5], ex.MaximumEntropy(), key=ex.key(0), steps=5)
    assert run.status == "finished"
    assert "still off" in run.message
    assert "5 steps" in run.message
    run = ex.fit(family, [1.2], ex.MaximumEntropy(), key=ex.key(0), steps=9)
    assert run.message == "9 steps"


# --- every objective learns --------------------------------------------------------------------


@pytest.mark.parametrize("name", registry.OBJECTIVES)
def test_every_objective_raises_the_likelihood_of_bars_and_stripes(name):
    start = rbm(5, n_hidden=6)
    run = train(start, objective=registry.OBJECTIVES[name](), optimizer=SGD, steps=2000)
    before, after = log_likelihood(start, BARS), log_likelihood(run.energy, BARS)
    assert run.ok
    assert before == pytest.approx(-9 * np.log(2), abs=0.1)
    assert after < -np.log(14)  # nothing does better than the data's own distribution
    assert after > before + 1.5


@pytest.mark.parametrize("name", registry.CONTINUOUS_OBJECTIVES)
def test_every_objective_raises_the_likelihood_of_two_modes(name):
    start = ex.GaussianMixture(np.array([[-0.5, 0.3], [0.5, 0.3]]), 1.5)
    target = ex.GaussianMixture(np.array([[-1.5, 0.0], [1.5, 0.0]]), 0.7, [0.4, 0.6])
    rows = oracles.draws(target, 1000)

    def likelihood(model):  # its log Z is 0
        return -float(jax.vmap(model.energy)(rows).mean())

    objective = registry.CONTINUOUS_OBJECTIVES[name]()
    run = train(start, rows, objective, optimizer=ADAM, steps=400, batch_size=100)
    assert run.ok
    before, after, best = likelihood(start), likelihood(run.energy), likelihood(target)
    chains = any(word in name for word in ("cd", "monte carlo", "replay", "combined"))
    share = 0.5 if chains else 0.9  # chains of few steps lag behind
    assert after > before + share * (best - before)


@pytest.mark.parametrize("name", registry.JOINT_OBJECTIVES)
def test_every_objective_of_a_joint_learns_what_to_predict(name):
    hidden = np.random.default_rng(0).integers(0, 2, (60, 3))
    rows = {"hidden": hidden, "visible": np.repeat(hidden, 2, axis=1)}
    start = rbm(7, n_visible=6, n_hidden=3).joint
    run = train(start, rows, registry.JOINT_OBJECTIVES[name](), optimizer=ADAM, steps=200)
    assert run.ok
    accuracy = [row.get("conditional_accuracy", row.get("accuracy")) for row in run.history]
    assert accuracy[0] < 0.9
    assert accuracy[-1] > 0.99


# --- determinism -------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_bits_and_another_key_others():
    first, again = train(steps=30), train(steps=30)
    assert_same(first, again)
    assert bits(train(steps=30, key=ex.key(2)).energy) != bits(first.energy)
    assert bits(first.energy) != bits(rbm())


@pytest.mark.parametrize("log_every", [1, 3, 1000])
def test_how_often_is_logged_changes_no_bit(log_every):
    assert bits(train(steps=30, log_every=log_every).state) == bits(train(steps=30).state)


@pytest.mark.parametrize(("epochs", "steps"), [(3, 12), (0.5, 2), (2.25, 9), (0.01, 1)])
def test_epochs_are_rows_over_batch_size_steps(epochs, steps):
    by_epochs, by_steps = train(epochs=epochs), train(steps=steps)
    assert by_epochs.step == steps
    assert_same(by_epochs, by_steps)
    assert by_epochs.history[-1]["epoch"] == steps / 4  # 28 rows, 7 a batch


def test_double_precision_trains_too(x64):
    run = train(steps=9)
    assert run.energy.weights.dtype == jnp.float64
    assert_same(run, train(steps=9))


def test_a_float32_model_stays_one():
    run = train(steps=9)
    assert {leaf.dtype for leaf in jax.tree.leaves(run.energy)} == {np.dtype("float32")}


# --- batches -----------------------------------------------------------------------------------


def seen_by_spy(n_rows, batch_size, epochs, **options):
    """How often each row was in each step's batch, shape (epochs, steps, rows)."""
    energy = ex.Bernoulli(jnp.zeros(n_rows))
    options = {"key": ex.key(1), "optimizer": SGD, **options}
    run = ex.fit(energy, np.eye(n_rows), Spy(), batch_size=batch_size, epochs=epochs, **options)
    table, step = run.state.objective
    assert int(step) == run.step
    return np.asarray(table)[: run.step].reshape(epochs, -1, n_rows)


def test_in_an_epoch_no_row_comes_twice_and_those_that_fill_no_batch_rest():
    seen = seen_by_spy(10, 3, epochs=8)
    assert seen.shape == (8, 3, 10)
    np.testing.assert_array_equal(seen.sum(2), 3)  # three rows a batch
    uses = seen.sum(1)
    assert uses.max() == 1
    np.testing.assert_array_equal(uses.sum(1), 9)
    resting = uses.argmin(1)
    assert len(set(resting.tolist())) > 1  # not the same row in every epoch
    assert len({epoch.tobytes() for epoch in seen}) == 8  # an order of its own each


def test_the_order_of_rows_comes_from_the_key_alone():
    first = seen_by_spy(10, 3, epochs=8)
    np.testing.assert_array_equal(first, seen_by_spy(10, 3, epochs=8, log_every=2))
    assert (first != seen_by_spy(10, 3, epochs=8, key=ex.key(2))).any()


@pytest.mark.parametrize("batch_size", [10, 11, 1000])
def test_a_batch_larger_than_the_data_is_all_of_them(batch_size):
    np.testing.assert_array_equal(seen_by_spy(10, batch_size, epochs=4), 1)


@pytest.mark.parametrize("n_rows", [1, 2])
def test_one_row_is_enough(n_rows):
    np.testing.assert_array_equal(seen_by_spy(n_rows, 1, epochs=3).sum((1, 2)), n_rows)


@pytest.mark.parametrize(
    "kind",
    [
        lambda rows: rows.astype(bool),
        lambda rows: rows.astype(np.int64),
        lambda rows: rows.astype(np.float32),
        lambda rows: 2.0 * rows - 1.0,
        lambda rows: rows.reshape(-1, 3, 3),
        lambda rows: rows.tolist(),
        lambda rows: jnp.asarray(rows),
    ],
    ids=["bool", "int64", "float32", "spins", "images", "lists", "jax"],
)
def test_binary_data_of_any_kind_are_the_same_data(kind):
    assert_same(train(data=kind(BARS), steps=6), train(steps=6))


# --- optimisers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "optimizer"),
    [
        ({}, optax.adam(1e-3)),
        ({"learning_rate": 0.05}, optax.adam(0.05)),
        ({"momentum": 0.9}, optax.sgd(0.01, 0.9)),
        ({"learning_rate": 0.2, "momentum": 0.5}, optax.sgd(0.2, 0.5)),
        (
            {"learning_rate": optax.linear_schedule(0.5, 0.0, 10), "momentum": 0.0},
            optax.sgd(lambda count: 0.5 * (1 - count / 10)),
        ),
    ],
    ids=["neither", "rate", "momentum", "both", "schedule"],
)
def test_settings_make_the_optimiser_they_say(options, optimizer):
    rows, energy = BARS[:, :3], ex.Bernoulli(jnp.zeros(3))
    fixed = {"key": ex.key(0), "steps": 6, "batch_size": 7}
    made = ex.fit(energy, rows, ML, **fixed, **options).energy.logits
    given = ex.fit(energy, rows, ML, **fixed, optimizer=optimizer).energy.logits
    np.testing.assert_allclose(made, given, rtol=1e-6)
    assert np.abs(given).max() > 0


def test_weight_decay_shrinks_matrices_and_no_biases():
    start = ex.RBM(np.full((3, 2), 2.0), np.full(3, -1.0), np.full(2, 0.5))
    run = ex.fit(
        start,
        np.eye(3),
        Spy(),
        key=ex.key(0),
        momentum=0.0,
        learning_rate=0.1,
        weight_decay=0.5,
        steps=4,
    )
    np.testing.assert_allclose(run.energy.weights, 2.0 * (1 - 0.1 * 0.5) ** 4, rtol=1e-6)
    np.testing.assert_array_equal(run.energy.visible_bias, start.visible_bias)
    np.testing.assert_array_equal(run.energy.hidden_bias, start.hidden_bias)


# --- what does not train -----------------------------------------------------------------------


def box(weight):
    """A linear energy in a box whose ends are arrays."""
    return ex.NeuralEnergy(
        eqx.nn.Linear(2, "scalar", key=ex.key(weight)), ex.Box(2, [-1.0, 0.0], [1.0, np.inf])
    )


STILL = {
    "frozen factor": (
        lambda: ex.product([ex.freeze(registry._rbm()), ex.Bernoulli(jnp.zeros(4))]),
        lambda m: m.factors[0],
        lambda m: m.factors[1],
        ML,
    ),
    "beta": (lambda: registry._rbm() ** 0.5, lambda m: m.beta, lambda m: m.inner, ML),
    "observed values": (
        lambda: registry.DISCRETE["conditioned rbm"](),
        lambda m: (m.values, m.mask),
        lambda m: m.rbm,
        ex.ContrastiveDivergence(),
    ),
    "ends of a box": (
        lambda: box(0),
        lambda m: (m.space.low, m.space.high),
        lambda m: m.function,
        ex.ContrastiveDivergence(kernel=ex.RandomWalkMetropolis(0.3)),
    ),
}


@pytest.mark.parametrize("name", STILL)
def test_what_is_fixed_stays_and_the_rest_moves(name):
    make, fixed, free, objective = STILL[name]
    energy = make()
    rows = jax.vmap(energy.space.draw)(jax.random.split(ex.key(7), 20))
    run = ex.fit(energy, rows, objective, key=ex.key(0), optimizer=ADAM, steps=10, batch_size=10)
    assert run.ok, run.message
    assert bits(fixed(run.energy)) == bits(fixed(energy))
    assert bits(free(run.energy)) != bits(free(energy))
    assert jax.tree.structure(run.energy) == jax.tree.structure(energy)


def test_arrays_of_numpy_in_an_energy_train_as_those_of_jax_do():
    class Well(ex.AbstractEnergy):
        centre: np.ndarray | jax.Array
        space: ex.Real = ex.Real(2)

        def energy(self, x):
            return jnp.sum((x - self.centre) ** 2)

    rows = np.random.default_rng(0).normal(1.0, 0.3, (20, 2))
    runs = [
        ex.fit(Well(c), rows, ex.ContrastiveDivergence(), key=ex.key(0), optimizer=ADAM, steps=5)
        for c in (np.zeros(2, np.float32), jnp.zeros(2))
    ]
    assert_same(*runs)
    assert np.abs(runs[0].energy.centre).min() > 0


# --- history -----------------------------------------------------------------------------------


def test_rows_of_history_stand_at_log_steps_and_hold_means():
    energy, rows = ex.Bernoulli(jnp.zeros(8)), np.eye(8)
    run = ex.fit(
        energy, rows, Spy(), key=ex.key(0), optimizer=SGD, steps=13, batch_size=2, log_every=5
    )
    # Steps are counted from 0 by the spy, and its measure is their number.
    ends = [5, 10, 13]  # whatever the epochs, of 4 steps each
    starts = [0, *ends[:-1]]
    assert [row["step"] for row in run.history] == ends
    assert [row["epoch"] for row in run.history] == [end / 4 for end in ends]
    assert [row["steps_before"] for row in run.history] == [
        np.mean(np.arange(a, b)) for a, b in zip(starts, ends, strict=True)
    ]
    assert all(row["gradient_norm"] == 0 for row in run.history)
    seconds = [row["seconds"] for row in run.history]
    assert seconds == sorted(seconds)
    named = {"step", "epoch", "seconds", "steps_before", "gradient_norm", "gradient_signal"}
    assert set(run.history[0]) == named
    assert run.message == "13 steps"
    assert run.ok


@pytest.mark.parametrize("n", [5, 40])
def test_validation_gap_is_held_out_energy_less_that_of_as_many_training_rows(n):
    held_out = 1 - np.tile(BARS, (2, 1))[:n]
    held_out[:, 0] = 1
    run = train(steps=4, validation=held_out)

    def mean_energy(rows):
        return float(np.mean(jax.vmap(run.energy.energy)(run.energy.space.convert(rows))))

    # As many on either side, evenly spread over each, since rows may come sorted.
    most = min(n, len(BARS))
    parts = [part[np.linspace(0, len(part) - 1, most).astype(int)] for part in (held_out, BARS)]
    expected = mean_energy(parts[0]) - mean_energy(parts[1])
    assert run.history[-1]["validation_gap"] == pytest.approx(expected, abs=1e-5)
    assert abs(expected) > 1e-3
    assert bits(run.state) == bits(train(steps=4).state)  # looked at, not learned from


def test_what_is_logged_does_not_depend_on_validation():
    with_rows = without_seconds(train(steps=9, validation=BARS[:3]).history)
    for row in with_rows:
        row.pop("validation_gap")
        row.pop("validation_pseudo_likelihood")
    assert with_rows == without_seconds(train(steps=9).history)


@pytest.mark.parametrize("progress", [True, False])
def test_the_bar_shows_itself_only_when_asked(progress, capsys):
    train(steps=8, progress=progress)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("8/8" in shown.err and "steps/s" in shown.err) == progress
    assert (shown.err == "") == (not progress)


def test_the_registry_has_every_objective_that_learns_from_rows():
    learning = {
        cls
        for cls in vars(ex).values()
        if isinstance(cls, type)
        and issubclass(cls, ex.AbstractObjective)
        and cls.learns_from_rows
        and cls is not ex.AbstractObjective
    }
    every = (registry.OBJECTIVES, registry.CONTINUOUS_OBJECTIVES, registry.JOINT_OBJECTIVES)
    assert {type(make()) for each in every for make in each.values()} == learning
