"""Gaussian Markov random fields: Q, log Z, draws and sweeps against dense linear algebra."""

from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

import energax as ex
from energax.energies import ConditionedGaussianMRF, Product, Shifted, Tempered
from energax.energies.graphs._precision import is_positive_definite, narrow_order
from oracles import ALARM, assert_mean, draws, refused

RNG = np.random.default_rng(0)
REGULAR = nx.random_regular_graph(3, 12, seed=1)
FIELDS = {
    "torus": lambda: ex.GaussianMRF((4, 6), 0.7, mass=0.3),
    "open": lambda: ex.GaussianMRF((4, 3), 0.7, mass=0.3, periodic=False),
    "odd ring": lambda: ex.GaussianMRF(5, mass=0.3),
    "bonds": lambda: ex.GaussianMRF(
        (2, 4, 3), RNG.uniform(0.5, 1, (3, 2, 4, 3)), 0.3, 2.0, periodic=(False, True, True)
    ),
    "even bonds": lambda: ex.GaussianMRF(
        (4, 4), RNG.uniform(0.5, 1, (2, 4, 4)), RNG.uniform(0.1, 1, (4, 4)), periodic=(True, False)
    ),
    "regular": lambda: ex.GaussianMRF(
        REGULAR, mass=RNG.uniform(0.1, 1, 12), mean=RNG.normal(size=12)
    ),
}


def _precision(field) -> np.ndarray:
    """Q, by the definition, edge by edge."""
    n, graph = field.graph.n_nodes, field.graph
    q = np.diag(np.broadcast_to(field.mass, graph.shape).reshape(-1).astype(float))
    edges, weights = np.asarray(graph.edges), np.asarray(field.coupling)
    if weights.ndim > 1:  # on a lattice: the bond from each site along each axis
        parts = [
            np.take(w, range(m if wraps else m - 1), axis).reshape(-1)
            for axis, (w, m, wraps) in enumerate(
                zip(weights, graph.shape, graph.periodic, strict=True)
            )
        ]
        weights = np.concatenate(parts)
    for (i, j), w in zip(edges, np.broadcast_to(weights, len(edges)), strict=True):
        e = np.eye(n)[i] - np.eye(n)[j]
        q += w * np.outer(e, e)
    return q


@pytest.mark.parametrize("name", FIELDS)
def test_energy_and_log_z(name, x64):
    field = FIELDS[name]()
    q, mean = _precision(field), np.broadcast_to(field.mean, field.graph.shape).reshape(-1)
    x = RNG.normal(size=(3, *field.graph.shape))
    d = x.reshape(3, -1) - mean
    np.testing.assert_allclose(
        jax.jit(jax.vmap(field.energy))(x), np.einsum("ni,ij,nj->n", d, q, d) / 2, rtol=1e-12
    )
    expected = (len(q) * np.log(2 * np.pi) - np.linalg.slogdet(q)[1]) / 2
    np.testing.assert_allclose(jax.jit(lambda: field.log_normaliser())(), expected, rtol=1e-12)


def _noise_given(function, z_size: int):
    """`function` with its normal draws taken, in order, from a vector; loops unrolled."""

    def scan(f, init, xs, length=None, **kwargs):
        kept = []
        for i in range(len(jax.tree.leaves(xs)[0])):
            init, y = f(init, jax.tree.map(lambda leaf, i=i: leaf[i], xs))
            kept.append(y)
        return init, None if kept[0] is None else jnp.stack(kept)

    def run(x, z):
        used = [0]

        def normal(key, shape=(), dtype=float):
            start, size = used[0], int(np.prod(shape))
            used[0] += size
            assert used[0] <= z_size
            return z[start : start + size].reshape(shape)

        with (
            mock.patch.object(jax.random, "normal", normal),
            mock.patch.object(jax.lax, "scan", scan),
        ):
            return function(x).reshape(-1)

    return run


def _affine(function, x, z):
    """The value and its derivatives in x and in the noise."""
    run = _noise_given(function, len(z))

    @jax.jit
    def both(x, z):
        return run(x, z), *jax.jacfwd(run, (0, 1))(x, z)

    value, a, b = (np.asarray(each) for each in both(x, z))
    return value, a.reshape(len(value), -1), b


