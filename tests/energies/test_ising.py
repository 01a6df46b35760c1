"""Ising and Potts models: energies and draws against exact numbers.

Exact values of the torus: log Z by Kaufman's formula, correlations as its derivative; the density
of states by listing; Curie-Weiss by the sum over the magnetisation.
"""

import itertools
import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
import registry
from energax.diagnostics import mean_and_error
from energax.energies import AnnealedGraph, ConditionedBlocked, GeometricPath, Product
from energax.exact import log_partition_enumerated
from energax.spaces import Clamped

BETA_C = 0.44068679350977147
NEIGHBOURS = {  # <s_i s_j> of neighbours on the L x L torus
    (4, 0.3): 0.42202703681193,
    (8, 0.3): 0.35623368633603,
    (4, BETA_C): 0.78281189381916,
    (8, BETA_C): 0.74579455371985,
}
LEVELS = {32: 2, 24: 32, 20: 64, 16: 424, 12: 1728, 8: 6688, 4: 13568, 0: 20524}
"""The number of states of the 4 x 4 torus by |sum over bonds of s_i s_j|."""


def _dense(model) -> np.ndarray:
    """J as a symmetric matrix."""
    edges = np.asarray(model.graph.edges)
    n = model.graph.n_nodes
    coupling = np.asarray(model.coupling, np.float64)
    if coupling.ndim > 1:
        each = [
            coupling[axis].take(range(m if wraps else m - 1), axis).reshape(-1)
            for axis, (m, wraps) in enumerate(
                zip(model.graph.shape, model.graph.periodic, strict=True)
            )
        ]
        coupling = np.concatenate(each)
    matrix = np.zeros((n, n))
    matrix[edges[:, 0], edges[:, 1]] = coupling
    return matrix + matrix.T


@pytest.mark.parametrize("name", [n for n in registry.GRAPHS if n.startswith(("ising", "potts"))])
def test_energies_are_the_sum_over_edges(name, x64):
    model = registry.GRAPHS[name]()
    matrix, n = _dense(model), model.graph.n_nodes
    states = np.asarray(oracles.stacked(model.space)).reshape(-1, n)
    if isinstance(model, ex.Potts):
        equal = states[:, :, None] == states[:, None, :]
        field = np.broadcast_to(model.field, (*model.graph.shape, model.n_states)).reshape(n, -1)
        linear = field[np.arange(n), states].sum(1)
    else:
        equal = states[:, :, None] * states[:, None, :]
        linear = (np.broadcast_to(model.field, model.graph.shape).reshape(n) * states).sum(1)
    expected = -0.5 * (matrix * equal).sum((1, 2)) - linear
    np.testing.assert_allclose(oracles.energies(model), expected, atol=1e-13)


def test_the_density_of_states_of_the_small_torus():
    model = ex.Ising((4, 4))
    rows = jax.jit(jax.vmap(model.space.state))(jnp.arange(2**16))
    energies = np.asarray(jax.jit(jax.vmap(model.energy))(rows))
    counts = Counter(energies.tolist())
    assert counts == {sign * e: n for e, n in LEVELS.items() for sign in (1, -1)}


def test_log_z_of_a_ring_and_of_a_potts_torus(x64):
    ring = ex.Ising(10, 0.7)
    assert float(log_partition_enumerated(ring)) == pytest.approx(9.210654547332757, abs=1e-11)
    potts = ex.Potts((3, 3), 3, math.log(1 + math.sqrt(3)))
    assert float(log_partition_enumerated(potts)) == pytest.approx(19.688939731847, abs=1e-11)


def _mean_is(values: np.ndarray, expected: float) -> None:
    """The mean over (chain, draw) agrees with the exact one, its error scaled by ESS."""
    mean, error = mean_and_error(values)
    assert abs(float(mean) - expected) < 4.5 * float(error)  # two-sided, 7e-6 each
    assert float(error) < 0.01 * expected


