"""Enumeration and quadrature against oracles and closed forms."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
import registry
from energax.energies import trainable
from energax.exact import (
    all_states,
    draw_enumerated,
    expectation,
    log_partition_enumerated,
    n_enumerated,
    probabilities,
)
from energax.exact._streaming import log_sum_exp

LISTED = [name for name in registry.DISCRETE if not name.startswith("conditioned")]


@pytest.mark.parametrize("name", registry.DISCRETE)
def test_log_z_is_the_sum_over_states(x64, name):
    energy = registry.DISCRETE[name]()
    states = all_states(energy.space)
    exact = float(jax.nn.logsumexp(-jax.vmap(energy.energy)(states)))
    for block in (None, 1, 5, 7):
        found = float(log_partition_enumerated(energy, block=block))
        assert found == pytest.approx(exact, abs=1e-12)
    if name in LISTED:
        assert exact == pytest.approx(oracles.log_z(energy), abs=1e-12)


@pytest.mark.parametrize("name", ["rbm", "rbm.joint", "exponential family", "mixture of rbms"])
def test_the_gradient_of_log_z_is_minus_the_expected_gradient(x64, name):
    energy = registry.DISCRETE[name]()
    parameters, rest = eqx.partition(energy, trainable(energy))
    found = jax.grad(lambda p: log_partition_enumerated(eqx.combine(p, rest), block=3))(parameters)
    at = jax.vmap(lambda x: jax.grad(lambda p: eqx.combine(p, rest).energy(x))(parameters))(
        oracles.stacked(energy.space)
    )
    p = oracles.probabilities(energy)
    for got, each in zip(jax.tree.leaves(found), jax.tree.leaves(at), strict=True):
        np.testing.assert_allclose(got, -np.tensordot(p, each, 1), atol=1e-12)


@pytest.mark.parametrize("sizes", [(9, 4), (4, 9)])
def test_a_machine_is_summed_over_its_smaller_layer(x64, sizes):
    rbm = registry._rbm(*sizes)
    assert n_enumerated(rbm) == 2**4
    assert float(log_partition_enumerated(rbm)) == pytest.approx(oracles.log_z(rbm), abs=1e-11)


def test_expectations_and_probabilities(x64):
    rbm = registry._rbm()
    p, v = oracles.probabilities(rbm), np.asarray(oracles.stacked(rbm.space))
    order = oracles.index_of(rbm.space, all_states(rbm.space))
    np.testing.assert_allclose(probabilities(rbm), p[order], atol=1e-14)
    np.testing.assert_allclose(expectation(rbm), p @ v, atol=1e-14)
    np.testing.assert_allclose(expectation(rbm, jnp.sum), p @ v.sum(1), atol=1e-13)


def test_enumerated_draws_follow_the_model():
    # 100,000 draws over 16 states; false alarm 1e-4.
    rbm = registry._rbm()
    draws = draw_enumerated(rbm, 100_000, key=ex.key(0))
    counts = np.bincount(oracles.index_of(rbm.space, draws), minlength=16)
    assert oracles.chi_squared_p(counts, oracles.probabilities(rbm)) > 1e-4


ISING = {0.3: 12.785523325713681, 0.44068679350977147: 15.521915458755283, 0.6: 20.056532884346808}
"""log Z of the 4 x 4 torus by Kaufman's formula (B. Kaufman, 1949)."""

BONDS = {-32: 2, -24: 32, -20: 64, -16: 424, -12: 1728, -8: 6688, -4: 13568, 0: 20524}
"""How many states of the 4 x 4 torus have this sum over bonds; even in its sign."""


def _bonds(s):
    return jnp.sum(s * (jnp.roll(s, 1, 0) + jnp.roll(s, 1, 1)))


@pytest.mark.parametrize("beta", ISING)
def test_the_ising_torus(x64, beta):
    ising = ex.NeuralEnergy(_bonds, ex.Spin((4, 4))) ** beta
    found = float(eqx.filter_jit(log_partition_enumerated)(ising))
    assert found == pytest.approx(ISING[beta], rel=1e-10)


def test_the_density_of_states_of_the_ising_torus():
    sums = np.asarray(jax.jit(jax.vmap(_bonds))(all_states(ex.Spin((4, 4))))).astype(int)
    values, counts = np.unique(sums, return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {
        **BONDS,
        **{-k: n for k, n in BONDS.items()},
    }


def test_a_float32_sum_of_a_million_terms_loses_nothing():
    values = np.random.default_rng(0).normal(size=2**20).astype(np.float32) * 3
    table = jnp.asarray(values)
    found = float(log_sum_exp(lambda i: table[i], values.size, block=1000))
    exact = np.log(np.sum(np.exp(values.astype(np.float64))))
    assert abs(found - exact) < 3e-6


def test_excluded_states_count_for_nothing():
    odd = ex.NeuralEnergy(lambda x: jnp.where(jnp.sum(x) % 2 == 1, 0.0, -jnp.inf), ex.Binary(6))
    assert float(log_partition_enumerated(odd, block=4)) == pytest.approx(5 * math.log(2), rel=1e-6)
    never = ex.NeuralEnergy(lambda x: -jnp.inf + 0 * jnp.sum(x), ex.Binary(3))
    assert float(log_partition_enumerated(never)) == -math.inf


@pytest.mark.parametrize(
    ("energy", "said"),
    [
        (lambda: registry._rbm(40, 40), "2\\^32"),
        (lambda: ex.Poisson(jnp.ones(2)), "infinitely many"),
        (lambda: ex.Gaussian(jnp.zeros(2)), "infinitely many"),
    ],
)
def test_what_cannot_be_listed_is_refused(energy, said):
    with pytest.raises(ValueError, match=said):
        log_partition_enumerated(energy())


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("gaussian", -12.0, 12.0),
        ("multivariate gaussian", -12.0, 12.0),
        ("gaussian times gaussian", -16.0, 16.0),
        ("tempered gaussian", -25.0, 25.0),
        ("gaussian mixture", -12.0, 12.0),
        ("uniform box", None, None),
    ],
)
def test_a_grid_finds_the_closed_form(x64, name, low, high):
    energy = registry.CONTINUOUS[name]()
    found = ex.log_partition_on_grid(energy, n_points=400, low=low, high=high)
    assert float(found) == pytest.approx(float(energy.log_normaliser()), abs=1e-9)


@pytest.mark.parametrize(
    "bad",
    [
        {"n_points": 10},
        {"n_points": 10, "low": 0.0, "high": np.inf},
        {"n_points": 10, "low": 1.0, "high": 1.0},
        {"n_points": 0, "low": 0.0, "high": 1.0},
        {"n_points": 10**6, "low": 0.0, "high": 1.0},
    ],
)
def test_a_grid_that_cannot_be_made_is_refused(bad):
    with pytest.raises(ValueError, match=r"points|finite|needed"):
        ex.log_partition_on_grid(ex.Gaussian(jnp.zeros(2)), **bad)
