"""Runs in chunks: the same bits as in one go, and what Ctrl-C leaves."""

import signal
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import Counter, Still

import energax as ex
import registry
from energax.sampling import Histogram, Last, Mean, run_chains
from energax.sampling import _in_chunks as in_chunks
from energax.sampling._in_chunks import CHUNK_SECONDS, next_size

LINE = ex.NeuralEnergy(lambda x: -(x**2), ex.Real())
COUNTER = Counter()


def _count(n=30, **settings):
    settings = {"kernel": COUNTER, "chains": 3, "warmup": 2, "start": [0.0, 0.0, 0.0]} | settings
    return ex.sample(LINE, n, key=ex.key(0), **settings)


@pytest.fixture
def chunks_of(monkeypatch):
    """Sets how many rows a chunk has after the first."""
    return lambda rows: monkeypatch.setattr(
        in_chunks, "next_size", lambda size, seconds, rest: min(rows, rest)
    )


@pytest.fixture
def ctrl_c_after(monkeypatch):
    """Presses Ctrl-C once so many chunks more are done, the first row among them."""
    update, left = in_chunks.Bar.update, []

    def pressed(*arguments):
        left[:] = [n - 1 for n in left]
        for _ in range(left.count(0)):
            signal.raise_signal(signal.SIGINT)
        update(*arguments)

    monkeypatch.setattr(in_chunks.Bar, "update", pressed)
    return lambda *numbers: left.extend(numbers)


def _spins(x):
    return {"sum": x.sum(), "first": x[0] > 0}


WELL = ex.DoubleWell(height=2.0)
RBM = registry.DISCRETE["rbm"]()
JOINT = registry.DISCRETE["table of a joint"]()
EVERY = {"mean": Mean(), "bins": Histogram(edges=np.linspace(-2, 2, 9)), "last": Last(3)}


@pytest.mark.parametrize(
    ("energy", "settings"),
    [
        (WELL, {"kernel": ex.HMC(), "warmup": 30}),
        (WELL, {"kernel": ex.NUTS(), "warmup": 30}),
        (WELL, {"kernel": ex.RandomWalkMetropolis(), "thin": 3, "collect": EVERY}),
        (WELL, {"kernel": ex.ReplicaExchange(ex.MALA(0.1), n_replicas=3)}),
        (RBM, {"kernel": ex.BlockGibbs(), "collect": _spins}),
        (JOINT, {"kernel": ex.Gibbs(), "thin": 2}),
        (ex.Ising((8, 8), 0.4), {"kernel": ex.PackedGibbs(), "warmup": 0}),
    ],
    ids=["hmc", "nuts", "collectors", "replicas", "function", "joint", "packed"],
)
def test_chunks_change_no_bit(energy, settings, chunks_of):
    settings = {"key": ex.key(4), "chains": 4, "warmup": 5} | settings
    whole = ex.sample(energy, 160, **settings)
    chunks_of(7)
    parts = ex.sample(energy, 160, **settings)
    for name in ("x", "kept", "energy", "acceptance", "final", "states", "start_energy", "kernel"):
        every = [
            [np.asarray(_bits(leaf)) for leaf in jax.tree.leaves(getattr(draws, name))]
            for draws in (whole, parts)
        ]
        for a, b in zip(*every, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)
    assert not parts.stopped
    assert parts.n == parts.n_asked == 160


def _bits(leaf):
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


@pytest.mark.parametrize("collect", [None, Mean()])
def test_a_run_in_chunks_is_the_run_of_run_chains(collect, chunks_of):
    chunks_of(3)
    x = jnp.zeros((3,))
    numbers = {"warmup": jnp.asarray(2), "thin": jnp.asarray(3)}
    one = run_chains(LINE, COUNTER, x, ex.key(0), n_draws=10, collect=collect, **numbers)
    parts = _count(thin=3, collect=collect)
    kept = parts.x if collect is None else parts.kept
    jax.tree.map(np.testing.assert_array_equal, one.kept, kept)
    np.testing.assert_array_equal(one.energy, parts.energy)
    np.testing.assert_allclose(one.acceptance, parts.acceptance, rtol=1e-6)


@pytest.mark.parametrize("collect", [None, Mean()])
def test_chunks_are_one_program(collect, chunks_of):
    _count(collect=collect)
    before = len(COUNTER.traced)
    for rows in (1, 4):
        chunks_of(rows)
        _count(collect=collect)
    assert len(COUNTER.traced) == before


def test_chunks_take_their_time():
    assert next_size(1, CHUNK_SECONDS / 100, 120) == 120  # a rest that is short is taken whole
    assert next_size(1, CHUNK_SECONDS / 100, 1000) == 100
    assert next_size(100, 2 * CHUNK_SECONDS, 1000) == 50
    assert next_size(1, 9 * CHUNK_SECONDS, 1000) == 1
    assert next_size(8, 0.0, 1000) == 1000


