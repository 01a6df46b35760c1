"""The generator: its keys do not collide, its bits look random, and JAX's transformations agree.

Every statistical test is two-sided on fixed seeds, each of its p-values bounded by `ALARM`. There
are fewer than two hundred, so with fresh seeds an ideal generator would fail the file with a chance
below one in ten thousand.
"""

import functools
import inspect
import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from scipy import stats

from energax.random import GENERATOR, GENERATOR_VERSION, _generator, key

pytestmark = pytest.mark.slow

ALARM = 1e-7  # the chance that one check fails on an ideal generator

# Bits that are pinned. A change of any of them changes the results of every saved program: raise
# GENERATOR_VERSION, then put the new values here.
GOLDEN_VERSION = 1
GOLDEN = {
    "data": {
        0: [1306264286, 3612255942],
        -1: [1574965043, 2743270182],
        2**40 + 5: [3879033463, 2610065232],
    },
    "split": [[2629234948, 3474647014], [125383738, 2968950925]],
    "fold_in": [1802865882, 865819310],
    "bits": [2171297314, 902676991, 1343594772, 3649373684],
    "bits16": [33131, 13773, 20501, 55685],
    "bits64": [9325650957140535109, 3876968158617158760],
}


def _check(p_lower: float, p_upper: float) -> None:
    """Neither tail: p_lower and p_upper are the chances of a value so small, and so large."""
    assert min(p_lower, p_upper) > ALARM / 2


def _chi2(statistic: float, n_free: int) -> None:
    _check(stats.chi2.cdf(statistic, n_free), stats.chi2.sf(statistic, n_free))


def _uniform_cells(values: np.ndarray, n_cells: int) -> None:
    counts = np.bincount(values.ravel(), minlength=n_cells)
    assert counts.size == n_cells
    expected = values.size / n_cells
    _chi2(float(((counts - expected) ** 2).sum() / expected), n_cells - 1)


@jax.jit
def _signs(words: jax.Array) -> jax.Array:
    """The 32 bits of each word as -1 and 1, shape (n, 32)."""
    bits = (words[:, None] >> jnp.arange(32, dtype=jnp.uint32)[None, :]) & jnp.uint32(1)
    return bits.astype(jnp.float32) * 2 - 1


@jax.jit
def _bit_products(first: jax.Array, second: jax.Array) -> jax.Array:
    return _signs(first).T @ _signs(second)  # exact: integers below 2^24


def _uncorrelated(first: np.ndarray, second: np.ndarray) -> None:
    """No bit of the first words goes with any bit of the second, in the first 2^18 of each."""
    n = 2**18
    assert min(first.size, second.size) >= n
    z = np.asarray(_bit_products(first[:n], second[:n]), np.float64) / np.sqrt(n)
    _chi2(float((z**2).sum()), z.size)
    assert 2 * z.size * stats.norm.sf(np.abs(z).max()) > ALARM


def _packed(keys: jax.Array) -> np.ndarray:
    data = np.asarray(jax.random.key_data(keys)).astype(np.uint64).reshape(-1, 2)
    return (data[:, 0] << np.uint64(32)) | data[:, 1]


def _raw(seed: object) -> jax.Array:
    # Under pytest the types are checked too, and complain before the function does.
    return inspect.unwrap(key)(seed)


@jax.jit
def _first_words(keys: jax.Array) -> jax.Array:
    return jax.vmap(lambda k: jax.random.bits(k, (), jnp.uint32))(keys)


@functools.partial(jax.jit, static_argnames=("name", "n"))
def _family(name: str, n: int) -> jax.Array:
    """`n` keys that a program would use side by side."""
    if name == "split":
        return jax.random.split(key(101), n)
    if name == "fold_in":
        return jax.vmap(lambda i: jax.random.fold_in(key(101), i))(jnp.arange(n))
    return jax.vmap(_raw)(jnp.arange(n))


FAMILIES = ("split", "fold_in", "seed")


# Keys


def test_a_million_keys_are_distinct():
    n = 10**6
    split, folded = _packed(_family("split", n)), _packed(_family("fold_in", n))
    assert np.unique(split).size == n
    assert np.unique(folded).size == n
    # Both are children of one key. Random keys would share one with a chance of 1e12 / 2^64 = 5e-8.
    assert np.unique(np.concatenate([split, folded])).size == 2 * n


