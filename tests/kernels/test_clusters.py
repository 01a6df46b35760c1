"""Swendsen-Wang and Wolff: clusters found right, quick at the critical point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_moves import moves
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import norm

import energax as ex
import oracles
from energax.diagnostics import convergence
from energax.kernels._clusters import connected

pytestmark = pytest.mark.slow

ALARM = 1e-5
"""The chance that one statistical check fails although everything is right."""

BETA_C = float(np.log1p(np.sqrt(2)) / 2)

KERNELS = {"swendsen-wang": ex.SwendsenWang(), "wolff": ex.Wolff()}


MODELS = {
    "bonds a site": lambda: ex.Ising((4,), jnp.array([[0.3, 0.6, 0.9, -5.0]]), periodic=False),
    "tempered frozen ising": lambda: ex.freeze(
        ex.Ising(3, 1.2, jnp.array([0.6, -1.0, 0.2])) ** 0.5
    ),
    "potts with a field a label": lambda: ex.Potts(
        [(0, 1), (1, 2), (2, 0)], 3, 0.8, jnp.array([0.3, -0.5, 0.1])
    ),
}
"""What the registry has not: parameters in other forms."""


@pytest.mark.parametrize("density", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_components_are_those_of_scipy(density):
    rng = np.random.default_rng(0)
    n, numbering = 400, rng.permutation(400)
    edges = numbering[ex.Ising((20, 20)).graph.edges]
    bonded = rng.random(len(edges)) < density
    i, j = jnp.asarray(edges.astype(np.int32)).T
    found = np.asarray(jax.jit(connected, static_argnums=0)(n, i, j, jnp.asarray(bonded)))
    kept = edges[bonded]
    links = coo_array((np.ones(len(kept)), (kept[:, 0], kept[:, 1])), shape=(n, n))
    _, part = connected_components(links, directed=False)
    least = np.full(n, n)
    np.minimum.at(least, part, np.arange(n))
    np.testing.assert_array_equal(found, least[part])


def test_a_long_path_is_one_component():
    order = np.random.default_rng(1).permutation(5000).astype(np.int32)
    i, j = jnp.asarray(order[:-1]), jnp.asarray(order[1:])
    assert not np.asarray(connected(5000, i, j, jnp.ones(4999, bool))).any()


@pytest.mark.parametrize("kernel_name", KERNELS)
@pytest.mark.parametrize("name", MODELS)
def test_parameters_in_every_form_are_read(name, kernel_name, x64):
    energy, kernel = MODELS[name](), KERNELS[kernel_name]
    kernel.check(energy)
    made = moves(kernel, energy)
    np.testing.assert_allclose(made.target @ made.matrix, made.target, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel_name", KERNELS)
def test_the_critical_point_agrees_with_the_exact_answer(kernel_name):
    ising, kernel = ex.Ising((4, 4), BETA_C), KERNELS[kernel_name]

    @jax.jit
    def listed(i):
        x = jax.vmap(ising.space.state)(i)
        return jax.vmap(ising.energy)(x), jnp.mean(x, (1, 2))

    energies, m = (np.asarray(a, np.float64) for a in listed(jnp.arange(2**16)))
    p = np.exp(-energies) / np.exp(-energies).sum()
    draws = ex.sample(ising, 16 * 400, key=ex.key(2), kernel=kernel, warmup=20)
    neighbours = -np.asarray(draws.energy, np.float64) / (32 * BETA_C)
    magnetisation = np.abs(np.asarray(draws.x, np.float64).mean((2, 3)))
    for found, exact in ((neighbours, 0.78281189381916), (magnetisation, p @ np.abs(m))):
        error = found.std() / np.sqrt(convergence(found).ess_bulk)
        assert abs(found.mean() - exact) < norm.isf(ALARM / 2) * error


@pytest.mark.parametrize("kernel_name", KERNELS)
def test_a_larger_lattice_agrees_with_the_exact_answer(kernel_name):
    ising, kernel = ex.Ising((8, 8), BETA_C), KERNELS[kernel_name]
    draws = ex.sample(ising, 16 * 400, key=ex.key(2), kernel=kernel, warmup=50)
    found = -np.asarray(draws.energy, np.float64) / (128 * BETA_C)
    error = found.std() / np.sqrt(draws.energy_diagnostics.ess_bulk)
    assert abs(found.mean() - 0.74579455371985) < norm.isf(ALARM / 2) * error


def test_clusters_forget_at_the_critical_point_what_single_spins_keep():
    ising = ex.Ising((32, 32), BETA_C)
    start = ex.sample(ising, 16, key=ex.key(0), kernel=ex.SwendsenWang(), warmup=100)
    lag = 10

    def kept(kernel) -> float:
        """The autocorrelation of the squared magnetisation after ten steps."""
        draws = ex.sample(ising, 16 * 100, key=ex.key(1), kernel=kernel, warmup=0, start=start)
        m = np.asarray(draws.x, np.float64).mean((2, 3)) ** 2
        m = (m - m.mean()) / m.std()
        return float((m[:, lag:] * m[:, :-lag]).mean())

    assert kept(ex.SwendsenWang()) < 0.5 < 0.8 < kept(ex.BlockGibbs())
    assert kept(ex.Wolff()) < 0.5


@pytest.mark.parametrize("kernel_name", KERNELS)
def test_other_numbers_compile_nothing(kernel_name):
    kernel, traced = KERNELS[kernel_name], []

    @jax.jit
    def step(coupling, field, x, key):
        traced.append(1)
        ising = ex.Ising((2, 3), coupling, field, periodic=False)
        return kernel.step(ising, kernel.init(ising, x, key), key)[0].x

    for coupling, field in ((0.3, 0.0), (0.9, 0.2)):
        step(jnp.asarray(coupling), jnp.asarray(field), jnp.ones((2, 3)), ex.key(0))
    assert len(traced) == 1


@pytest.mark.parametrize("kernel_name", KERNELS)
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ex.Ising((4, 4), -0.3), ("at least 0", "-0.3", "BlockGibbs")),
        (lambda: ex.Ising(4, jnp.array([0.3, 0.1, -0.2, 0.5])), ("-0.2",)),
        (lambda: ex.Potts((4, 4), 3, -1.0), ("at least 0",)),
        (lambda: ex.RBM.init(ex.key(0), n_visible=2, n_hidden=2), ("Ising or Potts", "RBM")),
    ],
)
def test_what_does_not_fit_is_refused(kernel_name, make, words):
    with oracles.refused(*words):
        ex.sample(make(), 64, key=ex.key(0), kernel=KERNELS[kernel_name])


@pytest.mark.parametrize("kernel", [ex.SwendsenWang(), ex.Wolff()])
def test_couplings_that_come_to_repel_inside_a_program_show(kernel):
    """They are not known when the kernel is checked."""

    @jax.jit
    def step(coupling):
        energy = ex.Ising([(0, 1)], coupling)
        kernel.check(energy)
        state = kernel.init(energy, jnp.ones(2), ex.key(0))
        return kernel.step(energy, state, ex.key(1))[1]

    info = step(jnp.float32(-0.5))
    assert np.isnan(info.energy)
    assert np.isnan(info.acceptance)
    assert np.isfinite(step(jnp.float32(0.5)).energy)