@pytest.mark.parametrize("name", FIELDS)
def test_draws_and_sweeps_have_the_covariance(name, x64):
    # Both are linear in x and in the normal numbers they take. A sweep A x + B z leaves N(m, S)
    # as it is if and only if A S A' + B B' = S and A m + b = m.
    field = FIELDS[name]()
    shape, n = field.graph.shape, field.graph.n_nodes
    covariance = np.linalg.inv(_precision(field))
    mean = jnp.broadcast_to(field.mean, shape)
    z = jnp.zeros(3 * n)

    value, _, root = _affine(lambda x: field.draw(ex.key(0)), mean, z)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-12)
    np.testing.assert_allclose(value, mean.reshape(-1), atol=1e-14)

    value, a, b = _affine(lambda x: field.sweep(x, ex.key(0)), mean, z)
    np.testing.assert_allclose(a @ covariance @ a.T + b @ b.T, covariance, atol=1e-12)
    np.testing.assert_allclose(value, mean.reshape(-1), atol=1e-14)
    assert np.abs(np.linalg.eigvals(a)).max() < 1


@pytest.mark.parametrize("name", ["torus", "even bonds", "regular"])
def test_a_sweep_around_held_entries(name, x64):
    field = FIELDS[name]()
    shape, n = field.graph.shape, field.graph.n_nodes
    held = RNG.random(shape) < 0.4
    free = ~held.reshape(-1)
    q = _precision(field)[np.ix_(free, free)]
    z = jnp.zeros(3 * n)
    x = jnp.asarray(RNG.normal(size=shape))
    value, a, b = _affine(lambda x: field.sweep(x, ex.key(0), jnp.asarray(held)), x, z + 1)
    np.testing.assert_array_equal(value.reshape(shape)[held], x[held])
    a, b, s = a[np.ix_(free, free)], b[free], np.linalg.inv(q)
    np.testing.assert_allclose(a @ s @ a.T + b @ b.T, s, atol=1e-12)


def test_the_32_by_32_torus(x64):
    # log det Q = 1249.120629974, known to twelve digits, and the variance of any site.
    for mass in (0.1, np.full((32, 32), 0.1)):  # by Fourier transforms and by the band
        field = ex.GaussianMRF((32, 32), mass=mass)
        value = jax.jit(lambda f: f.log_normaliser())(field)
        assert float(value) == pytest.approx(316.432743014583, abs=1e-9)
        assert 1024 * np.log(2 * np.pi) - 2 * value == pytest.approx(1249.120629974, abs=2e-9)
        x = np.asarray(draws(field, 100, seed=5))
        squares = (x**2).mean((1, 2))  # all sites are alike
        assert_mean(squares[:, None], np.array([0.454362537267]))
    with jax.enable_x64(False):
        single = ex.GaussianMRF((32, 32), mass=0.1).log_normaliser()
    assert float(single) == pytest.approx(316.432743, abs=2e-3)
    result = ex.log_partition(ex.GaussianMRF((32, 32), mass=0.1), key=ex.key(0))
    assert result.exact


def _stiff(weight):
    """A path of 300 nodes held together much more strongly than to the mean."""
    return ex.GaussianMRF([(i, i + 1) for i in range(299)], weight, mass=1e-3)


@pytest.mark.parametrize(("weight", "expected"), [(1e4, -1100.66309), (1e5, -1444.89889)])
def test_log_z_of_a_stiff_field_in_single_precision(weight, expected):
    field = _stiff(weight)
    assert float(field.log_normaliser()) == pytest.approx(expected, abs=2e-4)
    z = ex.log_partition(field, key=ex.key(0))
    assert z.exact
    assert z.value == pytest.approx(expected, abs=2e-4)
    # Draws of numbers that a compiled program knows are made by the same factor.
    x = np.asarray(
        jax.jit(lambda keys: jax.vmap(field.draw)(keys))(jax.random.split(ex.key(0), 800))
    )
    variances = np.diagonal(np.linalg.inv(field.precision.toarray()))
    assert_mean(x[:, ::100] ** 2, variances[::100])


