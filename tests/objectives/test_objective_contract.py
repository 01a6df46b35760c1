"""What every objective promises its trainer, and the bookkeeping of chains exactly."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

import energax as ex
import oracles
import registry
from energax.energies import trainable
from energax.kernels import MetropolisHastings

ROWS = np.random.default_rng(0).integers(0, 2, (7, 4))
POINTS = np.random.default_rng(1).normal(size=(7, 2))

OBJECTIVES = registry.OBJECTIVES | {
    "centred cd": lambda: ex.ContrastiveDivergence(centred=True),
    "centred pcd": lambda: ex.PersistentContrastiveDivergence(n_chains=5, centred=True),
}


def _network():
    network = eqx.nn.MLP(2, "scalar", 4, 1, jax.nn.tanh, key=ex.key(0))
    return ex.NeuralEnergy(network, ex.Real(2))


MODELS = {
    "rbm": (registry.DISCRETE["rbm"], ROWS),
    "rbm.joint": (
        lambda: registry._rbm(4, 2).joint,
        {"hidden": ROWS[:, :2], "visible": ROWS},
    ),
    "half frozen": (lambda: ex.freeze(registry._rbm()) * registry._rbm(seed=1), ROWS),
}
CONTINUOUS_MODELS = {
    "network": (_network, POINTS),
    "half frozen gaussian": (lambda: ex.freeze(ex.Gaussian(jnp.zeros(2))) * _network(), POINTS),
}
CASES = [
    *((model, name) for model in MODELS for name in OBJECTIVES),
    *(("rbm.joint", name) for name in registry.JOINT_OBJECTIVES),
    *((model, name) for model in CONTINUOUS_MODELS for name in registry.CONTINUOUS_OBJECTIVES),
]


def _shapes(tree):
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)


def _flip() -> MetropolisHastings:
    """Turns every bit at every step: after an even number of steps it is where it began."""
    return MetropolisHastings(lambda key, x: 1 - x, lambda x, y: jnp.asarray(1e9))


@pytest.mark.parametrize("precision", [32, 64])
@pytest.mark.parametrize(("model", "name"), CASES)
def test_its_state_keeps_its_structure(name, model, precision):
    with jax.enable_x64(precision == 64):
        make, data = (MODELS | CONTINUOUS_MODELS)[model]
        every = OBJECTIVES | registry.JOINT_OBJECTIVES
        if model in CONTINUOUS_MODELS:
            every = registry.CONTINUOUS_OBJECTIVES
        energy, objective = make(), every[name]()
        if "centred" in name and model != "rbm":
            with pytest.raises(ValueError, match="centred=True needs an energy with centred"):
                objective.prepare(energy, data)
            return
        rows = objective.prepare(energy, data)

        def first_two(key):
            state = objective.init(energy, rows, key=key)
            first = objective.gradient(energy, rows, state, key=key)
            fewer = jax.tree.map(lambda leaf: leaf[:3], rows)
            return state, first, objective.gradient(energy, fewer, first.state, key=key)

        state, first, second = jax.eval_shape(first_two, ex.key(0))
    assert jax.tree.structure(first.state) == jax.tree.structure(state)
    assert _shapes(first.state) == _shapes(second.state) == _shapes(state)
    # The gradient has a leaf for each parameter that trains, of its shape, and no other.
    parameters = eqx.filter(energy, trainable(energy))
    assert jax.tree.structure(first.gradient) == jax.tree.structure(parameters)
    assert _shapes(first.gradient) == _shapes(parameters)
    assert sorted(first.measures) == sorted(second.measures)
    assert all(value.shape == () for value in first.measures.values())


def _gradient(objective, energy, rows, state=None, seed: int = 0):
    return jax.jit(lambda key: objective.gradient(energy, rows, state, key=key))(ex.key(seed))


@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_contrastive_divergence_takes_its_steps_from_the_batch(n_steps):
    rbm = registry.DISCRETE["rbm"]()
    rows = rbm.space.convert(ROWS)
    objective = ex.ContrastiveDivergence(n_steps=n_steps, kernel=_flip())
    measures = _gradient(objective, rbm, rows).measures
    ends = rows if n_steps % 2 == 0 else 1 - rows
    e = jax.jit(jax.vmap(rbm.energy))
    assert float(measures["energy_data"]) == pytest.approx(float(e(rows).mean()), rel=1e-5)
    assert float(measures["energy_model"]) == pytest.approx(float(e(ends).mean()), rel=1e-5)
    assert float(measures["energy_gap"]) == pytest.approx(
        float(e(rows).mean() - e(ends).mean()), abs=1e-5
    )
    assert float(measures["acceptance"]) == 1.0


def test_persistent_chains_go_on_where_they_were():
    rbm = registry.DISCRETE["rbm"]()
    rows = rbm.space.convert(ROWS)
    objective = ex.PersistentContrastiveDivergence(n_steps=3, n_chains=6, kernel=_flip())
    state = objective.init(rbm, rows, key=ex.key(0))
    assert state.chains.x.shape == (6, 4)
    step = jax.jit(lambda state, key: objective.gradient(rbm, rows, state, key=key).state)
    once = step(state, ex.key(1))
    np.testing.assert_array_equal(once.chains.x, 1 - state.chains.x)
    np.testing.assert_array_equal(step(once, ex.key(2)).chains.x, state.chains.x)


def test_persistent_chains_start_at_base_draws_of_their_own():
    rbm = ex.RBM(jnp.zeros((40, 2)), jnp.full((40,), 9.0), jnp.zeros(2))
    rows = jnp.ones((3, 40))
    objective = ex.PersistentContrastiveDivergence(n_chains=50)
    x = np.asarray(objective.init(rbm, rows, key=ex.key(0)).chains.x)
    # Fair coins: 2,000 of them, five standard deviations, a false alarm in two million.
    assert abs(x.mean() - 0.5) < 5 * 0.5 / np.sqrt(2000)
    assert len(np.unique(x, axis=0)) == 50


def test_few_steps_of_fresh_chains_follow_the_base(x64):
    # From fair coins, one sweep: not yet the model. The mean is known by enumeration; 4,000
    # gradients of 5 chains, a false alarm 1e-4 over all parameters.
    # Weights three times the usual, so that a sweep stays well short of the model.
    usual = registry.DISCRETE["rbm"]()
    rbm = ex.RBM(3 * usual.weights, usual.visible_bias, usual.hidden_bias)
    rows = rbm.space.convert(ROWS)
    objective = ex.MonteCarloMaximumLikelihood(n_steps=1, n_samples=5)
    each = jax.jit(jax.vmap(lambda key: objective.gradient(rbm, rows, None, key=key).gradient))(
        jax.random.split(ex.key(0), 4000)
    )
    found = np.concatenate([np.asarray(a).reshape(4000, -1) for a in jax.tree.leaves(each)], 1)

    w, b, c = (np.asarray(a) for a in (rbm.weights, rbm.visible_bias, rbm.hidden_bias))
    v, h = (np.array(oracles.states(ex.Binary(n))) for n in (4, 3))
    joint = np.exp((v @ b)[:, None] + (h @ c)[None] + v @ w @ h.T)
    sweep = (joint / joint.sum(1, keepdims=True)) @ (joint / joint.sum(0)).T
    reached = np.full(16, 1 / 16) @ sweep

    def statistics(v):
        """Minus the gradient of E at each row: products with hidden means, v, hidden means."""
        hidden = 1 / (1 + np.exp(-(c + v @ w)))
        return np.concatenate([(v[:, :, None] * hidden[:, None]).reshape(-1, 12), v, hidden], 1)

    def off(p):
        z = found.mean(0) - (p @ statistics(v) - statistics(np.asarray(rows)).mean(0))
        return np.abs(z / (found.std(0) / np.sqrt(4000))).max()

    limit = norm.isf(1e-4 / 2 / 19)
    assert off(reached) < limit
    assert off(oracles.probabilities(rbm)) > 2 * limit


def test_one_fresh_chain_a_gradient_unless_more_are_asked_for():
    objective = ex.MonteCarloMaximumLikelihood()
    assert objective.n_samples == 1
    single = ex.RBM(jnp.ones((1, 1)), jnp.zeros(1), jnp.zeros(1))
    rows = jnp.ones((3, 1))
    gradient = _gradient(ex.MonteCarloMaximumLikelihood(n_steps=1), single, rows).gradient
    # The data's mean less one state.
    assert round(float(gradient.visible_bias[0]), 6) in (-1.0, 0.0)


def test_frozen_factors_have_no_gradient_and_still_steer_the_chains():
    rows = ex.Binary(4).convert(ROWS)
    trained, held = registry._rbm(seed=1), registry._rbm()
    alone = ex.MaximumLikelihood().gradient(trained * held, rows, None, key=ex.key(0))
    half = ex.MaximumLikelihood().gradient(trained * ex.freeze(held), rows, None, key=ex.key(0))
    leaves = jax.tree.leaves(half.gradient)
    assert [leaf.shape for leaf in leaves] == [(4, 3), (4,), (3,)]
    assert float(half.measures["loss"]) == pytest.approx(float(alone.measures["loss"]), rel=1e-5)
    np.testing.assert_allclose(leaves[1], alone.gradient.visible_bias, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: ex.ContrastiveDivergence(n_steps=0), "n_steps must be an integer of at least 1"),
        (lambda: ex.ContrastiveDivergence(n_steps=True), "n_steps must be"),
        (lambda: ex.PersistentContrastiveDivergence(n_steps=-1), "n_steps must be"),
        (lambda: ex.PersistentContrastiveDivergence(n_chains=0), "n_chains must be an integer"),
        (lambda: ex.MonteCarloMaximumLikelihood(n_steps=0), "n_steps must be"),
        (lambda: ex.MonteCarloMaximumLikelihood(n_samples=0), "n_samples must be an integer"),
    ],
)
def test_bad_settings_are_named(make, expected):
    with pytest.raises(ValueError, match=expected):
        make()


@pytest.mark.parametrize(
    "objective",
    [
        ex.ContrastiveDivergence(kernel=ex.BlockGibbs()),
        ex.PersistentContrastiveDivergence(kernel=ex.BlockGibbs()),
        ex.MonteCarloMaximumLikelihood(kernel=ex.BlockGibbs()),
    ],
)
def test_a_kernel_that_does_not_fit_is_refused_before_training(objective):
    energy = registry.DISCRETE["table of bits"]()
    with pytest.raises(ValueError, match="two layers"):
        objective.init(energy, energy.space.convert(ROWS[:, :3]), key=ex.key(0))


def test_rows_must_be_states():
    for name, make in registry.OBJECTIVES.items():
        with pytest.raises(ValueError, match="data must hold only 0 and 1"):
            make().prepare(registry.DISCRETE["rbm"](), np.full((2, 4), 7))
        assert make().learns_from_rows, name
    for name, make in registry.CONTINUOUS_OBJECTIVES.items():
        with oracles.refused("data", "NaN"):
            make().prepare(_network(), np.full((2, 2), np.nan))
        assert make().learns_from_rows, name


def test_spaces_that_do_not_fit_are_refused_before_training():
    bits, reals = registry.OBJECTIVES, registry.CONTINUOUS_OBJECTIVES
    for name in bits.keys() - reals.keys():
        with oracles.refused():
            bits[name]().prepare(_network(), POINTS)
    for name in reals.keys() - bits.keys():
        with oracles.refused("continuous"):
            reals[name]().prepare(registry.DISCRETE["rbm"](), ROWS)


def test_exact_likelihood_of_a_conditioned_model_is_refused_before_training():
    held = ex.condition(
        registry._table(ex.Categorical(3, 2)), np.array([1, 0, 0]), np.array([True, False, False])
    )
    with oracles.refused("cannot be listed", "compiling"):
        ex.MaximumLikelihood().prepare(held, np.array([[1, 0, 1]]))


def test_exact_likelihood_of_a_conditioned_machine_is_over_its_hidden_layer():
    held = registry.DISCRETE["conditioned rbm"]()
    rows = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]])
    run = ex.fit(held, rows, ex.MaximumLikelihood(), key=ex.key(0), steps=3, batch_size=3)
    assert run.ok
    free = [np.array([1, a, b, 0], np.float32) for a in (0, 1) for b in (0, 1)]
    log_z = logsumexp([-float(held.energy(jnp.asarray(x))) for x in free])
    loss = np.mean([float(held.energy(jnp.asarray(row, jnp.float32))) for row in rows]) + log_z
    assert run.history[0]["loss"] == pytest.approx(loss, abs=0.02)


@pytest.mark.usefixtures("as_users_call")
def test_counts_may_be_integers_of_numpy():
    """equinox takes those for arrays, which a compiled program would not know as numbers."""
    rbm = registry._rbm()
    pcd = ex.PersistentContrastiveDivergence(n_steps=np.int64(2), n_chains=np.int32(5))
    assert type(pcd.n_steps) is type(pcd.n_chains) is int
    for objective in (pcd, ex.MonteCarloMaximumLikelihood(np.int64(3), np.int64(2))):
        run = ex.fit(rbm, ROWS, objective, key=ex.key(0), steps=np.int64(2), batch_size=np.int64(3))
        assert run.ok
    draws = ex.sample(rbm, np.int64(40), key=ex.key(0), kernel=ex.BlockGibbs(), chains=np.int64(4))
    assert draws.energy.shape == (4, 10)
    assert ex.sample(rbm, np.int64(7), key=ex.key(0)).energy.shape == (1, 7)
    z = ex.log_partition(
        rbm, key=ex.key(0), n_chains=np.int64(20), n_temperatures=np.int64(30), method="annealing"
    )
    assert z.diagnostics["n_chains"] == 20
    init = ex.RBM.init(ex.key(0), n_visible=np.int64(4), n_hidden=np.int64(2))
    assert init.weights.shape == (4, 2)
