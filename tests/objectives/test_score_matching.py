"""Score matching, exact and sliced: closed forms, blocks, ends, and what slices are on average."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles

SM, SLICED = ex.ScoreMatching(), ex.SlicedScoreMatching()
ROWS = np.random.default_rng(0).normal([1.0, -0.5, 0.3], [0.5, 1.5, 0.8], (40, 3))
PICTURES = np.random.default_rng(2).uniform(-1.9, 1.9, (4, 2, 3))


def step_of(objective, energy, rows, seed=0):
    rows = objective.prepare(energy, rows)
    return jax.jit(lambda e, key: objective.gradient(e, rows, None, key=key))(energy, ex.key(seed))


def vector(gradient) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)])


class Images(eqx.Module):
    """A function of images that fails on anything else."""

    filters: jax.Array

    def __call__(self, x):
        assert x.shape == (2, 3)
        return jnp.sum(jnp.tanh(jnp.einsum("kij,ij->k", self.filters, x)) ** 2) - 0.1 * jnp.sum(
            x**4
        )


def images():
    filters = np.random.default_rng(1).normal(size=(5, 2, 3))
    return ex.NeuralEnergy(Images(jnp.asarray(filters)), ex.Real((2, 3)))


def by_hessian(energy, rows):
    """The objective by the whole Hessian, over one array of real entries."""

    def of(x):
        hessian = jax.hessian(energy.energy)(x).reshape(x.size, x.size)
        return 0.5 * jnp.sum(energy.score(x) ** 2) - jnp.trace(hessian)

    return jnp.mean(jax.vmap(of)(rows))


def test_on_a_gaussian_it_is_a_quadratic_function_of_the_precision(x64):
    """With precision q, J = q^2 E (x - m)^2 / 2 - q for each entry."""
    mean, scale = np.array([0.5, 0.0, 1.0]), np.array([0.7, 1.2, 0.9])
    step = step_of(SM, ex.Gaussian(mean, scale), ROWS)
    q, square = scale**-2, ((ROWS - mean) ** 2).mean(0)
    assert float(step.measures["score_matching"]) == pytest.approx(
        (q**2 * square / 2 - q).sum(), rel=1e-12
    )
    np.testing.assert_allclose(step.gradient.mean, -(q**2) * (ROWS.mean(0) - mean), rtol=1e-10)
    slope = (q * square - 1) * (-2 * q)  # in the logarithm of the scale
    np.testing.assert_allclose(step.gradient.log_scale, slope, rtol=1e-10)


def test_its_minimum_on_gaussians_is_the_moments_of_the_data(x64):
    covariance = np.cov(ROWS.T, bias=True)
    fitted = ex.MultivariateGaussian(ROWS.mean(0), covariance)
    np.testing.assert_allclose(vector(step_of(SM, fitted, ROWS).gradient), 0, atol=1e-10)
    other = ex.MultivariateGaussian(ROWS.mean(0) + 0.1, 1.2 * covariance)
    assert np.abs(vector(step_of(SM, other, ROWS).gradient)).max() > 0.1
    run = ex.fit(
        ex.Gaussian(np.zeros(3)), ROWS, SM, key=ex.key(0), steps=600, learning_rate=0.03,
        batch_size=40,
    )  # fmt: skip
    np.testing.assert_allclose(run.energy.mean, ROWS.mean(0), atol=1e-3)
    np.testing.assert_allclose(run.energy.scale, ROWS.std(0), atol=1e-3)


@pytest.mark.parametrize("block", [4, 16])
def test_the_trace_is_exact_in_blocks_of_any_size(x64, block):
    energy = images()
    step = step_of(ex.ScoreMatching(block=block), energy, PICTURES)
    value, gradient = jax.jit(jax.value_and_grad(by_hessian))(energy, jnp.asarray(PICTURES))
    assert float(step.measures["score_matching"]) == pytest.approx(float(value), rel=1e-10)
    np.testing.assert_allclose(vector(step.gradient), vector(gradient), rtol=1e-9, atol=1e-12)


def test_no_jacobian_is_held():
    d, rows = 40, jnp.zeros((3, 40))
    network = eqx.nn.MLP(d, "scalar", 8, 1, jax.nn.tanh, key=ex.key(0))
    energy = ex.NeuralEnergy(network, ex.Real(d))

    def largest(block):
        objective = ex.ScoreMatching(block=block)
        made = jax.make_jaxpr(lambda key: objective.gradient(energy, rows, None, key=key))
        shapes = re.findall(r"f32\[([\d,]+)\]", str(made(ex.key(0))))
        return max(int(np.prod([int(n) for n in shape.split(",")])) for shape in shapes)

    assert largest(40) == 3 * 40 * 40
    assert largest(5) == 3 * 5 * 40


def test_parts_of_a_joint_are_matched_together(x64):
    """E = q (a - b)^2 / 2 + c b^2 / 2 over two parts of different shapes."""

    class Pair(eqx.Module):
        q: jax.Array

        def __call__(self, x):
            assert x["a"].shape == (2,)
            return -0.5 * self.q * jnp.sum((x["a"] - x["b"]) ** 2) - 0.25 * x["b"] ** 2

    space = ex.Joint(a=ex.Real(2), b=ex.Real())
    energy = ex.NeuralEnergy(Pair(jnp.array(1.3)), space)
    rows = {"a": ROWS[:, :2], "b": ROWS[:, 2]}
    left = rows["a"] - rows["b"][:, None]
    score_b = 1.3 * left.sum(1) - 0.5 * rows["b"]
    expected = 0.5 * ((1.3 * left) ** 2).sum(1) + 0.5 * score_b**2 - (4 * 1.3 + 0.5)
    step = step_of(SM, energy, rows)
    assert float(step.measures["score_matching"]) == pytest.approx(expected.mean(), rel=1e-12)
    slope = (1.3 * left**2).sum(1) + score_b * left.sum(1) - 4
    assert float(step.gradient.function.q) == pytest.approx(slope.mean(), rel=1e-12)


# --- ends --------------------------------------------------------------------------------------


def test_above_one_end_waiting_times_are_fitted_by_their_mean(x64):
    """With h = x, J = E[x] r^2 / 2 - r, least at the rate of greatest likelihood."""
    rows = np.random.default_rng(3).exponential([0.5, 3.0], (50, 2))
    fitted = ex.Exponential(1 / rows.mean(0))
    np.testing.assert_allclose(step_of(SM, fitted, rows).gradient.log_rate, 0, atol=1e-12)
    rate = np.array([1.0, 2.0])
    step = step_of(SM, ex.Exponential(rate), rows)
    value = (rows.mean(0) * rate**2 / 2 - rate).sum()
    assert float(step.measures["score_matching"]) == pytest.approx(value, rel=1e-12)
    sliced = step_of(SLICED, ex.Exponential(rate), rows)  # diagonal: no slice differs
    assert float(sliced.measures["score_matching"]) == pytest.approx(value, rel=1e-12)


class Tilt(eqx.Module):
    slope: jax.Array

    def __call__(self, x):
        return self.slope @ x


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-1.0, 3.0), (-np.inf, 2.0)])
def test_a_density_cut_off_at_its_ends_is_consistent(x64, ends):
    """Rows at evenly spaced quantiles of exp(r x) between the ends, whose density vanishes at
    neither. At the true r the gradient is zero; half the squared score and its slope alone, as on
    all the line, would put it at r = 0."""
    low, high = ends
    r = 1.5
    at = (np.arange(200_000) + 0.5) / 200_000
    reach = 0.0 if np.isinf(low) else np.exp(r * (low - high))
    rows = (high + np.log(reach + at * (1 - reach)) / r)[:, None]
    space = ex.Box(1, low, high)

    def slope(r):
        energy = ex.NeuralEnergy(Tilt(jnp.array([r])), space)
        return float(step_of(SM, energy, rows).gradient.function.slope[0])

    assert abs(slope(r)) < 1e-4
    assert slope(r - 0.5) < -0.05
    assert slope(r + 0.5) > 0.05


def test_observed_entries_do_not_count(x64):
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    whole = ex.MultivariateGaussian(np.array([0.5, -1.0]), covariance)
    held = ex.condition(whole, np.array([0.0, 1.0]), np.array([False, True]))
    rows = np.stack([ROWS[:, 0], np.ones(40)], 1)
    mean, variance = 0.5 + 0.6 / 2.0 * 2.0, 1 - 0.6**2 / 2.0
    expected = 0.5 * ((rows[:, 0] - mean) / variance) ** 2 - 1 / variance
    found = step_of(SM, held, rows).measures["score_matching"]
    assert float(found) == pytest.approx(expected.mean(), rel=1e-10)


# --- slices ------------------------------------------------------------------------------------


def gradients(objective, energy, rows, n):
    """The gradient for n keys, axes (key, parameter)."""
    each = jax.jit(jax.vmap(lambda key: objective.gradient(energy, rows, None, key=key).gradient))(
        jax.random.split(ex.key(1), n)
    )
    return np.concatenate([np.reshape(a, (n, -1)) for a in jax.tree.leaves(each)], 1)


@pytest.mark.parametrize("bounded", [False, True])
def test_slices_are_right_on_average(x64, bounded):
    """3,000 gradients of one direction a row; false alarm 1e-5 for each of three means."""
    space = ex.Box((2, 3), -2.0, 2.0) if bounded else ex.Real((2, 3))
    energy, rows = ex.NeuralEnergy(images().function, space), jnp.asarray(PICTURES)
    exact = vector(step_of(SM, energy, PICTURES).gradient)
    reduced = gradients(SLICED, energy, rows, 3000)
    oracles.assert_mean(reduced, exact)
    if not bounded:
        plain = gradients(ex.SlicedScoreMatching(variance_reduced=False), energy, rows, 3000)
        oracles.assert_mean(plain, exact)
        assert np.abs(reduced - plain).max() > 0.1


def test_the_reduced_form_of_independent_entries_has_no_spread(x64):
    gaussian = ex.Gaussian(np.zeros(3), [0.7, 1.2, 0.9])
    exact = vector(step_of(SM, gaussian, ROWS).gradient)
    np.testing.assert_allclose(vector(step_of(SLICED, gaussian, ROWS).gradient), exact, rtol=1e-12)
    plain = step_of(ex.SlicedScoreMatching(variance_reduced=False), gaussian, ROWS)
    assert np.abs(vector(plain.gradient) - exact).max() > 0.1


def test_directions_average_within_a_row(x64):
    energy, row = images(), jnp.asarray(PICTURES[:1])
    one, four = (
        gradients(ex.SlicedScoreMatching(n_projections=n), energy, row, 2000).var(0).sum()
        for n in (1, 4)
    )
    # The ratio of two variances of 2,000: 4 up to some 10%.
    assert 2.8 < one / four < 5.6


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [SM, SLICED])
def test_discrete_entries_are_refused(objective):
    with oracles.refused(type(objective).__name__, "continuous", "Binary"):
        objective.prepare(ex.Bernoulli(np.zeros(2)), np.zeros((3, 2)))
    space = ex.Joint(x=ex.Real(), label=ex.Categorical((), 3))
    mixed = ex.NeuralEnergy(lambda s: -(s["x"] ** 2), space)
    with oracles.refused("continuous"):
        objective.prepare(mixed, {"x": np.zeros(3), "label": np.zeros(3, int)})


def test_bad_settings_are_named():
    with oracles.refused("block", "at least 1"):
        ex.ScoreMatching(block=0)
    with oracles.refused("n_projections", "at least 1"):
        ex.SlicedScoreMatching(n_projections=0)
