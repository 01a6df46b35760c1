"""A run that stopped, wherever that was, goes on as if it had not: the very same bits."""

import os
import shutil
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training_setups import BARS, PCD, Spy, assert_same, bits, rbm, train

import energax as ex
from energax import io
from energax.io import _file
from energax.training import _checks, _loop

CD = ex.ContrastiveDivergence(kernel=ex.RandomWalkMetropolis(0.4))
NCE = ex.NoiseContrastiveEstimation()
CHAINS = {
    "buffer": ex.ReplayBuffer(size=30, n_chains=10, n_steps=2, fresh=0.25),
    "ladder": ex.TemperedContrastiveDivergence(n_steps=10, n_chains=5, n_replicas=3, centred=True),
    "pairs": ex.UnbiasedContrastiveDivergence(n_pairs=5, centred=True),
}
STEPS = 30


@pytest.fixture
def path(tmp_path):
    """Where checkpoints go. Nothing else may be left beside them."""
    folder = tmp_path / "run"
    folder.mkdir()
    yield folder / "state.ckpt"
    assert {file.name for file in folder.iterdir()} <= {"state.ckpt"}


def interrupt(monkeypatch, at, *, where=_loop.Bar, name="update"):
    """Ctrl-C on the `at`-th call (from 0) of a function that `fit` calls between chunks."""
    real, calls = getattr(where, name), []

    def stopped(*args, **options):
        calls.append(args)
        if len(calls) == at + 1:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(where, name, stopped)


# --- the same bits -----------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [PCD, CD, NCE], ids=["pcd", "cd", "nce"])
@pytest.mark.parametrize("stop", [1, 8, 20])
def test_stopped_and_continued_is_undisturbed(objective, stop, path):
    whole = train(objective=objective, steps=STEPS, log_every=4, validation=BARS[:5])
    again = {"objective": objective, "log_every": 4, "validation": BARS[:5], "checkpoint": path}
    part = train(steps=stop, **again)
    assert part.step == stop
    assert bits(part.energy) != bits(whole.energy)
    rest = train(steps=STEPS, **again)
    assert bits(rest.state) == bits(whole.state)
    assert rest.step == STEPS
    if stop in (8, 20):  # where a row of the history stands anyway
        assert_same(rest, whole)


@pytest.mark.parametrize("objective", CHAINS.values(), ids=CHAINS)
def test_so_is_a_buffer_a_ladder_and_a_pair_of_chains(objective, path):
    """The ladder's rungs move at step 10."""
    whole = train(objective=objective, steps=16)
    for stop in (4, 11):
        assert train(objective=objective, steps=stop, checkpoint=path).step == stop
    assert bits(train(objective=objective, steps=16, checkpoint=path).state) == bits(whole.state)


@pytest.mark.parametrize("how", ["alone", "accumulated", "combined"])
def test_so_are_the_velocities_of_a_buffer(how, path):
    rows = np.random.default_rng(0).normal(size=(28, 3)).astype(np.float32)
    kernel = ex.UnderdampedLangevin(0.2)
    objective = ex.ReplayBuffer(size=20, n_chains=10, n_steps=2, fresh=0.2, kernel=kernel)
    if how == "combined":
        objective = ex.CombinedObjective([objective, ex.DenoisingScoreMatching(0.3)], [1.0, 0.5])
    run = {"energy": ex.Gaussian(jnp.zeros(3)), "data": rows, "objective": objective}
    run |= {"accumulate": 2} if how == "accumulated" else {}
    whole = train(steps=16, **run)
    assert train(steps=6, checkpoint=path, **run).step == 6
    rest = train(steps=16, checkpoint=path, **run)
    assert bits(rest.state) == bits(whole.state)
    buffer = rest.state.objective[0] if how == "combined" else rest.state.objective
    assert buffer.motion.shape == (20, 3)
    assert np.any(buffer.motion)


