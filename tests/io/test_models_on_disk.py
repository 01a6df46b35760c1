"""Models come back to the bit, and a write that fails leaves the old file."""

import os

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from on_disk import (
    BERNOULLI,
    BITS,
    GAUSSIAN,
    JOINT,
    MODELS,
    NETWORK,
    Network,
    assert_same,
    assert_same_program,
    changed,
    edit,
    quadratic,
    rbm,
    refusal,
)
from safetensors.numpy import load_file

from energax import energies, io, spaces
from energax.io._registry import CLASSES, INFINITE


def test_every_class_has_an_example_here():
    own = {name for name, cls in CLASSES.items() if cls.__module__.startswith("energax.")}
    assert own == set(MODELS)
    for module in (energies, spaces):  # no name hides another
        for name, value in vars(module).items():
            assert name not in own or CLASSES[name] is value


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
    assert_same_program(io.load(path, like=changed(model)), model)
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
def registry():
    """The registry, put back afterwards."""
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


FAILURES = {
    "safetensors": "energax.io._file.serialise",
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