def test_ctrl_c_keeps_the_draws_there_are(chunks_of, ctrl_c_after):
    whole = _count(thin=2)
    chunks_of(3)
    ctrl_c_after(2)
    draws = _count(thin=2)
    assert draws.stopped
    assert (draws.n, draws.n_asked) == (12, 30)
    np.testing.assert_array_equal(draws.x, whole.x[:, :4])
    np.testing.assert_array_equal(draws.energy, whole.energy[:, :4])
    np.testing.assert_array_equal(draws.final, [10, 10, 10])
    np.testing.assert_allclose(draws.acceptance, np.arange(3, 11).mean() / 1000, rtol=1e-5)
    assert draws.summary.startswith("12 of 30 draws by Counter, stopped by the user: not converged")
    assert not whole.stopped
    assert "stopped" not in whole.summary
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_in_the_last_chunk_is_told(chunks_of, ctrl_c_after):
    chunks_of(3)
    ctrl_c_after(4)
    draws = _count()
    assert draws.n == draws.n_asked == 30
    assert draws.stopped
    assert draws.summary.startswith("30 of 30 draws by Counter, stopped by the user")


def test_draws_that_were_stopped_can_be_gone_on_from(chunks_of, ctrl_c_after):
    chunks_of(3)
    ctrl_c_after(2)
    draws = _count()
    rest = _count(draws.n_asked - draws.n, start=draws, kernel=draws.kernel, warmup=0)
    assert not rest.stopped
    together = np.concatenate([draws.x, rest.x], 1)
    np.testing.assert_array_equal(together, np.tile(2 + np.arange(1, 11), (3, 1)))


def test_stopped_draws_are_judged_on_what_there_is(chunks_of, ctrl_c_after):
    chunks_of(500)
    ctrl_c_after(3)
    normal = ex.NeuralEnergy(lambda x: -jnp.sum(x**2) / 2, ex.Real(2))
    draws = ex.sample(
        normal, 80_000, key=ex.key(0), kernel=ex.RandomWalkMetropolis(2.0), chains=8, thin=4
    )
    assert draws.n == 8 * 1001
    assert draws.converged, draws.problems
    assert draws.summary == (
        "8008 of 80000 draws by RandomWalkMetropolis, stopped by the user: converged"
    )


@pytest.mark.parametrize("n_draws", [10, 2500])
def test_a_summary_that_was_stopped_is_of_the_draws_there_were(n_draws, chunks_of, ctrl_c_after):
    chunks_of(3)
    ctrl_c_after(3)
    collect = {"mean": Mean(n_batches=4), "bins": Histogram(edges=[0, 1e6]), "last": Last(2)}
    draws = _count(3 * n_draws, collect=collect)
    # Of 2500 draws the first 452 of 1024 stretches have three, the others two.
    done = 7 if n_draws == 10 else 21
    assert draws.energy.shape == (3, 7)
    assert draws.n == draws.collected["bins"].counts.sum() == 3 * done
    np.testing.assert_array_equal(draws.final, np.full(3, done + 2))
    np.testing.assert_array_equal(draws.collected["last"][0], [done + 1, done + 2])
    np.testing.assert_allclose(draws.acceptance, np.arange(3, done + 3).mean() / 1000, rtol=1e-5)
    assert draws.stopped


def test_a_second_ctrl_c_ends_it_at_once(chunks_of, ctrl_c_after):
    chunks_of(3)
    ctrl_c_after(2, 2)
    with pytest.raises(KeyboardInterrupt):
        _count()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_a_short_run_ctrl_c_is_raised(ctrl_c_after, chunks_of):
    chunks_of(99)
    ctrl_c_after(1)
    with pytest.raises(KeyboardInterrupt):
        _count()


def test_another_handler_of_ctrl_c_is_left_alone(chunks_of, ctrl_c_after):
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        chunks_of(3)
        ctrl_c_after(2)
        assert not _count().stopped
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [1]


def test_a_run_in_another_thread(chunks_of):
    chunks_of(3)
    found = []
    thread = threading.Thread(target=lambda: found.append(_count()))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(found[0].x, _count().x)


def test_what_was_given_is_not_used_up(chunks_of):
    chunks_of(3)
    start, centre = jnp.arange(3.0), jnp.asarray(1.0)
    energy = ex.Gaussian(centre)
    for _ in range(2):
        draws = ex.sample(energy, 30, key=ex.key(0), kernel=Still(), start=start, warmup=0)
        again = ex.sample(energy, 30, key=ex.key(0), kernel=draws.kernel, start=draws, warmup=0)
        np.testing.assert_array_equal(again.x[:, -1], draws.x[:, 0])
    np.testing.assert_array_equal(start, [0, 1, 2])
    assert float(energy.mean) == float(centre) == 1


def test_a_bar_shows_how_far_it_is(chunks_of, capsys):
    chunks_of(3)
    assert _count(progress=True).n == 30
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "sample" in shown.err
    assert "30/30" in shown.err
    assert "draws/s" in shown.err
    _count()
    assert capsys.readouterr() == ("", "")
