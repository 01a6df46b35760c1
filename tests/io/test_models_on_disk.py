"""Models and checkpoints come back to the bit; a file that lies, or a write that fails, is told."""

import itertools
import json
import os
import struct
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import energax.io._file as file_module
from energax import energies, io, random, spaces
from energax.io._registry import CLASSES, INFINITE


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def rbm(n_visible=4, n_hidden=3):
    return energies.RBM(normal(0, n_visible, n_hidden), normal(1, n_visible), normal(2, n_hidden))


def quadratic(x):
    return -jnp.sum(x**2)


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
    "Bernoulli": lambda: BERNOULLI,
    "Exponential": lambda: energies.Exponential(jnp.array([0.5, 2.0])),
    "Gaussian": lambda: GAUSSIAN,
    "MultivariateGaussian": lambda: energies.MultivariateGaussian(
        jnp.zeros(2), jnp.array([[2.0, 0.3], [0.3, 1.0]])
    ),
    "Poisson": lambda: energies.Poisson(jnp.array([0.5, 3.0])),
    "Softmax": lambda: energies.Softmax(normal(4, 2, 3)),
    "Uniform": lambda: energies.Uniform(spaces.Box(2, -1.0, 1.0)),
    "ExponentialFamily": lambda: energies.ExponentialFamily(
        moments, jnp.array([0.1, -0.5]), spaces.Real(3)
    ),
    "NeuralEnergy": lambda: NETWORK,
    "RBM": rbm,
    "JointRBM": lambda: rbm().joint,
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


def test_every_class_has_an_example_here():
    own = {name for name, cls in CLASSES.items() if cls.__module__.startswith("energax.")}
    assert own == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_models_come_back_to_the_bit(tmp_path, name):
    model, path = MODELS[name](), tmp_path / "model.energax"
    assert type(model).__name__ == name
    io.save(model, path, metadata={"note": "é", "n": [1, 2.5, None, {"a": True}]})
    assert io.read_metadata(path) == {"note": "é", "n": [1, 2.5, None, {"a": True}]}
    assert io.is_model_file(path)
    has_code = any(callable(leaf) for leaf in jax.tree.leaves(model))
    if has_code:
        refusal(lambda: io.load(path), path, "like=")
    else:
        assert_same(io.load(path), model)
    assert_same(io.load(path, like=changed(model)), model)
    assert [p.name for p in tmp_path.iterdir()] == ["model.energax"]


def test_a_loaded_model_is_an_equal_model(tmp_path):
    io.save(rbm(), tmp_path / "m")
    loaded, x = io.load(tmp_path / "m"), jnp.array([1.0, 0.0, 1.0, 1.0])
    assert loaded.energy(x) == rbm().energy(x)
    assert jax.jit(lambda m: m.energy(x))(loaded) == jax.jit(lambda m: m.energy(x))(rbm())
    other = load_file(tmp_path / "m")  # other programs read the parameters by their names
    np.testing.assert_array_equal(other["weights"], rbm().weights)


def test_float64_models_need_x64_to_come_back(tmp_path):
    path = tmp_path / "m"
    with jax.enable_x64(True):
        model = energies.Gaussian(np.array([0.1, 0.2]), np.array([1.0, 2.0]))
        assert model.mean.dtype == jnp.float64
        io.save(model, path)
        assert_same(io.load(path), model)
    refusal(lambda: io.load(path), path, "float64", "jax_enable_x64")
    io.save(GAUSSIAN, path)
    with jax.enable_x64(True):
        assert_same(io.load(path), GAUSSIAN)


@pytest.fixture
def registry(monkeypatch):
    """The registry, put back afterwards."""
    monkeypatch.setattr("energax.io._registry.CLASSES", CLASSES)
    classes, infinite = dict(CLASSES), dict(INFINITE)
    yield
    for table, kept in ((CLASSES, classes), (INFINITE, infinite)):
        table.clear()
        table.update(kept)


class Barrier(energies.AbstractEnergy):
    space: spaces.Real
    height: jax.Array
    names: tuple[str, ...] = eqx.field(static=True)
    options: dict[str, float]

    def __check_init__(self):
        if self.height.ndim != 1:
            raise TypeError("height must be a vector\nof any length")

    def energy(self, x):
        return jnp.sum(self.height) * jnp.sum(x)


def barrier():
    return Barrier(spaces.Real(2), jnp.array([1.0, jnp.inf]), ("a", "b"), {"z": 1.5, "a": 2.0})


