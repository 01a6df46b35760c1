"""Composite likelihood, between pseudo-likelihood and likelihood, against sums over all states."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import energax as ex
import oracles
import registry


def _vector(gradient) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)])


def _stepped(objectives, energy, rows, seed=0):
    return jax.jit(lambda key: [o.gradient(energy, rows, None, key=key) for o in objectives])(
        ex.key(seed)
    )


def _same(a, b):
    assert float(a.measures["loss"]) == pytest.approx(float(b.measures["loss"]), rel=1e-12)
    np.testing.assert_allclose(_vector(a.gradient), _vector(b.gradient), atol=1e-12)


@pytest.mark.parametrize("name", ["rbm", "potts on a graph", "factor graph of labels"])
def test_its_ends_are_pseudo_likelihood_and_likelihood(name, x64):
    energy = registry.DISCRETE[name]()
    rows = oracles.stacked(energy.space)[::5]
    n = int(np.prod(energy.space.shape))
    single, pseudo, whole, likelihood = _stepped(
        [
            ex.CompositeLikelihood(1),
            ex.PseudoLikelihood(),
            ex.CompositeLikelihood(n),
            ex.MaximumLikelihood(),
        ],
        energy,
        rows,
    )
    _same(single, pseudo)
    _same(whole, likelihood)


def test_blocks_of_a_joint_may_overlap_and_leave_some_out(x64):
    """Entries count through a: 0 and 1, three values of b: 2."""
    energy = registry.DISCRETE["table of a joint"]()
    blocks = [(0, 2), (2, 1), (1,)]
    listed = oracles.stacked(energy.space)
    states = np.concatenate(
        [np.asarray(listed["a"]), np.asarray(listed["b"], float).reshape(-1, 1)], 1
    )
    log_p = -oracles.energies(energy)
    expected = 0.0
    for n, state in enumerate(states):
        for block in blocks:
            rest = [i for i in range(3) if i not in block]
            alike = (states[:, rest] == state[rest]).all(1)
            expected += (logsumexp(log_p[alike]) - log_p[n]) / len(states)
    every, blocked = _stepped(
        [ex.CompositeLikelihood(blocks), ex.CompositeLikelihood(blocks, blocks_at_once=2)],
        energy,
        listed,
    )
    for step in (every, blocked):
        assert float(step.measures["loss"]) == pytest.approx(expected, rel=1e-12)


def test_entries_that_are_held_are_conditioned_on(x64):
    held = registry.DISCRETE["conditioned rbm"]()  # free are 1 and 2
    rows = jnp.array([[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    free = [np.array([1.0, a, b, 0.0]) for a in (0, 1) for b in (0, 1)]
    e = jax.jit(lambda x: jax.vmap(held.energy)(x))
    expected = float(np.mean(e(rows))) + logsumexp(-np.asarray(e(jnp.asarray(free))))
    (step,) = _stepped([ex.CompositeLikelihood(4)], held, rows)
    assert float(step.measures["loss"]) == pytest.approx(expected, rel=1e-12)


def test_at_the_truth_the_expected_gradient_is_zero(x64):
    energy = registry.DISCRETE["ising on a graph"]()
    objective = ex.CompositeLikelihood([(0, 3), (1, 2, 4), (5, 0)])

    @jax.jit
    @jax.vmap
    def each(x):
        return objective.gradient(energy, x[None], None, key=ex.key(0)).gradient

    leaves = [np.asarray(a) for a in jax.tree.leaves(each(oracles.stacked(energy.space)))]
    gradients = np.concatenate([a.reshape(len(a), -1) for a in leaves], 1)
    np.testing.assert_allclose(oracles.probabilities(energy) @ gradients, 0.0, atol=1e-12)
    assert np.abs(gradients).max() > 0.1


@pytest.mark.slow
def test_a_few_blocks_are_right_on_average(x64):
    # 4,000 gradients of one of three blocks a row; every parameter and the loss.
    rbm = registry.DISCRETE["rbm"]()
    rows = oracles.stacked(rbm.space)[jnp.array([3, 8, 13])]
    blocks = [(0, 1), (2, 3), (1, 2)]
    (whole,) = _stepped([ex.CompositeLikelihood(blocks)], rbm, rows)
    few = ex.CompositeLikelihood(blocks, n_blocks=1)

    @jax.jit
    @jax.vmap
    def each(key):
        step = few.gradient(rbm, rows, None, key=key)
        return step.measures["loss"], step.gradient

    losses, gradients = each(jax.random.split(ex.key(1), 4000))
    oracles.assert_mean(losses, float(whole.measures["loss"]))
    leaves = [np.asarray(a).reshape(4000, -1) for a in jax.tree.leaves(gradients)]
    oracles.assert_mean(np.concatenate(leaves, 1), _vector(whole.gradient))


def test_what_cannot_be_is_refused():
    rows = np.zeros((3, 4))
    for blocks, words in (
        (0, ("blocks", "at least 1", "0")),
        ([], ("no block",)),
        ([(0, 1), ()], ("empty",)),
        ([(0, 1, 0)], ("twice", "(0, 1, 0)")),
        ([(0, -1)], ("an entry", "-1")),
        (1.5, ("blocks must be",)),
    ):
        with oracles.refused(*words):
            ex.CompositeLikelihood(blocks)
    with oracles.refused("from 0 to 3", "4"):
        ex.CompositeLikelihood([(0, 4)]).prepare(registry._rbm(), rows)
    with oracles.refused("131072 states", "65536", "smaller blocks"):
        ex.CompositeLikelihood(17).prepare(registry._rbm(20), np.zeros((3, 20)))
    with oracles.refused("n_blocks", "2 blocks", "3"):
        ex.CompositeLikelihood(2, n_blocks=3).prepare(registry._rbm(), rows)
    with oracles.refused("CompositeLikelihood", "Real"):
        ex.CompositeLikelihood(2).prepare(ex.Gaussian(np.zeros(2)), np.zeros((3, 2)))


def test_blocks_are_counted_by_their_own_entries():
    # Ten bits beside a label of a hundred values: blocks of 2^10 states, not of 100^10.
    space = ex.Joint(a=ex.Binary(10), b=ex.Categorical((), 100))
    energy = ex.NeuralEnergy(lambda x: jnp.sum(x["a"]) * 0.1, space)
    objective = ex.CompositeLikelihood([tuple(range(10))])
    rows = objective.prepare(energy, {"a": np.zeros((3, 10)), "b": np.arange(3)})
    step = objective.gradient(energy, rows, None, key=ex.key(0))
    assert float(step.measures["loss"]) == pytest.approx(10 * np.log1p(np.exp(0.1)), rel=1e-5)