def test_a_compiled_program_does_not_report_lost_digits():
    value = eqx.filter_jit(lambda f: (f.log_normaliser(), f.draw(ex.key(0))))
    for array in value(_stiff(1e4)):
        assert np.isnan(array).all()
    log_z, x = value(_stiff(10.0))
    assert float(log_z) == pytest.approx(float(_stiff(10.0).log_normaliser()), abs=1e-2)
    assert np.isfinite(x).all()


def test_no_digits_are_lost_on_large_ordinary_fields():
    for field in (
        ex.GaussianMRF((32, 64), mass=np.full((32, 64), 0.01)),
        ex.GaussianMRF([(i, i + 1) for i in range(4999)], mass=0.01),
    ):
        value = eqx.filter_jit(lambda f: f.log_normaliser())(field)
        assert float(value) == pytest.approx(float(field.log_normaliser()), rel=1e-5)


@pytest.mark.parametrize("name", FIELDS)
def test_the_precision(name, x64):
    field = FIELDS[name]()
    np.testing.assert_allclose(field.precision.toarray(), _precision(field), atol=1e-12)
    again = ex.GaussianMRF.from_precision(field.precision)
    np.testing.assert_allclose(again.log_normaliser(), field.log_normaliser())


def test_a_precision_that_is_an_inverse():
    root = RNG.normal(size=(30, 40))
    covariance = root @ root.T / 40
    for dtype in (np.float64, np.float32):
        inverse = np.linalg.inv(covariance.astype(dtype))
        inverse[0, 1] += 1e-6 * inverse.max() if dtype == np.float32 else 1e-12 * inverse.max()
        field = ex.GaussianMRF.from_precision(inverse)
        np.testing.assert_allclose(
            field.precision.toarray(), np.linalg.inv(covariance), rtol=1e-3, atol=1e-4
        )
    inverse = np.linalg.inv(covariance)
    inverse[0, 1] += 1e-8 * inverse.max()
    with refused("symmetric", "across the diagonal"):
        ex.GaussianMRF.from_precision(inverse)


@pytest.mark.parametrize("name", FIELDS)
def test_an_observed_field(name, x64):
    field = FIELDS[name]()
    shape, n = field.graph.shape, field.graph.n_nodes
    values, seen = RNG.normal(size=shape), RNG.random(shape) < 0.4
    given = ex.condition(field, values, seen)
    assert type(given) is ConditionedGaussianMRF
    free, q = ~seen.reshape(-1), _precision(field)
    mean = np.broadcast_to(np.asarray(field.mean), shape).reshape(-1)
    apart = (values.reshape(-1) - mean)[~free]
    inverse = np.linalg.inv(q[np.ix_(free, free)])
    expected = values.reshape(-1).copy()
    expected[free] = mean[free] - inverse @ q[np.ix_(free, ~free)] @ apart
    lowest = (expected - mean) @ q @ (expected - mean) / 2
    log_z = (free.sum() * np.log(2 * np.pi) + np.linalg.slogdet(inverse)[1]) / 2 - lowest

    # As numbers that are known, and as arguments of a compiled program.
    traced = eqx.filter_jit(lambda g: (g.mean, g.log_normaliser(), g.energy(g.mean)))(given)
    for got in ((given.mean, given.log_normaliser(), given.energy(given.mean)), traced):
        np.testing.assert_allclose(np.reshape(got[0], -1), expected, atol=1e-12)
        np.testing.assert_allclose(got[1], log_z, rtol=1e-11)
        np.testing.assert_allclose(got[2], lowest, rtol=1e-11)

    x = jnp.zeros(shape)
    for draw in (given.draw, lambda key: eqx.filter_jit(lambda g: g.draw(key))(given)):
        value, _, root = _affine(lambda x, draw=draw: draw(ex.key(0)), x, jnp.zeros(3 * n))
        np.testing.assert_allclose(value, expected, atol=1e-12)
        np.testing.assert_allclose((root @ root.T)[np.ix_(free, free)], inverse, atol=1e-12)
        assert not root[~free].any()
    again = ex.condition(given, values, ~seen)
    assert float(again.log_normaliser()) == pytest.approx(-float(field.energy(jnp.asarray(values))))
    half = given**0.5
    assert type(half) is ConditionedGaussianMRF
    np.testing.assert_allclose(half.energy(x), 0.5 * given.energy(x), rtol=1e-12)
    assert isinstance(given**0.0, Tempered)