@pytest.mark.usefixtures("registry")
def test_a_registered_class_of_ones_own(tmp_path):
    path = tmp_path / "m"
    finite = eqx.tree_at(lambda m: m.height, barrier(), jnp.ones(2))
    io.save(finite, path)
    refusal(lambda: io.load(path), path, "Barrier", "like=")
    assert_same(io.load(path, like=changed(finite)), finite)
    assert io.register(Barrier) is Barrier
    refusal(lambda: io.save(barrier(), path), path, "height holds 1 NaN or infinite")
    io.register(Barrier, infinite=("height",))
    io.save(barrier() * barrier(), path)
    assert_same(io.load(path), barrier() * barrier())
    edit(path, tensors={"factors.0.height": np.zeros((1, 1), np.float32)})
    refusal(lambda: io.load(path), path, "height must be a vector of any length")


@pytest.mark.usefixtures("registry")
def test_register_refuses_what_it_cannot_name(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    taken = type("RBM", (eqx.Module,), {"__module__": __name__})
    for given, words in ((dict, "an eqx.Module"), (3, "an eqx.Module"), (taken, "'RBM' belongs")):
        with pytest.raises(ValueError, match=words):
            io.register(given)


TREES = {
    "dtypes": lambda: {
        dtype: jnp.asarray(np.arange(6).reshape(2, 3) % 2, dtype)
        for dtype in (
            *("bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "float16"),
            *("bfloat16", "float32", "complex64", "int4", "uint4", "float8_e4m3fn"),
            *("float8_e5m2",),
        )
    },
    "numpy": lambda: [
        np.arange(3.0),
        np.float64(0.1),
        np.array(7),
        np.array([1, 2**62]),
        1j * np.ones(2),
    ],
    "shapes": lambda: (
        jnp.array(3.0),
        jnp.zeros((0, 3)),
        jnp.zeros((1, 1, 0)),
        np.zeros(0, complex),
    ),
    "transposed": lambda: np.arange(6.0).reshape(2, 3).T,
    "odd bits": lambda: jnp.asarray(
        np.array([0x7FC00001, 0xFFFFFFFF, 1, 0x80000000, 0x7F800000], np.uint32).view(np.float32)
    ),
    "scalars": lambda: [True, False, 1, -(2**80), 0.1, 1e-320, float("inf"), -float("inf"), "é\n"],
    "keys": lambda: {
        "energax": random.key(3),
        "batch": jax.random.split(random.key(3), (2, 3)),
        "threefry": jax.random.key(1),
        "rbg": jax.random.key(1, impl="rbg"),
    },
    "containers": lambda: ({"b": [1, (2.0,)], "a": None}, [], (), {"__metadata__": jnp.ones(2)}),
    "leaf": lambda: jnp.arange(3),
    "nothing": lambda: (),
    "network": lambda: (Network(2, 8, 8), rbm()),
}


@pytest.mark.parametrize("name", TREES)
def test_trees_come_back_to_the_bit(tmp_path, name):
    tree, path = TREES[name](), tmp_path / "run"
    io.write_tree(path, tree, metadata={"step": 3})
    got, metadata = io.read_tree(path, like=tree)
    assert_same(got, tree)
    assert metadata == io.read_metadata(path) == {"step": 3}
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype) if isinstance(x, jax.Array) else x, tree
    )
    assert_same(io.read_tree(path, like=shapes)[0], tree)


def test_keys_go_on_where_they_stopped(tmp_path):
    key = random.key(5)
    io.write_tree(tmp_path / "run", key)
    (again, _) = io.read_tree(tmp_path / "run", like=random.key(0))
    assert jax.random.bits(again) == jax.random.bits(key)
    like = jax.eval_shape(lambda: random.key(0))
    assert_same(io.read_tree(tmp_path / "run", like=like)[0], key)


def test_float64_trees(tmp_path, x64):
    tree = {"x": jnp.array([0.1, 1e-310]), "n": jnp.array(2**62), "m": np.float64(0.1)}
    io.write_tree(tmp_path / "run", tree)
    assert_same(io.read_tree(tmp_path / "run", like=tree)[0], tree)


def test_metadata_keeps_what_is_not_finite(tmp_path):
    io.write_tree(tmp_path / "run", 0, metadata={"history": [{"loss": float("nan")}, 1e400]})
    history = io.read_metadata(tmp_path / "run")["history"]
    assert np.isnan(history[0]["loss"])
    assert history[1] == float("inf")


