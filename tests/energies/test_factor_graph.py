"""Factor graphs: energies against loops over factors, structure under the algebra, errors."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
from energax import io
from energax.energies import Product, Tempered, trainable
from energax.exact import log_partition_enumerated
from oracles import refused

RNG = np.random.default_rng(0)
SIZES = np.array([2, 3, 2, 3])
PAIR, UNARY = RNG.normal(size=(2, 3)), RNG.normal(size=3)
TRIPLE = RNG.normal(size=(3, 2, 3))
TRIPLE[0, 1, 1] = np.inf


def _pull(a, b):
    return jnp.where(a == 1, 0.3, 0.0) - jnp.where((a == 1) & (b == 1), 0.5, 0.0)


def _uneven():
    """Four variables of two and three states, a forbidden triple, a function, a lone entry."""
    factors = [
        ex.Factor([0, 1], PAIR),
        ex.Factor((1, 2, 3), TRIPLE),
        ex.Factor([3], UNARY),
        ex.Factor([[2, 0], [0, 2]], _pull),
    ]
    return ex.FactorGraph(4, SIZES, factors)


def _energy_of(x) -> float:
    a, b, c, d = (int(v) for v in x)
    if (np.asarray(x) >= SIZES).any():
        return np.inf
    both = 0.3 * c - 0.5 * c * a + 0.3 * a - 0.5 * a * c
    return PAIR[a, b] + TRIPLE[b, c, d] + UNARY[d] + both


def _values(energy, rows):
    return np.asarray(jax.jit(jax.vmap(energy.energy))(jnp.asarray(rows)))


_log_z = eqx.filter_jit(log_partition_enumerated)


def test_energies_are_sums_over_factors(x64):
    graph = _uneven()
    assert graph.space == ex.Categorical(4, 3)
    assert (graph.n_variables, graph.n_factors) == (4, 5)
    rows = np.array(list(itertools.product(range(3), repeat=4)), np.int32)
    expected = np.array([_energy_of(x) for x in rows])
    np.testing.assert_allclose(_values(graph, rows), expected, rtol=1e-12)
    assert np.isinf(expected).sum() == 81 - 36 + 2
    total = np.log(np.exp(-expected).sum())
    np.testing.assert_allclose(_log_z(graph), total, rtol=1e-12)


def test_many_factors_in_one_array(x64):
    n, k = 50, 4
    pairs = np.array([(i, j) for i, j in RNG.integers(0, n, (200, 2)) if i != j])
    tables = RNG.normal(size=(len(pairs), k, k))
    together = ex.FactorGraph((5, 10), k, [ex.Factor(pairs, tables), ex.Factor(pairs, tables[0])])
    apart = [ex.Factor(p, t) for p, t in zip(pairs, tables, strict=True)]
    singly = ex.FactorGraph((5, 10), k, [*apart, *(ex.Factor(p, tables[0]) for p in pairs)])
    assert [t.shape for t in together.tables] == [tables.shape, (1, k, k)]
    assert [t.shape for t in singly.tables] == [(2 * len(pairs), k, k)]
    rows = RNG.integers(0, k, (3, 5, 10)).astype(np.int32)
    flat = rows.reshape(3, n)
    i, j = pairs.T
    expected = tables[np.arange(len(pairs)), flat[:, i], flat[:, j]].sum(1)
    expected += tables[0][flat[:, i], flat[:, j]].sum(1)
    np.testing.assert_allclose(_values(together, rows), expected, rtol=1e-12)
    np.testing.assert_allclose(_values(singly, rows), expected, rtol=1e-12)


def test_every_block_is_independent():
    for graph in (_uneven(), ex.FactorGraph(3, 2, []), *_products()):
        taken = np.concatenate([np.asarray(level[0]).reshape(-1) for level in graph.blocks])
        assert sorted(taken[taken < graph.n_variables]) == list(range(graph.n_variables))
    object.__setattr__(graph, "blocks", _uneven().blocks)
    with pytest.raises(ValueError, match="blocks"):
        graph.__check_init__()


def _products():
    three = [ex.Factor([0, 1], RNG.normal(size=(2, 2))), ex.Factor([2], [0.5, -0.2])]
    a = ex.FactorGraph(3, 2, three)
    b = ex.FactorGraph(3, 2, [ex.Factor([1, 2], RNG.normal(size=(2, 2)))])
    return a, b, a * b


def test_products_powers_and_bases_stay_factor_graphs(x64):
    a, b, both = _products()
    assert type(both) is ex.FactorGraph
    assert [t.shape for t in both.tables] == [(2, 2, 2), (1, 2)]
    rows = oracles.stacked(a.space)
    np.testing.assert_allclose(_values(both, rows), _values(a, rows) + _values(b, rows))
    half = both**0.5
    assert type(half) is ex.FactorGraph
    np.testing.assert_allclose(_values(half, rows), 0.5 * _values(both, rows), rtol=1e-13)
    base = ex.Softmax(RNG.normal(size=(3, 2)))
    for product in (base * a, a * base):
        assert type(product) is ex.FactorGraph
        np.testing.assert_allclose(_values(product, rows), _values(base, rows) + _values(a, rows))
    flat = ex.FactorGraph(2, 2, [ex.Factor([0, 1], [[0.0, np.inf], [1.0, np.inf]])]) ** 0.0
    np.testing.assert_array_equal(_values(flat, oracles.stacked(flat.space)), np.zeros(4))
    # Inside a compiled program factors cannot be listed again, and the product is the plain one.
    inside = eqx.filter_jit(lambda a, b: jnp.asarray(isinstance(a * b, Product)))(a, b)
    assert inside
    assert not isinstance(eqx.filter_eval_shape(lambda a: a**0.3, a), Tempered)


def test_products_of_different_numbers_of_states_stay_apart():
    uneven, even = _uneven(), ex.FactorGraph(4, 3, [])
    assert isinstance(uneven * even, Product)
    assert isinstance(uneven * ex.Softmax(np.zeros((4, 3))), Product)
    assert type(uneven * uneven) is ex.FactorGraph


@pytest.mark.parametrize(
    "ising",
    [
        lambda: ex.Ising((2, 3), 0.7, periodic=(False, True)),
        lambda: ex.Ising((2, 3), RNG.normal(size=(2, 2, 3)), 0.3, periodic=(False, True)),
        lambda: ex.Ising([(0, 1), (2, 1), (3, 0)], [0.5, -1.0, 0.2], RNG.normal(size=4)),
    ],
)
def test_ising_models_as_factor_graphs(ising, x64):
    spins = ising()
    graph = ex.FactorGraph.from_energy(spins)
    rows = oracles.stacked(graph.space)
    np.testing.assert_allclose(
        _values(graph, rows), _values(spins, 2.0 * rows.astype(float) - 1), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    "potts",
    [
        lambda: ex.Potts((2, 2), 3, 0.7, RNG.normal(size=(2, 2, 3)), periodic=False),
        lambda: ex.Potts([(0, 1), (2, 1)], 3, [0.5, -1.0], [0.1, 0.2, -0.4]),
    ],
)
def test_potts_models_as_factor_graphs(potts, x64):
    labels = potts()
    graph = ex.FactorGraph.from_energy(labels)
    rows = oracles.stacked(graph.space)
    np.testing.assert_allclose(_values(graph, rows), _values(labels, rows), rtol=1e-12, atol=1e-12)


def test_tables_train_and_what_they_are_of_does_not(x64):
    graph = _products()[2]
    marks = jax.tree.leaves_with_path(trainable(graph))
    on = [jax.tree_util.keystr(path) for path, mark in marks if mark]
    assert on == [".tables[0]", ".tables[1]"]
    # The gradient of log Z is minus the probability of each entry of a table.
    gradient = eqx.filter_jit(eqx.filter_grad(log_partition_enumerated))(graph).tables[0][0]
    p = oracles.probabilities(graph).reshape(2, 2, 2).sum(2)
    np.testing.assert_allclose(gradient, -p, rtol=1e-12)


def test_saved_with_what_it_forbids(tmp_path):
    graph = _uneven()
    io.save(graph, tmp_path / "graph.energax")
    loaded = io.load(tmp_path / "graph.energax")
    assert eqx.tree_equal(loaded, graph)
    bad = eqx.tree_at(lambda g: g.tables[0], graph, graph.tables[0] * jnp.nan)
    with pytest.raises(ValueError, match="NaN"):
        io.save(bad, tmp_path / "bad.energax")


def test_a_file_that_lies_about_the_number_of_variables_is_refused_before_it_costs(x64):
    graph = _uneven()
    for field, value in (("shape", (2**40,)), ("sizes", None)):
        object.__setattr__(graph, field, value)
    with refused("every variable once"):
        graph.__check_init__()


def test_a_hundred_thousand_factors(x64):
    n = 30_000
    triples = np.sort(RNG.permuted(np.tile(np.arange(n), (12, 1)), axis=1).reshape(-1, 3), 1)
    triples = triples[(np.diff(triples, axis=1) > 0).all(1)]
    graph = ex.FactorGraph(n, 2, [ex.Factor(triples, RNG.normal(size=(len(triples), 2, 2, 2)))])
    x = jax.random.randint(ex.key(0), (n,), 0, 2, jnp.int32)
    swept = jax.jit(lambda graph, x: graph.sweep(x, ex.key(1)))(graph, x)
    assert graph.energy(swept) < graph.energy(x) - n / 10


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ex.Factor([0, 3], np.zeros((2, 2))), ["factor 0", "0 to 2", "[0, 3]"]),
        (lambda: ex.Factor([-1], np.zeros(2)), ["factor 0", "0 to 2"]),
        (lambda: ex.Factor([1, 1], np.zeros((2, 2))), ["once", "[1, 1]"]),
        (lambda: ex.Factor([0.0, 1.0], np.zeros((2, 2))), ["integers", "float64"]),
        (lambda: ex.Factor([], np.zeros(2)), ["integers"]),
        (lambda: ex.Factor([0, 1], np.zeros((2, 3))), ["(2, 2)", "(2, 3)"]),
        (lambda: ex.Factor([0, 1], np.zeros(4)), ["(2, 2)", "(4,)"]),
        (lambda: ex.Factor([[0, 1], [1, 2]], np.zeros((3, 2, 2))), ["(2, 2)", "(3, 2, 2)"]),
        (lambda: ex.Factor([0], [np.nan, 0.0]), ["nan", "+inf"]),
        (lambda: ex.Factor([0], [0.0, -np.inf]), ["-inf", "(0, 1)"]),
        (lambda: ex.Factor([0], "table"), ["array of numbers"]),
        (lambda: ex.Factor([0], lambda a: jnp.zeros(3)), ["one number", "(3,)"]),
        (lambda: ex.Factor([0], lambda a: 1 if a else 2), ["factor 0", "JAX", "bool"]),
        (lambda: ex.Factor([0], lambda a, b: a), ["factor 0", "1 integers", "'b'"]),
        (lambda: ex.Factor([0], lambda a: None), ["factor 0"]),
        (lambda: ([0], [0.0, 1.0]), ["ex.Factor", "tuple"]),
    ],
)
def test_bad_factors_are_refused(make, words):
    with refused(*words):
        ex.FactorGraph(3, 2, [make()])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ex.FactorGraph(3, 0, []), ["n_states", "at least 1"]),
        (lambda: ex.FactorGraph(3, [2, 2], []), ["n_states", "(3,)", "(2,)"]),
        (lambda: ex.FactorGraph(3, [2, 0, 1], []), ["n_states"]),
        (lambda: ex.FactorGraph(3, 2.5, []), ["n_states"]),
        (lambda: ex.FactorGraph(0, 2, []), ["shape"]),
        (lambda: ex.FactorGraph(2, 2, ex.Factor([0], [0.0, 1.0])), ["put the one in a list"]),
        (lambda: ex.FactorGraph(2, 2, None), ["list", "NoneType"]),
        (
            lambda: ex.FactorGraph(2, [2, 3], [ex.Factor([[0], [1]], lambda a: a)]),
            ["same numbers of states"],
        ),
        (
            lambda: ex.FactorGraph(2, [2, 3], [ex.Factor([1, 0], np.zeros((2, 3)))]),
            ["(3, 2)", "(2, 3)"],
        ),
        (lambda: ex.FactorGraph.from_energy(ex.Bernoulli(np.zeros(2))), ["Bernoulli"]),
    ],
)
def test_bad_graphs_are_refused(make, words):
    with refused(*words):
        make()
