"""Lattices and graphs: their edges, colours and blocks, and what they refuse."""

import equinox as eqx
import jax
import networkx as nx
import numpy as np
import pytest
import scipy.sparse

import energax as ex
from energax.energies.graphs._blocks import check_blocks
from energax.energies.graphs._colouring import colour
from oracles import refused

RNG = np.random.default_rng(0)


def _random_edges(n_nodes, n_edges, seed=0):
    pairs = np.sort(np.random.default_rng(seed).integers(0, n_nodes, (n_edges, 2)), 1)
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)


GRAPHS = {
    "empty": (np.zeros((0, 2), int), 3),
    "one edge": (np.array([[1, 0]]), 2),
    "star": (np.array([(0, i) for i in range(1, 200)]), 201),
    "complete": (np.array([(i, j) for i in range(70) for j in range(i)]), 70),
    "tree": (np.array(nx.random_labeled_tree(50, seed=1).edges), 50),
    "power law": (np.array(nx.barabasi_albert_graph(400, 3, seed=1).edges), 400),
    "sparse": (_random_edges(300, 500), 300),
    "dense": (_random_edges(60, 3000), 60),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_neighbours_differ_in_colour_and_blocks_hold_everything_once(name):
    edges, n_nodes = GRAPHS[name]
    colours = colour(edges, n_nodes)
    assert (colours[edges[:, 0]] != colours[edges[:, 1]]).all()
    plain = nx.Graph(edges.tolist())
    assert (colours.max() < 2) == nx.is_bipartite(plain)
    assert colours.max() <= max((d for _, d in plain.degree), default=0)
    np.testing.assert_array_equal(colour(edges, n_nodes), colours)
    graph = ex.Graph(edges, n_nodes)  # checks its own blocks
    listed = np.concatenate([np.asarray(b[0]).reshape(-1) for b in graph.blocks])
    np.testing.assert_array_equal(np.sort(listed[listed < n_nodes]), np.arange(n_nodes))


def test_a_hub_does_not_pad_the_other_rows():
    graph = ex.Graph(*GRAPHS["power law"])
    slots = sum(b[1].size for b in graph.blocks)
    assert slots < 6 * 2 * graph.n_edges


def test_lattices_have_the_edges_of_grid_graphs():
    for shape, periodic in (
        ((3, 4), True),
        ((2, 5), (False, True)),
        ((2, 1, 3), False),
        ((5,), True),
    ):
        lattice = ex.Lattice(shape, periodic)
        grid = nx.grid_graph(shape[::-1], periodic=tuple(lattice.periodic[::-1]))
        wanted = {
            frozenset(int(np.ravel_multi_index(np.atleast_1d(s), shape)) for s in edge)
            for edge in grid.edges
        }
        got = [frozenset(edge) for edge in lattice.edges.tolist()]
        assert set(got) == wanted
        assert len(got) == len(wanted) == lattice.n_edges


def test_graphs_from_other_packages():
    named = nx.Graph([("b", "a"), ("a", "c")])
    graph = ex.Graph.from_networkx(named)
    np.testing.assert_array_equal(graph.edges, [[0, 1], [1, 2]])
    weights = RNG.normal(size=(6, 6))
    weights = np.triu(weights, 1) + np.triu(weights, 1).T
    for kind in ("csr_array", "coo_matrix"):
        model = ex.Ising(getattr(scipy.sparse, kind)(weights))
        dense = np.zeros((6, 6))
        dense[tuple(np.asarray(model.graph.edges).T)] = model.coupling
        np.testing.assert_allclose(dense + dense.T, weights, rtol=1e-6)
    weighted = nx.Graph()
    weighted.add_weighted_edges_from([(0, 1, 0.5), (1, 2, -2.0)])
    np.testing.assert_allclose(ex.Ising(weighted).coupling, [0.5, -2.0])
    assert ex.Ising(named, 0.3).coupling.shape == ()


class Network(nx.Graph):
    """A class of a user's own."""


class Sparse(scipy.sparse.csr_array):
    """A class of a user's own."""


def test_graphs_of_subclasses_and_dense_matrices():
    weighted = Network()
    weighted.add_weighted_edges_from([(0, 1, 0.5), (1, 2, -2.0)])
    np.testing.assert_allclose(ex.Ising(weighted).coupling, [0.5, -2.0])
    dense = np.array([[0, 0.5, 0], [0.5, 0, -2], [0, -2, 0]])
    for matrix in (Sparse(dense), dense, dense.tolist(), jax.numpy.asarray(dense)):
        model = ex.Ising(matrix)
        np.testing.assert_array_equal(model.graph.edges, [[0, 1], [1, 2]])
        np.testing.assert_allclose(model.coupling, [0.5, -2.0])
    np.testing.assert_array_equal(ex.Graph.from_sparse(dense).edges, [[0, 1], [1, 2]])
    # Two pairs of integers are two edges, however square.
    assert ex.Ising([(0, 1), (1, 2)], 0.3).graph.n_edges == 2


def test_one_coupling_an_axis():
    for model in (ex.Ising((4, 6), [1.0, 0.5]), ex.Potts((4, 6), 3, [1.0, 0.5])):
        np.testing.assert_array_equal(model.coupling[0], np.ones((4, 6)))
        np.testing.assert_array_equal(model.coupling[1], np.full((4, 6), 0.5))
    # As many edges as axes: one an edge.
    assert ex.Ising((3, 1), [1.0, 0.5], periodic=False).coupling.shape == (2,)
    field = ex.GaussianMRF((4, 6), [1.0, 0.5], mass=0.2)
    assert field.coupling.shape == (2, 4, 6)


def test_bonds_that_lead_out_of_an_open_end_are_not_looked_at():
    bonds = RNG.normal(size=(2, 4, 6))
    open_end, zero = bonds.copy(), bonds.copy()
    open_end[0, -1], zero[0, -1] = np.nan, 0.0
    for make in (
        lambda j: ex.Ising((4, 6), j, periodic=(False, True)),
        lambda j: ex.Potts((4, 6), 3, j, periodic=(False, True)),
        lambda j: ex.GaussianMRF((4, 6), j**2, periodic=(False, True)),
    ):
        assert eqx.tree_equal(make(open_end), make(zero))
    open_end[1, 0, -1] = np.nan
    with refused("coupling", "finite", "1 entries"):
        ex.Ising((4, 6), open_end, periodic=(False, True))


REFUSED = {
    "loop": (lambda: ex.Graph([(0, 1), (2, 2)]), ["edge 1, (2, 2)", "itself"]),
    "twice": (lambda: ex.Graph([(0, 1), (1, 2), (1, 0)]), ["edge 2, (1, 0)", "before"]),
    "outside": (lambda: ex.Graph([(0, 1), (1, 5)], 4), ["edge 1, (1, 5)", "0 to 3"]),
    "negative": (lambda: ex.Graph([(0, -1)]), ["edge 0, (0, -1)"]),
    "floats": (lambda: ex.Graph([(0.0, 1.0)]), ["integers", "float64"]),
    "three": (lambda: ex.Graph([(0, 1, 2)]), ["(edges, 2)", "(1, 3)"]),
    "ragged": (lambda: ex.Graph([(0, 1), (2,)]), ["(edges, 2)"]),
    "no nodes": (lambda: ex.Graph([]), ["n_nodes", "0"]),
    "directed": (lambda: ex.Graph.from_networkx(nx.DiGraph([(0, 1)])), ["undirected", "DiGraph"]),
    "parallel": (lambda: ex.Graph.from_networkx(nx.MultiGraph([(0, 1)])), ["MultiGraph"]),
    "lopsided": (lambda: ex.Ising(scipy.sparse.csr_array([[0.0, 1], [2, 0]])), ["symmetric"]),
    "diagonal": (lambda: ex.Ising(scipy.sparse.csr_array([[1.0, 1], [1, 0]])), ["diagonal", "0"]),
    "not square": (lambda: ex.Ising(scipy.sparse.csr_array(np.ones((2, 3)))), ["square"]),
    "two sites": (lambda: ex.Lattice((4, 2)), ["axis 1", "twice", "periodic=(True, False)"]),
    "one site": (lambda: ex.Lattice(1), ["to itself"]),
    "no axis": (lambda: ex.Lattice(()), ["at least one axis"]),
    "periodic": (lambda: ex.Lattice((4, 4), (True,)), ["each of the 2 axes"]),
    "period": (lambda: ex.Lattice((4, 4), 1), ["periodic", "1"]),
    "wrapped": (lambda: ex.Ising([(0, 1)], periodic=False), ["periodic"]),
    "couplings": (lambda: ex.Ising((4, 4), np.ones(31)), ["(32,)", "(2, 4, 4)", "(31,)"]),
    "bonds": (lambda: ex.Ising([(0, 1)], np.ones((2, 1))), ["coupling", "(1,)", "(2, 1)"]),
    "field": (lambda: ex.Ising((4, 4), 1.0, np.ones(16)), ["field", "(4, 4)", "(16,)"]),
    "infinite": (lambda: ex.Ising((4, 4), np.inf), ["coupling", "finite"]),
    "nan": (lambda: ex.Ising((4, 4), 1.0, np.nan), ["field", "finite"]),
    "two couplings": (
        lambda: ex.Ising(scipy.sparse.csr_array([[0, 1], [1, 0]]), 1.0),
        ["left out"],
    ),
    "labels": (lambda: ex.Potts((4, 4), 1), ["n_states", "2"]),
    "potts field": (lambda: ex.Potts((4, 4), 3, 1.0, np.ones((4, 4))), ["(3,)", "(4, 4, 3)"]),
    "text": (lambda: ex.Ising("graph"), ["edges"]),
    "list": (lambda: ex.Ising([16, 16]), ["(edges, 2)", "tuple, (16, 16)"]),
    "no graph": (lambda: ex.Graph.from_networkx("a"), ["networkx.Graph", "str"]),
    "no matrix": (lambda: ex.Graph.from_sparse("a"), ["matrix"]),
    "complex": (lambda: ex.Graph.from_sparse(1j * np.ones((3, 3))), ["real", "complex"]),
    "matrix of nan": (lambda: ex.Ising([[0.0, np.nan], [np.nan, 0.0]]), ["finite", "2 entries"]),
    "lopsided array": (lambda: ex.Ising([[0.0, 1.0], [2.0, 0.0]]), ["symmetric"]),
    "large index": (lambda: ex.Graph([[0, 2**33]]), ["2^31", str(2**33 + 1)]),
    "larger index": (lambda: ex.Graph(np.array([[0, 2**63]], np.uint64)), [str(2**63)]),
    "many nodes": (lambda: ex.Graph([[0, 1]], 2**31), ["2^31"]),
    "weight of text": (
        lambda: ex.Ising(nx.Graph([("a", "b", {"weight": "heavy"})])),
        ["weight", "number"],
    ),
    "axes": (lambda: ex.Ising((4, 4), [1.0, 1.0, 1.0]), ["coupling", "(3,)"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_graphs_and_couplings_are_refused(name):
    make, words = REFUSED[name]
    with refused(*words):
        make()


def test_a_graph_is_made_outside_of_compiled_functions():
    with refused("outside of jit"):
        jax.jit(lambda edges: ex.Graph(edges, 3).edges)(np.array([[0, 1]]))


def test_tables_that_are_not_the_graphs_are_found():
    graph = ex.Graph([(0, 1), (1, 2), (2, 0), (2, 3)])
    edges = np.asarray(graph.edges)
    tables = tuple(tuple(np.array(t) for t in table) for table in graph.blocks)
    check_blocks(tables, edges, 4)
    for which in range(3):
        for change in (1, -1, 100):
            wrong = tuple(tuple(t.copy() for t in table) for table in tables)
            wrong[0][which].reshape(-1)[0] += change
            with refused():
                check_blocks(wrong, edges, 4)
    with refused("shape"):
        check_blocks((tuple(t[:1] if i else t for i, t in enumerate(tables[0])),), edges, 4)


def test_a_graphs_arrays_are_leaves_that_no_optimiser_sees():
    model = ex.Ising([(0, 1), (1, 2)], np.ones(2))
    trained = eqx.filter(model, ex.energies.trainable(model))
    assert [leaf.shape for leaf in jax.tree.leaves(trained)] == [(2,), ()]