MISFITS = {
    "shape": ({"a": jnp.zeros(3)}, {"a": jnp.zeros(4)}, ["['a']", "(4,)", "(3,)"]),
    "dtype": ({"a": jnp.zeros(3)}, {"a": jnp.zeros(3, int)}, ["['a']", "int32", "float32"]),
    "name": ({"a": jnp.zeros(3)}, {"b": jnp.zeros(3)}, ["lacks ['b']", "has ['a']"]),
    "more": ([1, 2], [1], ["has [1]"]),
    "fewer": ([1], [1, 2], ["lacks [1]"]),
    "containers": ([1, 2], (1, 2), ["containers", "list(*,*)"]),
    "none": ([1, None], [1], ["containers"]),
    "scalar": ([1.0], [1], ["[0]", "int", "float"]),
    "flag": ([1], [True], ["[0]", "bool", "int"]),
    "array for a scalar": ([jnp.zeros(())], [0.0], ["[0]", "float"]),
    "scalar for an array": ([0.0], [jnp.zeros(())], ["[0]"]),
    "key for an array": ([jax.random.key(0)], [jnp.zeros((), jnp.uint32)], ["[0]", "key"]),
    "array for a key": ([jnp.zeros((), jnp.uint32)], [jax.random.key(0)], ["[0]", "key"]),
    "another generator": ([jax.random.key(0)], [random.key(0)], ["[0]", "key"]),
    "function": ([quadratic], [Network(2, 8)], ["structure"]),
    "another function": ([quadratic], [jax.nn.relu], ["[0]", "function"]),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_tree_that_does_not_fit_is_refused(tmp_path, name):
    tree, like, words = MISFITS[name]
    path = tmp_path / "run"
    io.write_tree(path, tree)
    refusal(lambda: io.read_tree(path, like=like), path, *words)


def test_a_tree_of_another_run_is_refused_before_its_shapes(tmp_path):
    path = tmp_path / "run"
    io.write_tree(path, jnp.zeros(3), metadata={"run": {"data": "abc", "batch": 5}, "n": 1})
    right = {"run": {"data": "abc", "batch": 5}, "n": 1}
    assert io.read_tree(path, like=jnp.ones(3), expect=right)[1] == right
    for expect, words in (
        ({"run": {"data": "xyz", "batch": 5}}, ["run.data is 'abc', expected 'xyz'"]),
        ({"run": {"data": "abc"}}, ["run.batch is 5, expected None"]),
        ({"n": 2}, ["n is 1, expected 2"]),
        ({"seed": 2}, ["lack 'seed'"]),
    ):
        refusal(lambda e=expect: io.read_tree(path, jnp.zeros(9), expect=e), path, *words)


def test_a_version_of_the_generator_that_differs_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "run"
    io.write_tree(path, random.key(0))
    monkeypatch.setattr("energax.io._leaves.GENERATOR_VERSION", 99)
    refusal(lambda: io.read_tree(path, like=random.key(0)), path, "version 1", "version 99")


LIKES = {
    "class": (rbm, lambda: BERNOULLI, ["the model is a RBM in the file and a Bernoulli"]),
    "shape": (rbm, lambda: rbm(4, 2), [".weights", "(4, 2)", "(4, 3)"]),
    "static": (lambda: spaces.Real(2), lambda: spaces.Real(3), ["static fields"]),
    "count": (
        lambda: energies.product([rbm(), BITS]),
        lambda: energies.product([rbm(), BITS, BITS**0.5]),
        ["factors", "tuple of 2"],
    ),
    "network": (lambda: NETWORK, lambda: GAUSSIAN, ["NeuralEnergy"]),
    "network inside": (
        lambda: NETWORK,
        lambda: energies.NeuralEnergy(quadratic, spaces.Real(2)),
        ["function is a Network in the file and a function"],
    ),
    "width": (
        lambda: NETWORK,
        lambda: energies.NeuralEnergy(Network(2, 9, 8), spaces.Real(2)),
        ["function.layers[0]", "(9, 2)", "(8, 2)"],
    ),
    "depth": (
        lambda: NETWORK,
        lambda: energies.NeuralEnergy(Network(2, 8, 8, 8), spaces.Real(2)),
        ["function has another structure", "lacks"],
    ),
    "parts": (
        lambda: JOINT,
        lambda: spaces.Joint(image=spaces.Box((2, 2)), name=spaces.Real()),
        ["dictionary"],
    ),
}


@pytest.mark.parametrize("name", LIKES)
def test_a_model_that_does_not_fit_is_refused(tmp_path, name):
    make, like, words = LIKES[name]
    path = tmp_path / "m"
    io.save(make(), path)
    refusal(lambda: io.load(path, like=like()), path, *words)


def edit(path, *, tensors=None, drop=(), description=None, text=None):
    """Write the file again with some of it changed: a lie of the kind under test."""
    with file_module.safe_open(path, framework="numpy") as file:
        content = json.loads(file.metadata()["energax"])
    arrays = {k: v for k, v in load_file(path).items() if k not in drop} | (tensors or {})
    if description is not None:
        content = description(content) or content
    save_file(arrays, path, metadata={"energax": json.dumps(content) if text is None else text})


def says(*keys, to):
    """A change of one entry deep inside the description."""

    def change(content):
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = to

    return {"description": change}


def field(*keys, to):
    """A change of one field of the model."""
    return says("structure", "fields", *keys, to=to)


def lacks(*keys):
    """A description that lacks an entry."""

    def change(content):
        inner = content
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]

    return {"description": change}