def test_log_z_and_draws_of_an_observed_field_are_exact_at_the_door():
    values, seen = np.zeros((16, 16)), np.zeros((16, 16), bool)
    values[3, 4], seen[3, 4] = 2.0, True
    given = ex.condition(ex.GaussianMRF((16, 16), mass=0.1), values, seen)
    assert ex.log_partition(given, key=ex.key(0)).method == "closed form"
    sampled = ex.sample(given, 400, key=ex.key(0))
    assert sampled.method == "exact draws"
    x = np.asarray(sampled.x)[0]
    assert (x[:, 3, 4] == 2).all()
    assert_mean(x[:, 3, 5], np.asarray(given.mean)[3, 5])
    swept = jax.jit(lambda x: given.sweep(x, ex.key(1)))(sampled.x[0, 0])
    assert swept[3, 4] == 2


def test_draws_are_normal(x64):
    field = FIELDS["regular"]()
    s = np.linalg.inv(_precision(field))
    x = np.asarray(draws(field, 4_000, seed=6))
    for i in (0, 7):
        z = (x[:, i] - float(field.mean[i])) / np.sqrt(s[i, i])
        assert stats.kstest(z, "norm").pvalue > ALARM


def test_a_sparse_precision(x64):
    n = 400  # second differences: the band is two wide, and weights have both signs
    d = sp.diags_array([np.ones(n - 1), -2 * np.ones(n), np.ones(n - 1)], offsets=[-1, 0, 1])
    q = (d.T @ d + 0.1 * sp.eye_array(n)).tocsr()
    shuffled = RNG.permutation(n)
    q = q[shuffled][:, shuffled]
    mean = RNG.normal(size=n)
    field = ex.GaussianMRF.from_precision(q, mean)
    assert field.width == 16
    x = RNG.normal(size=n)
    dense = q.toarray()
    value, log_z = jax.jit(lambda f, x: (f.energy(x), f.log_normaliser()))(field, x)
    np.testing.assert_allclose(value, (x - mean) @ dense @ (x - mean) / 2)
    expected = (n * np.log(2 * np.pi) - np.linalg.slogdet(dense)[1]) / 2
    np.testing.assert_allclose(log_z, expected, rtol=1e-12)
    same = ex.GaussianMRF.from_precision(dense, mean)
    np.testing.assert_array_equal(same.mass, field.mass)


def test_the_gradient_of_log_z_is_the_mean_of_the_energys(x64):
    field = FIELDS["even bonds"]()
    s = np.linalg.inv(_precision(field)).reshape(4, 4, 4, 4)
    made = eqx.filter_jit(eqx.filter_grad(lambda f: f.log_normaliser()))(field)
    gradient = made.mass
    np.testing.assert_allclose(gradient, -np.einsum("ijij->ij", s) / 2, rtol=1e-11)


@pytest.mark.parametrize(("first", "second"), [(0.3, 0.5), (0.3, None), (None, None)])
def test_products_and_powers(first, second, x64):
    made = []
    for mass in (first, second):
        mass = RNG.uniform(0.2, 1, (4, 6)) if mass is None else mass
        made.append(ex.GaussianMRF((4, 6), 0.5, mass, RNG.normal(size=(4, 6))))

    @eqx.filter_jit
    def combined(a, b, x):
        both = a * b
        assert isinstance(both, Shifted)
        assert type(both.inner) is ex.GaussianMRF
        half = a**0.5
        assert type(half) is ex.GaussianMRF
        return both.energy(x), Product((a, b)).energy(x), half.energy(x), 0.5 * a.energy(x)

    values = combined(*made, jnp.asarray(RNG.normal(size=(4, 6))))
    np.testing.assert_allclose(values[0], values[1], rtol=1e-12)
    np.testing.assert_allclose(values[2], values[3], rtol=1e-12)
    assert isinstance(made[0] ** 0.0, Tempered)


