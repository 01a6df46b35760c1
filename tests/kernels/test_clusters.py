"""Swendsen-Wang and Wolff: clusters found right, exact moves, quick at the critical point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_moves import index, moves, stack, states_of, target
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import norm

import energax as ex
import oracles
from energax.diagnostics import convergence
from energax.kernels import start_chains, step_chains
from energax.kernels._clusters import connected

ALARM = 1e-5
"""The chance that one statistical check fails although everything is right."""

BETA_C = float(np.log1p(np.sqrt(2)) / 2)

KERNELS = {"swendsen-wang": ex.SwendsenWang(), "wolff": ex.Wolff()}


def _ring():
    return ex.Ising(3, jnp.array([0.5, 1.2, 0.0]), jnp.array([0.3, -0.5, 0.1]))


def _rows():
    return ex.Ising((2, 2), 0.7, 0.1, periodic=False)


MODELS = {
    "ising on a ring": _ring,
    "ising on a graph": lambda: ex.Ising(ex.Graph([(0, 1), (1, 2), (2, 0), (3, 2)], 5), 0.6),
    "ising with a held bond": lambda: ex.condition(
        _rows(), np.array([[1, -1], [1, 1]]), np.array([[True, True], [False, False]])
    ),
    "bonds a site": lambda: ex.Ising((4,), jnp.array([[0.3, 0.6, 0.9, -5.0]]), periodic=False),
    "annealed ising": lambda: ex.path(ex.Uniform(ex.Spin(3)), _ring(), 0.4),
    "tempered frozen ising": lambda: ex.freeze(_ring() ** 0.5),
    "potts": lambda: ex.Potts([(0, 1), (1, 2), (2, 0)], 3, 0.8, jnp.array([0.3, -0.5, 0.1])),
    "potts with a field a node": lambda: ex.Potts(
        [(0, 1)], 3, 0.8, jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)
    ),
}


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
def test_target_is_a_fixed_point_and_all_of_it_is_reached(name, kernel_name, x64):
    energy, kernel = MODELS[name](), KERNELS[kernel_name]
    kernel.check(energy)
    made = moves(kernel, energy)
    np.testing.assert_allclose(made.probability.sum(1), 1.0, rtol=0, atol=1e-12)
    p = made.target
    np.testing.assert_allclose(p @ made.matrix, p, rtol=0, atol=1e-12)
    within = np.linalg.matrix_power(np.eye(len(p)) + made.matrix, len(p))
    assert (within > 0).all()
    offset = made.energy + np.log(p)[made.reached]
    assert np.ptp(offset[made.probability > 0]) < 1e-10


@pytest.mark.parametrize("kernel_name", KERNELS)
@pytest.mark.parametrize(
    ("name", "make_key"), [("ising with a held bond", ex.key), ("potts", jax.random.key)]
)
def test_chains_that_start_in_the_target_stay_there(name, kernel_name, make_key):
    # What the matrices above take for granted: the numbers drawn, and their independence.
    energy, kernel = MODELS[name](), KERNELS[kernel_name]
    table, p = stack(states_of(energy.space)), target(energy)
    drawn = np.random.default_rng(2).choice(len(p), 2**17, p=p)

    @jax.jit
    def step(x, key):
        key_init, key_step = jax.random.split(key)
        states = start_chains(energy, kernel, x, key_init)
        return step_chains(energy, kernel, states, key_step)[0].x

    x = step(table[drawn], make_key(3))
    tail = oracles.chi_squared_p(np.bincount(index(table, x), minlength=len(p)), p)
    assert 2 * min(tail, 1 - tail) > ALARM


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
