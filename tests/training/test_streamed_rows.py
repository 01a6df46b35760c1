"""Training on rows that stay in their files is training on these rows."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from training_setups import BARS, Spy, assert_same, bits, rbm, train

import energax as ex
from energax.training import _loop
from energax.training._streamed import StreamedRows

CD = ex.ContrastiveDivergence(n_steps=1)


def saved(path: Path, rows: np.ndarray) -> Path:
    np.save(path, rows)
    return path


def table(path: Path, rows: np.ndarray, group: int = 4) -> Path:
    columns = {f"x{i}": column for i, column in enumerate(rows.T)}
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


# --- the same run ------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [30, 31])
@pytest.mark.parametrize("dtype", [np.uint8, bool, np.float64, np.int16])
def test_a_run_from_a_file_is_the_run_from_memory(dtype, steps, tmp_path):
    """Several epochs, chunks that end inside them, chains held against the data."""
    options = {"log_every": 7, "validation": BARS[:6]}
    whole = train(steps=steps, **options)
    path = saved(tmp_path / "x.npy", BARS.astype(dtype))
    assert_same(train(data=ex.stream(path), steps=steps, **options), whole)
    assert_same(train(data=np.load(path, mmap_mode="r"), steps=steps, **options), whole)


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": ex.NoiseContrastiveEstimation()},
        {"objective": CD, "accumulate": 2, "clip": 0.1, "ema": 0.9},
        {"objective": CD, "augment": lambda x, key: jax.random.permutation(key, x)},
        {"objective": CD, "steps": 3, "log_every": 100},
    ],
    ids=["noise contrastive", "accumulated", "augmented", "short"],
)
def test_so_it_is_with_other_settings(settings, tmp_path):
    options = {"steps": 12, "log_every": 5, **settings}
    path = saved(tmp_path / "x.npy", BARS)
    assert_same(train(data=ex.stream(path), **options), train(**options))


SPACES = {
    "spins": (ex.Ising(6, 0.1), lambda rng: rng.choice([-1, 1], (50, 6)).astype(np.int8)),
    "labels": (ex.Potts(4, 3, 0.1), lambda rng: rng.integers(0, 3, (50, 4), np.uint8)),
    "one-hot": (
        ex.Potts(4, 3, 0.1),
        lambda rng: np.eye(3, dtype=bool)[rng.integers(0, 3, (50, 4))],
    ),
    "reals": (ex.Gaussian(jnp.zeros(3)), lambda rng: rng.normal(size=(50, 3)).astype(np.float32)),
    "counts": (ex.Poisson(jnp.ones(2)), lambda rng: rng.poisson(1.0, (50, 2))),
}


@pytest.mark.parametrize("name", SPACES)
def test_so_it_is_over_other_spaces(name, tmp_path):
    energy, draw = SPACES[name]
    rows = draw(np.random.default_rng(0))
    objective = ex.ContrastiveDivergence(n_steps=1, kernel=ex.RandomWalkMetropolis(0.5))
    options = {"energy": energy, "objective": objective, "steps": 17, "batch_size": 6}
    whole = train(data=rows, **options)
    assert_same(train(data=ex.stream(saved(tmp_path / "x.npy", rows)), **options), whole)


def test_so_it_is_of_joint_parts_from_a_file_and_from_memory(tmp_path):
    rows = {"hidden": BARS[:, :4], "visible": BARS}
    run = {"energy": rbm().joint, "objective": ex.ConditionalLikelihood("hidden"), "steps": 9}
    streamed = {
        "hidden": rows["hidden"],
        "visible": ex.stream(saved(tmp_path / "x.npy", BARS)),
    }
    assert_same(train(data=streamed, **run), train(data=rows, **run))
    tables = {
        name: ex.stream(table(tmp_path / f"{name}.parquet", part), window=8)
        for name, part in rows.items()
    }
    assert train(data=tables, **run).ok


def test_validation_rows_may_be_streamed(tmp_path):
    path = saved(tmp_path / "x.npy", BARS[:9])
    assert_same(train(steps=8, validation=ex.stream(path)), train(steps=8, validation=BARS[:9]))


# --- the order ---------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 5, 12, 1000])
def test_an_epoch_of_a_table_sees_every_row_once_and_only_a_window_at_a_time(window, tmp_path):
    numbers = np.arange(60, dtype=np.float64)[:, None]
    rows = StreamedRows(
        ex.Real(1), ex.stream(table(tmp_path / "x.parquet", numbers, group=4), window=window)
    )
    orders = [rows.order(ex.key(k), epoch) for k in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order) == list(range(60))
    assert len({tuple(order) for order in orders}) == 4
    np.testing.assert_array_equal(orders[1], rows.order(ex.key(0), 1))
    groups = orders[0] // 4
    spans = [np.flatnonzero(groups == group)[[0, -1]] for group in range(15)]
    open_at_once = [sum(first <= at <= last for first, last in spans) for at in range(60)]
    assert max(open_at_once) <= -(-window // 4) + 1
    assert any(order.tolist() != sorted(order) for order in orders)


def test_a_table_is_trained_on_row_by_row(tmp_path):
    """Sums of batches tell which rows they held: all of an epoch's, in another order each epoch."""
    rows = np.eye(28, 9, dtype=np.uint8) + np.eye(28, 9, -9, dtype=np.uint8)
    path = table(tmp_path / "x.parquet", rows)
    run = train(ex.Bernoulli(jnp.zeros(9)), ex.stream(path, window=8), Spy(), steps=8)
    seen, _ = run.state.objective
    for epoch in (seen[:4], seen[4:8]):
        np.testing.assert_array_equal(epoch.sum(0), rows.sum(0))
    assert not np.array_equal(seen[:4], seen[4:8])