def test_a_band_that_does_not_hold_the_graph_is_refused():
    field = FIELDS["regular"]()
    for change in (
        lambda f: object.__setattr__(f, "width", 10**6),
        lambda f: object.__setattr__(f, "width", 1),
        lambda f: object.__setattr__(f, "position", jnp.zeros(12, jnp.int32)),
    ):
        broken = jax.tree.map(lambda a: a, field)
        change(broken)
        with refused("band" if broken.width != 12 else "position"):
            broken.__check_init__()


def test_products_on_different_graphs_stay_apart():
    ring, line = ex.GaussianMRF(4, mass=0.3), ex.GaussianMRF(4, mass=0.3, periodic=False)
    assert isinstance(ring * line, Product)


def test_definiteness_is_seen_whichever_way_it_is_looked_for():
    edges = np.stack([np.arange(499), np.arange(1, 500)], 1)
    position, _ = narrow_order(edges, 500)
    low = 4 * np.sin(np.pi / 2 * 499 / 500) ** 2  # the largest eigenvalue of the path's Laplacian
    for mass, expected in ((low + 1e-3, True), (low - 1e-3, False)):
        off, masses = np.ones(499), np.full(500, mass)  # of negative weights
        assert is_positive_definite(edges, off, masses, position) is expected
        with mock.patch("energax.energies.graphs._precision._MOST_BAND", 0):
            assert is_positive_definite(edges, off, masses, position) is expected


def test_a_factor_too_large_is_refused_by_name():
    rng = np.random.default_rng(3)
    graph = nx.random_regular_graph(3, 30_000, seed=2)
    field = ex.GaussianMRF(ex.Graph(np.array(graph.edges)), mass=0.5)
    with refused("numbers", "BlockGibbs"):
        field.log_normaliser()
    x = jnp.asarray(rng.normal(size=30_000), jnp.float32)
    assert field.sweep(x, ex.key(0)).shape == (30_000,)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ex.GaussianMRF((4, 4), mass=0.0), ["positive definite"]),
        (lambda: ex.GaussianMRF((4, 4), mass=-0.1), ["positive definite"]),
        (lambda: ex.GaussianMRF((4, 4), -0.5, mass=3.9), ["positive definite"]),
        (
            lambda: ex.GaussianMRF([(0, 1), (2, 3)], mass=[1.0, 0.0, 0.0, 0.0]),
            ["positive definite"],
        ),
        (lambda: ex.GaussianMRF([(0, 1)], -1.0, mass=1.0), ["positive definite"]),
        (lambda: ex.GaussianMRF((4, 4), mass=np.ones(16)), ["mass", "(4, 4)", "(16,)"]),
        (lambda: ex.GaussianMRF((4, 4), np.ones(3)), ["coupling", "(32,)", "(3,)"]),
        (lambda: ex.GaussianMRF((4, 4), mean=np.ones(3)), ["mean", "(3,)"]),
        (lambda: ex.GaussianMRF((4, 4), mass=np.nan), ["mass", "finite"]),
        (lambda: ex.GaussianMRF((4, 2)), ["periodic"]),
        (lambda: ex.GaussianMRF(sp.eye_array(3), 1.0), ["diagonal"]),
        (lambda: ex.GaussianMRF.from_precision(np.ones((2, 3))), ["square"]),
        (lambda: ex.GaussianMRF.from_precision([[1.0, 0.2], [0.3, 1.0]]), ["symmetric"]),
        (lambda: ex.GaussianMRF.from_precision([[1.0, 2.0], [2.0, 1.0]]), ["positive definite"]),
        (lambda: ex.GaussianMRF.from_precision([[1.0, np.inf], [np.inf, 1.0]]), ["finite"]),
        (lambda: ex.GaussianMRF.from_precision([[1.0, np.nan], [0.3, 1.0]]), ["finite"]),
        (lambda: ex.GaussianMRF.from_precision([[1.0, 1j], [-1j, 1.0]]), ["real", "complex"]),
        (lambda: ex.GaussianMRF.from_precision("matrix"), ["precision"]),
    ],
)
def test_bad_fields_are_refused(make, words):
    with refused(*words):
        make()
