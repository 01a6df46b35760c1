"""What is kept in place of x: functions of a draw, and summaries made on the way.

A summary is held against the kept draws of the same key. The statistical test states its budget.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import stats

import energax as ex
import registry
from energax.diagnostics import mean_and_error
from energax.kernels import AbstractKernel, AbstractKernelState, Info
from energax.sampling import AbstractCollector, Averages, Binned, Draws, Histogram, Last, Mean
from energax.sampling._mean import _batch_of
from energax.sampling._rows import TRACE
from oracles import refused

ALARM = 1e-4


class WalkState(AbstractKernelState):
    x: Any


class Autoregressive(AbstractKernel):
    """x = 0.9 x + noise: leaves N(0, 1) as it is, and is slow about it."""

    is_exact: ClassVar[bool] = True
    traced: ClassVar[list] = []

    def init(self, energy, x, key) -> Any:
        return WalkState(x)

    def step(self, energy, state, key) -> Any:
        self.traced.append(1)
        noise = jax.random.normal(key, state.x.shape)
        x = 0.9 * state.x + jnp.sqrt(1 - 0.9**2) * noise
        value = energy.energy(x)
        return WalkState(x), Info(jnp.ones_like(value), value)

    def refresh(self, energy, state) -> Any:
        return state


NORMAL = ex.NeuralEnergy(lambda x: -jnp.sum(x**2) / 2, ex.Real(2))
KERNEL = Autoregressive()


def _features(x):
    """A tree with a boolean, of which one number never changes."""
    return {"square": x**2, "above": x[0] > 0, "one": jnp.ones(())}


def _run(n=640, **settings) -> Draws:
    settings = {"key": ex.key(0), "kernel": KERNEL, "chains": 4, "warmup": 20} | settings
    return ex.sample(NORMAL, n, **settings)


def test_a_functions_values_are_kept_in_place_of_x():
    x, kept = _run().x, _run(collect=_features)
    assert kept.x is None
    every = jax.vmap(jax.vmap(_features))(x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), kept.collected, every)
    assert kept.collected["square"].shape == (4, 160, 2)
    assert kept.rhat["square"].shape == (2,)
    assert kept.constant["one"]
    assert not kept.constant["above"]
    assert kept.final.shape == (4, 2)
    with refused("collect took its place"):
        _ = kept.flat


def test_exact_draws_are_collected_too():
    gaussian = ex.Gaussian(jnp.zeros(2))
    draws = ex.sample(gaussian, 9, key=ex.key(0), collect=lambda x: x.sum())
    again = ex.sample(gaussian, 9, key=ex.key(0))
    assert draws.independent
    np.testing.assert_allclose(draws.collected, again.x.sum(-1), rtol=1e-6)


def test_means_are_those_of_the_kept_draws():
    draws = _run(collect=Mean(_features))
    kept = jax.tree.map(np.asarray, _run(collect=_features).collected)
    found = draws.collected
    assert isinstance(found, Averages)
    assert found.n_draws == draws.n == 640
    for name, values in kept.items():
        values = values.astype(np.float64)
        np.testing.assert_allclose(found.mean[name], values.mean((0, 1)), rtol=1e-5)
        np.testing.assert_allclose(found.variance[name], values.var((0, 1), ddof=1), rtol=1e-5)
        assert np.shape(found.rhat[name]) == np.shape(found.ess[name]) == values.shape[2:]
    assert found.constant["one"]
    assert np.isnan(found.rhat["one"])
    assert found.std_error["one"] == 0
    plain = _run()
    np.testing.assert_array_equal(draws.energy, plain.energy)
    np.testing.assert_array_equal(draws.final, plain.final)


def test_errors_and_r_hat_are_near_those_of_the_kept_draws():
    draws, kept = _run(40_000, collect=Mean()), _run(40_000)
    _, error = mean_and_error(np.asarray(kept.x, np.float64))
    np.testing.assert_allclose(draws.collected.std_error, error, rtol=0.3)
    np.testing.assert_allclose(draws.ess, kept.ess, rtol=0.6)
    np.testing.assert_allclose(draws.rhat, kept.rhat, atol=0.005)
    assert draws.converged, draws.problems


def test_chains_apart_have_not_converged():
    well = ex.NeuralEnergy(lambda x: -50 * (x**2 - 1) ** 2, ex.Real())
    settings: Any = {"kernel": ex.RandomWalkMetropolis(0.1), "chains": 4, "start": [-1.0, 1.0]}
    draws = ex.sample(well, 2000, key=ex.key(0), collect=Mean(), **settings)
    assert draws.rhat > 5
    assert not draws.converged
    assert draws.ess < 40  # four chains that disagree are few draws


def test_a_long_run_takes_no_more_memory_and_no_other_program():
    first = _run(8000, collect=Mean())
    before = len(KERNEL.traced)
    long = _run(36_004, collect=Mean())
    assert len(KERNEL.traced) == before
    assert long.energy.shape == first.energy.shape == (4, TRACE)
    shapes = [jax.tree.map(np.shape, draws.kept) for draws in (first, long)]
    assert shapes[0] == shapes[1]
    assert long.collected.n_draws == long.n == 36_004
    # The energies kept are those of draws evenly over the run, the last among them.
    every = np.asarray(_run(8000).energy)
    where = np.cumsum([2] * 976 + [1] * 48) - 1
    np.testing.assert_array_equal(first.energy, every[:, where])


@pytest.mark.parametrize("n_batches", [4, 7])
def test_batches_share_the_draws_evenly(n_batches):
    of = jax.jit(jax.vmap(lambda index, n: _batch_of(index, n, n_batches), in_axes=(0, None)))
    for n_draws in (1, 4, 5, 27, 28, 29, 41):
        batch, place = (np.asarray(a)[:n_draws] for a in of(jnp.arange(41), jnp.asarray(n_draws)))
        counts = np.bincount(batch, minlength=n_batches)
        assert (np.diff(batch) >= 0).all()
        assert counts.max() - counts.min() <= 1
        np.testing.assert_array_equal(place, np.concatenate([np.arange(c) for c in counts]))


def _memory(series, collector):
    """What a collector remembers of chains of numbers, shape (chain, draw)."""
    n = series.shape[1]

    def one(chain):
        def body(memory, inputs):
            return collector.update(memory, inputs[0], inputs[1], jnp.asarray(n)), None

        start = collector.init(jax.ShapeDtypeStruct((), series.dtype))
        return lax.scan(body, start, (chain, jnp.arange(n)))[0]

    return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(series))


def _summed(series, **settings) -> Averages:
    """A `Mean` over chains of numbers, shape (chain, draw)."""
    collector = Mean(**settings)
    return collector.finish(_memory(series, collector), np.ones(len(series), bool))


def test_a_long_sum_loses_nothing():
    generator = np.random.default_rng(0)
    series = (1000 + generator.normal(size=(2, 400_000))).astype(np.float32)
    found, exact = _summed(series, n_batches=4), series.astype(np.float64)
    assert abs(found.mean - exact.mean()) < 1e-4  # float32 next to 1000: 6e-5
    np.testing.assert_allclose(found.variance, exact.var(ddof=1), rtol=1e-5)


def test_errors_cover():
    """z of 300 means of slow chains whose mean is known: its variance is 1, give or take what 300
    runs and batches of some 13 autocorrelation times leave; beyond that once in 10,000."""
    runs, chains, n = 300, 2, 8_000
    noise = np.random.default_rng(1).normal(size=(n, runs * chains))
    x, series = np.random.default_rng(2).normal(size=runs * chains), []
    for row in noise:
        x = 0.9 * x + np.sqrt(1 - 0.81) * row
        series.append(x)
    memory = _memory(np.array(series, np.float32).T, Mean())
    rows = [jax.tree.map(lambda a, i=i: a[2 * i : 2 * i + 2], memory) for i in range(runs)]
    found = [Mean().finish(row, np.ones(chains, bool)) for row in rows]
    z = np.array([float(a.mean / a.std_error) for a in found])
    low, high = stats.chi2.ppf([ALARM / 2, 1 - ALARM / 2], runs) / runs
    assert 0.85 * low < np.mean(z**2) < 1.15 * high
    expected = n * chains / 19  # the autocorrelation time of 0.9
    assert 0.8 * expected < np.median([float(a.ess) for a in found]) < 1.25 * expected


def test_constant_chains_apart_are_as_far_apart_as_can_be():
    found = _summed(np.repeat(np.array([[1.0], [2.0]], np.float32), 64, 1))
    assert np.isinf(found.rhat)
    assert not found.constant


@pytest.mark.parametrize("n_draws", [5, 35])
def test_batches_of_unequal_length_weigh_by_it(n_draws):
    series = np.random.default_rng(0).normal(size=(2, n_draws)).astype(np.float32)
    found, exact = _summed(series), series.astype(np.float64)
    np.testing.assert_allclose(found.mean, exact.mean(), rtol=1e-5)
    np.testing.assert_allclose(found.variance, exact.var(ddof=1), rtol=1e-5)
    assert found.n_draws == 2 * n_draws


def test_too_few_draws_have_no_error():
    found = _summed(np.ones((2, 3), np.float32))
    assert found.mean == 1
    assert np.isnan(found.std_error)


def test_the_last_draws_and_several_collectors_by_name():
    draws = _run(collect={"mean": Mean(), "last": Last(3)})
    every = _run()
    np.testing.assert_array_equal(draws.collected["last"], every.x[:, -3:])
    np.testing.assert_allclose(
        draws.collected["mean"].mean, np.mean(every.x, (0, 1)), rtol=1e-4, atol=1e-6
    )
    assert set(draws.rhat) == {"mean"}  # the last draws alone tell nothing
    assert _run(collect=Last(3)).diagnostics is None


def test_states_of_named_parts_are_summarised():
    energy, collect = registry.DISCRETE["table of a joint"](), {"mean": Mean(), "every": Last(99)}
    walk = ex.RandomWalkMetropolis()
    found = ex.sample(energy, 160, key=ex.key(0), kernel=walk, chains=4, collect=collect).collected
    for name, rows in found["every"].items():
        assert rows.shape[:2] == (4, 40)  # no more than there were
        np.testing.assert_allclose(
            found["mean"].mean[name], rows.mean((0, 1)), rtol=1e-5, atol=1e-6
        )


EDGES = np.array([-1.5, -0.5, 0.0, 0.25, 2.0])


def test_a_histogram_counts_as_numpy_does():
    draws = _run(collect=Histogram(_features, edges=EDGES))
    kept = jax.tree.map(np.asarray, _run(collect=_features).collected)
    found = draws.collected
    assert isinstance(found, Binned)
    assert found.n_draws == draws.n == 640
    assert found.counts["square"].shape == (2, 4)
    assert found.by_chain["square"].shape == (4, 2, 4)
    for name, values in kept.items():
        values = values.astype(np.float32).reshape(4, 160, -1)
        for entry in range(values.shape[-1]):
            here = values[..., entry]
            for chain in range(4):
                expected = np.histogram(here[chain], EDGES)[0]
                by_chain = found.by_chain[name].reshape(4, -1, 4)[chain, entry]
                np.testing.assert_array_equal(by_chain, expected)
            expected = np.histogram(here, EDGES)[0]
            np.testing.assert_array_equal(found.counts[name].reshape(-1, 4)[entry], expected)
            assert found.below[name].flat[entry] == (here < EDGES[0]).sum()
            assert found.above[name].flat[entry] == (here > EDGES[-1]).sum()
    assert found.above["square"].sum() > 0
    np.testing.assert_array_equal(found.nan["square"], [0, 0])
    within = 1 - (found.below["square"] + found.above["square"]) / 640
    np.testing.assert_allclose((found.density["square"] * np.diff(EDGES)).sum(-1), within)


def test_edges_infinities_and_nan_have_their_place():
    inside = np.nextafter(np.float32(2), np.float32(0))
    beyond = np.nextafter(np.float32(2), np.float32(3))
    values = [-np.inf, -1.6, *EDGES, inside, beyond, np.inf, np.nan, np.nan, -0.0]
    collector = Histogram(edges=EDGES)
    memory = _memory(np.array([values, values], np.float32), collector)
    found = collector.finish(memory, np.array([True, True]))
    np.testing.assert_array_equal(found.counts, [2, 2, 4, 6])
    assert (found.below, found.above, found.nan, found.n_draws) == (4, 4, 4, 26)
    one = collector.finish(memory, np.array([True, False]))
    np.testing.assert_array_equal(one.counts, [1, 1, 2, 3])
    assert one.n_draws == 13
    none = collector.finish(memory, np.array([False, False]))
    assert none.n_draws == 0
    assert np.isnan(none.density).all()


def test_counts_are_exact_beyond_what_float32_holds():
    """Where 2^24 draws are counted one more still is, and chains together pass 2^32."""
    collector = Histogram(edges=[0.0, 1.0])
    start = collector.init(jax.ShapeDtypeStruct((), jnp.float32))
    assert start.dtype == jnp.int32
    full = start.at[1].set(2**24)
    number = jnp.zeros((), jnp.int32)
    more = collector.update(full, jnp.asarray(0.5), number, number)
    np.testing.assert_array_equal(more, [0, 2**24 + 1, 0, 0])
    many = np.tile(np.array([[0, 2**31 - 1, 0, 0]], np.int32), (4, 1))
    found = collector.finish(many, np.ones(4, bool))
    assert found.counts.dtype == np.int64
    assert found.counts[0] == found.n_draws == 4 * (2**31 - 1)


def test_a_histogram_is_as_large_however_long_the_run():
    other = [Histogram(edges=edges) for edges in (EDGES, EDGES + 0.1)]
    first = _run(8000, collect=other[0])
    before = len(KERNEL.traced)
    long = _run(36_004, collect=other[1])  # nor do other edges make another program
    assert len(KERNEL.traced) == before
    assert first.kept.shape == long.kept.shape == (4, 2, 7)
    assert long.collected.n_draws == 36_004
    assert long.diagnostics is None
    assert long.converged, long.problems
    np.testing.assert_array_equal(long.collected.counts.sum(), long.collected.by_chain.sum())


def test_integers_and_parts_by_name_are_counted():
    energy = registry.DISCRETE["table of a joint"]()
    walk, settings = ex.RandomWalkMetropolis(), {"key": ex.key(0), "chains": 4}
    bins = Histogram(edges=[-1, 0, 1, 2])
    found = ex.sample(energy, 160, kernel=walk, collect=bins, **settings).collected
    kept = ex.sample(energy, 160, kernel=walk, **settings).x
    for name, leaf in kept.items():
        rows = np.asarray(leaf).reshape(160, -1)
        expected = [np.histogram(column, [-1, 0, 1, 2])[0] for column in rows.T]
        np.testing.assert_array_equal(found.counts[name].reshape(-1, 3), expected)


def test_a_chain_that_failed_is_not_counted():
    bins = Histogram(edges=[-10.0, 0.0, 10.0])
    far = ex.NeuralEnergy(lambda x: jnp.where(x[0] > 5, jnp.nan, -jnp.sum(x**2) / 2), ex.Real(2))
    start = [[0.0, 0.0], [9.0, 0.0]]
    draws = ex.sample(
        far, 640, key=ex.key(0), kernel=KERNEL, chains=4, warmup=0, start=start, collect=bins
    )
    np.testing.assert_array_equal(draws.healthy, [True, False, True, False])
    assert draws.collected.n_draws == 320
    assert draws.collected.by_chain.shape == (2, 2, 2)


def _nan_beyond(x):
    return jnp.where(x[0] > 5, jnp.nan, x[0])


@pytest.mark.parametrize("collect", [_nan_beyond, Mean(_nan_beyond)])
def test_values_that_are_not_finite_leave_out_their_chain(collect):
    draws = _run(collect=collect, warmup=0, start=[[0.0, 0.0], [9.0, 0.0]], chains=4)
    np.testing.assert_array_equal(draws.healthy, [True, False, True, False])
    assert draws.problems[0] == (
        "chains 1, 3 have values that are not finite: look at collect along them"
    )
    assert np.isfinite(draws.rhat).all()
    if isinstance(collect, Mean):
        kept = np.asarray(_run(warmup=0, start=[[0.0, 0.0], [9.0, 0.0]]).x)
        np.testing.assert_allclose(draws.collected.mean, kept[[0, 2], :, 0].mean(), rtol=1e-4)
        assert draws.collected.n_draws == 320


class Growing(AbstractCollector):
    def init(self, x) -> Any:
        return jnp.zeros((1,))

    def update(self, memory, x, index, n_draws) -> Any:
        return jnp.zeros((2,))

    def finish(self, memory, healthy) -> Any:
        return memory


@pytest.mark.parametrize(
    ("collect", "expected"),
    [
        (3, "collect must be a function of one state or a collector"),
        (lambda x: x @ jnp.ones(5), "collect fails on one state: TypeError"),
        (lambda x: None, "collect returns nothing"),
        (lambda x: jnp.sum(x).astype(complex), "collect must return real numbers, got complex64"),
        (lambda x: "x", "collect fails on one state"),
        (Growing(), "Growing.update must return a memory with the shapes and dtypes"),
        ({"a": jnp.sum}, "collect['a'] must be a collector"),
        (Mean(lambda x: x @ jnp.ones(5)), "collect fails on one state"),
    ],
)
def test_what_cannot_be_collected_is_refused(collect, expected):
    with refused(expected):
        _run(collect=collect)


def test_settings_of_collectors_are_checked():
    with refused("n_batches must be an integer of at least 4"):
        Mean(n_batches=3)
    with refused("n must be an integer of at least 1"):
        Last(0)
    with refused("function must be callable"):
        Mean(3)  # type: ignore[arg-type]
    with refused("function must be callable"):
        Histogram(3, edges=[0, 1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ([0.0], "at least 2 numbers, got shape (1,)"),
        ([[0.0, 1.0]], "at least 2 numbers, got shape (1, 2)"),
        ([0.0, np.inf], "edges must be finite"),
        ([0.0, 1e39], "edges must be finite"),
        ([0.0, np.nan, 1.0], "edges must be finite"),
        ([0.0, 1.0, 1.0], "edges must increase"),
        ([1.0, 0.0], "edges must increase"),
        ([1.0, 1.0 + 1e-9], "too close together to be told apart in float32"),
        (["a", "b"], "edges must be numbers"),
    ],
)
def test_edges_are_checked(edges, expected, as_users_call):
    with refused(expected):
        Histogram(edges=edges)
