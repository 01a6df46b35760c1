"""Variable elimination: log Z and its gradient, against enumeration and known values."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import registry
from energax.exact import elimination_plan, log_partition_eliminated, log_partition_enumerated
from energax.exact._log_tables import log_tables
from oracles import refused

TABULAR = {name: make for name, make in registry.DISCRETE.items() if log_tables(make())}
"""Energies of the registry that are sums of tables."""

BETA_C = 0.44068679350977147

TORI = {
    (4, 0.3): 12.785523325713681,
    (8, 0.3): 50.609330498184775,
    (4, BETA_C): 15.521915458755283,
    (8, BETA_C): 60.14178078906915,
    (4, 0.6): 20.056532884346808,
    (8, 0.6): 78.14164885761666,
}
"""log Z of the L x L torus, -E = sum over bonds of s_i s_j, by Kaufman's formula at 60 digits."""

POTTS = {(3, 3): 19.688939731847, (3, 6): 75.571951800165, (4, 4): 37.498931787159}
"""log Z of the torus by number of labels and length, at log(1 + sqrt(q))."""


def test_every_graph_of_the_registry_is_a_sum_of_tables():
    assert set(registry.GRAPHS) <= set(TABULAR)
    assert {"bernoulli", "softmax", "conditioned softmax"} <= set(TABULAR)
    assert "rbm" not in TABULAR


@pytest.mark.parametrize("name", TABULAR)
def test_log_z_against_enumeration(name, x64):
    energy = TABULAR[name]()
    got = log_partition_eliminated(energy)
    assert isinstance(got, float)
    assert got == pytest.approx(float(log_partition_enumerated(energy)), abs=1e-12)


@pytest.mark.parametrize(("length", "beta"), TORI)
def test_ising_tori(length, beta, x64):
    expected = TORI[length, beta]
    got = log_partition_eliminated(ex.Ising((length, length), beta))
    assert got == pytest.approx(expected, rel=1e-12)
    assert log_partition_eliminated(ex.Ising((length, length)) ** beta) == got


@pytest.mark.parametrize(("n_states", "length"), POTTS)
def test_potts_tori(n_states, length, x64):
    coupling = np.log1p(np.sqrt(n_states))
    got = log_partition_eliminated(ex.Potts((length, length), n_states, coupling))
    assert got == pytest.approx(POTTS[n_states, length], rel=1e-12)


def test_a_ring(x64):
    assert log_partition_eliminated(ex.Ising(64, 0.7)) == pytest.approx(58.906714734780864)
    n, coupling = 30_000, 0.7
    expected = n * np.log(2 * np.cosh(coupling)) + np.log1p(np.tanh(coupling) ** n)
    ring = ex.Ising(n, coupling)
    assert elimination_plan(ring).width == 2
    assert log_partition_eliminated(ring) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("coupling", [30.0, 3000.0])
def test_weights_that_no_float_holds(coupling, x64):
    generator = np.random.default_rng(0)
    model = ex.Ising((3, 5), coupling * generator.normal(size=(2, 3, 5)))
    expected = float(log_partition_enumerated(model))
    assert log_partition_eliminated(model) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("coupling", [0.4, 80.0])
@pytest.mark.parametrize("under_jit", [False, True])
def test_the_gradient_is_minus_the_expected_gradient(coupling, under_jit, x64):
    """On an open lattice with couplings and fields of its own; enumeration is differentiable."""
    generator = np.random.default_rng(1)
    lattice = ex.Lattice((2, 4), periodic=(False, True))
    parameters = coupling * generator.normal(size=(2, 2, 4)), generator.normal(size=(2, 4))
    parameters = jax.tree.map(jnp.asarray, parameters)

    def log_z(method):
        return lambda p: method(ex.Ising(lattice, *p) ** 0.7)

    got = jax.value_and_grad(log_z(log_partition_eliminated))
    expected = jax.jit(jax.value_and_grad(log_z(log_partition_enumerated)))(parameters)
    value, gradient = (jax.jit(got) if under_jit else got)(parameters)
    assert float(value) == pytest.approx(float(expected[0]), rel=1e-13)
    for a, b in zip(gradient, expected[1], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)
        assert np.abs(b).max() > 0.01


def test_the_gradient_of_tables_shared_observed_and_forbidden(x64):
    table = np.array([[0.0, 1.0, np.inf], [0.3, -0.4, 0.2], [0.5, 0.1, 0.9]])
    graph = ex.FactorGraph(
        4, 3, [ex.Factor([(0, 1), (2, 1), (3, 2), (1, 3)], table), ex.Factor([3], [0.1, 0.7, 0.4])]
    )
    known, mask = np.array([0, 0, 0, 1]), np.array([False, False, False, True])

    def log_z(method, tables):
        with_tables = eqx.tree_at(lambda g: g.tables, graph, tables)
        return method(ex.condition(with_tables, known, mask))

    got = jax.grad(lambda t: log_z(log_partition_eliminated, t))(graph.tables)
    expected = jax.grad(lambda t: log_z(log_partition_enumerated, t))(graph.tables)
    for a, b, t in zip(got, expected, graph.tables, strict=True):
        possible = np.isfinite(np.asarray(t))
        np.testing.assert_allclose(np.asarray(a)[possible], np.asarray(b)[possible], atol=1e-13)
        np.testing.assert_array_equal(np.asarray(a)[~possible], 0)