@pytest.mark.parametrize(("length", "beta"), NEIGHBOURS)
def test_correlations_of_neighbours_on_the_torus(length, beta):
    model = ex.Ising((length, length)) ** beta
    assert isinstance(model, ex.Ising)
    draws = ex.sample(
        model, 64 * 400, key=ex.key(1), kernel=ex.BlockGibbs(), chains=64, warmup=200, thin=4
    )
    per_bond = -np.asarray(draws.energy, np.float64) / (beta * 2 * length**2)
    _mean_is(per_bond, NEIGHBOURS[length, beta])


MAGNETISATION = {0.5: 0.1119244045, 1.0: 0.2867964095, 1.5: 0.8482099715}
"""<|m|> of the Curie-Weiss model with N = 100, E = -(sum s)^2 / 2N."""


def test_magnetisation_of_a_complete_graph():
    pairs = [(i, j) for i in range(100) for j in range(i)]
    graph = ex.Graph(pairs)
    assert graph.is_dense
    for beta, expected in MAGNETISATION.items():
        draws = ex.sample(
            ex.Ising(graph, beta / 100), 128 * 200, key=ex.key(2), chains=128, warmup=200, thin=4
        )
        assert draws.method == "BlockGibbs"
        _mean_is(np.abs(np.asarray(draws.x, np.float64).mean(-1)), expected)


def test_energies_of_a_large_lattice_are_accurate_in_float32():
    rng = np.random.default_rng(0)
    n = 1024
    x = (2 * rng.integers(0, 2, (n, n)) - 1).astype(np.float32)
    bonds, field = rng.normal(size=(2, n, n)), rng.normal(size=(n, n))
    model = ex.Ising((n, n), bonds.astype(np.float32), field.astype(np.float32))
    after = [np.roll(x, -1, axis) for axis in (0, 1)]
    wide = [np.asarray(a, np.float64) for a in (model.coupling, model.field)]
    expected = -sum((wide[0][i] * x * after[i]).sum() for i in (0, 1)) - (wide[1] * x).sum()
    size = np.sqrt((wide[0] ** 2).sum() + (wide[1] ** 2).sum())
    assert abs(float(jax.jit(lambda x: model.energy(x))(x)) - expected) < 1e-5 * size
    whole = ex.Ising((n, n), 0.5)
    expected = -0.5 * sum((x * after[i]).sum(dtype=np.float64) for i in (0, 1))
    assert float(jax.jit(lambda x: whole.energy(x))(x)) == expected


def test_the_algebra_keeps_the_structure(x64):
    rng = np.random.default_rng(1)
    uniform = ex.Ising((2, 3), 0.4, 0.1, periodic=False)
    bonds = ex.Ising((2, 3), rng.normal(size=(2, 2, 3)), rng.normal(size=(2, 3)), periodic=False)
    edges = ex.Ising((2, 3), rng.normal(size=7), periodic=False)
    for a in (uniform, bonds, edges):
        for b in (uniform, bonds, edges):
            both = a * b
            assert isinstance(both, ex.Ising)
            np.testing.assert_allclose(
                oracles.energies(both), oracles.energies(a) + oracles.energies(b), atol=1e-13
            )
    colder = bonds**0.7
    assert isinstance(colder, ex.Ising)
    np.testing.assert_allclose(oracles.energies(colder), 0.7 * oracles.energies(bonds), atol=1e-13)
    other = ex.Ising([(0, 1), (1, 2)], 0.3)
    assert isinstance(other * ex.Ising([(0, 1), (1, 2)], [0.1, 0.2]), ex.Ising)
    assert isinstance(other * ex.Ising([(0, 1), (0, 2)]), Product)
    field = rng.normal(size=(3, 3))
    potts = ex.Potts([(0, 1), (1, 2)], 3, 0.5) * ex.Potts([(0, 1), (1, 2)], 3, 0.1, field)
    assert isinstance(potts, ex.Potts)
    np.testing.assert_allclose(potts.field, field)


