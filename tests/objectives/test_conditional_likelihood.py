"""p(y | x) and joint classifiers against sums over all states."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import energax as ex
import oracles
import registry
from energax.energies import trainable
from energax.exact import draw_enumerated
from energax.kernels import start_chains


def _vector(gradient) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)])


def _family() -> ex.ExponentialFamily:
    """A joint of spins, a label and a real number's sign, all of its parameters in one vector."""

    def statistic(s):
        label = jax.nn.one_hot(s["b"], 3, dtype=s["a"].dtype)
        return jnp.concatenate([jnp.outer(s["a"], label).reshape(-1), s["a"], label[:2]])

    space = ex.Joint(a=ex.Spin(2), b=ex.Categorical((), 3))
    return ex.ExponentialFamily(statistic, jnp.linspace(-1.0, 1.0, 10), space)


def _of_all_states(energy):
    """E and its gradient at every state of the joint."""
    parameters, rest = eqx.partition(energy, trainable(energy))
    rows = oracles.stacked(energy.space)

    @jax.jit
    def both(rows):
        each = jax.vmap(
            lambda x: jax.value_and_grad(lambda p: eqx.combine(p, rest).energy(x))(parameters)
        )
        return each(rows)

    values, gradients = both(rows)
    leaves = [np.asarray(a).reshape(len(values), -1) for a in jax.tree.leaves(gradients)]
    return np.asarray(values), np.concatenate(leaves, 1), rows


@pytest.mark.parametrize("predicted", ["a", "b", ["a", "b"]])
def test_loss_gradient_and_accuracy_by_enumeration(predicted, x64):
    energy = _family()
    e, gradients, listed = _of_all_states(energy)
    seen = [name for name in listed if name not in predicted]
    keys = [tuple(np.asarray(listed[name][i]).tobytes() for name in seen) for i in range(len(e))]
    some = np.array([0, 4, 5, 7, 11])
    loss, gradient, hits = 0.0, 0.0, 0.0
    for i in some:
        alike = np.array([keys[j] == keys[i] for j in range(len(e))])
        share = np.where(alike, np.exp(-e - logsumexp(-e[alike])), 0.0)
        loss -= np.log(share[i]) / len(some)
        gradient += (gradients[i] - share @ gradients) / len(some)
        hits += (share[i] == share.max()) / len(some)
    rows = jax.tree.map(lambda leaf: leaf[some], listed)
    objective = ex.ConditionalLikelihood(predicted)
    step = jax.jit(lambda: objective.gradient(energy, rows, None, key=ex.key(0)))()
    assert float(step.measures["loss"]) == pytest.approx(loss, rel=1e-12)
    assert float(step.measures["accuracy"]) == pytest.approx(hits, rel=1e-12)
    np.testing.assert_allclose(_vector(step.gradient), gradient, atol=1e-12)


def test_many_states_of_the_predicted_part_are_summed_block_by_block(x64):
    """2^14 hidden states of a machine: independent given the visible ones."""
    rbm = registry._rbm(3, 14)
    v = jnp.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    h = jnp.asarray(np.random.default_rng(0).integers(0, 2, (2, 14)).astype(float))
    objective = ex.ConditionalLikelihood("hidden")
    rows = {"hidden": h, "visible": v}
    step = jax.jit(lambda: objective.gradient(rbm.joint, rows, None, key=ex.key(0)))()
    means = jax.nn.sigmoid(jax.vmap(rbm.hidden_input)(v))
    expected = -jnp.mean(jnp.sum(jnp.log(jnp.where(h == 1, means, 1 - means)), 1))
    assert float(step.measures["loss"]) == pytest.approx(float(expected), rel=1e-12)
    assert "accuracy" not in step.measures
    np.testing.assert_allclose(step.gradient.rbm.hidden_bias, jnp.mean(means - h, 0), atol=1e-12)


def test_it_is_a_classifier_of_continuous_inputs():
    """Two labels around -1 and 1: the log-odds found are those of logistic regression's truth."""
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 2000)
    x = generator.normal(2.0 * label - 1.0, 1.0)
    space = ex.Joint(label=ex.Categorical((), 2), x=ex.Real())
    linear = ex.ExponentialFamily(
        lambda s: jnp.stack([s["x"], jnp.ones(())]) * s["label"].astype(jnp.float32),
        jnp.zeros(2),
        space,
    )
    objective = ex.ConditionalLikelihood("label")
    run = ex.fit(
        linear,
        {"label": label, "x": x},
        objective,
        key=ex.key(0),
        learning_rate=0.05,
        steps=300,
        batch_size=2000,
    )
    assert run.ok
    # p(label = 1 | x) = sigmoid(2 x). By the Fisher information, E[p (1 - p) x^2] = 0.09, the
    # standard error is 0.075; five of them, a false alarm in two million.
    np.testing.assert_allclose(run.energy.natural_parameter[0], 2.0, atol=0.38)
    # Of such labels 84% can be told; the share of 2,000 is within four standard errors.
    assert run.history[-1]["accuracy"] == pytest.approx(0.841, abs=0.033)


