"""Each objective's gradient against the likelihood's, known by enumeration."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_gradients import energy_gradients, gibbs_matrix, likelihood_gradient, vector
from scipy.stats import norm

import energax as ex
import oracles
import registry
from energax.exact import draw_enumerated
from energax.kernels import start_chains
from energax.objectives import PersistentContrastiveDivergence

pytestmark = pytest.mark.slow

ROWS = np.random.default_rng(0).integers(0, 2, (7, 4))


def _rows(energy):
    shape = energy.space.structure.shape
    return energy.space.convert(ROWS[:, : shape[0]])


@pytest.mark.parametrize("name", ["rbm", "rbm times rbm", "exponential family"])
def test_maximum_likelihood_has_the_exact_gradient(x64, name):
    energy = registry.DISCRETE[name]()
    rows = _rows(energy)
    step = ex.MaximumLikelihood().gradient(energy, rows, None, key=ex.key(0))
    np.testing.assert_allclose(
        vector(step.gradient), likelihood_gradient(energy, rows), rtol=1e-10, atol=1e-12
    )
    nll = np.mean(jax.vmap(energy.energy)(rows)) + oracles.log_z(energy)
    np.testing.assert_allclose(float(step.measures["loss"]), nll, rtol=1e-12)


def test_a_persistent_gradient_is_unbiased_when_its_chains_are_exact(x64):
    # The chains start from exact draws and Gibbs leaves them exact. 4,000 gradients of 50 chains;
    # two-sided z of each of the 19 parameters, false alarm 1e-4 over all of them.
    energy = registry.DISCRETE["rbm"]()
    rows = _rows(energy)
    objective = PersistentContrastiveDivergence(n_steps=1, n_chains=50)
    state = objective.init(energy, rows, key=ex.key(0))

    @jax.jit
    @jax.vmap
    def gradient(key):
        key_draw, key_start, key_step = jax.random.split(key, 3)
        x = draw_enumerated(energy, 50, key=key_draw)
        chains = start_chains(energy, ex.BlockGibbs(), x, key_start)
        exact = eqx.tree_at(lambda s: s.chains, state, chains)
        return objective.gradient(energy, rows, exact, key=key_step).gradient

    each = gradient(jax.random.split(ex.key(1), 4000))
    values = np.concatenate(
        [np.asarray(leaf).reshape(4000, -1) for leaf in jax.tree.leaves(each)], 1
    )
    z = (values.mean(0) - likelihood_gradient(energy, rows)) / (values.std(0) / np.sqrt(4000))
    assert np.abs(z).max() < norm.isf(1e-4 / 2 / z.size)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_contrastive_divergence_has_its_known_bias(x64, n_steps):
    """CD-k follows the data k sweeps on, not the model: its mean is known exactly, and is not
    the likelihood's gradient. 20,000 gradients, false alarm 1e-4 over all parameters."""
    rbm = registry.DISCRETE["rbm"]()
    rows = _rows(rbm)
    at = energy_gradients(rbm)
    seen = oracles.index_of(rbm.space, rows)
    start = np.bincount(seen, minlength=len(at)) / len(seen)
    moved = start @ np.linalg.matrix_power(gibbs_matrix(rbm), n_steps)
    expected = (start - moved) @ at
    objective = ex.ContrastiveDivergence(n_steps=n_steps)

    @jax.jit
    @jax.vmap
    def gradient(key):
        return objective.gradient(rbm, rows, None, key=key).gradient

    n = 20_000
    each = gradient(jax.random.split(ex.key(2), n))
    values = np.concatenate([np.asarray(a).reshape(n, -1) for a in jax.tree.leaves(each)], 1)
    error = values.std(0) / np.sqrt(n)
    limit = norm.isf(1e-4 / 2 / error.size)
    assert np.abs((values.mean(0) - expected) / error).max() < limit
    if n_steps == 1:  # the bias of three sweeps of so small a machine drowns in the noise
        off = np.abs((values.mean(0) - likelihood_gradient(rbm, rows)) / error)
        assert off.max() > 3 * limit


def test_the_bias_that_contrastive_divergence_is_held_against_shrinks_with_its_steps(x64):
    rbm = registry.DISCRETE["rbm"]()
    rows = _rows(rbm)
    at, exact = energy_gradients(rbm), likelihood_gradient(rbm, rows)
    start = np.bincount(oracles.index_of(rbm.space, rows), minlength=len(at)) / len(rows)
    sweep = gibbs_matrix(rbm)
    bias = [
        np.linalg.norm((start - start @ np.linalg.matrix_power(sweep, k)) @ at - exact)
        for k in (1, 5, 20)
    ]
    assert bias[0] > 10 * bias[1] > 100 * bias[2]


def test_chains_weigh_as_one_mean_whatever_their_number(x64):
    # Seven rows against 50 chains all in one state: means are compared, not sums.
    rbm = registry.DISCRETE["rbm"]()
    rows = _rows(rbm)
    objective = PersistentContrastiveDivergence(
        n_steps=1, n_chains=50, kernel=ex.MetropolisHastings(lambda key, x: x)
    )
    state = objective.init(rbm, rows, key=ex.key(0))
    step = objective.gradient(rbm, rows, state, key=ex.key(1))
    at = energy_gradients(rbm)
    chains = oracles.index_of(rbm.space, state.chains.x)
    expected = at[oracles.index_of(rbm.space, rows)].mean(0) - at[chains].mean(0)
    np.testing.assert_allclose(vector(step.gradient), expected, atol=1e-12)


