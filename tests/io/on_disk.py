"""Small models, what it means to be the same to the bit, and how a refusal reads."""

import itertools
import json
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from energax import energies, spaces


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def rbm(n_visible=4, n_hidden=3):
    return energies.RBM(normal(0, n_visible, n_hidden), normal(1, n_visible), normal(2, n_hidden))


def quadratic(x):
    return -jnp.sum(x**2)


def blurred(x, noise):
    return -jnp.sum(x**2) / (1 + noise**2)


def moments(x):
    return jnp.stack([jnp.sum(x), jnp.sum(x**2)])


class Network(eqx.Module):
    layers: list[jax.Array]
    activation: Callable

    def __init__(self, *sizes):
        self.layers = [normal(i, n, m) for i, (m, n) in enumerate(itertools.pairwise(sizes))]
        self.activation = jax.nn.softplus

    def __call__(self, x):
        for layer in self.layers:
            x = self.activation(layer @ x)
        return jnp.sum(x)


KEY = jax.random.key(0)
BERNOULLI = energies.Bernoulli(jnp.linspace(-1.0, 1.0, 4))
GAUSSIAN = energies.Gaussian(normal(3, 2), jnp.array([0.5, 2.0]))
NETWORK = energies.NeuralEnergy(Network(2, 8, 8), spaces.Real(2))
JOINT = spaces.Joint(image=spaces.Box((2, 2), 0.0, jnp.inf), label=spaces.Categorical((), 5))
BITS = energies.NeuralEnergy(quadratic, spaces.Binary(4))


