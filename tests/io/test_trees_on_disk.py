"""Checkpoints come back to the bit, and only into a tree of the same structure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from on_disk import Network, assert_same, quadratic, rbm, refusal

from energax import io, random

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