@pytest.mark.parametrize("name", ["ising on open rows", "factor graph", "path to potts"])
def test_given_some_entries_it_eliminates_the_others(name, x64):
    energy = registry.DISCRETE[name]()
    shape = energy.space.shape
    free = [0, int(np.prod(shape)) - 1]
    mask = np.ones(int(np.prod(shape)), bool)
    mask[free] = False
    rows = oracles.stacked(energy.space)[::9]
    given = ex.ConditionalLikelihood(observed=mask.reshape(shape))
    rows = given.prepare(energy, rows)
    listed = ex.CompositeLikelihood([free])

    @jax.jit
    def both():
        return [o.gradient(energy, rows, None, key=ex.key(0)) for o in (given, listed)]

    found, expected = both()
    loss = float(expected.measures["loss"])
    assert float(found.measures["loss"]) == pytest.approx(loss, rel=1e-12)
    for a, b in zip(*(jax.tree.leaves(step.gradient) for step in (found, expected)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_long_chain_of_labels_given_what_is_seen():
    """Labels in a row, each seen through noise: 20 pairs, of which the labels are predicted."""
    n, generator = 20, np.random.default_rng(0)
    pairs = ex.Factor([(i, i + 1) for i in range(n - 1)], np.zeros((n - 1, 2, 2)))
    seen = ex.Factor([(i, n + i) for i in range(n)], np.zeros((n, 2, 2)))
    graph = ex.FactorGraph(2 * n, 2, [pairs, seen])
    labels = (np.cumsum(generator.random((15, n)) < 0.1, 1)) % 2
    noisy = labels ^ (generator.random((15, n)) < 0.2)
    objective = ex.ConditionalLikelihood(observed=np.arange(2 * n) >= n)
    run = ex.fit(
        graph,
        np.concatenate([labels, noisy], 1),
        objective,
        key=ex.key(0),
        learning_rate=0.2,
        steps=20,
        batch_size=15,
        log_every=10,
    )
    assert run.ok
    assert run.history[0]["loss"] < n * np.log(2)
    # The entropy of a label given all that is seen is below that given its own noise alone.
    alone = -(0.2 * np.log(0.2) + 0.8 * np.log(0.8))
    assert run.history[-1]["loss"] < n * alone


# --- joint classifiers --------------------------------------------------------------------------


def test_with_an_exact_generative_term_it_is_the_joint_likelihood(x64):
    energy = _family()
    e, gradients, listed = _of_all_states(energy)
    some = np.array([0, 4, 5, 7, 11])
    rows = jax.tree.map(lambda leaf: leaf[some], listed)
    objective = ex.JointClassifier("b", ex.MaximumLikelihood())
    step = jax.jit(lambda: objective.gradient(energy, rows, None, key=ex.key(0)))()
    p = np.exp(-e - logsumexp(-e))
    total = float(step.measures["loss"]) + float(step.measures["conditional_loss"])
    assert total == pytest.approx(-np.log(p[some]).mean(), rel=1e-12)
    assert float(step.measures["weighted_loss"]) == pytest.approx(total, rel=1e-12)
    expected = gradients[some].mean(0) - p @ gradients
    np.testing.assert_allclose(_vector(step.gradient), expected, atol=1e-12)


def test_the_weight_is_that_of_the_generative_term(x64):
    energy, rows = _family(), oracles.stacked(_family().space)

    @jax.jit
    def both():
        return [
            objective.gradient(energy, rows, None, key=ex.key(0)).gradient
            for objective in (
                ex.ConditionalLikelihood("b"),
                ex.JointClassifier("b", ex.MaximumLikelihood(), weight=0.25),
            )
        ]

    # The gradient of the whole is that of the joint likelihood.
    alone, quarter = map(_vector, both())
    e, gradients, _ = _of_all_states(energy)
    whole = gradients.mean(0) - np.exp(-e - logsumexp(-e)) @ gradients
    np.testing.assert_allclose(quarter, alone + 0.25 * (whole - alone), atol=1e-12)
    assert np.abs(whole - alone).max() > 0.05


@pytest.mark.slow
def test_with_exact_chains_its_gradient_is_unbiased(x64):
    # Chains on x start from exact draws and random walks leave them exact. 1,000 gradients of 20
    # chains, every parameter.
    energy = _family()
    e, gradients, listed = _of_all_states(energy)
    rows = jax.tree.map(lambda leaf: leaf[jnp.array([0, 4, 5, 7, 11])], listed)
    kernel = ex.RandomWalkMetropolis()
    objective = ex.JointClassifier(
        "b", ex.PersistentContrastiveDivergence(n_chains=20, kernel=kernel)
    )
    marginal = ex.marginal(energy, "b")
    state = objective.init(energy, rows, key=ex.key(0))

    @jax.jit
    @jax.vmap
    def each(key):
        key_draw, key_start, key_step = jax.random.split(key, 3)
        x = draw_enumerated(marginal, 20, key=key_draw)
        chains = start_chains(marginal, kernel, x, key_start)
        exact = eqx.tree_at(lambda s: s.chains, state, chains)
        return objective.gradient(energy, rows, exact, key=key_step).gradient

    found = each(jax.random.split(ex.key(1), 1000))
    p = np.exp(-e - logsumexp(-e))
    expected = gradients[np.array([0, 4, 5, 7, 11])].mean(0) - p @ gradients
    oracles.assert_mean(np.asarray(found.natural_parameter), expected)


def test_chains_go_on_where_they_were():
    energy = registry._rbm().joint
    flip = ex.MetropolisHastings(
        lambda key, x: {"visible": 1 - x["visible"]}, lambda x, y: jnp.asarray(1e9)
    )
    rows = {"hidden": jnp.zeros((2, 3)), "visible": jnp.ones((2, 4))}
    objective = ex.JointClassifier(
        "hidden", ex.PersistentContrastiveDivergence(n_chains=10, kernel=flip)
    )
    state = objective.init(energy, rows, key=ex.key(0))
    step = jax.jit(lambda s: objective.gradient(energy, rows, s, key=ex.key(1)))(state)
    assert {"conditional_accuracy", "conditional_loss", "energy_data", "acceptance"} < set(
        step.measures
    )
    # Chains have no loss to add.
    assert float(step.measures["weighted_loss"]) == float(step.measures["conditional_loss"])
    before, after = state.chains.x["visible"], step.state.chains.x["visible"]
    assert before.shape == (10, 4)
    np.testing.assert_array_equal(after, 1 - before)


def test_what_cannot_be_is_refused():
    joint = registry._rbm().joint
    rows = {"hidden": np.zeros((2, 3)), "visible": np.zeros((2, 4))}
    for make in (ex.ConditionalLikelihood, ex.JointClassifier):
        with oracles.refused("predicted must be the name", "3"):
            make(3)
        with oracles.refused("some of ['hidden', 'visible']", "label"):
            make("label").prepare(joint, rows)
        with oracles.refused("Joint", "Binary"):
            make("hidden").prepare(registry._rbm(), np.zeros((2, 4)))
        mixed = ex.NeuralEnergy(lambda s: -(s["x"] ** 2), ex.Joint(x=ex.Real(), b=ex.Binary()))
        with oracles.refused("must be discrete", "x"):
            make("x").prepare(mixed, {"x": np.zeros(2), "b": np.zeros(2)})
    for arguments in ({}, {"predicted": "hidden", "observed": np.zeros(4, bool)}):
        with oracles.refused("give either"):
            ex.ConditionalLikelihood(**arguments)
    for mask, word in ((np.zeros(4), "float64"), (np.ones(4, bool), "all true")):
        with oracles.refused("observed must be booleans", word):
            ex.ConditionalLikelihood(observed=mask)
    some = ex.ConditionalLikelihood(observed=np.arange(4) > 1)
    with oracles.refused("made of tables", "RBM", "CompositeLikelihood"):
        some.prepare(registry._rbm(), np.zeros((2, 4)))
    with oracles.refused("shape (5,)", "(4,)"):
        some.prepare(ex.Ising(5), np.ones((2, 5)))
    with oracles.refused("too much memory", "PseudoLikelihood"):
        wide = ex.ConditionalLikelihood(observed=np.zeros((16, 16), bool))
        wide.prepare(ex.Ising((16, 16)), np.ones((2, 16, 16)))
    with oracles.refused("nothing is left"):
        ex.JointClassifier(["hidden", "visible"]).prepare(joint, rows)
    with oracles.refused("generative must be an objective", "str"):
        ex.JointClassifier("hidden", "pcd")
    with oracles.refused("learn from rows", "MaximumEntropy"):
        ex.JointClassifier("hidden", ex.MaximumEntropy())
    for weight in (0, -1.0, np.inf, True):
        with oracles.refused("weight must be positive"):
            ex.JointClassifier("hidden", weight=weight)