def test_observed_sites_never_move_and_can_be_added():
    model = registry.GRAPHS["conditioned ising"]()
    again = ex.condition(
        model, np.ones((2, 3)), np.array([[True, False, False], [False, False, False]])
    )
    assert isinstance(again, ConditionedBlocked)
    assert isinstance(again**0.5, ConditionedBlocked)
    draws = ex.sample(again, 200, key=ex.key(0), kernel=ex.BlockGibbs(), chains=8, warmup=10)
    held = np.asarray(again.mask)
    np.testing.assert_array_equal(
        np.asarray(draws.x)[..., held],
        np.broadcast_to(np.asarray(again.values)[held], (8, 25, 3)),
    )
    free = np.asarray(draws.x)[..., ~held].reshape(-1, 3)
    assert (free.min(0) == -1).all()
    assert (free.max(0) == 1).all()


PATHS = {
    "ising": lambda: (ex.Uniform(ex.Spin(4)), ex.Ising(4, 0.5, 0.2)),
    "conditioned": lambda: (
        ex.Uniform(registry.GRAPHS["conditioned ising"]().space),
        registry.GRAPHS["conditioned ising"](),
    ),
    "conditioned potts": lambda: (
        registry.DISCRETE["conditioned softmax"](),
        registry.GRAPHS["path to conditioned potts"]().target,
    ),
    "factors": lambda: (
        ex.Softmax(np.random.default_rng(3).normal(size=(3, 2))),
        registry.GRAPHS["path to a factor graph"]().target,
    ),
    "conditioned factors": lambda: (
        ex.condition(
            ex.Softmax([[0.3, -0.5]] * 3), [0, 1, 0], np.array([False, True, False])
        ).inner,
        ex.condition(
            registry.GRAPHS["path to a factor graph"]().target,
            [0, 1, 0],
            np.array([False, True, False]),
        ),
    ),
    "potts": lambda: (
        ex.Softmax(np.random.default_rng(2).normal(size=(4, 3))),
        registry.GRAPHS["potts on a graph"](),
    ),
}


@pytest.mark.parametrize("name", PATHS)
def test_paths_are_swept_at_every_beta(name, x64):
    base, target = PATHS[name]()
    path = ex.path(base, target, 0.3)
    assert isinstance(path, AnnealedGraph)
    x = path.space.draw(ex.key(0))
    mixed = 0.7 * base.energy(x) + 0.3 * target.energy(x)
    assert float(path.energy(x)) == pytest.approx(float(mixed), abs=1e-12)
    step = path.log_increment(path.terms(x), jnp.asarray(0.5))
    assert float(step) == pytest.approx(float(path.energy(x) - path.at(0.5).energy(x)), abs=1e-12)
    # Forty sweeps from draws of the base reach the model at this beta.
    inner = path.space.space if isinstance(path.space, Clamped) else path.space
    rows = oracles.stacked(inner)

    @jax.jit
    def swept(model, keys):
        def move(x, step):
            each = jax.vmap(jax.random.fold_in, (0, None))(keys, step)
            return jax.vmap(model.sweep)(x, each), None

        x, _ = jax.lax.scan(move, jax.vmap(base.draw)(keys), jnp.arange(40))
        legal = jax.vmap(model.space.contains)(rows)
        return x, jnp.where(legal, jnp.exp(-jax.vmap(model.energy)(rows)), 0.0)

    for beta in (0.0, 0.3, 1.0):
        x, p = swept(path.at(beta), jax.random.split(ex.key(1), 4_000))
        counts = np.bincount(oracles.index_of(inner, x), minlength=p.size)
        oracles.assert_drawn_from(counts, np.asarray(p / p.sum()))