MODELS = {
    "Real": lambda: spaces.Real((2, 3)),
    "Box": lambda: spaces.Box(3, jnp.array([0.0, -jnp.inf, -1.0]), jnp.inf),
    "Binary": lambda: spaces.Binary(5),
    "Spin": lambda: spaces.Spin((2, 2)),
    "Categorical": lambda: spaces.Categorical(4, 7),
    "Count": lambda: spaces.Count(3, total=9),
    "Joint": lambda: JOINT,
    "Clamped": lambda: spaces.Clamped(
        spaces.Binary(3), jnp.array([1.0, 0.0, 0.0]), jnp.array([True, False, True])
    ),
    "Banana": lambda: energies.Banana(0.1),
    "Bernoulli": lambda: BERNOULLI,
    "DoubleWell": lambda: energies.DoubleWell(jnp.array([1.0, 3.0])),
    "Exponential": lambda: energies.Exponential(jnp.array([0.5, 2.0])),
    "FactorGraph": lambda: energies.FactorGraph(
        3, [2, 3, 2], [energies.Factor((0, 1), [[0.5, 1, jnp.inf], [2, 0, 1]])]
    ),
    "Funnel": lambda: energies.Funnel(4),
    "Gaussian": lambda: GAUSSIAN,
    "GaussianMRF": lambda: energies.GaussianMRF((3, 4), mass=normal(8, 3, 4) ** 2),
    "GaussianMixture": lambda: energies.GaussianMixture.ring(3),
    "MuellerBrown": lambda: energies.MuellerBrown(),
    "MultivariateGaussian": lambda: energies.MultivariateGaussian(
        jnp.zeros(2), jnp.array([[2.0, 0.3], [0.3, 1.0]])
    ),
    "Poisson": lambda: energies.Poisson(jnp.array([0.5, 3.0])),
    "Ring": lambda: energies.Ring(),
    "Softmax": lambda: energies.Softmax(normal(4, 2, 3)),
    "Uniform": lambda: energies.Uniform(spaces.Box(2, -1.0, 1.0)),
    "Graph": lambda: energies.Graph([(0, 1), (2, 1), (2, 0), (3, 2)], 5),
    "Lattice": lambda: energies.Lattice((3, 4), periodic=(True, False)),
    "Ising": lambda: energies.Ising((2, 3), 0.3, normal(6, 2, 3), periodic=False),
    "Potts": lambda: energies.Potts([(0, 1), (1, 2), (2, 0)], 3, 0.5, normal(7, 3)),
    "AnnealedGraph": lambda: energies.path(
        energies.Uniform(spaces.Spin(3)), energies.Ising(3, 0.5), 0.5
    ),
    "ConditionedBlocked": lambda: energies.condition(
        energies.Ising(3, 0.5), np.array([1, 1, -1]), np.array([True, False, False])
    ),
    "ExponentialFamily": lambda: energies.ExponentialFamily(
        moments, jnp.array([0.1, -0.5]), spaces.Real(3)
    ),
    "NeuralEnergy": lambda: NETWORK,
    "NoiseConditional": lambda: energies.NoiseConditional(
        blurred, spaces.Real(2), jnp.array([0.1, 1.0])
    ),
    "DenseNetwork": lambda: energies.DenseNetwork.init(KEY, JOINT, width=3, lipschitz=2.0),
    "ResidualNetwork": lambda: energies.ResidualNetwork.init(KEY, (4, 4), channels=(2, 3)),
    "MixedPrecision": lambda: energies.MixedPrecision(
        energies.DenseNetwork.init(KEY, JOINT, width=3)
    ),
    "ResidualBlock": lambda: energies.ResidualBlock.init(KEY, 2),
    "AttentionNetwork": lambda: energies.AttentionNetwork.init(
        KEY, spaces.Categorical(3, 5), width=4, heads=2, positions=True
    ),
    "AttentionBlock": lambda: energies.AttentionBlock.init(KEY, 4, 2),
    "NGramEnergy": lambda: energies.NGramEnergy([normal(0, 5), normal(1, 25)], 4, 5, padding=0),
    "SequenceNetwork": lambda: energies.SequenceNetwork.init(
        KEY, spaces.Categorical(3, 5), width=2, padding=4
    ),
    "UnigramSequences": lambda: energies.UnigramSequences(normal(0, 4), normal(1, 5), padding=4),
    "Marginal": lambda: energies.marginal(rbm().joint, "hidden"),
    "RBM": rbm,
    "JointRBM": lambda: rbm().joint,
    "ConditionedSoftmax": lambda: (
        energies.condition(
            energies.Softmax(normal(9, 2, 3)), np.array([2, 0]), np.array([True, False])
        ).inner
    ),
    "ConditionedGaussianMRF": lambda: energies.condition(
        energies.GaussianMRF((3, 4), mass=0.3), np.ones((3, 4)), np.eye(3, 4, dtype=bool)
    ),
    "ConditionedRBM": lambda: energies.condition(
        rbm(), np.array([1, 0, 0, 1]), np.array([True, False, False, False])
    ),
    "AnnealedRBM": lambda: energies.path(BERNOULLI, rbm(), 0.25),
    "GeometricPath": lambda: energies.path(GAUSSIAN, NETWORK, 0.75),
    "Product": lambda: energies.product([rbm(), BITS, energies.freeze(rbm(4, 1))]),
    "Tempered": lambda: rbm() ** 0.3,
    "Shifted": lambda: GAUSSIAN * energies.Gaussian(jnp.ones(2), 1.0),
    "Frozen": lambda: energies.freeze(NETWORK**2.0),
    "Mixture": lambda: energies.mixture([BERNOULLI, energies.Bernoulli(normal(5, 4))], [0.2, 0.8]),
    "MixtureOfEnergies": lambda: energies.mixture([rbm(), rbm(4, 2)]),
    "Conditioned": lambda: energies.condition(
        NETWORK, np.array([0.0, 2.0]), np.array([False, True])
    ),
    "ConditionedParts": lambda: energies.condition(
        energies.NeuralEnergy(lambda x: jnp.sum(x["image"]), JOINT), {"label": 3}
    ),
}


def changed(model):
    """The same structure with other numbers."""
    return jax.tree.map(
        lambda leaf: leaf + leaf.dtype.type(1) if eqx.is_inexact_array(leaf) else leaf, model
    )


def assert_same(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert type(a) is type(b)
        if isinstance(b, jax.Array | np.ndarray | np.generic):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
                assert jax.random.key_impl(a) == jax.random.key_impl(b)
                a, b = jax.random.key_data(a), jax.random.key_data(b)
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
        else:
            assert repr(a) == repr(b)


def assert_same_program(got, want):
    """A model that differs in this compiles anew."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        if isinstance(b, jax.Array):
            assert a.weak_type is b.weak_type is False


def refusal(function, path, *words):
    """The one line of the `ValueError`, which must name the path and leave the folder alone."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        function()
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message, message
    assert sorted(path.parent.iterdir()) == before


def edit(path, *, tensors=None, drop=(), description=None, text=None):
    """Write the file again with some of it changed: a lie of the kind under test."""
    with safe_open(path, framework="numpy") as file:
        content = json.loads(file.metadata()["energax"])
    arrays = {k: v for k, v in load_file(path).items() if k not in drop} | (tensors or {})
    if description is not None:
        content = description(content) or content
    save_file(arrays, path, metadata={"energax": json.dumps(content) if text is None else text})
