"""Networks made for energies, against independent calculations in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy.special import expit, softmax

import energax as ex
from energax.energies.networks._layers import limited, spectral_bound
from oracles import draws, refused


def _silu(x):
    return x * expit(x)


def _leaves_moved(network, key):
    """The network with every weight drawn anew: no bias is 0, no scale 1."""
    leaves, rebuild = jax.tree.flatten(network)
    keys = jax.random.split(key, len(leaves))
    moved = [
        leaf + 0.3 * jax.random.normal(k, leaf.shape, leaf.dtype)
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(rebuild, moved)


def test_a_dense_network_takes_rows_of_a_table(x64):
    space = ex.Joint(colour=ex.Categorical((), 3), sizes=ex.Real(2), bits=ex.Binary(2))
    network = _leaves_moved(ex.DenseNetwork.init(ex.key(0), space, width=5, depth=2), ex.key(1))
    x = {"bits": jnp.array([1.0, 0.0]), "colour": jnp.array(2), "sizes": jnp.array([0.3, -1.2])}
    hidden = np.array([1, 0, 0, 0, 1, 0.3, -1.2])  # keys sorted, the label one-hot
    for matrix, bias in zip(network.weights, network.biases, strict=True):
        hidden = _silu(hidden @ np.asarray(matrix) + np.asarray(bias))
    expected = float((hidden @ np.asarray(network.readout))[0])
    assert float(network(x)) == pytest.approx(expected, rel=1e-12)
    assert float(ex.NeuralEnergy(network, space).energy(x)) == pytest.approx(-expected, rel=1e-12)


def _by_convolutions(network, x):
    """The residual network by XLA's own convolutions."""
    h = x.reshape(*x.shape[:2], -1)
    for i, (stem, blocks) in enumerate(zip(network.stems, network.blocks, strict=True)):
        side = network.patch if i == 0 else 2
        h = _convolution(h, stem.reshape(side, side, h.shape[-1], -1), side)
        for block in blocks:
            first, second = (m.reshape(3, 3, -1, m.shape[-1]) for m in (block.first, block.second))
            inner = _convolution(jax.nn.silu(h), first) + block.first_bias[None, None]
            h = h + _convolution(jax.nn.silu(inner), second) + block.second_bias[None, None]
    h = jax.nn.silu(h)
    value = (jnp.sum(h, (0, 1)) @ network.readout)[0]
    if network.dense is not None:
        units = jax.nn.silu(h.ravel() @ network.dense.matrix + network.dense.bias)
        value = value + (units @ network.dense.readout)[0]
    return value


def _convolution(x, kernel, stride=1):
    return lax.conv_general_dilated(
        x[None], kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


@pytest.mark.parametrize(
    ("shape", "channels", "patch", "dense"),
    [((8, 12), (3, 4), 2, 0), ((6, 6, 3), (2,), 1, 0), ((8, 12), (3, 4), 2, 7)],
)
def test_a_residual_network_convolves(shape, channels, patch, dense, x64):
    network = ex.ResidualNetwork.init(
        ex.key(0), shape, channels=channels, patch=patch, dense=dense, n_blocks=2
    )
    network = _leaves_moved(network, ex.key(1))
    x = jax.random.normal(ex.key(2), shape)
    value, gradient = jax.jit(jax.value_and_grad(network.__call__))(x)
    wanted, wanted_gradient = jax.jit(jax.value_and_grad(lambda x: _by_convolutions(network, x)))(x)
    assert float(value) == pytest.approx(float(wanted), rel=1e-12)
    np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-10, atol=1e-12)


def test_a_dense_top_sees_where_things_are():
    image = jnp.zeros((16, 16)).at[4:8, 4:8].set(1.0)
    moved = jnp.roll(image, 4, 1)
    blind = ex.ResidualNetwork.init(ex.key(0), (16, 16), channels=(4,))
    seeing = ex.ResidualNetwork.init(ex.key(0), (16, 16), channels=(4,), dense=8)
    assert float(blind(moved)) == pytest.approx(float(blind(image)), abs=1e-5)
    assert abs(float(seeing(moved) - seeing(image))) > 1e-3


def _attended(network, hidden):
    """The rows through the network's blocks, in NumPy, a head and an element at a time."""

    def normed(x, scale):
        centred = x - x.mean(-1, keepdims=True)
        return np.asarray(scale) * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)

    for block in network.blocks:
        x = normed(hidden, block.scales[0])
        size = x.shape[1] // block.heads
        mixed = np.zeros_like(x)
        for head in range(block.heads):
            at = slice(head * size, (head + 1) * size)
            query, key, value = (
                x @ np.asarray(m)[:, at] for m in (block.query, block.key, block.value)
            )
            for i in range(len(x)):
                mixed[i, at] = softmax(key @ query[i] / np.sqrt(size)) @ value
        hidden = hidden + mixed @ np.asarray(block.output)
        x = normed(hidden, block.scales[1])
        hidden = hidden + _silu(x @ np.asarray(block.inner)) @ np.asarray(block.outer)
    return float((normed(hidden, network.scale) @ np.asarray(network.readout)).sum())


