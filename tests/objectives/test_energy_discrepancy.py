"""Energy discrepancy: its mean by enumeration, in closed form, and at both ends of its scale."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
import registry
from energax.energies import trainable

N = 3000


def steps(objective, energy, rows, n=N, seed=0):
    """Steps of n keys."""
    rows = objective.prepare(energy, rows)
    return jax.jit(jax.vmap(lambda key: objective.gradient(energy, rows, None, key=key)))(
        jax.random.split(ex.key(seed), n)
    )


def vectors(gradient) -> np.ndarray:
    leaves = jax.tree.leaves(gradient)
    return np.concatenate([np.reshape(leaf, (len(leaf), -1)) for leaf in leaves], 1)


def measured(objective, energy, rows):
    return jax.jit(lambda key: objective.gradient(energy, rows, None, key=key).measures)(ex.key(0))


def by_enumeration(energy, start, transition, stabilisation):
    """The value and gradient with two negatives, of the row with number `start`."""
    parameters, rest = eqx.partition(energy, trainable(energy))
    weight = np.einsum("y,ya,yb->ab", transition[start], transition, transition)
    states = oracles.stacked(energy.space)

    def loss(parameters):
        e = jax.vmap(eqx.combine(parameters, rest).energy)(states)
        ratio = jnp.exp(e[start] - e)
        inside = stabilisation / 2 + (ratio[:, None] + ratio[None]) / 2
        return jnp.sum(jnp.asarray(weight) * jnp.log(inside))

    value, gradient = jax.value_and_grad(loss)(parameters)
    return float(value), np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)])


@pytest.mark.parametrize("stabilisation", [0.0, 1.0])
@pytest.mark.parametrize(("name", "n", "row"), [("rbm", 2, [1, 0, 0, 1]), ("softmax", 3, [2, 0])])
def test_its_mean_over_perturbations_is_known(x64, name, n, row, stabilisation):
    """Each entry stays with probability 1 - r + r / n, and else has any other value alike."""
    energy, r = registry.DISCRETE[name](), 0.6
    objective = ex.EnergyDiscrepancy(redrawn=r, n_negatives=2, stabilisation=stabilisation)
    states = np.asarray(oracles.stacked(energy.space)).astype(int)
    one = (1 - r) * np.eye(n) + r / n
    transition = one[states[:, None], states[None]].prod(-1)
    (start,) = np.flatnonzero((states == row).all(1))
    found = steps(objective, energy, np.array([row]))
    value, gradient = by_enumeration(energy, start, transition, stabilisation)
    oracles.assert_mean(np.asarray(found.measures["loss"]), value)
    oracles.assert_mean(vectors(found.gradient), gradient)


@pytest.mark.slow
def test_drawn_anew_altogether_it_is_maximum_likelihood(x64):
    """Then J + log of the number of states is the negative log-likelihood, up to a bias and an
    error that 4,096 negatives leave small; false alarm 1e-5 beside the bias allowed for."""
    rbm = registry.DISCRETE["rbm"]()
    rows = np.random.default_rng(0).integers(0, 2, (7, 4))
    objective = ex.EnergyDiscrepancy(redrawn=1.0, n_negatives=4096, stabilisation=0.0)
    found = steps(objective, rbm, rows, n=25)
    exact = ex.MaximumLikelihood().gradient(rbm, jnp.asarray(rows, float), None, key=ex.key(0))
    gradient = np.concatenate([np.ravel(a) for a in jax.tree.leaves(exact.gradient)])
    loss = np.asarray(found.measures["loss"]) + 4 * np.log(2)
    assert loss.mean() == pytest.approx(float(exact.measures["loss"]), abs=0.01)
    np.testing.assert_allclose(vectors(found.gradient).mean(0), gradient, atol=0.01)
    assert np.abs(gradient).max() > 0.1


def on_a_gaussian(rows, variance, t):
    """J without w and with M to infinity for E = x^2 / (2 v), and its slope in log sqrt(v).

    The perturbed energy is y^2 / (2 (v + t)) - log(v / (v + t)) / 2, and y is x + sqrt(t) z.
    """
    square, v = (rows**2).mean(), variance
    value = square / v / 2 - (square + t) / (v + t) / 2 + np.log(v / (v + t)) / 2
    slope = -square / v**2 + (square + t) / (v + t) ** 2 + 1 / v - 1 / (v + t)
    return value, slope * v


ROWS = np.random.default_rng(0).normal(size=20)


@pytest.mark.parametrize("t", [0.05, 0.3])
def test_on_a_gaussian_it_is_known_up_to_a_bias_that_shrinks(x64, t):
    energy = ex.Gaussian(np.zeros(()), 0.8)
    value, slope = on_a_gaussian(ROWS, 0.64, t)

    def at(m, n):
        objective = ex.EnergyDiscrepancy(noise=t**0.5, n_negatives=m, stabilisation=0.0)
        found = steps(objective, energy, ROWS, n=n)
        each = np.stack([found.measures["loss"] - value, found.gradient.log_scale - slope])
        return each.mean(1), each.std(1) / n**0.5

    few, error = at(2, 10_000)
    many, small = at(256, 500)
    assert few[0] < -10 * error[0]  # the mean of a logarithm lies below
    assert abs(many[0]) < abs(few[0]) / 40 + 4.5 * small[0]
    assert abs(many[1]) < 0.03 * abs(slope) + 4.5 * small[1]


def test_a_small_perturbation_matches_scores_and_a_large_one_likelihoods():
    """The closed form above, which the code meets, between its two limits; and both are least at
    the variance of the data."""
    u, v = (ROWS**2).mean(), 0.64
    energy = ex.Gaussian(np.zeros(()), 0.8)
    rows = jnp.asarray(ROWS, jnp.float32)
    for objective, t, scale in (
        (ex.ScoreMatching(), 1e-5, 1e5),
        (ex.MaximumLikelihood(), 1e6, 1.0),
    ):
        gradient = objective.gradient(energy, rows, None, key=ex.key(0)).gradient
        found = on_a_gaussian(ROWS, v, t)[1] * scale
        assert found == pytest.approx(float(gradient.log_scale), rel=1e-3)
    assert on_a_gaussian(ROWS, u, 0.7)[1] == pytest.approx(0, abs=1e-12)


@pytest.mark.slow
def test_a_small_perturbation_matches_scores(x64):
    """The code itself at t = 0.02, within a tenth of score matching and five standard errors."""
    network = eqx.nn.MLP(2, "scalar", 4, 1, jax.nn.tanh, key=ex.key(0))
    energy = ex.NeuralEnergy(network, ex.Real(2))
    rows = jnp.asarray(np.random.default_rng(1).normal(size=(20, 2)))
    t = 0.02
    objective = ex.EnergyDiscrepancy(noise=t**0.5, n_negatives=128, stabilisation=0.0)
    each = vectors(steps(objective, energy, rows, n=1000).gradient) / t
    step = jax.jit(lambda key: ex.ScoreMatching().gradient(energy, rows, None, key=key))(ex.key(0))
    exact = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(step.gradient)])
    error, size = each.std(0) / np.sqrt(len(each)), np.linalg.norm(exact)
    assert np.linalg.norm(error) < 0.15 * size
    assert (np.abs(each.mean(0) - exact) < 5 * error + 0.1 * size).all()


def test_states_stay_in_their_space():
    """Outside, the energy is NaN: of a box, of a joint, and of one with observed entries."""
    space = ex.Joint(a=ex.Box(3, 0.0, 1.0), b=ex.Spin(2), c=ex.Categorical((), 3))

    def inside(x):
        return jnp.where(space.contains(x), jnp.sum(x["a"]), jnp.nan)

    energy = ex.NeuralEnergy(inside, space)
    objective = ex.EnergyDiscrepancy(noise=2.0, redrawn=1.0)
    rows = {"a": np.full((50, 3), 0.5), "b": np.ones((50, 2)), "c": np.zeros(50, int)}
    rows = objective.prepare(energy, rows)
    measures = measured(objective, energy, rows)
    assert np.isfinite(float(measures["energy_negatives"]))
    assert abs(float(measures["energy_negatives"]) + 1.5) < 0.1  # uniform by now


def test_observed_entries_are_not_perturbed():
    line = ex.Ising(4, 0.5)
    held = ex.condition(line, np.array([1, -1, 1, 1]), np.array([True, True, False, False]))

    class Watching(ex.AbstractEnergy):
        inner: ex.AbstractEnergy

        @property
        def space(self):
            return self.inner.space

        def energy(self, x):
            kept = (x[0] == 1) & (x[1] == -1)
            return jnp.where(kept, self.inner.energy(x), jnp.nan)

    energy = Watching(held)
    objective = ex.EnergyDiscrepancy(redrawn=1.0)
    rows = objective.prepare(energy, np.array([[1, -1, 1, 1], [1, -1, -1, 1]]))
    measures = measured(objective, energy, rows)
    assert np.isfinite(float(measures["loss"]))
    assert float(measures["energy_negatives"]) != float(measures["energy_data"])


@pytest.mark.usefixtures("as_users_call")
def test_bad_settings_are_named():
    for options in ({"noise": 0.0}, {"noise": np.inf}, {"noise": "a"}):
        with oracles.refused("noise must be a positive number"):
            ex.EnergyDiscrepancy(**options)
    for redrawn in (0.0, 1.5, True):
        with oracles.refused("redrawn must be above 0 and at most 1"):
            ex.EnergyDiscrepancy(redrawn=redrawn)
    with oracles.refused("stabilisation must be at least 0", "-1"):
        ex.EnergyDiscrepancy(stabilisation=-1.0)
    with oracles.refused("n_negatives", "at least 1"):
        ex.EnergyDiscrepancy(n_negatives=0)
    with oracles.refused("no perturbation of", "Count"):
        ex.EnergyDiscrepancy().prepare(ex.Poisson(np.ones(2)), np.ones((3, 2)))
