"""Sums over every state, against sums written apart from them and against known models."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import energax as ex
import oracles
import registry
from energax.energies import Product, trainable
from energax.energies._streaming import log_sum_exp
from energax.exact import (
    all_states,
    draw_enumerated,
    expectation,
    log_partition_enumerated,
    n_enumerated,
    pairwise_sum,
    probabilities,
)
from energax.spaces import Clamped
from oracles import assert_drawn_from, index_of, refused, stacked

RBM = registry.DISCRETE["rbm"]


def _listed(energy):
    """Every state by itertools, and its energy."""
    space = energy.space
    if isinstance(space, Clamped):
        rows = np.asarray(stacked(space.space))
        held, values = np.asarray(space.mask), np.asarray(space.values)
        rows = jnp.asarray(rows[(rows[:, held] == values[held]).all(1)])
    else:
        rows = stacked(space)
    return rows, np.asarray(jax.jit(lambda rows: jax.vmap(energy.energy)(rows))(rows))


@pytest.mark.parametrize("name", registry.DISCRETE)
def test_log_z_in_blocks_of_any_size(name, x64):
    energy = registry.DISCRETE[name]()
    expected = logsumexp(-_listed(energy)[1])
    whole, odd = jax.jit(
        lambda: [log_partition_enumerated(energy, block=block) for block in (None, 3)]
    )()
    assert float(whole) == pytest.approx(expected, abs=1e-12)
    assert float(odd) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("block", [1, 2, 5, 7, 8, 9, 16, 1000])
def test_log_z_in_every_kind_of_block(block, x64):
    energy = registry.DISCRETE["table of bits"]()
    got = jax.jit(lambda: log_partition_enumerated(energy, block=block))()
    assert float(got) == pytest.approx(logsumexp(-_listed(energy)[1]), abs=1e-12)


@pytest.mark.parametrize("name", registry.DISCRETE)
def test_probabilities_and_expectations(name, x64):
    energy = registry.DISCRETE[name]()
    rows, e = _listed(energy)
    p = np.exp(-e - logsumexp(-e))

    def summary(x):
        return {
            "sum": sum(jnp.sum(leaf.astype(float)) for leaf in jax.tree.leaves(x)),
            "energy": energy.energy(x),
        }

    got, states, mean, summed = jax.jit(
        lambda: (
            probabilities(energy),
            all_states(energy.space),
            expectation(energy),
            expectation(energy, summary),
        )
    )()
    inner = energy.space.space if isinstance(energy.space, Clamped) else energy.space
    order = np.argsort(index_of(inner, states))
    np.testing.assert_allclose(np.asarray(got)[order], p, atol=1e-13)
    for leaf, row in zip(jax.tree.leaves(mean), jax.tree.leaves(rows), strict=True):
        np.testing.assert_allclose(leaf, np.tensordot(p, np.asarray(row, float), 1), atol=1e-13)
        assert leaf.dtype == jnp.float64
    total = sum(np.asarray(row, float).reshape(len(p), -1).sum(1) for row in jax.tree.leaves(rows))
    np.testing.assert_allclose(summed["sum"], p @ total, atol=1e-12)
    np.testing.assert_allclose(summed["energy"], p[p > 0] @ e[p > 0], atol=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        "rbm",
        "rbm.joint",
        "conditioned rbm",
        "annealed rbm",
        "tempered rbm",
        "softmax",
        "mixture",
        "exponential family",
    ],
)
def test_the_gradient_of_log_z_is_minus_the_expected_gradient(name, x64):
    energy = registry.DISCRETE[name]()
    rows, e = _listed(energy)
    p = np.exp(-e - logsumexp(-e))
    parameters, rest = _split(energy)

    def expected_energy(parameters):
        return -jnp.sum(jnp.asarray(p) * jax.vmap(_join(parameters, rest).energy)(rows))

    def log_z(parameters):
        return log_partition_enumerated(_join(parameters, rest), block=3)

    got, expected = jax.jit(lambda q: (jax.grad(log_z)(q), jax.grad(expected_energy)(q)))(
        parameters
    )
    assert any(np.abs(leaf).max() > 0.01 for leaf in jax.tree.leaves(expected)) or name in (
        "mixture",
        "softmax",  # normalised whatever its parameters: the gradient is zero
    )
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def _split(energy):
    marks = trainable(energy)
    return (
        jax.tree.map(lambda leaf, mark: leaf if mark else None, energy, marks),
        jax.tree.map(lambda leaf, mark: None if mark else leaf, energy, marks),
    )


def _join(a, b):
    return jax.tree.map(lambda x, y: y if x is None else x, a, b, is_leaf=lambda leaf: leaf is None)


@pytest.mark.parametrize(("n_visible", "n_hidden"), [(3, 6), (6, 3), (4, 4), (1, 5)])
def test_a_machine_by_either_layer(n_visible, n_hidden, x64):
    rbm = registry._rbm(n_visible, n_hidden)
    by_visible = Product((rbm,))  # which hides that there are two layers
    assert n_enumerated(rbm) == n_enumerated(rbm.joint.rbm) == 2 ** min(n_visible, n_hidden)
    assert n_enumerated(rbm.joint) == 2**n_hidden
    assert n_enumerated(by_visible) == 2**n_visible
    values = jax.jit(
        lambda: [log_partition_enumerated(m) for m in (rbm, by_visible, rbm.joint, ex.freeze(rbm))]
    )()
    np.testing.assert_allclose(values, logsumexp(-_listed(rbm)[1]), atol=1e-12)


def test_how_many_states_would_be_listed():
    assert n_enumerated(ex.RBM.init(ex.key(0), n_visible=784, n_hidden=20)) == 2**20
    assert n_enumerated(ex.RBM.init(ex.key(0), n_visible=784, n_hidden=500)) is None
    assert n_enumerated(ex.Uniform(ex.Binary(32))) == 2**32
    assert n_enumerated(ex.Uniform(ex.Binary(33))) is None
    assert n_enumerated(ex.Gaussian(0.0)) is None
    assert n_enumerated(ex.Poisson(1.0)) is None
    held = ex.condition(RBM(), np.ones(4), np.array([True, True, True, False]))
    assert n_enumerated(held) == 2
    mixed = ex.Joint(x=ex.Real(), y=ex.Spin())
    assert n_enumerated(ex.NeuralEnergy(lambda s: s["x"], mixed)) is None


def test_draws_have_the_probabilities(x64):
    for name in ("rbm", "table of a joint", "conditioned table"):
        energy = registry.DISCRETE[name]()
        drawn = draw_enumerated(energy, 5_000, key=ex.key(1))
        p, states = np.asarray(probabilities(energy)), all_states(energy.space)
        inner = energy.space.space if isinstance(energy.space, Clamped) else energy.space
        place = index_of(inner, states)
        counts = np.bincount(index_of(inner, drawn), minlength=place.max() + 1)[place]
        assert_drawn_from(counts, p)


def test_draws_from_many_nearly_equal_states():
    """2^16 states: rows and columns of the table they are drawn from, each in its share."""
    energy = ex.NeuralEnergy(lambda x: 0.3 * jnp.sum(x[:8]) - 0.2 * jnp.sum(x[8:]), ex.Binary(16))
    drawn = draw_enumerated(energy, 400_000, key=ex.key(0))
    p = 1 / (1 + np.exp(-np.repeat([0.3, -0.2], 8)))
    oracles.assert_mean(np.asarray(drawn), p)
    pairs = np.asarray(drawn)[:, :8] * np.asarray(drawn)[:, 8:]
    oracles.assert_mean(pairs, p[:8] * p[8:])


@pytest.mark.parametrize("n_states", [2, 3, 7, 16, 17, 100])
def test_draws_from_tables_of_any_size(n_states):
    values = jnp.asarray(np.random.default_rng(n_states).normal(size=n_states), jnp.float32)
    energy = ex.NeuralEnergy(lambda x: values[x], ex.Categorical((), n_states))
    drawn = np.asarray(draw_enumerated(energy, 50_000, key=ex.key(1)))
    p = np.exp(np.asarray(values, float))
    oracles.assert_drawn_from(np.bincount(drawn, minlength=n_states), p / p.sum())


def test_a_sum_over_two_levels_loses_nothing_in_a_block_of_any_size():
    # Terms of 1 and 0.7: added one after another in float32 they would lose the fourth decimal.
    energy = ex.NeuralEnergy(lambda x: jnp.log(0.7) * x[0], ex.Binary(20))
    exact = 19 * np.log(2) + np.log1p(np.float64(np.exp(np.float32(np.log(np.float32(0.7))))))
    for block in (None, 1 << 16, 5000):
        found = float(log_partition_enumerated(energy, block=block))
        assert found == pytest.approx(exact, abs=3e-6)


def test_a_huge_number_of_states_is_told_in_few_digits():
    with pytest.raises(ValueError, match=r"there are about 10\^4932 and"):
        log_partition_enumerated(ex.NeuralEnergy(jnp.sum, ex.Binary((128, 128))))


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1000, 65_536, 392_000])
def test_pairwise_sum(size):
    x = np.random.default_rng(size).uniform(0.5, 1, size).astype(np.float32)
    found = float(jax.jit(pairwise_sum)(jnp.asarray(x)))
    assert found == pytest.approx(x.sum(dtype=np.float64), rel=5e-7)


def test_excluded_states_are_never_drawn():
    energy = ex.NeuralEnergy(
        lambda x: (x[0] * (1 - x[1])).astype(float), ex.Binary(3), positive="abs"
    )
    drawn = np.asarray(draw_enumerated(energy, 2_000, key=ex.key(2)))
    assert (drawn[:, 0] == 1).all()
    assert (drawn[:, 1] == 0).all()
    counts = np.bincount(drawn[:, 2].astype(int), minlength=2)
    assert_drawn_from(counts, np.array([0.5, 0.5]))


# Excluded states and failures


def _by_number(values, dtype=jnp.float64):
    values = jnp.asarray(values, dtype)
    return lambda i: values[i.astype(jnp.int32)]


@pytest.mark.parametrize("block", [1, 2, 3, 8])
@pytest.mark.parametrize("level", [-2000.0, 0.0, 2000.0])
@pytest.mark.parametrize(
    "excluded", [[], [0], [7], [0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7], [0, 1, 2, 4, 5, 6, 7]]
)
def test_blocks_without_a_possible_state_do_not_count(excluded, level, block, x64):
    values = level + np.array([0.1, -3.0, 1.0, 0.5, 4.0, -1.0, 2.0, 0.0])
    values[excluded] = -np.inf
    got = log_sum_exp(_by_number(values), 8, block=block)
    assert float(got) == pytest.approx(logsumexp(values), abs=1e-10)


def test_no_possible_state_at_all(x64):
    for block in (1, 3, 8):
        assert log_sum_exp(_by_number([-np.inf] * 8), 8, block=block) == -np.inf
    nothing = ex.NeuralEnergy(lambda x: 0.0 * x[0], ex.Spin(3), positive="square")
    assert log_partition_enumerated(nothing) == -np.inf


def test_nan_is_not_hidden(x64):
    for at in (0, 3, 7):
        values = np.zeros(8)
        values[at] = np.nan
        for block in (1, 3, 8):
            assert np.isnan(log_sum_exp(_by_number(values), 8, block=block))


def test_the_gradient_passes_excluded_states_by(x64):
    def log_z(theta):
        energy = ex.NeuralEnergy(
            lambda x: jnp.where(x[0] > 0, jnp.exp(theta * x[1]), 0.0), ex.Spin(2), positive="abs"
        )
        return log_partition_enumerated(energy, block=1)

    assert float(jax.grad(log_z)(0.7)) == pytest.approx(math.tanh(0.7), abs=1e-12)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: log_partition_enumerated(ex.Uniform(ex.Binary(40))), [str(2**40), "2^32"]),
        (lambda: log_partition_enumerated(ex.Gaussian(0.0)), ["Gaussian", "infinitely many"]),
        (lambda: log_partition_enumerated(ex.Poisson(1.0)), ["Poisson", "infinitely many"]),
        (
            lambda: log_partition_enumerated(ex.RBM.init(ex.key(0), n_visible=40, n_hidden=50)),
            ["RBM", str(2**40), "2^32"],
        ),
        (lambda: log_partition_enumerated(RBM(), block=0), ["block", "positive", "0"]),
        (lambda: log_partition_enumerated(RBM(), block=-3), ["block", "positive", "-3"]),
        (lambda: all_states(ex.Binary(25)), ["too many", str(2**25)]),
        (lambda: all_states(ex.Real(2)), ["infinitely many"]),
        (lambda: probabilities(ex.Gaussian(0.0)), ["infinitely many"]),
        (lambda: expectation(ex.Uniform(ex.Binary(25))), ["too many"]),
        (lambda: draw_enumerated(ex.Poisson(1.0), 3, key=ex.key(0)), ["infinitely many"]),
    ],
)
def test_too_many_states_are_refused(make, words):
    with refused(*words):
        make()


# Precision


def test_a_million_small_terms_are_not_lost_in_float32():
    """1 + 2^20 / 2^26: each term is below half a rounding of the sum."""
    n = 2**20 + 1
    log_value = lambda i: jnp.where(i == 0, 0.0, jnp.float32(-26 * math.log(2)))  # noqa: E731
    got = jax.jit(lambda: log_sum_exp(log_value, n, block=1))()
    assert got.dtype == jnp.float32
    assert float(got) == pytest.approx(math.log1p(2**-6), rel=1e-5)


@pytest.mark.parametrize("block", [257, 4096])
def test_float32_agrees_with_float64_over_a_million_states(block):
    weights = np.float32(np.random.default_rng(0).normal(size=20) * 1.5)

    def log_z():
        w = jnp.asarray(weights).astype(jnp.zeros(()).dtype)
        energy = ex.NeuralEnergy(lambda x: x @ w, ex.Binary(20))
        return log_partition_enumerated(energy, block=block)

    single = jax.jit(log_z)()
    exact = np.logaddexp(0, weights.astype(float)).sum()  # entry by entry
    assert single.dtype == jnp.float32
    assert float(single) == pytest.approx(exact, rel=3e-7)


def test_the_order_of_large_and_small_terms_does_not_matter():
    rng = np.random.default_rng(1)
    values = np.float32(rng.normal(size=4099) * 8)
    exact = logsumexp(values.astype(float))
    for order in (np.sort(values), np.sort(values)[::-1], values):
        got = log_sum_exp(_by_number(order, jnp.float32), 4099, block=7)
        assert float(got) == pytest.approx(exact, rel=2e-7)


# A model with a known answer: the Ising model on a 4 x 4 torus


def _neighbours(x):
    return jnp.sum(x * jnp.roll(x, 1, 0)) + jnp.sum(x * jnp.roll(x, 1, 1))


def test_the_density_of_states_of_a_small_torus(x64):
    """B. Kaufman, "Crystal statistics II" (1949), expanded in powers of exp(beta)."""
    states = all_states(ex.Spin((4, 4)))
    bonds = np.asarray(jax.jit(jax.vmap(_neighbours))(states)).astype(int)
    values, counts = np.unique(bonds, return_counts=True)
    half = {-32: 2, -24: 32, -20: 64, -16: 424, -12: 1728, -8: 6688, -4: 13568}
    expected = {**half, 0: 20524, **{-bond: count for bond, count in half.items()}}
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("beta", "log_z"),
    [
        (0.3, 12.785523325713681),
        (0.44068679350977147, 15.521915458755283),
        (0.6, 20.056532884346808),
    ],
)
def test_log_z_of_a_small_torus(beta, log_z, x64):
    """B. Kaufman, "Crystal statistics II" (1949), at, above and below the critical point."""
    energy = ex.NeuralEnergy(_neighbours, ex.Spin((4, 4))) ** beta
    got = jax.jit(lambda: log_partition_enumerated(energy))()
    assert float(got) == pytest.approx(log_z, abs=1e-10)