def test_an_attention_network_attends(x64):
    points = ex.AttentionNetwork.init(ex.key(0), ex.Real((5, 2)), width=6, heads=2, depth=2)
    points = _leaves_moved(points, ex.key(1))
    x = jax.random.normal(ex.key(2), (5, 2))
    wanted = _attended(points, np.asarray(x) @ np.asarray(points.embedding))
    value = jax.jit(points.__call__)
    assert float(value(x)) == pytest.approx(wanted, rel=1e-11)
    # A set: the order of its elements does not matter.
    assert float(value(x[jnp.array([3, 1, 4, 0, 2])])) == pytest.approx(wanted, rel=1e-11)

    words = ex.AttentionNetwork.init(
        ex.key(0), ex.Categorical(4, 7), width=4, heads=1, depth=1, positions=True
    )
    words = _leaves_moved(words, ex.key(1))
    row = np.array([6, 0, 2, 2])
    rows = np.asarray(words.embedding)[row] + np.asarray(words.positions)
    wanted = _attended(words, rows)
    value = jax.jit(words.__call__)
    assert float(value(jnp.asarray(row))) == pytest.approx(wanted, rel=1e-11)
    assert abs(float(value(jnp.asarray(row[::-1].copy()))) - wanted) > 1e-3


@pytest.mark.parametrize("shape", [(30, 30), (100, 8), (3, 50), (1, 1)])
def test_the_spectral_bound_is_one_and_tight(shape, x64):
    matrix = jax.random.normal(ex.key(0), shape) * 1e30
    exact = np.linalg.norm(np.asarray(matrix), 2)
    assert exact * (1 - 1e-12) <= float(spectral_bound(matrix)) <= 1.04 * exact
    shrunk = limited(matrix, 0.5)
    assert 0.5 / 1.04 <= np.linalg.norm(np.asarray(shrunk), 2) <= 0.5 * (1 + 1e-12)
    # What stretches less stays as it is.
    small = matrix / 1e31
    np.testing.assert_array_equal(limited(small, 1e3), small)


def test_a_matrix_of_zeros_has_a_gradient(x64):
    gradient = jax.grad(lambda m: jnp.sum(limited(m, 1.0)))(jnp.zeros((3, 2)))
    np.testing.assert_array_equal(gradient, np.ones((3, 2)))


def test_a_limited_network_is_no_steeper_than_it_says(x64):
    space = ex.Real(6)
    network = ex.DenseNetwork.init(
        ex.key(0), space, width=8, depth=2, activation="tanh", lipschitz=0.5
    )
    network = jax.tree.map(lambda leaf: 100.0 * leaf, network)
    x = jax.random.normal(ex.key(1), (200, 6))
    slopes = jnp.linalg.norm(jax.vmap(jax.grad(network.__call__))(x), axis=-1)
    assert 0.0 < float(slopes.max()) <= 0.5**3  # tanh stretches nothing


NETWORKS = {
    "dense": lambda: (
        ex.DenseNetwork.init(ex.key(0), ex.Spin(4), width=3, lipschitz=2.0),
        ex.Spin(4),
    ),
    "residual": lambda: (
        ex.ResidualNetwork.init(ex.key(0), (4, 4), channels=(2,), lipschitz=2),
        ex.Box((4, 4), 0.0, 1.0),
    ),
    "attention": lambda: (
        ex.AttentionNetwork.init(ex.key(0), ex.Binary(4), width=4, heads=2),
        ex.Binary(4),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_single_precision_by_default_and_come_back_from_a_file(name, tmp_path):
    network, space = NETWORKS[name]()
    energy = ex.NeuralEnergy(network, space)
    assert {leaf.dtype for leaf in jax.tree.leaves(network)} == {jnp.dtype("float32")}
    x = space.draw(ex.key(1))
    ex.save(energy, tmp_path / "model.energax")
    loaded = ex.load(tmp_path / "model.energax")
    value = jax.jit(lambda energy, x: energy.energy(x))
    assert value(energy, x) == value(loaded, x)
    assert value(energy, x).dtype == jnp.float32


@pytest.mark.parametrize("activation", ["silu", "softplus", "gelu", "tanh"])
def test_activations_by_name(activation):
    network = ex.DenseNetwork.init(ex.key(0), ex.Real(2), width=3, activation=activation)
    assert jnp.isfinite(jax.grad(network.__call__)(jnp.zeros(2))).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda k: ex.DenseNetwork.init(k, 3), ["space", "ex.Real(2)", "3"]),
        (lambda k: ex.DenseNetwork.init(k, ex.Real(2), width=0), ["width", "at least 1"]),
        (
            lambda k: ex.DenseNetwork.init(k, ex.Real(2), activation="relu"),
            ["activation", "silu", "relu"],
        ),
        (lambda k: ex.DenseNetwork.init(k, ex.Real(2), lipschitz=0.0), ["lipschitz", "positive"]),
        (lambda k: ex.DenseNetwork.init(k, ex.Real(2), lipschitz="1"), ["lipschitz", "positive"]),
        (lambda k: ex.ResidualNetwork.init(k, (28,)), ["shape", "height", "(28,)"]),
        (lambda k: ex.ResidualNetwork.init(k, (28, 27)), ["multiples of 4", "(28, 27)", "pad"]),
        (lambda k: ex.ResidualNetwork.init(k, (28, 28), channels=()), ["channels", "none"]),
        (lambda k: ex.AttentionNetwork.init(k, ex.Real(())), ["elements", "Real"]),
        (
            lambda k: ex.AttentionNetwork.init(k, ex.Joint(a=ex.Real(2))),
            ["elements", "ex.Categorical(n, n_states)"],
        ),
        (
            lambda k: ex.AttentionNetwork.init(k, ex.Real(2), width=6, heads=4),
            ["width", "multiple of heads", "6", "4"],
        ),
    ],
)
def test_bad_settings_are_refused(make, words):
    with refused(*words):
        make(ex.key(0))


