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
from energax.sampling import AbstractCollector, Averages, Draws, Last, Mean
from energax.sampling._chains import TRACE
from energax.sampling._mean import _batch_of
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