def test_paths_that_cannot_be_swept_are_plain_ones():
    uneven = ex.FactorGraph(2, [2, 3], [ex.Factor((0, 1), np.zeros((2, 3)))])
    held = ex.condition(uneven, np.zeros(2, int), np.array([True, False]))
    inner = ex.path(ex.Uniform(ex.Spin(5)), ex.Ising(5, 0.4), 0.5)
    of_path = ex.condition(inner, np.ones(5), np.arange(5) == 0)
    for target in (held, of_path):
        assert isinstance(ex.path(ex.Uniform(target.space), target), GeometricPath)
    z = ex.log_partition(of_path, key=ex.key(1), method="annealing")
    states = oracles.stacked(ex.Spin(5))
    energies = np.asarray(jax.jit(jax.vmap(inner.energy))(states))[states[:, 0] == 1]
    assert z.lower < np.log(np.exp(-energies).sum()) < z.upper


def test_annealing_a_factor_graph_of_uneven_variables_some_observed():
    rng, n = np.random.default_rng(0), 60
    sizes = np.array([2, 3] * (n // 2))
    tables = [rng.normal(size=(a, b)) for a, b in itertools.pairwise(sizes)]
    factors = [ex.Factor([i, i + 1], table) for i, table in enumerate(tables)]
    chain = ex.FactorGraph(n, sizes, factors)
    held = ex.condition(chain, np.zeros(n, int), np.arange(n) == 0)
    exact = -tables[0][0]
    for table in tables[1:]:
        exact = np.logaddexp.reduce(exact[:, None] - table, 0)
    z = ex.log_partition(held, key=ex.key(0), method="annealing")
    assert z.trusted
    assert z.diagnostics["base"] == "ConditionedSoftmax"
    assert z.lower < np.logaddexp.reduce(exact) < z.upper


def test_annealing_finds_log_z_of_the_torus():
    z = ex.log_partition(ex.Ising((8, 8), 0.3), key=ex.key(0), method="annealing")
    assert z.lower < 50.609330498184775 < z.upper
    assert z.upper - z.lower < 0.2


def test_a_label_without_probability_is_not_drawn(monkeypatch):
    """By the largest uniform number there is, whatever rounding does to sums of probabilities."""
    field = np.random.default_rng(0).normal(size=(40, 40, 3))
    field[..., 2] = -500
    model = ex.Potts((40, 40), 3, coupling=0.3, field=field)
    x = model.space.draw(ex.key(0))
    largest = np.float32(1 - 2**-23)
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype: jnp.full(shape, largest))
    assert int(jnp.max(model.sweep(x, ex.key(1)))) == 1


SIDE_BY_SIDE = {
    "ising": lambda: registry.GRAPHS["ising on a graph"](),
    "hub": lambda: ex.Ising([(0, i) for i in range(1, 20)], 0.3, np.linspace(-1, 1, 20)),
    "alike": lambda: ex.Ising([(0, 1), (1, 2), (2, 0), (2, 3), (3, 4)], 0.4, 0.1),
    "potts": lambda: registry.GRAPHS["potts on a graph"](),
    "odd torus": lambda: registry.GRAPHS["ising on an odd torus"](),
}


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_chains_side_by_side_are_chains_one_by_one(name, x64):
    model = SIDE_BY_SIDE[name]()
    # So many that they share lists of what few neighbours can say.
    keys = jax.random.split(ex.key(0), 16)
    x = jax.vmap(model.space.draw)(jax.random.split(ex.key(1), 16))
    held = x[0] == x[1]

    @jax.jit
    def every(x, keys):
        together = jax.vmap(model.sweep)(x, keys)
        apart = jax.lax.map(lambda each: model.sweep(*each), (x, keys))
        held_together = jax.vmap(lambda x, k: model.sweep(x, k, held))(x, keys)
        held_apart = jax.lax.map(lambda each: model.sweep(*each, held), (x, keys))
        # One chain on each of several models: as replica exchange has them.
        ladder = jnp.linspace(0.2, 1.0, 16)
        tempered = jax.vmap(lambda b, x, k: (model**b).sweep(x, k))(ladder, x, keys)
        one = (model ** ladder[2]).sweep(x[2], keys[2])
        return (together, apart), (held_together, held_apart), (tempered[2], one)

    for got, wanted in every(x, keys):
        np.testing.assert_array_equal(got, wanted)