def test_so_is_a_joint_classifier(path):
    rows = {"hidden": BARS[:, :4], "visible": BARS}
    chains = ex.PersistentContrastiveDivergence(n_steps=2, n_chains=5)
    run = {"energy": rbm().joint, "data": rows, "objective": ex.JointClassifier("hidden", chains)}
    whole = train(steps=16, **run)
    assert train(steps=7, checkpoint=path, **run).step == 7
    assert bits(train(steps=16, checkpoint=path, **run).state) == bits(whole.state)


def test_more_steps_may_be_asked_of_a_finished_run(path):
    train(epochs=2, checkpoint=path)
    longer = train(epochs=5, checkpoint=path)
    assert longer.message == "20 steps"
    assert_same(longer, train(epochs=5))


def test_a_finished_run_called_again_takes_no_step(path, monkeypatch):
    done = train(steps=STEPS, checkpoint=path)
    stamp = path.stat().st_mtime_ns
    monkeypatch.setattr(_loop, "run_chunk", None)
    again = train(steps=STEPS, checkpoint=path)
    assert again.ok
    assert_same(again, done)
    assert again.history == done.history  # the seconds too
    assert path.stat().st_mtime_ns == stamp


def test_fewer_steps_than_were_taken_are_refused(path):
    train(steps=8, checkpoint=path)
    with pytest.raises(ValueError, match="has 8 steps behind it, more than the 7 asked for"):
        train(steps=7, checkpoint=path)


def test_everything_that_is_carried_is_in_the_checkpoint(path):
    run = train(steps=8, checkpoint=path)
    like = {"state": run.state, "earlier": [run.state]}
    tree, metadata = io.read_tree(path, eqx.filter(like, eqx.is_array))
    assert bits(tree["state"]) == bits(run.state)
    assert int(tree["earlier"][0].step) == 0  # on trial: too young to be known as healthy
    assert metadata["history"] == run.history
    chains = run.state.objective.chains.x
    assert chains.shape == (PCD.n_chains, 9)
    assert int(run.state.step) == 8
    assert jnp.issubdtype(run.state.key.dtype, jax.dtypes.prng_key)


def test_a_model_whose_functions_are_made_anew_resumes(path):
    class Scaled(eqx.Module):
        weight: jax.Array
        squash: object = eqx.field(static=True)

        def __call__(self, x):
            return jnp.sum(self.weight * self.squash(x))

    def go(steps, checkpoint=None):
        # A new function object each time, as in another process.
        energy = ex.NeuralEnergy(Scaled(jnp.ones(2), lambda x: -(x**2)), ex.Real(2))
        rows = np.random.default_rng(0).normal(size=(10, 2))
        objective = ex.ContrastiveDivergence(
            kernel=ex.MetropolisHastings(lambda key, x: x + jax.random.normal(key, x.shape))
        )
        return ex.fit(
            energy,
            rows,
            objective,
            key=ex.key(0),
            optimizer=optax.adam(0.1),
            steps=steps,
            checkpoint=checkpoint,
        )

    go(4, path)
    assert bits(go(8, path).state) == bits(go(8).state)


# --- Ctrl-C ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [0, 1, 6])
def test_ctrl_c_between_chunks_ends_the_run_with_what_it_has(chunk, path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, chunk)
        run = train(steps=STEPS, log_every=4, checkpoint=path)
    done = 4 * (chunk + 1)
    assert run.status == "interrupted"
    assert not run.ok
    assert run.step == done
    assert f"after {done} of {STEPS} steps" in run.message
    assert str(path) in run.message
    assert [row["step"] for row in run.history] == list(range(4, done + 1, 4))
    assert bits(run.state) == bits(train(steps=done).state)
    assert_same(train(steps=STEPS, log_every=4, checkpoint=path), train(steps=STEPS, log_every=4))


@pytest.mark.parametrize("name", ["measures", "run_chunk", "write_checkpoint", "replace"])
def test_ctrl_c_anywhere_loses_no_row_and_no_bit(name, path, monkeypatch):
    where = {"measures": _checks.Checks, "replace": os}.get(name, _loop)
    with monkeypatch.context() as patch:
        interrupt(patch, 2, where=where, name=name)
        run = train(steps=STEPS, checkpoint=path, checkpoint_seconds=0, validation=BARS[:5])
    assert run.status == "interrupted"
    assert 0 < run.step < STEPS
    assert_same(
        train(steps=STEPS, checkpoint=path, validation=BARS[:5]),
        train(steps=STEPS, validation=BARS[:5]),
    )