def key_of(implementation):
    return {"key": "weights", "implementation": implementation, "version": None}


FLOATS = np.zeros((4, 3), np.float32)
NESTED = '{"list": [' * 5000 + "]}" * 5000
LIES = {
    "newer format": (says("format", to=2), ["newer energax", "upgrade"]),
    "older format": (says("format", to=0), ["malformed"]),
    "format of text": (says("format", to="1"), ["format number"]),
    "format of truth": (says("format", to=True), ["format number"]),
    "checkpoint": (says("kind", to="checkpoint"), ["expected a model"]),
    "unknown kind": (says("kind", to="recipe"), ["malformed"]),
    "kind of list": (says("kind", to=[]), ["malformed"]),
    "extra entry": (says("code", to="1"), ["malformed"]),
    "lost entry": (lacks("structure"), ["malformed"]),
    "metadata of text": (says("metadata", to="1"), ["malformed"]),
    "a list": ({"description": lambda content: [content]}, ["format number"]),
    "no JSON": ({"text": "{'format': 1}"}, ["not sound JSON"]),
    "cut JSON": ({"text": '{"format": 1, "ki'}, ["not sound JSON"]),
    "repeated key": ({"text": '{"format": 1, "format": 2}'}, ["repeated"]),
    "deep JSON": ({"text": "[" * 100_000}, ["nested too deeply"]),
    "deep structure": (says("structure", to=json.loads(NESTED[:4000] + NESTED[-800:])), []),
    "unknown class": (says("structure", "class", to="os.system"), ["os.system", "know"]),
    "class of list": (says("structure", "class", to=[1]), ["does not know"]),
    "base class": (says("structure", "class", to="AbstractEnergy"), ["does not know"]),
    "another class": (says("structure", "class", to="Gaussian"), ["Gaussian has the fields"]),
    "lost field": (lacks("structure", "fields", "weights"), ["has the fields"]),
    "extra field": (field("energy", to=1), ["has the fields"]),
    "fields of list": (says("structure", "fields", to=[1]), ["has the fields"]),
    "structure of number": (says("structure", to=3), ["malformed"]),
    "structure of none": (says("structure", to=None), ["malformed"]),
    "structure of list": (says("structure", to=[1]), ["malformed"]),
    "structure of tuple": (says("structure", to={"tuple": []}), ["malformed"]),
    "structure of a tree": (says("structure", to={"tree": "*", "leaves": {}}), ["read_tree"]),
    "tuple of number": (field("weights", to={"tuple": 3}), ["weights is malformed"]),
    "number for an array": (field("weights", to=3) | {"drop": ["weights"]}, ["consistent"]),
    "text for an array": (field("weights", to="w") | {"drop": ["weights"]}, ["consistent"]),
    "none for an array": (field("weights", to=None) | {"drop": ["weights"]}, ["consistent"]),
    "number beside an array": (field("weights", to=3), ["belong nowhere: weights"]),
    "lost array": ({"drop": ["weights"]}, ["lacks the array 'weights'"]),
    "extra array": ({"tensors": {"spare": FLOATS}}, ["belong nowhere: spare"]),
    "array used twice": (field("hidden_bias", to={"array": "visible_bias"}), ["used twice"]),
    "array by number": (field("weights", to={"array": 3}), ["lacks"]),
    "array of objects": (field("weights", "dtype", to="object"), ["malformed"]),
    "array held oddly": (field("weights", "holder", to="list"), ["malformed"]),
    "array with more": (field("weights", "code", to="1"), ["malformed"]),
    "key for an array": (field("weights", to=key_of("rbg")), ["random key"]),
    "key of an unknown kind": (field("weights", to=key_of("os")), ["malformed"]),
    "float that is none": (field("weights", to={"float": "1"}), ["malformed"]),
    "opaque root": (says("structure", to={"opaque": "RBM", "leaves": {}}), ["like="]),
    "opaque of number": (says("structure", to={"opaque": 3, "leaves": {}}), ["malformed"]),
    "another shape": ({"tensors": {"weights": FLOATS.T}}, ["consistent", "RBM"]),
    "broadcasting": ({"tensors": {"hidden_bias": FLOATS[:1, 0]}}, ["consistent"]),
    "integers": ({"tensors": {"weights": FLOATS.astype(np.int32)}}, ["consistent"]),
    "nan": ({"tensors": {"weights": FLOATS * np.nan}}, ["weights holds 12 NaN"]),
    "inf": ({"tensors": {"weights": FLOATS + np.inf}}, ["weights holds 12 NaN or infinite"]),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_about_a_model_are_found(tmp_path, name):
    change, words = LIES[name]
    path = tmp_path / "m"
    io.save(rbm(), path)
    edit(path)
    assert_same(io.load(path), rbm())
    edit(path, **change)
    refusal(lambda: io.load(path), path, *words)


SPACE_LIES = {
    "no states": (lambda: spaces.Categorical(2, 3), "n_states", 0),
    "halves": (lambda: spaces.Categorical(2, 3), "n_states", 2.5),
    "negative": (lambda: spaces.Binary(3), "shape", {"tuple": [-3]}),
    "a list": (lambda: spaces.Binary(3), "shape", {"list": [3]}),
    "text": (lambda: spaces.Real(3), "shape", "three"),
    "total": (lambda: spaces.Count(3), "total", -1),
    "ends": (lambda: spaces.Box((3,)), "shape", {"tuple": [1000, 1000, 1000, 3]}),
    "parts": (lambda: JOINT, "parts", {"dict": {}}),
    "no spaces": (lambda: JOINT, "parts", {"dict": {"a": 3}}),
}


@pytest.mark.parametrize("name", SPACE_LIES)
def test_lies_about_a_space_are_found(tmp_path, name):
    make, name, value = SPACE_LIES[name]
    path = tmp_path / "m"
    io.save(make(), path)
    edit(path, **field(name, to=value), drop=list(load_file(path)) if name == "parts" else [])
    refusal(lambda: io.load(path), path, "consistent")


def test_parts_over_different_spaces_are_found(tmp_path):
    path = tmp_path / "m"
    for name, tensor, shape in (
        ("Mixture", "members.1.logits", (1,)),
        ("Mixture", "log_weights", (1,)),
        ("AnnealedRBM", "base.logits", (1, 4)),
        ("Tempered", "beta", (2,)),
        ("MultivariateGaussian", "precision_factor", (2, 3)),
        ("Box", "high", (3, 1)),
    ):
        io.save(MODELS[name](), path)
        edit(path, tensors={tensor: np.full(shape, 2, np.float32)})
        refusal(lambda: io.load(path), path, "consistent")


DAMAGE = {
    "empty": lambda b: b"",
    "short": lambda b: b[:7],
    "cut": lambda b: b[:-1],
    "cut in header": lambda b: b[:40],
    "longer": lambda b: b + b"\0",
    "huge header": lambda b: struct.pack("<Q", 2**62) + b[8:],
    "header past the end": lambda b: struct.pack("<Q", len(b)) + b[8:],
    "header of no JSON": lambda b: b[:8] + b"#" + b[9:],
    "text": lambda b: b"weights: 1, 2, 3\n" * 20,
    "pickle": lambda b: b"\x80\x04K\x01.",
    "a shape that lies": lambda b: b.replace(b'"shape":[4,3]', b'"shape":[9,9]'),
    "a dtype that is none": lambda b: b.replace(b'"dtype":"F32"', b'"dtype":"X32"'),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_by_every_reader(tmp_path, name):
    path = tmp_path / "m"
    io.save(rbm(), path)
    path.write_bytes(DAMAGE[name](path.read_bytes()))
    for function in (io.load, io.read_metadata, lambda p: io.read_tree(p, like=0)):
        refusal(lambda f=function: f(path), path, "safetensors")


def test_files_of_others_and_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "m"
    for function in (io.load, io.read_metadata, lambda p: io.read_tree(p, like=0)):
        refusal(lambda f=function: f(path), path, "no such file")
        refusal(lambda f=function: f(tmp_path), tmp_path, "not a regular file")
    save_file({"w": FLOATS}, path)
    refusal(lambda: io.load(path), path, "not made by energax")
    save_file({"w": FLOATS}, path, metadata={"format": "pt"})
    refusal(lambda: io.load(path), path, "not made by energax")
    io.write_tree(path, 0)
    refusal(lambda: io.load(path), path, "holds a checkpoint, expected a model")
    io.save(rbm(), path)
    refusal(lambda: io.read_tree(path, like=rbm()), path, "holds a model, expected a checkpoint")
    io.write_tree(path, 0, kind="model")
    refusal(lambda: io.load(path), path, "read_tree")
    assert not io.is_model_file(tmp_path / "nothing")
    assert not io.is_model_file(tmp_path)
    (tmp_path / "t.csv").write_text("1,2,3,4,5\n")
    assert not io.is_model_file(tmp_path / "t.csv")


FAILURES = {
    "safetensors": "energax.io._file.save_file",
    "fsync": "os.fsync",
    "replace": "os.replace",
}


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", FAILURES)
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, where, error):
    path = tmp_path / "m"
    io.save(rbm(), path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(FAILURES[where], fail)
        for write in (lambda: io.save(BERNOULLI, path), lambda: io.write_tree(path, 0)):
            with pytest.raises(type(error)):
                write()
            assert path.read_bytes() == before
            assert [p.name for p in tmp_path.iterdir()] == ["m"]
    io.save(BERNOULLI, path)
    assert_same(io.load(path), BERNOULLI)


def test_a_write_half_done_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m"
    io.save(rbm(), path)

    def fail(tensors, aside, metadata):
        aside.write_bytes(b"half of it")
        raise file_module.SafetensorError("I/O error: no space left on device")

    monkeypatch.setattr("energax.io._file.save_file", fail)
    with pytest.raises(OSError, match="no space left on device"):
        io.save(BERNOULLI, path)
    assert_same(io.load(path), rbm())
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_links_and_permissions_are_kept(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    (tmp_path / "latest").symlink_to(folder / "m")
    io.save(rbm(), tmp_path / "latest")
    assert (tmp_path / "latest").is_symlink()
    assert_same(io.load(folder / "m"), rbm())
    (tmp_path / "plain").write_text("")
    assert (folder / "m").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_cannot_be_saved_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    path = tmp_path / "m"
    nan = eqx.tree_at(lambda m: m.weights, rbm(), jnp.full((4, 3), jnp.nan))
    unfit = eqx.tree_at(lambda m: m.weights, rbm(), jnp.zeros((5, 3)))
    circle: list = []
    circle.append(circle)
    for write, words in (
        (lambda: io.save(nan, path), ["weights holds 12 NaN"]),
        (lambda: io.save(unfit, path), ["consistent"]),
        (lambda: io.save({"a": 1}, path), ["got dict"]),
        (lambda: jax.jit(lambda m: io.save(m, path))(rbm()), ["compiled function"]),
        (lambda: io.save(rbm(), path, metadata=[1]), ["metadata must be a dictionary"]),
        (lambda: io.save(rbm(), path, metadata={1: 2}), ["text as keys"]),
        (lambda: io.save(rbm(), path, metadata={"a": [{"b": np.ones(2)}]}), ["['a'][0]['b']"]),
        (lambda: io.save(rbm(), path, metadata={"a": circle}), ["nested too deeply"]),
        (lambda: io.write_tree(path, 0, kind="recipe"), ["kind must be one of"]),
        (lambda: io.write_tree(path, [np.array(["a"])]), ["[0]", "<U1"]),
        (lambda: io.write_tree(path, [np.array([None])]), ["[0]", "object"]),
        (lambda: io.write_tree(path, [np.zeros(2, ">f4")]), ["[0]", ">f4"]),
    ):
        refusal(write, path, *words)
    refusal(lambda: io.save(rbm(), tmp_path), tmp_path, "folder")
    with pytest.raises(ValueError, match=r"folder .*none does not exist"):
        io.save(rbm(), tmp_path / "none" / "m")
    with pytest.raises(ValueError, match="path must be a path, got int"):
        io.save(rbm(), 3)
    with pytest.raises(ValueError, match="like must be an energy"):
        io.load(path, like=3)


def test_no_descriptors_are_left_open(tmp_path):
    path = tmp_path / "m"
    io.save(rbm(), path)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(5):
        io.save(rbm(), path)
        io.load(path)
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before