def test_seeds_give_distinct_keys():
    edges = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**33, 2**62, 2**63 - 1]
    seeds = sorted({sign * seed for seed in edges for sign in (1, -1)} | {-(2**63)})
    assert len({int(_packed(key(seed))[0]) for seed in seeds}) == len(seeds)
    assert np.unique(_packed(_family("seed", 10**5))).size == 10**5


def test_a_seed_is_its_value_whatever_its_type():
    for seed in (0, 3, -5, 2**31 - 1):
        expected = _packed(key(seed))
        assert _packed(_raw(np.int64(seed))) == expected
        assert _packed(key(jnp.int32(seed))) == expected
        assert _packed(jax.jit(_raw)(jnp.int32(seed))) == expected
        assert _packed(jax.random.key(seed, impl=GENERATOR)) == expected
    with jax.enable_x64(True):
        for seed in (-5, 2**31, 2**40 + 5, -(2**63), 2**63 - 1):
            assert _packed(key(jnp.int64(seed))) == _packed(key(seed))


@pytest.mark.parametrize("seed", [1.5, "a", None, 2**70, -(2**63) - 1, 2**63, [1], 1j])
def test_bad_seeds_are_refused(seed):
    with pytest.raises(ValueError, match="seed must"):
        _raw(seed)


def test_a_float_array_is_no_seed():
    with pytest.raises(ValueError, match="must be an integer"):
        key(jnp.float32(1.0))


def test_pinned_bits():
    # A failure here: the bits have changed. See GOLDEN.
    assert GENERATOR_VERSION == GOLDEN_VERSION
    root = key(0)
    with jax.enable_x64(True):
        wide = jax.random.bits(root, (2,), jnp.uint64).tolist()
    found = {
        "data": {seed: jax.random.key_data(key(seed)).tolist() for seed in GOLDEN["data"]},
        "split": jax.random.key_data(jax.random.split(root)).tolist(),
        "fold_in": jax.random.key_data(jax.random.fold_in(root, 7)).tolist(),
        "bits": jax.random.bits(root, (4,), jnp.uint32).tolist(),
        "bits16": jax.random.bits(root, (4,), jnp.uint16).tolist(),
        "bits64": wide,
    }
    assert found == GOLDEN


def test_other_implementations_are_left_alone():
    ours, theirs = key(0), jax.random.key(0)
    assert jax.random.key_impl(theirs) == "threefry2x32"
    assert theirs.dtype != ours.dtype
    # Random123's known answer for Threefry-2x32 of zero key and counter, 20 rounds.
    zero = jax.random.wrap_key_data(jnp.zeros(2, jnp.uint32), impl="threefry2x32")
    child = jax.random.key_data(jax.random.split(zero, 1))[0]
    assert child.tolist() == [0x6B200159, 0x99BA4EFE]


# JAX's functions and transformations


DRAWS = {
    # name: (draw of n, its mean, its variance)
    "uniform": (lambda k, n: jax.random.uniform(k, (n,)), 0.5, 1 / 12),
    "normal": (lambda k, n: jax.random.normal(k, (n,)), 0.0, 1.0),
    "bernoulli": (lambda k, n: jax.random.bernoulli(k, 0.3, (n,)), 0.3, 0.21),
    "randint": (lambda k, n: jax.random.randint(k, (n,), -3, 8), 2.0, 10.0),
    "permutation": (lambda k, n: jax.random.permutation(k, n)[:1] / n, 0.5, 1 / 12),
    "categorical": (lambda k, n: jax.random.categorical(k, jnp.zeros(5), shape=(n,)), 2.0, 2.0),
    "gamma": (lambda k, n: jax.random.gamma(k, 3.0, (n,)), 3.0, 3.0),
    "choice": (lambda k, n: jax.random.choice(k, 11, (n,)), 5.0, 10.0),
}


@pytest.mark.parametrize("name", DRAWS)
def test_distributions_have_their_means(name):
    draw, mean, variance = DRAWS[name]
    values = np.asarray(draw(key(11), 20_000), np.float64)
    z = (values.mean() - mean) / np.sqrt(variance / values.size)
    _check(stats.norm.cdf(z), stats.norm.sf(z))