def test_ctrl_c_twice_leaves_the_last_whole_checkpoint(path, monkeypatch):
    train(steps=4, checkpoint=path)
    before = path.read_bytes()

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(steps=STEPS, checkpoint=path)
    assert path.read_bytes() == before
    assert_same(train(steps=STEPS, checkpoint=path), train(steps=STEPS))


def test_ctrl_c_without_a_checkpoint_still_gives_the_model(monkeypatch):
    interrupt(monkeypatch, 1)
    run = train(steps=STEPS)
    assert run.status == "interrupted"
    assert run.message == f"stopped by the user after 8 of {STEPS} steps"


# --- writing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [0, 3])
@pytest.mark.parametrize("name", ["replace", "serialise"])
def test_a_failure_while_writing_leaves_the_old_file_or_none(name, call, path, monkeypatch):
    where = os if name == "replace" else _file
    real, calls = getattr(where, name), []

    def failing(*args, **options):
        calls.append(args)
        if len(calls) == call + 1:
            raise OSError("no space left on device")
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, failing)
        with pytest.raises(OSError, match="no space left"):
            train(steps=STEPS, checkpoint=path, checkpoint_seconds=0)
    assert path.exists() == (call > 0)
    if call:
        left = train(steps=4 * call, checkpoint=path)  # whole, and of just this many steps
        assert bits(left.state) == bits(train(steps=4 * call).state)
    assert_same(train(steps=STEPS, checkpoint=path), train(steps=STEPS))


def test_a_checkpoint_is_due_by_the_clock(path, monkeypatch):
    written = []

    def write(path, progress, run):
        written.append(progress.done)

    monkeypatch.setattr(_loop, "write_checkpoint", write)
    train(steps=12, checkpoint=path, checkpoint_seconds=1e9)
    assert written == [12]
    train(steps=12, checkpoint=path, checkpoint_seconds=0)
    assert written == [12, 4, 8, 12]


# --- starting anew -----------------------------------------------------------------------------


def test_resume_false_starts_anew_over_anything(path):
    train(steps=8, checkpoint=path, key=ex.key(5))
    fresh = train(steps=8, checkpoint=path, resume=False)
    assert_same(fresh, train(steps=8))
    path.write_bytes(b"no checkpoint at all")
    assert_same(train(steps=8, checkpoint=path, resume=False), fresh)
    assert_same(train(steps=12, checkpoint=path), train(steps=12))  # what it wrote is whole


# --- other runs are refused --------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A checkpoint of a run made from settings, and one of a run with an optimiser."""
    folder = tmp_path_factory.mktemp("checkpoints")
    settings(folder / "settings.ckpt")
    settings(folder / "schedule.ckpt", learning_rate=optax.linear_schedule(0.1, 0.0, 9))
    return folder


def settings(path: Path, **changed):
    options = {
        "energy": rbm(),
        "data": BARS,
        "objective": CD,
        "key": ex.key(1),
        "learning_rate": 0.1,
        "momentum": 0.5,
        "weight_decay": 0.01,
        "batch_size": 7,
        "log_every": 100,
        "steps": 4,
        "checkpoint": path,
        **changed,
    }
    return ex.fit(options.pop("energy"), options.pop("data"), options.pop("objective"), **options)