# --- stopping and going on ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["array", "table"])
@pytest.mark.parametrize("stop", [1, 6, 20])
def test_stopped_and_continued_is_undisturbed(stop, kind, tmp_path):
    if kind == "array":
        path = saved(tmp_path / "x.npy", BARS)
    else:
        path = table(tmp_path / "x.parquet", BARS)

    def go(steps, checkpoint=None):
        window = None if kind == "array" else 8
        return train(
            data=ex.stream(path, window=window), steps=steps, log_every=6, checkpoint=checkpoint
        )

    whole = go(30)
    assert go(stop, tmp_path / "c").step == stop
    rest = go(30, tmp_path / "c")
    assert bits(rest.state) == bits(whole.state)


def test_a_checkpoint_knows_the_file_by_its_shape_dtype_size_and_rows(tmp_path):
    def go(rows, **options):
        path = saved(tmp_path / "x.npy", rows)
        return train(
            data=ex.stream(path), objective=CD, checkpoint=tmp_path / "c", steps=4, **options
        )

    go(BARS)
    assert go(BARS.copy()).step == 4
    changed = BARS.copy()
    changed[3, 0] ^= 1
    for other in (changed, BARS[::-1], BARS[:-1], BARS.astype(bool), BARS.astype(float)):
        with pytest.raises(ValueError, match=r"run\.data is"):
            go(other)
    assert go(changed, resume=False).step == 4


# --- rows that are wrong -----------------------------------------------------------------------


LARGE = np.tile(BARS, (715, 1)).astype(np.float32)  # 20,020 rows: a sample leaves some out


class Stopped(Exception):
    """Raised in place of the first step."""


def not_read_at_the_start(data, options):
    """A row in the middle that neither the first chunk nor any look at the data reads."""
    read = set()
    real = ex.Stream.take

    def take(self, numbers):
        read.update(np.asarray(numbers).tolist())
        return real(self, numbers)

    def stop(*_):
        raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ex.Stream, "take", take)
        patch.setattr(_loop, "run_chunk", stop)
        with pytest.raises(Stopped):
            train(data=data, **options)
    return min(set(range(12_000, 20_020)) - read)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "holds 1 NaN, the first in {}"),
        (7, "must hold only 0 and 1 (or -1 and 1, or booleans), got 7.0 in {} (1 such entries)"),
        (-1, "got a mixture of -1, 0 and 1 ({})"),
    ],
)
@pytest.mark.parametrize("kind", ["array", "table"])
def test_a_wrong_row_is_named_and_the_steps_before_it_are_kept(value, words, kind, tmp_path):
    options = {
        "objective": CD,
        "batch_size": 100,
        "log_every": 10,
        "steps": 500,
        "checkpoint": tmp_path / "c",
    }

    def written():
        if kind == "array":
            return ex.stream(saved(tmp_path / "x.npy", rows)), tmp_path / "x.npy"
        first = table(tmp_path / "0.parquet", rows[:10_000], group=300)
        second = table(tmp_path / "1.parquet", rows[10_000:], group=300)
        return ex.stream([first, second], window=1500), second

    rows = LARGE.copy()
    at = not_read_at_the_start(written()[0], options)
    rows[at, 4] = value
    data, file = written()
    place = f"row {at if kind == 'array' else at - 10_000} of {file}"
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        train(data=data, **options)
    told = str(caught.value)
    assert words.format(place) in told, told
    done = int(ex.io.read_metadata(tmp_path / "c")["history"][-1]["step"])
    assert 0 < done < 500
    assert done % 10 == 0
    kept = train(data=data, **{**options, "steps": done})
    assert kept.step == done
    if kind == "array":
        rows[at, 4] = 0  # which no step before has seen
        clean = {**options, "steps": done, "checkpoint": None}
        assert bits(kept.state) == bits(train(data=rows, **clean).state)


