"""A file that says of itself what is not so is refused, in one line."""

import json
import struct

import numpy as np
import pytest
from on_disk import (
    JOINT,
    MODELS,
    assert_same,
    edit,
    rbm,
    refusal,
)
from safetensors.numpy import load_file, save_file

from energax import io, spaces


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


def edges_are(*pairs):
    return {"tensors": {"edges": np.array(pairs, np.int32)}}


GRAPH_LIES = {
    "nodes": ("Graph", field("n_nodes", to=10**12)),
    "fewer nodes": ("Graph", field("n_nodes", to=3)),
    "edges": (
        "Graph",
        {"tensors": {"edges": np.array([[0, 1], [2, 1], [2, 0], [3, 1]], np.int32)}},
    ),
    "loop": ("Graph", {"tensors": {"edges": np.array([[0, 0], [2, 1], [2, 0], [3, 2]], np.int32)}}),
    "tables": ("Graph", {"tensors": {"blocks.0.0": np.zeros((1, 1), np.int32)}}),
    "shape": ("Lattice", field("shape", to={"tuple": [3, 5]})),
    "wraps": ("Lattice", field("periodic", to={"tuple": [False, False]})),
    "coupling": ("Ising", {"tensors": {"coupling": np.zeros(3, np.float32)}}),
    "labels": ("Potts", field("n_states", to=4)),
}


@pytest.mark.parametrize("name", GRAPH_LIES)
def test_lies_about_a_graph_are_found(tmp_path, name):
    model, change = GRAPH_LIES[name]
    path = tmp_path / "m"
    io.save(MODELS[model](), path)
    edit(path, **change)
    refusal(lambda: io.load(path), path, "consistent")