def test_a_whole_energy_may_be_traced_and_batched(x64):
    model = ex.Ising(ex.Graph([(0, 1), (1, 2), (2, 0), (3, 2)]), 0.5)
    betas = jnp.array([0.0, 0.3, 1.0])
    got = jax.jit(jax.vmap(lambda m, b: log_partition_eliminated(m**b), in_axes=(None, 0)))(
        model, betas
    )
    expected = [float(log_partition_eliminated(model**b)) for b in betas]
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    assert got.dtype == jnp.float64


def test_a_frozen_factor_passes_no_gradient_on(x64):
    def log_z(logits):
        free = ex.Ising(3, 0.4)
        held = ex.freeze(ex.Ising(3, 0.2, logits))
        return log_partition_eliminated(free * held)

    np.testing.assert_array_equal(jax.grad(log_z)(jnp.array([0.1, 0.2, 0.3])), 0)


def test_in_single_precision_the_host_keeps_all_digits():
    model = ex.Ising((8, 8), 0.25)  # a coupling that single precision holds
    value = log_partition_eliminated(model)
    with jax.enable_x64(True):
        expected = log_partition_eliminated(ex.Ising((8, 8), 0.25))
    assert value == expected
    got = jax.jit(lambda c: log_partition_eliminated(ex.Ising((8, 8), c)))(0.25)
    assert got.dtype == jnp.float32
    assert float(got) == pytest.approx(value, rel=1e-7)


def test_tables_of_any_shape(x64):
    generator = np.random.default_rng(2)
    lone = ex.FactorGraph((), 4, [ex.Factor([0], [1.0, 2.0, 3.0, 4.0])])
    assert log_partition_eliminated(lone) == pytest.approx(
        float(np.log(np.exp([-1.0, -2, -3, -4]).sum())), abs=1e-14
    )
    assert log_partition_eliminated(ex.FactorGraph(3, 5, [])) == pytest.approx(3 * np.log(5))
    sizes = generator.integers(1, 5, 7)
    scopes = [(0, 3, 5), (6, 2), (2, 6), (4,), (1, 0, 2, 6), (4,)]  # one state, twice, apart
    factors = [ex.Factor(s, generator.normal(size=sizes[list(s)])) for s in scopes]
    uneven = ex.FactorGraph(7, sizes, factors)
    expected = float(log_partition_enumerated(uneven))
    assert log_partition_eliminated(uneven) == pytest.approx(expected, abs=1e-12)


def test_where_nothing_is_possible(x64):
    never = ex.FactorGraph(2, 2, [ex.Factor((0, 1), np.full((2, 2), np.inf))])
    assert log_partition_eliminated(never) == -np.inf
    uneven = ex.FactorGraph(2, [2, 3], [ex.Factor((0, 1), np.zeros((2, 3)))])
    lacking = ex.condition(uneven, np.array([2, 0]), np.array([True, False]))
    assert log_partition_eliminated(lacking) == -np.inf
    failed = eqx.tree_at(lambda m: m.coupling, ex.Ising(3, 0.1), jnp.asarray(np.nan))
    assert np.isnan(log_partition_eliminated(failed))


def test_widths_and_costs():
    tree = ex.Ising([(0, 1), (0, 2), (2, 3), (2, 4), (5, 6)], 1.0)
    assert elimination_plan(tree).width == 1
    strip = elimination_plan(ex.Ising((200, 4), 0.1, periodic=False))
    assert strip.width == 4
    assert strip.n_operations < 2**5 * 800
    assert elimination_plan(ex.Ising((50, 5), 0.1, periodic=(False, True))).width == 5
    assert elimination_plan(ex.Ising((40, 6), 0.1)).width == 12
    all_but_one = np.arange(36).reshape(6, 6) != 7
    alone = elimination_plan(ex.condition(ex.Ising((6, 6)), np.ones((6, 6)), all_but_one))
    assert (alone.order, alone.width, alone.n_operations) == ((7,), 0, 2)
    assert "width 4" in strip.summary


def test_refused():
    with refused("RBM", "sum of tables", "enumerated"):
        log_partition_eliminated(registry.DISCRETE["rbm"]())
    with refused("energy", "int"):
        elimination_plan(3)  # type: ignore[arg-type]
    with refused("GiB", "4 GiB", "width", "annealing"):
        log_partition_eliminated(ex.Ising((20, 20)))
    with refused("1 KiB", "memory=1024"):
        log_partition_eliminated(ex.Ising((4, 4)), memory=1024)
    with refused("1e+18", "too wide", "annealing"):
        elimination_plan(ex.Ising((60, 60, 60)))
    with refused("traced", "log_partition_eliminated"):
        jax.jit(lambda c: elimination_plan(ex.Ising(4, c)).width)(0.1)
