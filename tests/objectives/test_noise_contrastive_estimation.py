"""Noise-contrastive estimation: its mean by enumeration, its rest at the truth, and log Z."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

import energax as ex
import oracles
import registry
from energax.energies import trainable
from energax.exact import draw_enumerated
from energax.objectives import NoiseContrastiveEstimation

N = 2000
NOISE = np.array([0.5, -0.3, 0.2, 0.0])


def state_at(objective, energy, rows, log_z, curvature=0.5):
    state = objective.init(energy, rows, key=ex.key(9))
    values = jnp.asarray(log_z), jnp.asarray(curvature)
    return eqx.tree_at(lambda s: (s.log_partition, s.curvature), state, values)


def vectors(gradient) -> np.ndarray:
    return np.concatenate([np.reshape(leaf, (N, -1)) for leaf in jax.tree.leaves(gradient)], 1)


def energy_gradients(energy) -> np.ndarray:
    """The gradient of E at every state, axes (state, parameter)."""
    parameters, rest = eqx.partition(energy, trainable(energy))

    def gradient(x):
        return jax.grad(lambda p: eqx.combine(p, rest).energy(x))(parameters)

    each = jax.vmap(gradient)(oracles.stacked(energy.space))
    return np.concatenate([np.reshape(a, (len(a), -1)) for a in jax.tree.leaves(each)], 1)


@pytest.mark.parametrize("ratio", [1, 3])
def test_its_mean_is_that_of_logistic_regression(x64, ratio):
    """With data held and the noise's mean by enumeration, log Z anywhere; false alarm 1e-5."""
    rbm, noise = registry.DISCRETE["rbm"](), ex.Bernoulli(NOISE)
    objective = NoiseContrastiveEstimation(noise, ratio)
    rows = objective.prepare(rbm, np.random.default_rng(0).integers(0, 2, (7, 4)))
    log_z = oracles.log_z(rbm) - 0.4
    state = state_at(objective, rbm, rows, log_z)
    found = jax.jit(jax.vmap(lambda key: objective.gradient(rbm, rows, state, key=key)))(
        jax.random.split(ex.key(0), N)
    )
    at, q = energy_gradients(rbm), oracles.probabilities(noise)
    g = -oracles.energies(rbm) - log_z - np.log(q) - np.log(ratio)
    seen = oracles.index_of(rbm.space, rows)
    expected = (expit(-g)[:, None] * at)[seen].mean(0) - ratio * (q * expit(g)) @ at
    oracles.assert_mean(vectors(found.gradient), expected)
    loss = np.log1p(np.exp(-g))[seen].mean() + ratio * q @ np.log1p(np.exp(g))
    oracles.assert_mean(np.asarray(found.measures["loss"]), loss)
    accuracy = ((g > 0)[seen].mean() + ratio * q @ (g < 0)) / (1 + ratio)
    oracles.assert_mean(np.asarray(found.measures["accuracy"]), accuracy)
    # log Z takes a tenth of a Newton step with the curvature given.
    slope = expit(-g)[seen].mean() - ratio * q @ expit(g)
    oracles.assert_mean(np.asarray(found.state.log_partition), log_z - 0.1 * slope / 0.5)
    curve = (expit(g) * expit(-g))[seen].mean() + ratio * (q * expit(g) * expit(-g)).sum()
    oracles.assert_mean(np.asarray(found.state.curvature), 0.9 * 0.5 + 0.1 * curve)


@pytest.mark.parametrize("name", ["rbm", "gaussian"])
def test_it_rests_at_the_truth(x64, name):
    """Rows drawn from the model, log Z exact: neither parameters nor log Z move on average."""
    energy = {**registry.DISCRETE, **registry.CONTINUOUS}[name]()
    discrete = name == "rbm"
    noise = ex.Bernoulli(NOISE) if discrete else ex.Gaussian(np.zeros(2), 1.5)
    log_z = oracles.log_z(energy) if discrete else 0.0
    objective = NoiseContrastiveEstimation(noise, 2)

    @jax.jit
    def both(keys):
        def drawn(n, key):
            if discrete:
                return draw_enumerated(energy, n, key=key)
            return jax.vmap(energy.draw)(jax.random.split(key, n))

        state = state_at(objective, energy, drawn(500, ex.key(5)), log_z)

        def step(key):
            key_rows, key_step = jax.random.split(key)
            return objective.gradient(energy, drawn(50, key_rows), state, key=key_step)

        return jax.vmap(step)(keys)

    found = both(jax.random.split(ex.key(1), N))
    oracles.assert_mean(vectors(found.gradient), 0.0)
    oracles.assert_mean(np.asarray(found.state.log_partition), log_z)


@pytest.mark.slow
def test_log_z_is_learned_with_a_machine(x64):
    truth = registry.DISCRETE["rbm"]()
    rows = draw_enumerated(truth, 20_000, key=ex.key(0))
    start = ex.RBM.init(ex.key(1), n_visible=4, n_hidden=3, scale=0.1)
    run = ex.fit(
        start, rows, NoiseContrastiveEstimation(), key=ex.key(2), steps=1500, batch_size=500,
        learning_rate=0.02, log_every=500,
    )  # fmt: skip
    assert run.ok, run.message
    exact = ex.log_partition(run.energy, key=ex.key(3)).value
    assert run.history[-1]["log_partition"] == pytest.approx(exact, abs=0.02)
    p, q = oracles.probabilities(truth), oracles.probabilities(run.energy)
    assert p @ np.log(p / q) < 2e-3
    assert p @ np.log(p / oracles.probabilities(start)) > 0.1