def test_a_permutation_is_one():
    order = np.asarray(jax.random.permutation(key(12), 1000))
    assert sorted(order.tolist()) == list(range(1000))
    assert (order != np.arange(1000)).sum() > 980


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.uint16, jnp.uint32])
def test_jit_and_vmap_agree_with_eager(dtype):
    keys = jax.random.split(key(21), 5)

    def draw(k):
        return jax.random.bits(k, (7, 3), dtype)

    loop = np.stack([np.asarray(draw(k)) for k in keys])
    assert loop.dtype == dtype
    np.testing.assert_array_equal(jax.vmap(draw)(keys), loop)
    np.testing.assert_array_equal(jax.jit(jax.vmap(draw))(keys), loop)
    np.testing.assert_array_equal(jax.lax.map(draw, keys), loop)
    # A key gives the same words in any shape.
    np.testing.assert_array_equal(jax.random.bits(keys[0], (21,), dtype), loop[0].ravel())


def test_split_and_fold_in_agree_under_transformations():
    keys = jax.random.split(key(22), 4)
    pairs = np.stack([_packed(jax.random.split(k, 3)) for k in keys])
    split = jax.jit(jax.vmap(lambda k: jax.random.key_data(jax.random.split(k, 3))))(keys)
    np.testing.assert_array_equal(
        _packed(jax.random.wrap_key_data(split, impl=GENERATOR)), pairs.ravel()
    )
    folds = np.concatenate([_packed(jax.random.fold_in(k, 9)) for k in keys])
    np.testing.assert_array_equal(_packed(jax.vmap(jax.random.fold_in, (0, None))(keys, 9)), folds)
    # A split in two dimensions is the split in one, reshaped.
    square = jax.random.split(keys[0], (2, 3))
    np.testing.assert_array_equal(_packed(square), _packed(jax.random.split(keys[0], 6)))


