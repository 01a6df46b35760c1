"""Objectives of single entries: against loops over every change, at the truth, and of few entries.

The model's own probabilities come from enumeration, conditionals from their ratios.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2

import energax as ex
import oracles
import registry
from energax.energies import trainable

OBJECTIVES = {
    "pseudo-likelihood": ex.PseudoLikelihood,
    "ratio matching": ex.RatioMatching,
    "probability flow": ex.MinimumProbabilityFlow,
}
MODELS = {
    "rbm": registry.DISCRETE["rbm"],
    "ising on a graph": registry.DISCRETE["ising on a graph"],
    "potts on a graph": registry.DISCRETE["potts on a graph"],
    "labels": lambda: ex.ExponentialFamily(
        lambda x: jnp.stack([x["a"][0] * x["a"][1], jnp.where(x["b"] == 2, x["a"][0], 0.0)]),
        jnp.array([0.6, -0.9]),
        ex.Joint(a=ex.Spin(2), b=ex.Categorical((), 3)),
    ),
}


def vector(gradient) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)])


def stepped(objective, energy, rows):
    return jax.jit(lambda key: objective.gradient(energy, rows, None, key=key))(ex.key(0))


def gradients_of_rows(objective, energy, rows) -> np.ndarray:
    """The gradient of each row by itself: axes (row, parameter)."""

    @jax.jit
    @jax.vmap
    def each(x):
        row = jax.tree.map(lambda a: a[None], x)
        return objective.gradient(energy, row, None, key=ex.key(0)).gradient

    leaves = [np.asarray(a) for a in jax.tree.leaves(each(rows))]
    return np.concatenate([a.reshape(len(a), -1) for a in leaves], 1)


def _losses(log_p, flat, n):
    """The losses of one state, from the probabilities of those that differ in one entry."""
    apart = (flat[:, None] != flat[None]).sum(-1)
    totals = [0.0, 0.0, 0.0]
    for i in range(flat.shape[1]):
        alike = np.flatnonzero((apart[n] == 0) | ((apart[n] == 1) & (flat[n, i] != flat[:, i])))
        share = jax.nn.softmax(log_p[alike])
        totals[0] -= jnp.log(share[list(alike).index(n)])
        totals[1] += jnp.sum((jnp.asarray(alike == n, share.dtype) - share) ** 2) / 2
        totals[2] += jnp.sum(jnp.exp((log_p[alike[alike != n]] - log_p[n]) / 2))
    return jnp.stack(totals)


@pytest.mark.parametrize("model", MODELS)
def test_loss_and_gradient_are_those_of_every_change(model, x64):
    energy = MODELS[model]()
    listed = oracles.stacked(energy.space)
    flat = np.concatenate(
        [np.asarray(a).reshape(len(a), -1).astype(float) for a in jax.tree.leaves(listed)], 1
    )
    some = np.linspace(0, len(flat) - 1, 4).astype(int)
    rows = jax.tree.map(lambda leaf: leaf[some], listed)
    parameters, rest = eqx.partition(energy, trainable(energy))

    def by_hand(parameters):
        log_p = -jax.vmap(eqx.combine(parameters, rest).energy)(listed)
        return jnp.mean(jnp.stack([_losses(log_p, flat, n) for n in some]), 0)

    # In one go, and the last of them in blocks too.
    objectives = [make() for make in OBJECTIVES.values()]
    objectives.append(ex.MinimumProbabilityFlow(sites_at_once=2))

    @jax.jit
    def both(key):
        steps = [o.gradient(energy, rows, None, key=key) for o in objectives]
        return by_hand(parameters), jax.jacobian(by_hand)(parameters), steps

    values, gradients, steps = both(ex.key(0))
    for i, step in zip((0, 1, 2, 2), steps, strict=True):
        assert float(step.measures["loss"]) == pytest.approx(float(values[i]), rel=1e-12)
        gradient = jax.tree.map(lambda leaf, i=i: leaf[i], gradients)
        np.testing.assert_allclose(vector(step.gradient), vector(gradient), atol=1e-12)
        log_likelihood = float(step.measures["pseudo_likelihood"])
        assert log_likelihood == pytest.approx(-float(values[0]), rel=1e-12)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_at_the_truth_the_expected_gradient_is_zero(name, model, x64):
    energy = MODELS[model]()
    gradients = gradients_of_rows(OBJECTIVES[name](), energy, oracles.stacked(energy.space))
    np.testing.assert_allclose(oracles.probabilities(energy) @ gradients, 0.0, atol=1e-12)
    assert np.abs(gradients).max() > 0.1


def test_for_two_values_ratio_matching_is_the_square_of_what_is_missing(x64):
    rbm = registry.DISCRETE["rbm"]()
    x = jnp.array([[1.0, 0.0, 0.0, 1.0]])
    e = [float(rbm.energy(x[0].at[i].set(1 - x[0, i])) - rbm.energy(x[0])) for i in range(4)]
    step = stepped(ex.RatioMatching(), rbm, x)
    expected = sum((1 / (1 + np.exp(d))) ** 2 for d in e)
    assert float(step.measures["loss"]) == pytest.approx(expected, rel=1e-12)


def test_of_independent_entries_the_pseudo_likelihood_is_the_likelihood(x64):
    energy = registry.DISCRETE["softmax"]()
    rows = oracles.stacked(energy.space)[::2]
    steps = [
        stepped(objective, energy, rows)
        for objective in (ex.PseudoLikelihood(), ex.MaximumLikelihood())
    ]
    assert float(steps[0].measures["loss"]) == pytest.approx(float(steps[1].measures["loss"]))
    np.testing.assert_allclose(vector(steps[0].gradient), vector(steps[1].gradient), atol=1e-12)


def test_states_that_are_forbidden_cost_nothing_and_break_nothing(x64):
    """Neighbours must differ: of three values the two that its neighbours have are impossible."""
    table = np.where(np.eye(3) == 1, np.inf, np.arange(9.0).reshape(3, 3) / 9)
    graph = ex.FactorGraph(3, 3, [ex.Factor([(0, 1), (1, 2)], table)])
    rows = jnp.array([[0, 1, 2], [2, 1, 2]], jnp.int32)
    objectives = [*(make() for make in OBJECTIVES.values()), ex.CompositeLikelihood(2)]

    @jax.jit
    def every(key):
        return [o.gradient(graph, rows, None, key=key) for o in objectives]

    steps = every(ex.key(0))
    for step in steps:
        assert np.isfinite(vector(step.gradient)).all()
        assert np.isfinite(float(step.measures["loss"]))
    # In the first row x_0 may be 0 or 2, x_1 only 1, x_2 0 or 2; in the second x_1 may be 0 too.
    t = table
    expected = [
        np.logaddexp(0.0, t[0, 1] - t[2, 1]) + np.logaddexp(0.0, t[1, 2] - t[1, 0]),
        np.logaddexp(0.0, t[2, 1] - t[0, 1])
        + np.logaddexp(0.0, t[2, 1] + t[1, 2] - t[2, 0] - t[0, 2])
        + np.logaddexp(0.0, t[1, 2] - t[1, 0]),
    ]
    assert float(steps[0].measures["loss"]) == pytest.approx(np.mean(expected), rel=1e-12)


# --- few entries a row --------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_few_entries_are_right_on_average(name, x64):
    # 4,000 gradients of two entries a row; every parameter and the loss.
    rbm = registry.DISCRETE["rbm"]()
    rows = oracles.stacked(rbm.space)[jnp.array([3, 8, 13])]
    whole = stepped(OBJECTIVES[name](), rbm, rows)
    few = OBJECTIVES[name](n_sites=2)

    @jax.jit
    @jax.vmap
    def each(key):
        step = few.gradient(rbm, rows, None, key=key)
        return step.measures["loss"], step.gradient

    losses, gradients = each(jax.random.split(ex.key(1), 4000))
    oracles.assert_mean(losses, float(whole.measures["loss"]))
    leaves = [np.asarray(a).reshape(4000, -1) for a in jax.tree.leaves(gradients)]
    oracles.assert_mean(np.concatenate(leaves, 1), vector(whole.gradient))


def test_as_many_entries_as_there_are_is_all_of_them(x64):
    rbm = registry.DISCRETE["rbm"]()
    rows = oracles.stacked(rbm.space)
    every, drawn = (stepped(ex.PseudoLikelihood(n_sites=n), rbm, rows) for n in (None, 4))
    np.testing.assert_allclose(vector(every.gradient), vector(drawn.gradient), atol=1e-12)


@pytest.mark.parametrize("n_sites", [None, 1, 3])
def test_entries_that_are_held_add_nothing(n_sites, x64):
    # Of two of four visible units there is nothing to predict; with one or three drawn, one or
    # both of the others are, and one of them counts twice: 500 gradients.
    held = registry.DISCRETE["conditioned rbm"]()
    rows = jnp.array([[1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    expected = 0.0
    for x in rows:
        for i in (1, 2):
            flipped = x.at[i].set(1 - x[i])
            expected += float(np.logaddexp(0.0, held.energy(x) - held.energy(flipped))) / 2
    objective = ex.PseudoLikelihood(n_sites=n_sites)
    each = jax.jit(
        jax.vmap(lambda key: objective.gradient(held, rows, None, key=key).measures["loss"])
    )(jax.random.split(ex.key(0), 500))
    if n_sites == 1:
        oracles.assert_mean(each, expected)
    else:
        np.testing.assert_allclose(each, expected, rtol=1e-12)


# --- recovery -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pseudo-likelihood", "probability flow"])
def test_couplings_are_recovered_with_the_error_that_theory_says(name, x64):
    """With n rows the estimate's error is normal with the sandwich covariance H^-1 J H^-1 / n
    (V. Godambe, 1960), H the mean curvature at the truth and J the covariance of a row's gradient,
    both by enumeration. Of 40 fits at each of two n, the errors' Mahalanobis distances add up to a
    chi-squared number; two-sided, false alarm 1e-5 a check."""
    graph = ex.Graph([(0, 1), (1, 2), (2, 0)])
    truth = ex.Ising(graph, [0.6, -0.4, 0.3], 0.2)
    objective = OBJECTIVES[name]()
    listed, p = oracles.stacked(truth.space), oracles.probabilities(truth)
    at = jnp.append(truth.coupling, truth.field)

    def of_states(theta):
        """The gradient of every state's loss."""
        energy = ex.Ising(graph, theta[:3], theta[3])
        rows = jax.vmap(lambda x: objective.gradient(energy, x[None], None, key=ex.key(0)).gradient)
        each = rows(listed)
        return jnp.concatenate([each.coupling, each.field[:, None]], 1)

    def newton(_, theta, weights):
        slope = jnp.tensordot(weights, jax.jacobian(of_states)(theta), 1)
        return theta - jnp.linalg.solve(slope, weights @ of_states(theta))

    @jax.jit
    def answers(weights):
        def fitted(weights):
            return jax.lax.fori_loop(0, 12, lambda i, t: newton(i, t, weights), at)

        found = jax.vmap(fitted)(weights)
        left = jax.vmap(lambda t, w: w @ of_states(t))(found, weights)
        return of_states(at), jax.jacobian(of_states)(at), found, left

    generator, sizes = np.random.default_rng(0), (2000, 32_000)
    weights = np.concatenate([generator.multinomial(n, p, 40) / n for n in sizes])
    rows, slopes, found, left = map(np.asarray, answers(jnp.asarray(weights)))
    np.testing.assert_allclose(left, 0.0, atol=1e-10)
    inverse = np.linalg.inv(np.tensordot(p, slopes, 1))
    covariance = inverse @ (rows.T @ (p[:, None] * rows)) @ inverse
    errors = np.split(found - np.asarray(at)[None], 2)
    for n, error in zip(sizes, errors, strict=True):
        total = n * np.einsum("ni,ij,nj->", error, np.linalg.inv(covariance), error)
        assert chi2.ppf(5e-6, 160) < total < chi2.isf(5e-6, 160)