def test_contrastive_divergence_starts_at_the_data(x64):
    # A kernel that stays put leaves data and model alike: the gradient is zero exactly.
    rbm = registry.DISCRETE["rbm"]()
    stay = ex.ContrastiveDivergence(n_steps=3, kernel=ex.MetropolisHastings(lambda key, x: x))
    step = stay.gradient(rbm, _rows(rbm), None, key=ex.key(0))
    assert not vector(step.gradient).any()


def test_monte_carlo_maximum_likelihood_is_unbiased_once_its_chains_arrive(x64):
    # 60 sweeps of a small machine; one sample a gradient, 20,000 gradients, false alarm 1e-4.
    rbm = registry.DISCRETE["rbm"]()
    rows = _rows(rbm)
    objective = ex.MonteCarloMaximumLikelihood(n_steps=60)

    @jax.jit
    @jax.vmap
    def gradient(key):
        return objective.gradient(rbm, rows, None, key=key).gradient

    n = 20_000
    each = gradient(jax.random.split(ex.key(3), n))
    values = np.concatenate([np.asarray(a).reshape(n, -1) for a in jax.tree.leaves(each)], 1)
    z = (values.mean(0) - likelihood_gradient(rbm, rows)) / (values.std(0) / np.sqrt(n))
    assert np.abs(z).max() < norm.isf(1e-4 / 2 / z.size)


def test_the_centred_gradient_is_that_of_the_centred_machine(x64):
    """E(v, h) = -(v - m) W (h - l) - b'(v - m) - c'(h - l), in W, b', c', carried back to W, b, c:
    b = b' - W l and c = c' - m W, so db = db' - dW l and dc = dc' - m dW."""
    rbm = registry.DISCRETE["rbm"]()
    rows = _rows(rbm)
    m, l = jnp.asarray([0.2, 0.7, 0.5, 0.9]), jnp.asarray([0.3, 0.6, 0.1])
    plain = ex.MaximumLikelihood().gradient(rbm, rows, None, key=ex.key(0)).gradient

    def loss(parameters):
        weights, b, c = parameters
        centred = ex.RBM(weights, b - weights @ l, c - m @ weights)
        return jnp.mean(jax.vmap(centred.energy)(rows)) + jax.nn.logsumexp(
            -jax.vmap(centred.energy)(oracles.stacked(centred.space))
        )

    at = (
        rbm.weights,
        rbm.visible_bias + rbm.weights @ l,
        rbm.hidden_bias + m @ rbm.weights,
    )
    weights, b, c = jax.grad(loss)(at)
    found = rbm.centred(plain, (m, l))
    np.testing.assert_allclose(found.weights, weights, atol=1e-12)
    np.testing.assert_allclose(found.visible_bias, b - weights @ l, atol=1e-12)
    np.testing.assert_allclose(found.hidden_bias, c - m @ weights, atol=1e-12)


def test_persistent_chains_are_refreshed_after_an_update(x64):
    # The state's terms belong to the parameters before the update; a step must not use them.
    rbm = registry.DISCRETE["rbm"]()
    rows = _rows(rbm)
    objective = PersistentContrastiveDivergence(n_steps=1, n_chains=20)
    state = objective.init(rbm, rows, key=ex.key(0))
    other = eqx.tree_at(lambda r: r.weights, rbm, -rbm.weights)
    fresh = eqx.tree_at(
        lambda s: s.chains, state, start_chains(other, ex.BlockGibbs(), state.chains.x, ex.key(9))
    )
    stale_step = objective.gradient(other, rows, state, key=ex.key(1))
    fresh_step = objective.gradient(other, rows, fresh, key=ex.key(1))
    np.testing.assert_array_equal(stale_step.state.chains.x, fresh_step.state.chains.x)


def test_maximum_likelihood_of_a_long_chain_is_exact(x64):
    """Of 60 spins in a row, too many to list: <s_i s_i+1> is tanh J_i."""
    generator = np.random.default_rng(0)
    rows = jnp.asarray(generator.choice([-1.0, 1.0], (30, 60)))
    couplings = generator.normal(size=59)
    chain = ex.Ising(ex.Graph([(i, i + 1) for i in range(59)]), couplings, np.zeros(60))
    objective = ex.MaximumLikelihood()
    assert objective.prepare(chain, rows) is not None
    step = jax.jit(lambda e: objective.gradient(e, rows, None, key=ex.key(0)))(chain)
    seen = np.mean(np.asarray(rows[:, 1:] * rows[:, :-1]), 0)
    np.testing.assert_allclose(step.gradient.coupling, np.tanh(couplings) - seen, atol=1e-12)
    np.testing.assert_allclose(step.gradient.field, -np.mean(np.asarray(rows), 0), atol=1e-12)
    expected = -seen @ couplings + 60 * np.log(2) + np.log(np.cosh(couplings)).sum()
    assert float(step.measures["loss"]) == pytest.approx(expected, rel=1e-12)
    run = ex.fit(chain, rows, objective, key=ex.key(1), steps=5, batch_size=10)
    assert run.ok
    with pytest.raises(ValueError, match="PersistentContrastiveDivergence"):
        objective.prepare(ex.Ising((16, 16)), jnp.ones((3, 16, 16)))
