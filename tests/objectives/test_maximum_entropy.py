"""Maximum entropy: natural parameters known in closed form, and moments that cannot be had."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
import registry


def _fit(family, moments, objective=None, n_steps: int = 30):
    """The parameter after full steps of the objective's gradient, and the last measures."""
    objective = objective or ex.MaximumEntropy()
    batch = objective.prepare(family, np.asarray(moments, float))

    @jax.jit
    def run(eta):
        def body(eta, _):
            here = eqx.tree_at(lambda f: f.natural_parameter, family, eta)
            step = objective.gradient(here, batch, None, key=ex.key(0))
            return eta - step.gradient.natural_parameter, step.measures

        return jax.lax.scan(body, eta, length=n_steps)

    eta, measures = run(family.natural_parameter)
    last = {name: float(values[-1]) for name, values in measures.items()}
    return np.asarray(eta), last, objective.complaint(last)


def _family(statistic, n: int, space) -> ex.ExponentialFamily:
    return ex.ExponentialFamily(statistic, jnp.zeros(n), space)


def _entropy(p) -> float:
    return float(-(p * np.log(p)).sum())


def test_bits_have_the_log_odds_of_their_means(x64):
    means = np.array([0.2, 0.9, 0.5])
    eta, last, complaint = _fit(_family(lambda x: x, 3, ex.Binary(3)), means)
    np.testing.assert_allclose(eta, np.log(means / (1 - means)), atol=1e-9)
    assert last["entropy"] == pytest.approx(
        sum(_entropy(np.array([m, 1 - m])) for m in means), rel=1e-9
    )
    assert last["moment_error"] < 1e-9
    assert complaint == ""


def test_spins_have_the_inverse_hyperbolic_tangent(x64):
    means = np.array([-0.8, 0.3])
    eta, _, complaint = _fit(_family(lambda x: x, 2, ex.Spin(2)), means)
    np.testing.assert_allclose(eta, np.arctanh(means), atol=1e-9)
    assert complaint == ""


def test_a_pair_of_spins_has_the_coupling_of_its_correlation(x64):
    eta, _, _ = _fit(_family(lambda x: x[0] * x[1], 1, ex.Spin(2)), [0.6])
    np.testing.assert_allclose(eta, [np.arctanh(0.6)], atol=1e-9)


def test_labels_have_the_logits_of_their_frequencies(x64):
    p = np.array([0.1, 0.6, 0.3])
    one_hot = _family(
        lambda x: (x == jnp.arange(3, dtype=x.dtype))[:2].astype(float), 2, ex.Categorical((), 3)
    )
    eta, last, _ = _fit(one_hot, p[:2])
    np.testing.assert_allclose(eta, np.log(p[:2] / p[2]), atol=1e-9)
    assert last["entropy"] == pytest.approx(_entropy(p), rel=1e-9)


def test_mean_and_second_moment_make_a_normal_density(x64):
    # Mean 1 and variance 2: eta = (mean / variance, -1 / (2 variance)).
    family = ex.ExponentialFamily(lambda x: jnp.stack([x, x**2]), jnp.array([0.0, -0.5]), ex.Real())
    objective = ex.MaximumEntropy(n_points=400, low=-14.0, high=16.0)
    eta, last, complaint = _fit(family, [1.0, 3.0], objective)
    np.testing.assert_allclose(eta, [0.5, -0.25], atol=1e-9)
    assert last["entropy"] == pytest.approx(0.5 * np.log(2 * np.pi * np.e * 2), rel=1e-9)
    assert complaint == ""