class Quadratic(eqx.Module):
    q: jax.Array
    shift: float = 0.0

    def __call__(self, x):
        return -0.5 * jnp.exp(self.q) * jnp.sum(x**2) + self.shift


def test_log_z_is_learned_on_the_plane():
    rows = np.random.default_rng(0).normal(size=(20_000, 2)) * 0.7
    start = ex.NeuralEnergy(Quadratic(jnp.zeros(())), ex.Real(2))
    noise = ex.Gaussian(np.zeros(2), 1.0)
    run = ex.fit(
        start, rows, NoiseContrastiveEstimation(noise), key=ex.key(0), steps=600,
        batch_size=500, learning_rate=0.02, log_every=200,
    )  # fmt: skip
    exact = ex.log_partition(run.energy, key=ex.key(3))
    assert exact.trusted
    assert run.history[-1]["log_partition"] == pytest.approx(exact.value, abs=0.02)
    assert float(run.energy.function.q) == pytest.approx(-2 * np.log(0.7), abs=0.03)


@pytest.mark.parametrize("shift", [100.0, -100.0])
def test_log_z_is_found_from_far(shift):
    rows = jnp.asarray(np.random.default_rng(0).normal(size=(1000, 2)), jnp.float32)
    energy = ex.NeuralEnergy(Quadratic(jnp.zeros(()), shift), ex.Real(2))
    objective = NoiseContrastiveEstimation()
    truth = np.log(2 * np.pi) + shift
    state = objective.init(energy, rows, key=ex.key(0))
    # Some 6,000 rows and draws that overlap: five standard errors of 1/sqrt(1000) or so.
    assert float(state.log_partition) == pytest.approx(truth, abs=0.15)
    # The parameters jumped: log Z comes along to within a nat, and a share of a step.
    lost = eqx.tree_at(lambda s: s.log_partition, state, jnp.zeros(()))
    after = jax.jit(lambda key: objective.gradient(energy, rows, lost, key=key).state)(ex.key(1))
    assert abs(float(after.log_partition) - truth) < 2.2


def test_the_noise_is_fitted_where_none_is_given():
    normal = np.random.default_rng(0).normal(2.0, 3.0, (200, 2))
    objective = NoiseContrastiveEstimation()

    def fitted(energy, rows):
        return objective.init(energy, objective.prepare(energy, rows), key=ex.key(0)).noise

    noise = fitted(ex.Gaussian(np.zeros(2)), normal)
    np.testing.assert_allclose(noise.mean, normal.mean(0), rtol=1e-5)
    np.testing.assert_allclose(noise.scale, normal.std(0), rtol=1e-5)
    bits = np.random.default_rng(1).random((50, 3)) < 0.3
    assert isinstance(fitted(ex.Bernoulli(np.zeros(3)), bits), ex.Bernoulli)
    box = ex.NeuralEnergy(lambda x: -jnp.sum(x), ex.Box(2))
    assert isinstance(fitted(box, np.full((5, 2), 0.3)), ex.Uniform)
    given = NoiseContrastiveEstimation(ex.freeze(ex.Gaussian(np.zeros(2), 4.0)))
    state = given.init(ex.Gaussian(np.zeros(2)), jnp.asarray(normal, jnp.float32), key=ex.key(0))
    assert state.noise is None


def test_noise_that_is_told_from_the_data_is_complained_of():
    rows = np.random.default_rng(0).normal(size=(200, 2))
    noise = ex.Gaussian(np.full(2, 30.0), 1.0)
    start = ex.Gaussian(np.zeros(2))
    run = ex.fit(start, rows, NoiseContrastiveEstimation(noise), key=ex.key(0), steps=5)
    assert "told apart" in run.message
    assert NoiseContrastiveEstimation().complaint({"accuracy": 0.95}) == ""


@pytest.mark.usefixtures("as_users_call")
def test_what_does_not_fit_is_refused():
    plane = ex.NeuralEnergy(lambda x: -jnp.sum(x**2), ex.Real(2))
    with oracles.refused("noise must be an energy with known Z", "NeuralEnergy"):
        NoiseContrastiveEstimation(plane)
    with oracles.refused("Real(shape=(2,))", "Real(shape=(3,))"):
        NoiseContrastiveEstimation(ex.Gaussian(np.zeros(3))).prepare(plane, np.zeros((4, 2)))
    joint = ex.NeuralEnergy(lambda x: -(x["a"] ** 2), ex.Joint(a=ex.Real()))
    with oracles.refused("no noise is known for", "give"):
        NoiseContrastiveEstimation().prepare(joint, {"a": np.zeros(4)})
    with oracles.refused("ratio", "at least 1"):
        NoiseContrastiveEstimation(ratio=0)


def test_rows_that_the_noise_never_draws_are_refused():
    # A word behind padding: independent words end once.
    space = ex.Categorical(3, 3)
    noise = ex.UnigramSequences.from_data(np.array([[0, 1, 2], [1, 0, 2]]), space, padding=2)
    energy = ex.NGramEnergy.init(3, 3, order=2, padding=2)
    with oracles.refused("row 1", "probability 0", "1 of 2"):
        ex.NoiseContrastiveEstimation(noise).prepare(energy, np.array([[0, 1, 2], [0, 2, 1]]))