OTHER = {
    "data": {"data": 1 - BARS},
    "order of rows": {"data": BARS[::-1]},
    "fewer rows": {"data": BARS[:20]},
    "key": {"key": ex.key(2)},
    "energy": {"energy": rbm(1)},
    "kind of energy": {"energy": ex.Bernoulli(jnp.zeros(9)), "objective": CD},
    "size of energy": {"energy": rbm(n_hidden=5)},
    "objective": {"objective": ex.ContrastiveDivergence()},
    "steps of the kernel": {
        "objective": ex.ContrastiveDivergence(n_steps=2, kernel=ex.RandomWalkMetropolis(0.4))
    },
    "an array in the kernel": {
        "objective": ex.ContrastiveDivergence(kernel=ex.RandomWalkMetropolis(0.5))
    },
    "batch_size": {"batch_size": 14},
    "log_every": {"log_every": 50},
    "momentum": {"momentum": 0.6},
    "learning_rate": {"learning_rate": 0.2},
    "schedule": {"learning_rate": optax.linear_schedule(0.1, 0.0, 9)},
    "weight_decay": {"weight_decay": 0.02},
    "optimizer": {"momentum": None},
    "given optimizer": {
        "optimizer": optax.adam(0.1),
        "learning_rate": None,
        "momentum": None,
        "weight_decay": 0.0,
    },
}

NAMED = {
    "order of rows": "data",
    "fewer rows": "data",
    "kind of energy": "energy",
    "size of energy": "energy",
    "steps of the kernel": "objective",
    "an array in the kernel": "objective",
    "schedule": "learning_rate",
    "given optimizer": "optimizer",
}


def refused(written, tmp_path, name, changed, *words):
    path = tmp_path / "state.ckpt"
    shutil.copy(written / name, path)
    before = path.read_bytes()
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        settings(path, **changed)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["state.ckpt"]
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(path), *words):
        assert word in message, message


@pytest.mark.parametrize("name", OTHER)
def test_the_checkpoint_of_another_run_is_refused_by_what_differs(name, written, tmp_path):
    words = f"run.{NAMED.get(name, name)} is", "resume=False"
    refused(written, tmp_path, "settings.ckpt", {"steps": 8, **OTHER[name]}, *words)


def test_the_very_same_settings_are_not_refused(written, tmp_path):
    shutil.copy(written / "settings.ckpt", tmp_path / "state.ckpt")
    assert settings(tmp_path / "state.ckpt").step == 4


def test_a_schedule_may_be_stretched_but_not_start_elsewhere(written, tmp_path):
    elsewhere = {"learning_rate": optax.linear_schedule(0.2, 0.0, 9)}
    refused(written, tmp_path, "schedule.ckpt", elsewhere, "schedule from 0.2")
    longer = {"learning_rate": optax.linear_schedule(0.1, 0.0, 20), "steps": 8}
    assert settings(tmp_path / "state.ckpt", **longer).step == 8


# --- damage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_a_truncated_checkpoint_is_refused(keep, written, tmp_path):
    whole = (written / "settings.ckpt").read_bytes()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "cut.ckpt").write_bytes(whole[: int(keep * len(whole))])
    (tmp_path / "run").mkdir()
    refused(tmp_path / "bad", tmp_path / "run", "cut.ckpt", {}, "not a whole")


def test_what_is_no_checkpoint_is_refused(written, tmp_path):
    bad, run = tmp_path / "bad", tmp_path / "run"
    bad.mkdir()
    run.mkdir()
    (bad / "noise").write_bytes(np.random.default_rng(0).bytes(5000))
    refused(bad, run, "noise", {}, "not a whole")
    ex.save(rbm(), bad / "model")
    refused(bad, run, "model", {}, "a model, expected a checkpoint")
    metadata = io.read_metadata(written / "settings.ckpt")
    io.write_tree(bad / "other", {"x": jnp.zeros(3)}, metadata=metadata)
    refused(bad, run, "other", {}, "another structure")
    state = eqx.filter(settings(written / "settings.ckpt").state, eqx.is_array)
    bare = {"state": state, "earlier": [state]}
    io.write_tree(bad / "bare", bare, metadata={"run": metadata["run"]})
    refused(bad, run, "bare", {}, "no history")


def test_a_spy_resumes_too(path):
    # An objective of one's own, its state saved without a word about it.
    options = {"energy": ex.Bernoulli(jnp.zeros(9)), "objective": Spy(), "checkpoint": path}
    train(steps=8, **options)
    assert_same(train(steps=12, **options), train(steps=12, **{**options, "checkpoint": None}))