def test_a_row_that_the_sample_sees_is_told_before_any_step(tmp_path, monkeypatch):
    monkeypatch.setattr(_loop, "run_chunk", None)
    rows = BARS.astype(np.float32)
    rows[5, 2] = np.nan
    path = saved(tmp_path / "x.npy", rows)
    with pytest.raises(ValueError, match=rf"NaN, the first in row 5 of {re.escape(str(path))}"):
        train(data=ex.stream(path), steps=3)

    def scaled(rows):
        if (rows > 1).any():
            raise ValueError(f"too large in row {int(np.argmax((rows > 1).any(1)))}")
        return rows

    rows[5, 2] = 3
    path = saved(tmp_path / "x.npy", rows)
    with pytest.raises(ValueError, match=r"too large in row 5 of .*x\.npy"):
        train(data=ex.stream(path, transform=scaled), steps=3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda path: ex.stream(saved(path, BARS[:, :8])), r"must have shape \(rows, 9\).*x\.npy"),
        (lambda path: {"x": ex.stream(saved(path, BARS))}, "must hold numbers|dictionary"),
    ],
)
def test_streams_that_do_not_fit_are_refused(data, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        train(data=data(tmp_path / "x.npy"), steps=3)


def test_an_objective_that_changes_rows_is_refused(tmp_path):
    class Turned(Spy):
        def prepare(self, energy, data):
            return 1 - super().prepare(energy, data)

    stream = ex.stream(saved(tmp_path / "x.npy", BARS))
    with pytest.raises(ValueError, match="Turned changes the rows"):
        train(ex.Bernoulli(jnp.zeros(9)), stream, Turned(), steps=3)


def test_parts_that_do_not_fit_are_refused(tmp_path):
    path = saved(tmp_path / "x.npy", BARS)
    run = {"energy": rbm().joint, "objective": ex.ConditionalLikelihood("hidden"), "steps": 3}
    with pytest.raises(ValueError, match="as many rows each"):
        train(data={"hidden": BARS[:5, :4], "visible": ex.stream(path)}, **run)
    with pytest.raises(ValueError, match=r"data\['hidden'\] must have shape \(rows, 4\)"):
        train(data={"hidden": BARS[:, :3], "visible": ex.stream(path)}, **run)
    family = ex.ExponentialFamily(lambda x: x, jnp.zeros(2), ex.Binary(2))
    with pytest.raises(ValueError, match="takes no rows"):
        train(family, ex.stream(path), ex.MaximumEntropy(), steps=3)


def test_two_ways_to_write_bits_in_one_file_are_refused(tmp_path):
    """Each row is fine by itself, and the one of the other kind is in no sample."""
    rows = np.tile(BARS.astype(np.int8), (715, 1))
    path = saved(tmp_path / "x.npy", rows)
    sampled, _ = StreamedRows(ex.Binary(9), ex.stream(path)).spread(10_000)
    other = min(set(range(20_000)) - set(sampled.tolist()))
    rows[other] = np.where(rows[1] == 0, -1, 1)
    streamed = StreamedRows(ex.Binary(9), ex.stream(saved(path, rows)))
    with pytest.raises(ValueError, match=r"x\.npy holds -1, 0 and 1 in different rows"):
        streamed.at(np.array([other]))


# --- how much is read --------------------------------------------------------------------------


@pytest.mark.usefixtures("as_users_call")
def test_the_next_rows_are_read_before_the_result_of_these_is_awaited(tmp_path, monkeypatch):
    happened = []
    real_chunk, real_take = _loop.run_chunk, ex.Stream.take

    class Watched:
        def __init__(self, chunk):
            self.chunk = chunk

        def __getattr__(self, name):
            if name == "healthy":
                happened.append("awaited")
            return getattr(self.chunk, name)

    def chunk(*args):
        happened.append("begun")
        return Watched(real_chunk(*args))

    def take(self, numbers):
        happened.append("read")
        return real_take(self, numbers)

    monkeypatch.setattr(_loop, "run_chunk", chunk)
    data = ex.stream(saved(tmp_path / "x.npy", BARS))
    monkeypatch.setattr(ex.Stream, "take", take)
    train(data=data, objective=CD, steps=12)
    loop = happened[happened.index("begun") :]
    assert loop == ["begun", "read", "awaited"] * 2 + ["begun", "awaited"]


MEASURED = """
import resource, sys
import numpy as np, optax
import energax as ex

rbm = ex.RBM.init(ex.key(0), n_visible=1000, n_hidden=8)
def train(data, steps):
    return ex.fit(rbm, data, ex.ContrastiveDivergence(), key=ex.key(1), steps=steps,
                  optimizer=SGD, batch_size=100, log_every=20)
SGD = optax.sgd(0.01)
train(ex.stream(sys.argv[2]), 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = np.load(sys.argv[1], mmap_mode="r") if sys.argv[1].endswith("npy") else sys.argv[1]
run = train(ex.stream(data), 100)
assert run.ok, run.message
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss has other units")
def test_a_large_file_is_never_in_memory(tmp_path):
    """400 MB: a sparse file of zeros, so that the disk need not hold them."""
    small = saved(tmp_path / "small.npy", np.zeros((20_000, 1000), bool))
    large = tmp_path / "large.npy"
    np.lib.format.open_memmap(large, "w+", np.uint8, (400_000, 1000)).flush()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(large), str(small)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150_000  # kilobytes