def test_a_mean_in_a_box_makes_a_truncated_exponential(x64):
    # On [2, 4] with density proportional to exp(eta x): the mean is 3 + coth(eta) - 1 / eta.
    eta, _, _ = _fit(
        _family(lambda x: x[0], 1, ex.Box(1, 2.0, 4.0)),
        [3 + 1 / np.tanh(1.5) - 1 / 1.5],
        ex.MaximumEntropy(n_points=4000),
    )
    np.testing.assert_allclose(eta, [1.5], atol=1e-5)
    narrower = ex.MaximumEntropy(n_points=4000, low=2.0, high=3.0)
    eta, _, _ = _fit(_family(lambda x: x[0], 1, ex.Box(1, 2.0, 4.0)), [2.5], narrower)
    np.testing.assert_allclose(eta, [0.0], atol=1e-9)


def test_a_box_trains_as_part_of_a_compiled_step():
    family = _family(lambda x: x[0], 1, ex.Box(1, 0.0, 2.0))
    run = ex.fit(family, np.array([1.0]), ex.MaximumEntropy(), key=ex.key(0), steps=5)
    np.testing.assert_allclose(run.energy.natural_parameter, [0.0], atol=1e-5)
    assert run.message == "5 steps"


def test_the_step_is_a_damped_newton_step(x64):
    family = ex.ExponentialFamily(
        lambda x: jnp.stack([x[0], x[0] * x[1]]), jnp.array([0.4, -1.0]), ex.Binary(2)
    )
    moments = np.array([0.7, 0.2])
    step = ex.MaximumEntropy().gradient(family, jnp.asarray(moments)[None], None, key=ex.key(0))
    p, x = oracles.probabilities(family), np.asarray(oracles.stacked(family.space))
    t = np.stack([x[:, 0], x[:, 0] * x[:, 1]], 1)
    mean = p @ t
    covariance = (t * p[:, None]).T @ t - np.outer(mean, mean)
    newton = np.linalg.solve(covariance, mean - moments)
    decrement = np.sqrt((mean - moments) @ newton)
    np.testing.assert_allclose(step.gradient.natural_parameter, newton / (1 + decrement), rtol=1e-4)
    assert float(step.measures["entropy"]) == pytest.approx(_entropy(p), rel=1e-10)
    assert float(step.measures["moment_error"]) == pytest.approx(
        np.abs(mean - moments).max(), rel=1e-10
    )


@pytest.mark.parametrize("start", [0.0, 3.0, 6.0, 12.0])
def test_far_starts_are_no_obstacle(start, x64):
    family = ex.ExponentialFamily(lambda x: x, jnp.array([start, -start]), ex.Binary(2))
    eta, _, complaint = _fit(family, [0.2, 0.9], n_steps=60)
    np.testing.assert_allclose(eta, np.log([0.25, 9.0]), atol=1e-8)
    assert complaint == ""


@pytest.mark.parametrize("start", [-8.0, 8.0])
def test_far_starts_in_single_precision(start):
    family = ex.ExponentialFamily(lambda x: x, jnp.full(3, start), ex.Binary(3))
    eta, _, complaint = _fit(family, [0.01, 0.5, 0.99], n_steps=60)
    np.testing.assert_allclose(eta, np.log([1 / 99, 1.0, 99.0]), atol=0.02)
    assert complaint == ""


def test_a_rare_label_is_no_obstacle(x64):
    p = np.array([1e-4, 0.9, 0.0999])
    one_hot = _family(
        lambda x: (x == jnp.arange(3, dtype=x.dtype))[:2].astype(float), 2, ex.Categorical((), 3)
    )
    eta, _, complaint = _fit(one_hot, p[:2], n_steps=60)
    np.testing.assert_allclose(eta, np.log(p[:2] / p[2]), atol=1e-6)
    assert complaint == ""


def test_statistics_of_very_different_sizes():
    scales = np.array([1e4, 1e-3])
    family = _family(lambda x: x * jnp.array([1e4, 1e-3]), 2, ex.Binary(2))
    eta, last, complaint = _fit(family, scales * [0.3, 0.6])
    np.testing.assert_allclose(eta * scales, np.log([3 / 7, 3 / 2]), rtol=1e-3)
    assert last["moment_error_scaled"] < 1e-5
    assert complaint == ""


