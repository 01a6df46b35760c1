"""Bad arguments of `fit` are refused at the door: one `ValueError`, no step taken, no file made."""

import math

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from training_setups import BARS, PCD, rbm

import energax as ex
from energax.training import _loop

NAN_ROWS = np.where(np.arange(9) == 4, np.nan, BARS.astype(float))

BAD = {
    # data
    "no data": ({"data": None}, "data must hold numbers"),
    "no rows": ({"data": np.zeros((0, 9))}, "data is empty"),
    "one flat row": ({"data": BARS[0]}, "data must have shape"),
    "other width": ({"data": BARS[:, :8]}, r"data must have shape \(rows, 9\), got \(28, 8\)"),
    "other values": ({"data": BARS + 1}, "data must hold only 0 and 1"),
    "NaN in data": ({"data": NAN_ROWS}, "28 NaN, the first in row 0"),
    "infinite data": ({"data": np.full((3, 9), np.inf)}, "data must hold only 0 and 1"),
    "text": ({"data": np.full((3, 9), "1")}, "data must hold numbers"),
    "complex data": ({"data": BARS + 0j}, "data must hold numbers, got dtype complex128"),
    "objects": ({"data": np.full((3, 9), None)}, "data must hold numbers"),
    "ragged data": ({"data": [[0, 1], [1]]}, "data cannot be read as an array"),
    "a dictionary": ({"data": {"x": BARS}}, "data"),
    # what and how
    "no energy": ({"energy": None}, "fit needs an energy, got NoneType"),
    "a class": ({"energy": ex.RBM}, "fit needs an energy, got"),
    "no objective": ({"objective": "pcd"}, "objective must be an objective, got str"),
    "objective's class": ({"objective": ex.MaximumLikelihood}, "objective must be an objective"),
    "centring without centres": (
        {"energy": ex.Bernoulli(jnp.zeros(9))},
        "centred=True needs an energy with centred gradients",
    ),
    "kernel that does not fit": (
        {
            "energy": ex.Bernoulli(jnp.zeros(9)),
            "objective": ex.ContrastiveDivergence(kernel=ex.BlockGibbs()),
        },
        "BlockGibbs",
    ),
    "moments for an RBM": ({"objective": ex.MaximumEntropy()}, "fits an ExponentialFamily"),
    "all frozen": (
        {"energy": ex.freeze(rbm()), "objective": ex.ContrastiveDivergence()},
        "nothing to train",
    ),
    "too many states": (
        {
            "energy": ex.ExponentialFamily(lambda x: jnp.sum(x), np.zeros(1), ex.Binary(40)),
            "data": np.zeros((3, 40)),
            "objective": ex.MaximumLikelihood(),
        },
        "cannot be listed",
    ),
    "no key": ({"key": None}, "key must be one random key"),
    "a seed": ({"key": 0}, "key must be one random key"),
    "keys": ({"key": jax.random.split(ex.key(0), 2)}, "key must be one random key"),
    "an old key": ({"key": jax.random.PRNGKey(0)}, "key must be one random key"),
    # how long
    "no length": ({"steps": None}, "give either steps or epochs"),
    "two lengths": ({"epochs": 1}, "give either steps or epochs"),
    "no steps": ({"steps": 0}, "steps must be an integer of at least 1, got 0"),
    "negative steps": ({"steps": -1}, "steps must be an integer"),
    "half a step": ({"steps": 1.5}, "steps must be an integer"),
    "true steps": ({"steps": True}, "steps must be an integer"),
    "too many steps": ({"steps": 2**31}, "at most 2147483647 steps"),
    "no epochs": ({"steps": None, "epochs": 0}, "epochs must be a positive number, got 0"),
    "negative epochs": ({"steps": None, "epochs": -1.0}, "epochs must be a positive number"),
    "NaN epochs": ({"steps": None, "epochs": math.nan}, "epochs must be a positive number"),
    "endless epochs": ({"steps": None, "epochs": math.inf}, "epochs must be a positive number"),
    "countless epochs": ({"steps": None, "epochs": 1e300}, "at most 2147483647 steps"),
    "text for epochs": ({"steps": None, "epochs": "3"}, "epochs must be a positive number"),
    "no batch": ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
    "negative batch": ({"batch_size": -7}, "batch_size must be an integer"),
    "half a batch": ({"batch_size": 0.5}, "batch_size must be an integer"),
    "no log": ({"log_every": 0}, "log_every must be an integer of at least 1"),
    # the optimiser
    "no optimiser": ({"optimizer": "adam"}, "optimizer must come from optax, got str"),
    "optimiser and rate": (
        {"optimizer": optax.sgd(0.1), "learning_rate": 0.1},
        "give an optimizer, or learning_rate",
    ),
    "optimiser and momentum": (
        {"optimizer": optax.sgd(0.1), "momentum": 0.1},
        "give an optimizer, or learning_rate",
    ),
    "optimiser and decay": (
        {"optimizer": optax.sgd(0.1), "weight_decay": 0.1},
        "give an optimizer, or learning_rate",
    ),
    "rate of 0": ({"learning_rate": 0.0}, "learning_rate must be positive"),
    "negative rate": ({"learning_rate": -0.1}, "learning_rate must be positive"),
    "NaN rate": ({"learning_rate": math.nan}, "learning_rate must be positive"),
    "infinite rate": ({"learning_rate": math.inf}, "learning_rate must be positive"),
    "text for a rate": ({"learning_rate": "0.1"}, "learning_rate must be positive"),
    "momentum of 1": ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
    "negative momentum": ({"momentum": -0.1}, "momentum must lie in"),
    "NaN momentum": ({"momentum": math.nan}, "momentum must lie in"),
    "text for momentum": ({"momentum": "0.5"}, "momentum must lie in"),
    "negative decay": ({"weight_decay": -0.1}, "weight_decay must be a number of at least 0"),
    "NaN decay": ({"weight_decay": math.nan}, "weight_decay must be a number"),
    "infinite decay": ({"weight_decay": math.inf}, "weight_decay must be a number"),
    "text for decay": ({"weight_decay": "0"}, "weight_decay must be a number"),
    # validation, the guard, checkpoints
    "validation of another width": ({"validation": BARS[:, :8]}, "validation must have shape"),
    "no validation rows": ({"validation": BARS[:0]}, "validation is empty"),
    "other validation values": ({"validation": BARS + 2}, "validation must hold only 0 and 1"),
    "limit of 0": ({"energy_limit": 0}, "energy_limit must be positive, got 0"),
    "negative limit": ({"energy_limit": -1.0}, "energy_limit must be positive"),
    "NaN limit": ({"energy_limit": math.nan}, "energy_limit must be positive"),
    "text for a limit": ({"energy_limit": "9"}, "energy_limit must be positive"),
    "negative seconds": ({"checkpoint_seconds": -1}, "checkpoint_seconds must be at least 0"),
    "NaN seconds": ({"checkpoint_seconds": math.nan}, "checkpoint_seconds must be at least 0"),
    "text for seconds": ({"checkpoint_seconds": "9"}, "checkpoint_seconds must be at least 0"),
    "a folder for a checkpoint": ({"checkpoint": "."}, "checkpoint must be a file, . is a folder"),
    "a checkpoint in no folder": ({"checkpoint": "no/x"}, "there is no folder no"),
    "a checkpoint in a file": ({"checkpoint": "file/x"}, "there is no folder file"),
    "a log in no folder": ({"log": "no/x.jsonl"}, "log cannot be written: there is no folder no"),
    "a log in a file": ({"log": "file/x"}, "log cannot be written: there is no folder file"),
    "a file for TensorBoard": ({"log": "file"}, "file is a file"),
    "another kind of log": ({"log": "run.txt"}, "a file that ends in .jsonl or a folder"),
    "a number for a log": ({"log": 3}, "log must be a path, a log such as ex.JSONLog"),
    "a bad log among good ones": ({"log": ["a.jsonl", True]}, "log must be a path"),
    "likelihoods of nothing": ({"likelihood_every": 4}, "likelihood_every needs validation rows"),
    "likelihoods at no step": (
        {"likelihood_every": 0, "validation": BARS},
        "likelihood_every must be an integer of at least 1",
    ),
    "a number for a checkpoint": ({"checkpoint": 3}, "checkpoint must be a path, got int"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_refused_before_any_work(name, monkeypatch, tmp_path):
    changed, message = BAD[name]
    # The types themselves are checked under pytest, and then nothing here would be reached.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    if name != "too many states":  # that one is found out when the program is made
        monkeypatch.setattr(_loop, "run_chunk", None)
    options = {
        "energy": rbm(),
        "data": BARS,
        "objective": PCD,
        "key": ex.key(0),
        "steps": 4,
        "checkpoint": "state.ckpt",
        **changed,
    }
    energy, data, objective = (options.pop(n) for n in ("energy", "data", "objective"))
    with pytest.raises(ValueError, match=message) as caught:
        ex.fit(energy, data, objective, **options)
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_moments_take_no_validation_rows():
    family = ex.ExponentialFamily(lambda x: jnp.sum(x), np.zeros(1), ex.Binary(3))
    with pytest.raises(ValueError, match="MaximumEntropy takes no validation rows"):
        ex.fit(family, [1.5], ex.MaximumEntropy(), key=ex.key(0), steps=3, validation=BARS)
    with pytest.raises(ValueError, match="energy_limit must be positive"):
        ex.fit(family, [1.5], ex.MaximumEntropy(), key=ex.key(0), steps=3, energy_limit=-1)


def test_parts_of_a_joint_must_be_named_and_of_one_length():
    space = ex.Joint(a=ex.Spin(2), b=ex.Categorical((), 3))
    family = ex.ExponentialFamily(lambda x: jnp.sum(x["a"]), np.zeros(1), space)
    fit = {"key": ex.key(0), "steps": 3}
    a, b = np.ones((4, 2)), np.zeros(4, int)
    for data, message in (
        (a, "data must be a dictionary of"),
        ({"a": a}, "data must be a dictionary of"),
        ({"a": a, "b": b[:3]}, "as many rows each"),
        ({"a": a, "b": b + 3}, "integers from 0 to 2"),
    ):
        with pytest.raises(ValueError, match=message):
            ex.fit(family, data, ex.MaximumLikelihood(), **fit)
