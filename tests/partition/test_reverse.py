"""Annealing downwards: unbiased for Z_base / Z, an upper bound, and false from poor draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import energax as ex
import oracles
import registry
from energax.exact import draw_enumerated
from energax.partition import (
    anneal,
    log_partition_annealed,
    log_partition_bracketed,
    log_partition_reverse,
)
from energax.sampling import default_kernel

pytestmark = pytest.mark.slow

ALARM = 1e-4

CASES = {
    "rbm": (lambda: ex.Bernoulli(jnp.linspace(-1.0, 1.0, 4)), registry._rbm),
    "ising": (lambda: ex.Uniform(ex.Spin(4)), lambda: ex.Ising(4, 0.8, 0.3)),
    "labels": (
        lambda: ex.Softmax(jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)),
        lambda: registry._table(ex.Categorical(2, 3)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_weights_going_down_average_to_the_inverse_ratio(name):
    base, model = (make() for make in CASES[name])
    x = draw_enumerated(model, 40_000, key=ex.key(0))
    start = ex.path(base, model)
    run = anneal(start, default_kernel(start), jnp.linspace(1.0, 0.0, 9), ex.key(1), x=x)
    log_weights = np.asarray(run.log_weights, np.float64)
    assert np.ptp(log_weights) > 0.1
    weights = np.exp(log_weights + oracles.log_z(model) - float(base.log_normaliser()))
    z = (weights.mean() - 1) / (weights.std(ddof=1) / np.sqrt(weights.size))
    assert 2 * stats.norm.sf(abs(z)) > ALARM / len(CASES)


def test_up_is_low_and_down_is_high_on_average():
    base, model = ex.Bernoulli(jnp.zeros(4)), registry._rbm(scale=2.5)
    start, n = ex.path(base, model), 10_000
    x = draw_enumerated(model, n, key=ex.key(2))
    kernel, betas = default_kernel(start), jnp.linspace(0.0, 1.0, 3)
    up = anneal(start, kernel, betas, ex.key(3), n_chains=n).log_weights
    down = anneal(start, kernel, betas[::-1], ex.key(4), x=x).log_weights
    ratio = oracles.log_z(model) - float(base.log_normaliser())
    for log_weights, sign in ((up, 1), (down, -1)):
        five = np.logaddexp.reduce(np.asarray(log_weights, float).reshape(-1, 5), axis=1)
        low = sign * ratio - (five - np.log(5))
        assert low.mean() > 4 * low.std() / np.sqrt(low.size)


def test_intervals_of_dependent_draws_are_those_of_their_sources():
    base, model = (make() for make in CASES["ising"])
    x = np.repeat(np.asarray(draw_enumerated(model, 30, key=ex.key(4))), 20, axis=0)
    options = {"key": ex.key(5), "n_temperatures": 50}
    found = log_partition_reverse(model, base, x, n_sources=30, **options)
    alone = log_partition_reverse(model, base, x, **options)
    assert found.std_error > 0.9 * alone.std_error
    assert found.value == pytest.approx(alone.value, rel=1e-6)
    assert abs(found.value - oracles.log_z(model)) < 5 * found.std_error


def _two_modes(mass, width):
    """log Z = 0: a mode of this mass and width 1 at -4, another of this width at 4."""
    mean, scale = jnp.array([-4.0, 4.0]), jnp.array([1.0, width])
    log_mass = jnp.log(jnp.array([mass, 1 - mass]) / (scale * np.sqrt(2 * np.pi)))

    def log_density(x):
        return jax.nn.logsumexp(log_mass - 0.5 * ((x - mean) / scale) ** 2)

    return ex.NeuralEnergy(log_density, ex.Real())


def test_an_upper_bound_from_draws_of_one_mode_is_false_and_not_trusted():
    """The known mistake: both ways know the same mode, agree about it, and Z is that of two."""
    model, base = _two_modes(0.05, 0.3), ex.Gaussian(jnp.asarray(-4.0), 1.5)
    one = np.asarray(-4 + np.random.default_rng(0).normal(size=100), np.float32)
    up = log_partition_annealed(model, base, key=ex.key(0))
    down = log_partition_reverse(model, base, one, key=ex.key(1))
    for alone in (up, down):
        assert alone.value == pytest.approx(np.log(0.05), abs=0.1)
    assert down.upper < -2 < 0
    found = log_partition_bracketed(model, base, key=ex.key(2), x=one)
    assert not found.trusted
    assert found.lower < 0 < found.upper
    own = log_partition_bracketed(model, base, key=ex.key(2))
    assert not own.trusted
    assert own.lower < 0 < own.upper


def test_a_base_over_both_modes_finds_both():
    model, base = _two_modes(0.4, 0.6), ex.Gaussian(jnp.asarray(0.0), 4.0)
    found = log_partition_bracketed(model, base, key=ex.key(0))
    assert found.trusted
    assert found.lower < 0 < found.upper
    assert found.upper - found.lower < 1.0


def test_draws_outside_the_base_are_refused():
    line = ex.Box((), 0.0, 2.0)

    class Half(registry.ex.energies.AbstractNormalised):
        space: ex.Box = line

        def energy(self, x):
            return jnp.where(x < 1, 0.0, jnp.inf)

        def draw(self, key):
            return jax.random.uniform(key)

    model = ex.NeuralEnergy(lambda x: 0.0 * x, line)
    with pytest.raises(ValueError, match="3 of 4 draws of the model lie where the base has no"):
        log_partition_reverse(model, Half(), jnp.array([0.5, 1.2, 1.5, 1.9]), key=ex.key(0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"x": np.zeros((4, 3))}, "shape"),
        ({"x": np.full((4, 4), 0.5)}, "0 and 1|0 or 1"),
        ({"x": np.zeros((4, 4)), "n_sources": 3}, "as many draws of each of 3 chains, got 4"),
        ({"x": np.zeros((4, 4)), "n_sources": 1}, "n_sources must be an integer of at least 2"),
        ({"x": np.zeros((4, 4)), "betas": np.array([1.0, 0.5, 0.0])}, "from 0 to 1"),
    ],
)
def test_bad_input_is_named(options, words):
    base, model = (make() for make in CASES["rbm"])
    with pytest.raises(ValueError, match=words):
        log_partition_reverse(model, base, options.pop("x"), key=ex.key(0), **options)


def test_a_base_that_hardly_meets_the_model_is_not_trusted():
    """Of 4,096 draws of the base the model allows some four: too few to say what share that is."""
    model = ex.NeuralEnergy(lambda x: jnp.where(jnp.sum(x) == 10, 0.0, -jnp.inf), ex.Binary(10))
    x = np.ones((50, 10), np.float32)
    found = log_partition_reverse(
        model, ex.Uniform(model.space), x, key=ex.key(0), n_temperatures=10
    )
    assert not found.trusted
    assert "the model excludes all but" in found.reason
    half = ex.NeuralEnergy(lambda x: jnp.where(x[0] == 1, 0.0, -jnp.inf), ex.Binary(10))
    rows = np.random.default_rng(0).integers(0, 2, (50, 10)).astype(np.float32)
    rows[:, 0] = 1
    found = log_partition_reverse(
        half, ex.Uniform(half.space), rows, key=ex.key(0), n_temperatures=10
    )
    assert found.trusted
    assert found.lower < 9 * np.log(2) < found.upper
    assert found.upper - found.lower < 0.2