def test_statistics_that_repeat_or_never_vary():
    twice = _family(lambda x: jnp.stack([x[0], x[0]]), 2, ex.Binary(2))
    eta, _, complaint = _fit(twice, [0.3, 0.3])
    assert eta.sum() == pytest.approx(np.log(3 / 7), abs=1e-3)
    assert complaint == ""
    fixed = _family(lambda x: jnp.stack([x[0], jnp.ones(())]), 2, ex.Binary(1))
    eta, _, complaint = _fit(fixed, [0.3, 1.0])
    assert eta[0] == pytest.approx(np.log(3 / 7), abs=1e-3)
    assert np.isfinite(eta).all()
    assert complaint == ""


@pytest.mark.parametrize(
    ("statistic", "moments"),
    [
        (lambda x: x, [1.2, 0.5]),  # above every value
        (lambda x: jnp.stack([x[0], x[0]]), [0.3, 0.4]),  # one statistic, two means
        (lambda x: jnp.stack([x[0], jnp.ones(())]), [0.3, 2.0]),  # a constant of another value
    ],
)
def test_moments_no_model_has_are_complained_of(statistic, moments):
    _, _, complaint = _fit(_family(statistic, 2, ex.Binary(2)), moments)
    assert "no model of this family may have these moments" in complaint


def test_too_few_steps_are_complained_of():
    family = ex.ExponentialFamily(lambda x: x, jnp.array([6.0]), ex.Binary(1))
    _, _, complaint = _fit(family, [0.1], n_steps=2)
    assert "more steps are needed" in complaint


def test_parameters_of_the_statistic_stay():
    layer = eqx.nn.Linear(2, 1, key=ex.key(0))
    family = ex.ExponentialFamily(layer, jnp.zeros(1), ex.Binary(2))
    step = ex.MaximumEntropy().gradient(family, jnp.zeros((1, 1)), None, key=ex.key(0))
    assert not np.asarray(step.gradient.sufficient_statistic.weight).any()
    assert np.asarray(step.gradient.natural_parameter).any()


def test_bad_moments_are_named():
    family = _family(lambda x: x, 3, ex.Binary(3))
    objective = ex.MaximumEntropy()
    assert not objective.learns_from_rows
    with pytest.raises(ValueError, match="fits an ExponentialFamily, got RBM"):
        objective.prepare(registry._rbm(), np.zeros(3))
    with pytest.raises(ValueError, match=r"of shape \(3,\), got shape \(50, 3\)"):
        objective.prepare(family, np.zeros((50, 3)))
    with pytest.raises(ValueError, match=r"of shape \(3,\), got shape \(2,\)"):
        objective.prepare(family, np.zeros(2))
    with pytest.raises(ValueError, match="moments must be finite"):
        objective.prepare(family, np.array([0.1, np.nan, 0.3]))
    with pytest.raises(ValueError, match="must be the moments, an array"):
        objective.prepare(family, ["a", "b", "c"])


def test_grids_that_cannot_be_are_refused_before_training():
    line = ex.ExponentialFamily(lambda x: -(x**2), jnp.ones(1), ex.Real())
    with pytest.raises(ValueError, match="low and high are needed"):
        ex.MaximumEntropy().prepare(line, np.array([-1.0]))
    with pytest.raises(ValueError, match="low < high"):
        ex.MaximumEntropy(low=1.0, high=-1.0).prepare(line, np.array([-1.0]))
    half = ex.ExponentialFamily(lambda x: -x, jnp.ones(1), ex.Box((), 0.0, jnp.inf))
    with pytest.raises(ValueError, match="must be finite"):
        ex.MaximumEntropy().prepare(half, np.array([-1.0]))
    eta, _, _ = _fit(half, [-0.5], ex.MaximumEntropy(n_points=2000, high=20.0))
    np.testing.assert_allclose(eta, [2.0], rtol=1e-3)