def _sharded_draws() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws of keys spread over all devices: inside a shard_map, by sharded jit, and on one."""
    n_devices = len(jax.devices())
    mesh = jax.make_mesh((n_devices,), ("chains",))
    spec = PartitionSpec("chains")
    keys = jax.random.split(key(23), 4 * n_devices)

    def draw(keys):
        return jax.vmap(lambda k: jax.random.uniform(jax.random.fold_in(k, 3), (50,)))(keys)

    spread = jax.device_put(keys, NamedSharding(mesh, spec))
    mapped = jax.jit(jax.shard_map(draw, mesh=mesh, in_specs=spec, out_specs=spec))(spread)
    placed, single = jax.jit(draw)(spread), jax.jit(draw)(keys)
    return np.asarray(mapped), np.asarray(placed), np.asarray(single)


def test_shard_map_agrees_with_one_device():
    mapped, placed, single = _sharded_draws()
    np.testing.assert_array_equal(mapped, single)
    np.testing.assert_array_equal(placed, single)


def test_shard_map_over_four_devices():
    # The number of devices is fixed when JAX starts, hence another process.
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_generator as t, numpy as np\n"
        "import jax; assert len(jax.devices()) == 4\n"
        "mapped, placed, single = t._sharded_draws()\n"
        "np.testing.assert_array_equal(mapped, single)\n"
        "np.testing.assert_array_equal(placed, single)\n"
    )
    flags = "--xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", program, os.path.dirname(__file__)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_draw_larger_than_a_counter_is_planned():
    # More than 2^32 words: only traced, as it would not fit in memory.
    shape = (2**12, 2**21)
    assert jax.eval_shape(lambda k: jax.random.bits(k, shape, jnp.uint8), key(24)).shape == shape


# Bits


def _words(seed: int, n: int) -> np.ndarray:
    return np.asarray(jax.random.bits(key(seed), (n,), jnp.uint32))


@pytest.mark.parametrize("shift", [0, 8, 16, 24])
def test_bytes_of_words_are_uniform(shift):
    _uniform_cells((_words(31, 2**20) >> shift) & 0xFF, 256)


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.uint16])
def test_narrow_draws_are_uniform(dtype):
    draws = np.asarray(jax.random.bits(key(32), (2**21,), dtype))
    _uniform_cells(draws, 2 ** (8 * draws.dtype.itemsize))


def test_wide_draws_are_uniform_in_both_halves():
    with jax.enable_x64(True):
        draws = np.asarray(jax.random.bits(key(33), (2**20,), jnp.uint64))
    assert draws.dtype == np.uint64
    halves = (draws >> np.uint64(32)).astype(np.uint32), draws.astype(np.uint32)
    for half in halves:
        _uniform_cells(half >> 20, 2**12)
        _uniform_cells(half & 0xFFF, 2**12)
    _uncorrelated(*halves)
    _uncorrelated(halves[0][1:], halves[1][:-1])


@pytest.mark.parametrize("lag", [1, 2, 64, 784, 2**16])
def test_pairs_within_a_stream_are_independent(lag):
    words = _words(34, 2**20 + lag)
    first, second = words[:-lag], words[lag:]
    for shift in (0, 13, 26):
        cell = ((first >> shift) & 63) * 64 + ((second >> shift) & 63)
        _uniform_cells(cell[: cell.size // (2 * lag) * 2 * lag].reshape(-1, 2, lag)[:, 0], 4096)
    _uncorrelated(first, second)


@pytest.mark.parametrize("family", FAMILIES)
def test_neighbouring_keys_are_unrelated(family):
    n = 2**19
    words = np.asarray(_first_words(_family(family, n)))
    _uniform_cells(words >> 20, 2**12)
    _uniform_cells(words & 0xFFF, 2**12)
    _uncorrelated(words[:-1], words[1:])
    _uncorrelated(words[:-1] ^ words[1:], words[:-1])


@pytest.mark.parametrize("family", FAMILIES)
def test_streams_of_neighbouring_keys_are_unrelated(family):
    draw = jax.jit(jax.vmap(lambda k: jax.random.bits(k, (2**18 + 1,), jnp.uint32)))
    streams = np.asarray(draw(_family(family, 6)))
    for first, second in itertools.pairwise(streams):
        _uncorrelated(first, second)
        _uncorrelated(first[1:], second[:-1])


def _collisions(words: np.ndarray) -> int:
    """The number of pairs of equal words."""
    counts = np.unique(words, return_counts=True)[1].astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())


@pytest.mark.parametrize("source", ["stream", *FAMILIES])
def test_words_repeat_as_often_as_they_should(source):
    # n words of a random function make n (n - 1) / 2^33 equal pairs; a permutation makes none.
    n, n_streams = 2**20, 4
    if source == "stream":
        total = sum(_collisions(_words(40 + i, n)) for i in range(n_streams))
    else:
        words = np.asarray(_first_words(_family(source, n * n_streams))).reshape(n_streams, n)
        total = sum(_collisions(part) for part in words)
    expected = n_streams * n * (n - 1) / 2**33
    _check(stats.poisson.cdf(total, expected), stats.poisson.sf(total - 1, expected))


def _avalanche(word: str, n: int) -> np.ndarray:
    """How often flipping input bit i flips output bit j, less one half; shape (32, 32)."""
    words = jnp.asarray(_words(50, 3 * n)).reshape(3, n)
    inputs = dict(zip(("low", "high", "counter"), words, strict=True))

    def flip(low, high, counter, mask):
        before = _generator._words(low, high, counter)
        changed = {"low": low, "high": high, "counter": counter}
        changed[word] = changed[word] ^ mask
        return before ^ _generator._words(**changed)

    masks = jnp.uint32(1) << jnp.arange(32, dtype=jnp.uint32)
    flips = jax.lax.map(lambda mask: _signs(flip(**inputs, mask=mask)).mean(0), masks)
    return np.asarray(flips, np.float64) / 2


@pytest.mark.parametrize("word", ["low", "high", "counter"])
def test_flipping_an_input_bit_flips_half_of_the_output(word):
    n = 2**16
    z = _avalanche(word, n) * 2 * np.sqrt(n)
    _chi2(float((z**2).sum()), z.size)


@pytest.mark.parametrize("purpose", [_generator._SPLIT, _generator._FOLD, _generator._SEED])
def test_children_of_keys_that_differ_in_a_bit_are_unrelated(purpose):
    n = 2**15
    low, high, index = jnp.asarray(_words(51, 3 * n)).reshape(3, n)
    tag = jnp.full_like(index, purpose)

    @jax.jit
    def flips(i):
        """How often each output bit flips with bit i of the key and of the index."""
        bit, zero = jnp.uint32(1) << i.astype(jnp.uint32), jnp.uint32(0)
        before = jnp.stack(_generator._block(low, high, index, tag))
        sums = []
        for a, b, c in ((bit, zero, zero), (zero, bit, zero), (zero, zero, bit)):
            after = jnp.stack(_generator._block(low ^ a, high ^ b, index ^ c, tag))
            sums.append(_signs((before ^ after).reshape(-1)).reshape(2, n, 32).sum(1))
        return jnp.stack(sums)

    z = np.asarray(jax.lax.map(flips, jnp.arange(32)), np.float64) / np.sqrt(n)
    _chi2(float((z**2).sum()), z.size)