@pytest.mark.parametrize(
    ("space", "make"),
    [
        (ex.Real(3), lambda s: ex.DenseNetwork.init(ex.key(0), s, width=32)),
        (ex.Real((8, 8)), lambda s: ex.ResidualNetwork.init(ex.key(0), s.shape, channels=(4, 8))),
        (ex.Real((6, 2)), lambda s: ex.AttentionNetwork.init(ex.key(0), s, width=16)),
        (ex.Categorical(6, 5), lambda s: ex.SequenceNetwork.init(ex.key(0), s, width=8)),
    ],
)
def test_mixed_precision_computes_in_bfloat16_and_keeps_float32(space, make):
    network = make(space)
    mixed = ex.MixedPrecision(network)
    xs = draws(space, 200)
    both = [np.asarray(jax.jit(jax.vmap(f.__call__))(xs)) for f in (network, mixed)]
    assert both[1].dtype == np.float32
    error = np.sqrt(np.mean((both[1] - both[0]) ** 2) / np.mean(both[0] ** 2))
    assert 1e-5 < error < 0.02  # 2^-9 = 0.002 a rounding, and not none
    x = xs[0]
    products = [
        line
        for line in str(jax.make_jaxpr(mixed)(x)).splitlines()
        if "dot_general" in line or "windowed[" in line
    ]
    assert len(products) > (5 if isinstance(network, ex.ResidualNetwork) else 0)
    assert all("bf16" in line.split("=")[0] for line in products)
    gradient = jax.grad(lambda m: m(x))(mixed)
    assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {np.dtype(np.float32)}


def test_what_is_trained_in_mixed_precision_is_the_same_model():
    space = ex.Real(2)
    rows = np.random.default_rng(0).normal([1.0, -1.0], 0.5, (2000, 2))
    bowl = ex.freeze(ex.Gaussian(jnp.zeros(2), jnp.full(2, 2.0)))
    network = ex.DenseNetwork.init(ex.key(0), space, width=32)
    means = []
    for function in (network, ex.MixedPrecision(network)):
        run = ex.fit(
            ex.NeuralEnergy(function, space) * bowl,
            rows,
            ex.DenoisingScoreMatching(0.2),
            key=ex.key(1),
            learning_rate=0.005,
            steps=500,
        )
        assert run.status == "finished"
        leaves = jax.tree.leaves(run.energy.factors[0].function)
        assert {leaf.dtype for leaf in leaves if hasattr(leaf, "dtype")} == {np.dtype(np.float32)}
        found = ex.sample(run.energy, 4000, key=ex.key(2), kernel=ex.HMC())
        means.append(found.x.mean((0, 1)))
    np.testing.assert_allclose(means, [[1.0, -1.0]] * 2, atol=0.2)
    np.testing.assert_allclose(means[1], means[0], atol=0.05)


def test_mixed_precision_refuses_what_cannot_be_called():
    with refused("function", "callable", "int"):
        ex.MixedPrecision(3)


def test_mixed_precision_takes_a_noise_beside_the_state():
    def f(x, noise):
        assert x.dtype == noise.dtype == jnp.bfloat16
        return -0.5 * jnp.sum(x * x) / (1 + noise**2)

    energy = ex.NoiseConditional(ex.MixedPrecision(f), ex.Real(2), [0.1, 3.0])
    value = energy.at(2.0).energy(jnp.array([1.0, 3.0]))
    assert value.dtype == jnp.float32
    assert float(value) == pytest.approx(1.0, rel=0.01)
