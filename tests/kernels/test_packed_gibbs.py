"""PackedGibbs: bits counted and drawn right, independent chains, exact answers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import energax as ex
import oracles
from energax.energies import Lattice
from energax.kernels._bit_sliced import N_OWN_DIGITS, as_digits, below, count, equal
from energax.kernels._packing import Packing

pytestmark = pytest.mark.slow

ALARM = 1e-5
"""The chance that one statistical check fails although everything is right."""

BETA_C = float(np.log1p(np.sqrt(2)) / 2)


def _spins(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).choice([-1.0, 1.0], shape).astype(np.float32))


def _bits(words) -> np.ndarray:
    """The bits of words, on a new last axis."""
    return (np.asarray(words)[..., None] >> np.arange(32, dtype=np.uint32)) & 1


def _words(bits: np.ndarray) -> jax.Array:
    """The words with these bits on the last axis."""
    placed = bits.astype(np.uint64) << np.arange(32, dtype=np.uint64)
    return jnp.asarray(placed.sum(-1).astype(np.uint32))


@pytest.mark.parametrize("sizes", [(1,), (2,), (4,), (6,), (3, 5), (2, 0, 1)])
def test_bits_are_counted(sizes):
    rng = np.random.default_rng(0)
    columns = [[rng.integers(0, 2, (7, 32)) for _ in range(n)] for n in sizes]
    expected = sum(2**i * np.sum(column, 0) for i, column in enumerate(columns) if column)
    digits = count([[_words(bits) for bits in column] for column in columns])
    found = sum(2**i * _bits(d).astype(int) for i, d in enumerate(digits))
    np.testing.assert_array_equal(found, expected)
    for number in range(int(expected.max()) + 1):
        np.testing.assert_array_equal(_bits(equal(digits, number)), expected == number)


def test_every_fraction_is_compared_with_its_probability(x64):
    # All 2^16 values of the digits a bit draws for itself, with shared digits of 0.7.
    n = 2**N_OWN_DIGITS
    fractions = np.arange(n)
    own = [_words((fractions >> i & 1).reshape(-1, 32)) for i in range(N_OWN_DIGITS)]
    shared = jnp.full((n // 32,), round(0.7 * 2**32), jnp.uint32)
    probability = jnp.array([0.5, 0.3, 0.0, 1e-3, 2.0**-20 * 0.9])
    kind = np.random.default_rng(1).integers(0, 5, n).reshape(-1, 32)
    masks = [_words(kind == k) for k in range(5)]
    found = _bits(below([*own, shared], masks, as_digits(probability)))
    flipped = (n - 1 - fractions).reshape(-1, 32)
    expected = flipped + 0.7 < np.asarray(probability)[kind] * n
    np.testing.assert_array_equal(found, expected)


LATTICES = [
    ((8, 6), True, 3),
    ((4, 4), (False, True), 40),
    ((16,), True, 1),
    ((16,), False, 2),
    ((4, 4, 6), (True, False, True), 2),
    ((2, 3, 1), False, 5),
    ((64, 3), False, 1),
]
lattices = pytest.mark.parametrize(("shape", "periodic", "n_chains"), LATTICES)


@lattices
def test_spins_come_back_from_their_bits(shape, periodic, n_chains):
    packing = Packing(Lattice(shape, periodic), n_chains)
    x = _spins(0, n_chains, *shape)
    np.testing.assert_array_equal(packing.unpack(packing.pack(x)), x)


@lattices
def test_neighbours_are_those_of_the_lattice(shape, periodic, n_chains):
    lattice = Lattice(shape, periodic)
    packing = Packing(lattice, n_chains)
    x = _spins(1, n_chains, *shape)
    flat = np.asarray(x).reshape(n_chains, -1)
    expected = np.zeros_like(flat)
    for i, j in lattice.edges:
        expected[:, i] += flat[:, j]
        expected[:, j] += flat[:, i]
    halves = packing.pack(x)
    colour_of = np.indices(shape).sum(0).reshape(-1) % 2

    def ones(words, colour):
        pair = (words, words) if colour is None else (words, jnp.zeros_like(words))
        pair = pair if colour != 1 else pair[::-1]
        return (np.asarray(packing.unpack(pair)).reshape(n_chains, -1) + 1) / 2

    for colour in (0, 1):
        up = packing.neighbours(halves[1 - colour], colour)
        missing = sum(ones(words, colour) for words in packing.missing(colour))
        total = sum(2 * ones(words, colour) for words in up) + missing - len(up)
        mine = colour_of == colour
        np.testing.assert_array_equal(total[:, mine], expected[:, mine])


def _z_of_counts(ones: np.ndarray, n: int, p: np.ndarray) -> float:
    return float(np.abs((ones - n * p) / np.sqrt(n * p * (1 - p))).max())


@pytest.mark.parametrize("make_key", [ex.key, jax.random.key])
def test_each_bit_follows_the_conditional_and_no_other_bit(make_key):
    # All chains start at one state: what the first colour becomes is known, site by site.
    ising = ex.Ising((4, 4), -0.3, 0.2, periodic=(True, False))
    start = _spins(2, 4, 4)
    n_words = 2048
    x = jnp.broadcast_to(start, (32 * n_words, 4, 4))
    kernel = ex.PackedGibbs()
    state = kernel.init(ising, x, ex.key(0))
    assert state.packing.n_strips == 1
    drawn, _ = eqx.filter_jit(kernel.step)(ising, state, make_key(3))
    up = np.asarray(drawn.x > 0).reshape(n_words, 32, 16)
    up = up[:, :, np.indices((4, 4)).sum(0).reshape(-1) % 2 == 0]
    sites = [(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0]
    raised = jnp.stack([start.at[site].set(1.0) for site in sites])
    lowered = jnp.stack([start.at[site].set(-1.0) for site in sites])
    p = np.asarray(jax.nn.sigmoid(jax.vmap(ising.log_ratio)(raised, lowered)), np.float64)
    z = _z_of_counts(up.sum(0), n_words, p)
    assert z < norm.isf(ALARM / 2 / up[0].size)
    # Pairs of chains of a word, pairs of sites of a chain, words and their neighbours.
    scaled = (up - p) / np.sqrt(p * (1 - p))
    chains = np.einsum("wcs,wds->scd", scaled, scaled)[:, *np.triu_indices(32, 1)]
    within = np.einsum("wcs,wct->st", scaled, scaled)[np.triu_indices(8, 1)] / np.sqrt(32)
    next_word = np.einsum("wcs,wcs->cs", scaled[1:], scaled[:-1])
    for sums in (chains, within, next_word):
        assert np.abs(sums).max() / np.sqrt(n_words) < norm.isf(ALARM / 2 / sums.size)


INVARIANT = {
    "open": (lambda: ex.Ising((4, 3), -0.5, 0.3, periodic=False), 32),
    "strips of a ring": (lambda: ex.Ising((16,), 0.6, -0.2), 1),
    "strips of a tube": (lambda: ex.Ising((4, 3), 0.4, 0.1, periodic=(True, False)), 1),
    "cube": (lambda: ex.Ising((2, 2, 3), 0.3, periodic=(False, False, False)), 5),
}


@pytest.mark.parametrize("name", INVARIANT)
def test_lattices_in_every_packing_keep_the_target(name):
    make, n_chains = INVARIANT[name]
    ising, kernel = make(), ex.PackedGibbs()
    n_states = ising.space.cardinality
    n_groups = 2**18 // n_chains

    @eqx.filter_jit
    def step(ising, drawn, key):
        table = jax.vmap(ising.space.state)

        def one(drawn, key):
            return kernel.step(ising, kernel.init(ising, table(drawn), key), key)[0].x

        return jax.vmap(one)(drawn, jax.random.split(key, n_groups))

    every = jax.jit(jax.vmap(lambda i: ising.energy(ising.space.state(i))))
    energies = np.asarray(every(jnp.arange(n_states)), np.float64)
    p = np.exp(-energies) / np.exp(-energies).sum()
    drawn = np.random.default_rng(5).choice(n_states, (n_groups, n_chains), p=p)
    x = np.asarray(step(ising, jnp.asarray(drawn), ex.key(6)))
    code = (x > 0).reshape(drawn.size, -1) @ 2 ** np.arange(np.prod(ising.space.shape))
    counts = np.bincount(code, minlength=n_states)
    tail = oracles.chi_squared_p(counts, p)
    assert 2 * min(tail, 1 - tail) > ALARM


@pytest.mark.parametrize(
    ("n", "beta", "exact"),
    [(8, BETA_C, 0.74579455371985), (8, 0.3, 0.35623368633603)],
)
def test_nearest_neighbours_agree_with_the_exact_answer(n, beta, exact):
    ising = ex.Ising((n, n), beta)
    draws = ex.sample(ising, 64 * 400, key=ex.key(1), kernel=ex.PackedGibbs(), chains=64, thin=5)
    assert draws.x.shape == (64, 400, n, n)
    found = -np.asarray(draws.energy, np.float64) / (2 * n * n * beta)
    error = found.std() / np.sqrt(draws.energy_diagnostics.ess_bulk)
    assert abs(found.mean() - exact) < norm.isf(ALARM / 2) * error


def test_packed_chains_are_annealed():
    z = ex.log_partition(
        ex.Ising((8, 8), 0.3),
        key=ex.key(0),
        method="annealing",
        kernel=ex.PackedGibbs(),
        level=0.9999,
    )
    assert z.lower < 50.609330498184775 < z.upper


def test_other_numbers_compile_nothing():
    kernel = ex.PackedGibbs()
    traced = []

    @eqx.filter_jit
    def step(ising, state, key):
        traced.append(1)
        return kernel.step(ising, state, key)

    for coupling, field in ((0.3, 0.0), (-0.7, 0.2)):
        ising = ex.Ising((4, 4), coupling, field)
        state = kernel.init(ising, _spins(0, 5, 4, 4), ex.key(0))
        new, info = step(ising, state, ex.key(1))
        np.testing.assert_allclose(info.energy, jax.vmap(ising.energy)(new.x), rtol=1e-6)
        np.testing.assert_array_equal(info.acceptance, np.ones(5))
    assert len(traced) == 1


@pytest.mark.parametrize("coupling", [4.0, -4.0, 1000.0])
def test_strong_couplings_freeze(coupling):
    ising = ex.Ising((4, 4), coupling)
    ground = jnp.asarray(np.where(np.indices((4, 4)).sum(0) % 2, np.sign(coupling), 1.0))
    x = jnp.broadcast_to(ground.astype(jnp.float32), (32, 4, 4))
    kernel = ex.PackedGibbs()
    step = jax.jit(lambda x, key: kernel.step(ising, kernel.init(ising, x, key), key)[0].x)
    np.testing.assert_array_equal(step(x, ex.key(1)), x)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ex.Ising([(0, 1)], 1.0), ("lattice", "BlockGibbs")),
        (lambda: ex.Ising((4, 5), 1.0), ("checkerboard", "(4, 5)")),
        (lambda: ex.Ising((3, 4), 1.0, periodic=(False, True)), ("even first axis",)),
        (lambda: ex.Ising((4, 4), jnp.ones((2, 4, 4))), ("one coupling", "(2, 4, 4)")),
        (lambda: ex.Ising((4, 4), 1.0, jnp.ones((4, 4))), ("one field", "(4, 4)")),
        (lambda: ex.RBM.init(ex.key(0), n_visible=2, n_hidden=2), ("RBM",)),
        (
            lambda: ex.condition(ex.Ising((4, 4)), np.ones((4, 4)), np.eye(4, dtype=bool)),
            ("Conditioned",),
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, words):
    with oracles.refused(*words):
        ex.sample(make(), 64, key=ex.key(0), kernel=ex.PackedGibbs(), chains=32)
