"""The replay buffer: which slots a step takes, how old they are, and what is contrasted."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_gradients import each, energy_gradients, likelihood_gradient
from scipy.stats import chisquare

import energax as ex
import oracles
import registry
from energax.exact import draw_enumerated
from energax.kernels import MetropolisHastings
from energax.objectives._replay_buffer import _drawn

ROWS = np.random.default_rng(0).integers(0, 2, (7, 4))
FLIP = MetropolisHastings(lambda key, x: 1 - x, lambda x, y: jnp.asarray(1e9))
"""Turns every bit at every step."""


def _scanned(objective, energy, rows, state, n_steps, n_runs):
    """Measures and last states of `n_runs` runs of `n_steps` steps, the energy held."""

    @jax.jit
    @jax.vmap
    def run(key):
        def one(state, key):
            step = objective.gradient(energy, rows, state, key=key)
            return step.state, step.measures

        return jax.lax.scan(one, state, jax.random.split(key, n_steps))

    return run(jax.random.split(ex.key(5), n_runs))


def test_its_gradient_and_that_of_its_penalty_are_unbiased_where_its_states_are_exact(x64):
    """The buffer holds exact draws, of which some are taken and Gibbs leaves them exact: the
    gradient is that of the likelihood and alpha (mean E(data)^2 + E E(x)^2), x held. 4,000
    gradients; false alarm 1e-5 over all 19 parameters."""
    rbm = registry._rbm()
    rows = rbm.space.convert(ROWS)
    objective = ex.ReplayBuffer(size=30, n_chains=10, n_steps=2, fresh=0, energy_penalty=0.3)
    state = objective.init(rbm, rows, key=ex.key(0))

    @jax.jit
    @jax.vmap
    def gradient(key):
        key_draw, key_step = jax.random.split(key)
        exact = eqx.tree_at(lambda s: s.x, state, draw_enumerated(rbm, 30, key=key_draw))
        return objective.gradient(rbm, rows, exact, key=key_step).gradient

    found = each(gradient(jax.random.split(ex.key(1), 4000)), 4000)
    at, e, p = energy_gradients(rbm), oracles.energies(rbm), oracles.probabilities(rbm)
    seen = oracles.index_of(rbm.space, rows)
    penalty = 2 * (e[:, None] * at)[seen].mean(0) + 2 * p @ (e[:, None] * at)
    oracles.assert_mean(found, likelihood_gradient(rbm, rows) + 0.3 * penalty)


def test_a_step_walks_as_many_slots_and_puts_them_back():
    rbm = registry._rbm()
    rows = rbm.space.convert(ROWS)
    objective = ex.ReplayBuffer(size=25, n_chains=9, n_steps=3, fresh=0.0, kernel=FLIP)
    state = objective.init(rbm, rows, key=ex.key(0))
    assert state.x.shape == (25, 4)
    assert not np.any(state.age)
    step = jax.jit(lambda state, key: objective.gradient(rbm, rows, state, key=key))
    first = step(state, ex.key(1))
    moved = np.asarray(first.state.x != state.x)
    assert (moved.all(1) == moved.any(1)).all()
    assert moved.all(1).sum() == 9  # no slot twice
    np.testing.assert_array_equal(first.state.age, 3 * moved.all(1))
    assert float(first.measures["age_model"]) == 3
    assert float(first.measures["age_buffer"]) == pytest.approx(27 / 25)
    later = first
    for i in range(2, 8):
        later = step(later.state, ex.key(i))
    turned = np.asarray(later.state.x != state.x).all(1)
    np.testing.assert_array_equal(turned, np.asarray(later.state.age) // 3 % 2 == 1)
    assert int(later.state.age.sum()) == 7 * 9 * 3
    assert not float(later.measures["dead_chains"])


def test_as_many_begin_anew_as_asked_on_average_and_chains_grow_as_long():
    """2.5 of 10 slots a step: 2 or 3. The states contrasted are then n_steps / fresh old on
    average, whatever the size. 400 runs to stationarity; false alarm 1e-5 each."""
    rbm = registry._rbm()
    rows = rbm.space.convert(ROWS)
    objective = ex.ReplayBuffer(size=20, n_chains=10, n_steps=2, fresh=0.25, kernel=FLIP)
    state = objective.init(rbm, rows, key=ex.key(0))
    old = eqx.tree_at(lambda s: s.age, state, jnp.full(20, 1000, jnp.int32))
    _, measures = _scanned(objective, rbm, rows, old, 100, 400)
    ages = np.asarray(measures["age_model"], np.float64)
    n_fresh = np.round((1002 - ages[:, 0]) / 100).astype(int)  # (10 - n) 1002 + n 2, over 10
    assert set(n_fresh) == {2, 3}
    oracles.assert_mean(n_fresh, 2.5)
    oracles.assert_mean(ages[:, -1], 2 / 0.25)


@pytest.mark.parametrize("fresh", [0, 1])
def test_none_or_all_begin_anew(fresh):
    rbm = registry._rbm()
    rows = rbm.space.convert(ROWS)
    base = ex.Bernoulli(np.full(4, 20.0))  # ones
    objective = ex.ReplayBuffer(
        size=12, n_chains=12, n_steps=1, fresh=fresh, base=base, kernel=FLIP
    )
    state = objective.init(rbm, rows, key=ex.key(0))
    np.testing.assert_array_equal(state.x, 1)
    zeros = eqx.tree_at(lambda s: s.x, state, jnp.zeros_like(state.x))
    after = jax.jit(lambda s: objective.gradient(rbm, rows, s, key=ex.key(1)))(zeros).state
    np.testing.assert_array_equal(after.x, 0 if fresh else 1)
    np.testing.assert_array_equal(after.age, 1)


def test_noise_on_the_data_has_its_size_and_stays_in_a_box():
    # E = x^2 / 2 + constant: noise of 0.5 adds 0.125 to its mean over the rows. 2,000 batches.
    model = ex.Gaussian(jnp.zeros(3))
    rows = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3)), jnp.float32)
    quick = {"size": 2, "n_chains": 1, "n_steps": 1}
    objective = ex.ReplayBuffer(**quick, data_noise=0.5)
    state = objective.init(model, rows, key=ex.key(0))
    _, measures = _scanned(objective, model, rows, state, 1, 2000)
    still = float(jnp.mean(jax.vmap(model.energy)(rows)))
    oracles.assert_mean(np.asarray(measures["energy_data"])[:, 0], still + 3 * 0.125)

    box = ex.Uniform(ex.Box(2, -1.0, 3.0)) * ex.NeuralEnergy(lambda x: x[0], ex.Box(2, -1.0, 3.0))
    run = ex.fit(
        ex.NeuralEnergy(eqx.nn.Linear(2, "scalar", key=ex.key(0)), ex.Box(2, -1.0, 3.0)) * box,
        np.array([[-1.0, 3.0], [3.0, -1.0]]),
        ex.ReplayBuffer(**quick, data_noise=2.0),
        key=ex.key(0),
        steps=50,
    )
    assert run.ok  # E is infinite outside


def test_the_kernel_is_langevins_on_real_entries():
    network = ex.NeuralEnergy(lambda x: -jnp.sum(x**2), ex.Real(2))
    assert isinstance(ex.ReplayBuffer()._kernel(network), ex.UnadjustedLangevin)
    assert isinstance(ex.ReplayBuffer()._kernel(registry._rbm()), ex.BlockGibbs)
    walk = ex.RandomWalkMetropolis()
    assert ex.ReplayBuffer(kernel=walk)._kernel(network) is walk


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 0}, ("size must be", "at least 1")),
        ({"size": 5, "n_chains": 6}, ("n_chains must be", "size of 5", "6")),
        ({"fresh": 1.5}, ("fresh", "between 0 and 1", "1.5")),
        ({"fresh": True}, ("fresh must be a number", "True")),
        ({"data_noise": -1.0}, ("data_noise", "at least 0", "-1")),
        ({"energy_penalty": float("nan")}, ("energy_penalty", "nan")),
        ({"data_noise": float("inf")}, ("data_noise", "inf")),
    ],
)
def test_bad_settings_are_named(options, words):
    with oracles.refused(*words):
        ex.ReplayBuffer(**options)


def test_what_does_not_fit_the_energy_is_refused_before_training():
    rbm = registry._rbm()
    with oracles.refused("data_noise needs real entries", "Binary"):
        ex.ReplayBuffer(data_noise=0.1).prepare(rbm, ROWS)
    with oracles.refused("base must be over"):
        ex.ReplayBuffer(base=ex.Bernoulli(np.zeros(5))).prepare(rbm, ROWS)
    with oracles.refused("continuous space"):
        ex.ReplayBuffer(kernel=ex.UnadjustedLangevin()).init(rbm, ROWS, key=ex.key(0))


@pytest.mark.parametrize(("size", "n"), [(10, 10), (10, 3), (64, 16), (7, 1)])
def test_slots_are_distinct_and_as_likely_as_each_other(size, n):
    slots = jax.jit(jax.vmap(lambda key: _drawn(size, n, key)))(jax.random.split(ex.key(0), 20_000))
    assert (np.diff(np.sort(np.asarray(slots), 1)) > 0).all()
    for column in (0, n - 1):  # the first as well: it is what begins anew
        counts = np.bincount(np.asarray(slots)[:, column], minlength=size)
        assert len(counts) == size
        assert chisquare(counts).pvalue > 1e-4


def _total(x, velocity):
    return np.asarray(jnp.sum(x**2 + velocity**2, -1)) / 2


@pytest.mark.parametrize("parts", [False, True])
def test_chains_go_on_with_the_velocity_they_had(parts, x64):
    """Almost without friction E(x) + v^2 / 2 stays what it was, over 40 visits; slots that nobody
    has walked start with velocities that are drawn."""
    model = ex.Gaussian(jnp.zeros(4))
    kernel = ex.UnderdampedLangevin(0.05, friction=1e-12)
    if parts:
        joint = ex.Joint({"a": ex.Real(4), "b": ex.Binary(3)})
        model = ex.NeuralEnergy(lambda x: -jnp.sum(x["a"] ** 2) / 2 + x["b"].sum(), joint)
        kernel = ex.Alternating({"a": kernel, "b": ex.Gibbs()})
    objective = ex.ReplayBuffer(size=500, n_chains=250, n_steps=3, fresh=0.0, kernel=kernel)
    rows = jax.vmap(model.space.draw)(jax.random.split(ex.key(4), 5))
    state = objective.init(model, rows, key=ex.key(0))
    step = jax.jit(lambda state, key: objective.gradient(model, rows, state, key=key).state)
    for i in range(6):
        state = step(state, ex.key(i))
    walked = np.asarray(state.age > 0)
    assert walked.mean() > 0.9

    def totals(state):
        x, velocity = (s["a"] if parts else s for s in (state.x, state.motion))
        return _total(x, velocity), np.asarray(velocity)

    before, velocity = totals(state)
    # Exact at the start: 4 entries of x^2 and of v^2, each of mean 1, halved.
    oracles.assert_mean(before[walked], 4.0)
    oracles.assert_mean(velocity[walked].ravel() ** 2, 1.0)
    for i in range(6, 46):
        state = step(state, ex.key(i))
    after, _ = totals(state)
    np.testing.assert_allclose(after[walked], before[walked], rtol=5e-3)


def test_chains_that_begin_anew_have_velocities_of_their_own():
    model = ex.Gaussian(jnp.zeros(2))
    kernel = ex.UnderdampedLangevin(0.001, friction=1e-6)
    objective = ex.ReplayBuffer(size=1000, n_chains=1000, n_steps=1, fresh=1.0, kernel=kernel)
    state = objective.init(model, jnp.zeros((5, 2)), key=ex.key(0))
    fast = eqx.tree_at(
        lambda s: (s.motion, s.age), state, (jnp.full((1000, 2), 1e3), state.age + 7)
    )
    after = jax.jit(lambda s: objective.gradient(model, jnp.zeros((5, 2)), s, key=ex.key(1)))(fast)
    oracles.assert_mean(np.asarray(after.state.motion).ravel() ** 2, 1.0)


def test_kernels_whose_chains_are_all_in_x_keep_nothing_else():
    rbm = registry._rbm()
    state = ex.ReplayBuffer(size=5, n_chains=2).init(rbm, rbm.space.convert(ROWS), key=ex.key(0))
    assert state.motion is None
    two = ex.Alternating({"visible": ex.Gibbs(), "hidden": ex.Gibbs()})
    joint = ex.Joint({"visible": ex.Binary(2), "hidden": ex.Binary(2)})
    energy = ex.NeuralEnergy(lambda x: x["visible"].sum() * x["hidden"].sum() * 1.0, joint)
    buffer = ex.ReplayBuffer(size=5, n_chains=2, kernel=two)
    rows = jax.vmap(joint.draw)(jax.random.split(ex.key(1), 3))
    state = buffer.init(energy, rows, key=ex.key(0))
    assert state.motion is None
    assert buffer.gradient(energy, rows, state, key=ex.key(2)).state.motion is None
