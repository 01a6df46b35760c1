"""Annealed importance sampling: unbiased weights, honest intervals, and saying when it failed."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binom, norm

import energax as ex
import oracles
import registry
from energax.partition import anneal

CASES = {
    "rbm from base rates": lambda: (
        ex.Bernoulli(jnp.array([0.5, -0.5, 0.0, 1.0])),
        registry.DISCRETE["rbm"](),
        ex.BlockGibbs(),
    ),
    "rbm from the uniform distribution": lambda: (
        ex.Uniform(ex.Binary(4)),
        registry.DISCRETE["rbm"](),
        ex.RandomWalkMetropolis(),
    ),
    "table of spins": lambda: (
        ex.Uniform(ex.Spin(3)),
        registry.DISCRETE["table of spins"](),
        ex.RandomWalkMetropolis(),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("n_temperatures", [2, 10])
def test_the_mean_weight_is_z_over_the_bases(x64, name, n_temperatures):
    # Unbiased at any number of temperatures: 40,000 weights, two-sided, false alarm 1e-5 a case.
    base, energy, kernel = CASES[name]()
    betas = jnp.linspace(0.0, 1.0, n_temperatures + 1)
    log_weights, _ = anneal(ex.path(base, energy), kernel, betas, ex.key(1), n_chains=40_000)
    weights = np.exp(np.asarray(log_weights) - oracles.log_z(energy))
    z = (weights.mean() - 1) / (weights.std() / np.sqrt(weights.size))
    assert abs(z) < norm.isf(1e-5 / 2)


def test_a_continuous_model_agrees_with_a_grid(x64):
    well = ex.NeuralEnergy(lambda x: -4 * (x**2 - 1) ** 2, ex.Real())
    exact = float(ex.log_partition_on_grid(well, n_points=4000, low=-4.0, high=4.0))
    z = ex.log_partition(
        well,
        key=ex.key(0),
        base=ex.Gaussian(jnp.array(0.0), 1.5),
        n_chains=2000,
        n_temperatures=200,
        kernel=ex.RandomWalkMetropolis(0.5),
    )
    assert z.trusted
    assert abs(z.value - exact) < 4.5 * z.std_error


def test_the_interval_covers_as_often_as_it_says():
    """200 random machines through one compiled program: coverage of the 95% interval is not
    below 95% by a one-sided binomial test at 1%, and none is trusted and wrong by 5 errors."""
    betas, base = jnp.linspace(0.0, 1.0, 101), ex.Bernoulli(jnp.zeros(8))
    covered = 0
    for seed in range(200):
        rbm = registry._rbm(8, 5, seed=seed, scale=1.0)
        exact = float(_by_hidden_layer(rbm))
        z = ex.log_partition(
            rbm, key=ex.key(seed), method="annealing", base=base, betas=betas, n_chains=100
        )
        if z.trusted:
            assert abs(z.value - exact) < 5 * z.std_error
            covered += z.lower <= exact <= z.upper
        else:
            covered += 1
    assert binom.cdf(covered, 200, 0.95) > 0.01


@eqx.filter_jit
def _by_hidden_layer(rbm):
    hidden = rbm.hidden_space
    states = jax.vmap(hidden.state)(jnp.arange(hidden.cardinality, dtype=jnp.uint32))
    return jax.nn.logsumexp(jax.vmap(rbm.hidden_log_density)(states))


def test_long_ladders_lose_nothing_in_float32():
    """20,000 temperatures in float32 against the exact value: the error stays within sampling
    error, which is below 0.01 nat here, where a plain running sum of energies would round."""
    rbm = registry._rbm(20, 8, seed=3, scale=0.3)
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), rbm)
        exact = float(_by_hidden_layer(wide))
    base = ex.Bernoulli(jnp.zeros(20))
    z = ex.log_partition(
        rbm, key=ex.key(0), method="annealing", base=base, n_chains=50, n_temperatures=20_000
    )
    assert z.std_error < 0.002
    assert abs(z.value - exact) < 0.01


def test_too_few_temperatures_for_a_strong_machine_are_not_trusted():
    rbm = registry._rbm(20, 12, seed=1, scale=4.0)
    z = ex.log_partition(
        rbm, key=ex.key(0), method="annealing", base=ex.Bernoulli(jnp.zeros(20)), n_temperatures=3
    )
    assert not z.trusted
    assert z.upper == np.inf
    assert "temperatures" in z.reason
    assert "NOT TRUSTED" in z.summary


def test_a_base_outside_the_models_support_is_not_trusted():
    half = ex.NeuralEnergy(lambda x: jnp.where(x[0] > 0, 0.0, -jnp.inf), ex.Spin(2))
    with jax.numpy_dtype_promotion("standard"):
        z = ex.log_partition(half, key=ex.key(0), method="annealing", base=ex.Uniform(ex.Spin(2)))
    assert not z.trusted
    assert "not finite" in z.reason


def test_the_method_is_the_best_the_model_allows():
    key = ex.key(0)
    gaussian = ex.log_partition(ex.Gaussian(jnp.zeros(2)) ** 2.0, key=key)
    assert (gaussian.method, gaussian.exact) == ("closed form", True)
    assert gaussian.value == pytest.approx(-np.log(4 * np.pi), abs=1e-5)  # (4 pi)^(-2/2)
    rbm = registry._rbm(30, 8)
    listed = ex.log_partition(rbm, key=key)
    assert listed.exact
    assert "256 states" in listed.method
    assert listed.value == listed.lower == listed.upper
    assert "annealed" in ex.log_partition(registry._rbm(40, 30), key=key).method


def test_a_likelihood_carries_the_interval_of_log_z():
    rbm = registry._rbm(6, 4)
    rows = np.random.default_rng(0).integers(0, 2, (50, 6))
    z = ex.LogPartition(5.0, 4.8, 5.3, 0.1, False, "test", True)
    score = ex.log_likelihood(rbm, rows, z)
    mean = -float(np.mean(jax.vmap(rbm.energy)(rbm.space.convert(rows))))
    assert score.mean == pytest.approx(mean - 5.0, abs=1e-4)
    assert score.lower == pytest.approx(mean - 5.3, abs=1e-4)
    assert score.upper == pytest.approx(mean - 4.8, abs=1e-4)
    assert score.bits_per_dimension == pytest.approx(-score.mean / 6 / np.log(2))


def test_an_evaluation_holds_together():
    rbm = registry._rbm(9, 6)
    rows = np.random.default_rng(0).integers(0, 2, (80, 9))
    found = ex.evaluate(
        rbm, rows[:60], rows[60:], key=ex.key(0), n_temperatures=300, n_samples=20, sample_steps=50
    )
    exact = found.exact_log_partition
    assert exact is not None
    assert exact.value == pytest.approx(oracles.log_z(rbm), abs=1e-4)
    assert abs(found.log_partition.value - exact.value) < 5 * found.log_partition.std_error
    assert found.test.mean == pytest.approx(-found.energies["test"].mean() - exact.value, abs=1e-4)
    assert sorted(found.hardest) == list(range(20))
    assert found.energies["test"][found.hardest[0]] == found.energies["test"].max()
    assert found.energies["test"][found.easiest[0]] == found.energies["test"].min()


BAD = {
    "an energy of another kind": lambda m: ex.log_partition(3, key=ex.key(0)),
    "an unknown method": lambda m: ex.log_partition(m, key=ex.key(0), method="magic"),
    "a level of one": lambda m: ex.log_partition(m, key=ex.key(0), level=1.0),
    "no closed form": lambda m: ex.log_partition(m, key=ex.key(0), method="closed form"),
    "options of enumeration": lambda m: ex.log_partition(
        m, key=ex.key(0), method="enumeration", n_chains=3
    ),
    "one chain": lambda m: ex.log_partition(m, key=ex.key(0), method="annealing", n_chains=1),
    "one temperature": lambda m: ex.log_partition(
        m, key=ex.key(0), method="annealing", n_temperatures=1
    ),
    "betas that fall": lambda m: ex.log_partition(
        m, key=ex.key(0), method="annealing", betas=[0.0, 0.6, 0.5, 1.0]
    ),
    "betas that end early": lambda m: ex.log_partition(
        m, key=ex.key(0), method="annealing", betas=[0.0, 0.5, 0.9]
    ),
    "a base over another space": lambda m: ex.log_partition(
        m, key=ex.key(0), base=ex.Bernoulli(jnp.zeros(3))
    ),
    "a base with no draws": lambda m: ex.log_partition(m, key=ex.key(0), base=m),
    "rows of another width": lambda m: ex.log_likelihood(
        m, np.zeros((3, 9)), ex.log_partition(m, key=ex.key(0))
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(as_users_call, name):
    with pytest.raises(ValueError, match=r"\S"):
        BAD[name](registry._rbm(4, 3))