def test_a_fit_finds_the_couplings_it_was_given_rows_of():
    truth = ex.Ising(ex.Graph([(0, 1), (1, 2), (2, 3), (3, 0)]), [0.5, -0.4, 0.3, 0.6], 0.0)
    p = oracles.probabilities(truth)
    counts = np.round(4000 * p).astype(int)
    rows = np.repeat(np.asarray(oracles.stacked(truth.space)), counts, 0)
    start = ex.Ising(truth.graph, np.zeros(4), 0.0)
    run = ex.fit(
        start, rows, ex.PseudoLikelihood(), key=ex.key(0), learning_rate=0.02, steps=300,
        batch_size=len(rows),
    )  # fmt: skip
    assert run.ok
    np.testing.assert_allclose(run.energy.coupling, truth.coupling, atol=5e-3)
    last = stepped(ex.PseudoLikelihood(), run.energy, jnp.asarray(rows, jnp.float32))
    expected = float(last.measures["pseudo_likelihood"])
    assert run.history[-1]["pseudo_likelihood"] == pytest.approx(expected, abs=1e-3)


# --- the door -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_cannot_be_is_refused_before_training(name):
    make = OBJECTIVES[name]
    rbm = registry._rbm()
    rows = np.zeros((3, 4))
    with oracles.refused("n_sites must be an integer", "0"):
        make(n_sites=0)
    with oracles.refused("sites_at_once must be an integer", "-1"):
        make(sites_at_once=-1)
    with oracles.refused("n_sites must be at most the 4 entries", "5"):
        make(n_sites=5).prepare(rbm, rows)
    with oracles.refused(make.__name__, "every value of an entry", "Real"):
        make().prepare(ex.Gaussian(np.zeros(2)), np.zeros((3, 2)))
    assert make(n_sites=np.int64(2)).prepare(rbm, rows).shape == (3, 4)
