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
from energax.energies import Product, Shifted, Tempered
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
    ],
)
def test_bad_fields_are_refused(make, words):
    with refused(*words):
        make()
