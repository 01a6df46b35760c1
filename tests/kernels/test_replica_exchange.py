"""Replica exchange: the product of all rungs is invariant, swaps alternate, failures show."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_moves import index, moves, stack, states_of, target
from whole_ladder import Together, WholeLadder, rungs

import energax as ex
import oracles
import registry
from energax.kernels import (
    AbstractTunableKernel,
    ReplicaExchange,
    ladder_report,
    start_chains,
    step_chains,
    tune_chains,
    walk,
)
from energax.kernels._ladder import equalised
from energax.sampling import walk_chains

pytestmark = pytest.mark.slow


def _small_rbm() -> ex.RBM:
    return registry._rbm(2, 1, scale=2.0)


LADDERS = {
    "random walk": lambda: (
        ReplicaExchange(ex.RandomWalkMetropolis(), [0.2, 0.5, 1.0]),
        registry._table(ex.Spin(1)),
    ),
    "base": lambda: (
        ReplicaExchange(
            ex.RandomWalkMetropolis(), [0.0, 1.0], base=ex.Bernoulli(jnp.array([0.5, -1.0]))
        ),
        registry._table(ex.Binary(2)),
    ),
    "block gibbs": lambda: (
        ReplicaExchange(ex.BlockGibbs(), [0.0, 1.0], base=ex.Bernoulli(jnp.array([1.0, -0.5]))),
        _small_rbm(),
    ),
    "clusters": lambda: (ReplicaExchange(ex.SwendsenWang(), [0.4, 1.0]), ex.Ising([(0, 1)], 0.7)),
}


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("name", LADDERS)
def test_the_product_of_all_rungs_is_a_fixed_point(name, odd, x64):
    exchange, energy = LADDERS[name]()
    level = tuple(np.roll(np.arange(exchange.n_replicas), 1).tolist())
    made = moves(WholeLadder(exchange, level, odd), Together(exchange, energy))
    np.testing.assert_allclose(made.probability.sum(1), 1.0, atol=1e-12)
    p = made.target
    np.testing.assert_allclose(p @ made.matrix, p, rtol=0, atol=1e-12)


class _Forgetful(ex.RandomWalkMetropolis):
    """Leaves what a replica keeps as it was on the rung it came from."""

    def retemper(self, energy, state) -> Any:
        return state


def _rungs_after(exchange, energy, n_steps: int, n_chains: int) -> np.ndarray:
    """p-values of each rung after steps from exact draws on all of them."""
    together = Together(exchange, energy)
    table = stack(states_of(energy.space))
    p = [target(together.rung(i)) for i in range(exchange.n_replicas)]
    generator = np.random.default_rng(0)
    drawn = np.stack([generator.choice(len(q), n_chains, p=q) for q in p], 1)

    ladder = WholeLadder(exchange, tuple(range(exchange.n_replicas)))

    @eqx.filter_jit
    def run(x, key):
        states = start_chains(together, ladder, x, key)
        states = walk(together, ladder, states, n_steps, key)[0]
        return states.x, states.state

    x, states = run(table[drawn], ex.key(1))
    np.testing.assert_array_equal(states.x, x[:, -1])
    if not isinstance(exchange.kernel, _Forgetful):
        expected = jax.jit(jax.vmap(energy.energy))(states.x)
        np.testing.assert_allclose(states.energy, expected, rtol=1e-5, atol=1e-5)
    counts = [np.bincount(index(table, x[:, i]), minlength=len(p[i])) for i in range(len(p))]
    return np.array([oracles.chi_squared_p(c, q) for c, q in zip(counts, p, strict=True)])


def test_every_rung_stays_in_its_own_distribution():
    """Over several steps, so that what is kept across swaps matters."""
    energy = registry._table(ex.Spin(3))
    betas = [0.1, 0.3, 0.6, 1.0]
    exchange = ReplicaExchange(ex.RandomWalkMetropolis(), betas)
    assert _rungs_after(exchange, energy, 6, 1 << 14).min() > 1e-5
    exchange = ReplicaExchange(_Forgetful(), betas)
    assert _rungs_after(exchange, energy, 6, 1 << 14).min() < 1e-12


def test_the_rungs_of_an_rbm_stay_in_their_own_distributions():
    exchange = ReplicaExchange(
        ex.BlockGibbs(), n_replicas=3, base=ex.Bernoulli(jnp.linspace(-1.0, 1.0, 4))
    )
    assert _rungs_after(exchange, registry._rbm(), 5, 1 << 14).min() > 1e-5


WELL = ex.NeuralEnergy(lambda x: -10 * (x**2 - 1) ** 2 + 0.3 * x, ex.Real())
"""Two modes that a walk of step 0.3 does not leave."""


def _share_on_the_right() -> float:
    x = np.linspace(-3, 3, 20001)
    p = np.exp(-10 * (x**2 - 1) ** 2 + 0.3 * x)
    return float(p[x > 0].sum() / p.sum())


def test_it_crosses_between_modes_and_reports_on_the_ladder():
    start = -np.ones(200)
    exchange = ReplicaExchange(ex.RandomWalkMetropolis(0.3), n_replicas=4)

    @eqx.filter_jit
    def run(kernel, key):
        states = start_chains(WELL, kernel, jnp.asarray(start, jnp.float32), key)
        kernel, states = tune_chains(WELL, kernel, states, jnp.asarray(300), key)

        def body(i, carry):
            states, total = carry
            states, _ = step_chains(WELL, kernel, states, jax.random.fold_in(key, i))
            return states, total + (states.x > 0).astype(total.dtype)

        states, total = jax.lax.fori_loop(0, 400, body, (states, jnp.zeros(200)))
        return kernel, states, total / 400

    tuned, states, share = run(exchange, ex.key(0))
    oracles.assert_mean(share, _share_on_the_right())  # a chain is one ladder: they are independent
    report = ladder_report(tuned, states)
    assert report.n_steps == 400
    assert report.betas[0] == pytest.approx(0.05)
    assert report.betas[-1] == 1
    assert np.ptp(report.swap_rates) < 0.05
    assert report.barrier[-1] == pytest.approx((1 - report.swap_rates).sum())
    assert (report.round_trips > 0).all()
    assert 0.2 < report.round_trip_rate / report.ideal_rate < 1.2
    assert not report.problems
    np.testing.assert_array_equal(states.swaps.attempts, np.full((200, 3), 200))  # odd and even
    assert "replicas travel" in report.summary
    assert "4 replicas" in report.summary


def test_without_warmup_nothing_is_tuned(x64):
    exchange = ReplicaExchange(ex.RandomWalkMetropolis(0.3), n_replicas=4)
    states = start_chains(WELL, exchange, jnp.zeros((2,)), ex.key(0))
    tuned, after = tune_chains(WELL, exchange, states, jnp.asarray(0), ex.key(1))
    np.testing.assert_array_equal(tuned.betas, exchange.betas)
    np.testing.assert_array_equal(after.replicas.x, states.replicas.x)
    assert ladder_report(tuned, after).problems == ["no swap was tried yet: take more steps"]


def test_rungs_are_cut_where_the_barrier_is():
    betas, rejection = jnp.array([0.1, 0.2, 0.4, 1.0]), jnp.array([0.6, 0.3, 0.0])
    moved = np.asarray(equalised(betas, rejection))
    np.testing.assert_allclose(moved[[0, 1, 2, 3]], [0.1, 0.15, 0.2, 1.0], atol=1e-4)
    assert (np.diff(moved) > 0).all()
    even = jnp.array([0.3, 0.3, 0.3])
    np.testing.assert_allclose(equalised(betas, even), betas, rtol=1e-6)


def test_round_trips_are_those_of_the_levels():
    exchange = ReplicaExchange(ex.RandomWalkMetropolis(1.0), [0.3, 0.6, 1.0], adapt=False)
    energy = ex.Gaussian(jnp.zeros(2))

    @jax.jit
    def run(key):
        state = exchange.init(energy, jnp.zeros(2), key)

        def body(state, key):
            state, _ = exchange.step(energy, state, key)
            return state, state.level

        return jax.lax.scan(body, state, jax.random.split(key, 200))

    state, levels = run(ex.key(0))
    trips = 0
    for one in np.asarray(levels).T:
        ends = [level for level in one if level in (0, 2)]
        turns = [e for i, e in enumerate(ends) if i == 0 or e != ends[i - 1]]
        trips += max(turns[turns.index(2) :].count(2) - 1, 0) if 2 in turns else 0
    assert int(state.swaps.round_trips) - trips in (0, 1)  # the coldest replica begins at home
    assert trips > 5
    assert (np.sort(levels, 1) == np.arange(3)[None]).all()


class _Drifting(AbstractTunableKernel):
    """A walk that takes the rung's spread as its step size."""

    step_size: Any
    is_exact: ClassVar[bool] = True

    def _walk(self):
        return ex.RandomWalkMetropolis(self.step_size)

    def init(self, energy, x, key) -> Any:
        return self._walk().init(energy, x, key)

    def step(self, energy, state, key) -> Any:
        return self._walk().step(energy, state, key)

    def refresh(self, energy, state) -> Any:
        return self._walk().refresh(energy, state)

    def tune(self, energy, states, n_steps, key) -> Any:
        _, states = tune_chains(energy, self._walk(), states, n_steps, key)
        spread = jnp.maximum(jnp.std(states.x, 0), 0.01)
        return _Drifting(jnp.where(n_steps > 0, spread, self.step_size)), states


def test_a_kernel_that_tunes_itself_does_so_on_every_rung():
    betas = np.array([0.01, 0.1, 1.0])
    exchange = ReplicaExchange(_Drifting(jnp.asarray(1.0)), betas, adapt=False)
    energy = ex.Gaussian(jnp.asarray(0.0))
    start = jnp.zeros((300,))

    @eqx.filter_jit
    def run(key):
        states = start_chains(energy, exchange, start, key)
        return tune_chains(energy, exchange, states, jnp.asarray(300), key)

    tuned, states = run(ex.key(0))
    np.testing.assert_allclose(tuned.settings.step_size, betas**-0.5, rtol=0.25)
    np.testing.assert_array_equal(tuned.betas, exchange.betas)
    x = np.asarray(jax.jit(jax.vmap(rungs))(states))
    np.testing.assert_allclose(x.std(0), betas**-0.5, rtol=0.25)


def test_a_failure_at_a_hot_rung_comes_to_light():
    """E is NaN beyond 4, where only hot replicas go."""
    energy = ex.NeuralEnergy(lambda x: jnp.where(x > 4, jnp.nan, -(x**2) / 2), ex.Real())
    exchange = ReplicaExchange(ex.RandomWalkMetropolis(2.0), [0.01, 0.1, 1.0], adapt=False)
    states = start_chains(energy, exchange, jnp.zeros((8,)), ex.key(0))
    walked = eqx.filter_jit(walk_chains)(energy, exchange, states, 300, ex.key(1))
    assert np.isnan(walked.energy).all()
    assert (walked.states.x > 4).all()


def test_a_start_outside_the_support_is_left():
    energy = ex.NeuralEnergy(lambda x: jnp.where(x > 0, -x, -jnp.inf), ex.Real())
    exchange = ReplicaExchange(ex.RandomWalkMetropolis(2.0), [0.1, 1.0], adapt=False)
    states = start_chains(energy, exchange, jnp.full((8,), -0.5), ex.key(0))
    walked = eqx.filter_jit(walk_chains)(energy, exchange, states, 50, ex.key(1))
    assert (walked.states.x > 0).all()
    assert np.isfinite(walked.energy).all()


def test_it_is_as_exact_as_its_kernel():
    class Inexact(_Drifting):
        is_exact: ClassVar[bool] = False

    assert ReplicaExchange(ex.RandomWalkMetropolis()).is_exact
    assert not ReplicaExchange(Inexact(jnp.asarray(1.0))).is_exact


def test_arguments_are_checked():
    walk = ex.RandomWalkMetropolis()
    with oracles.refused("kernel must be"):
        ReplicaExchange("walk")
    with oracles.refused("n_replicas", "1"):
        ReplicaExchange(walk, n_replicas=1)
    with oracles.refused("beta_min", "2"):
        ReplicaExchange(walk, beta_min=2.0)
    for betas in ([0.5, 0.2, 1.0], [0.1, 0.9]):
        with oracles.refused("increase, and end at 1"):
            ReplicaExchange(walk, betas)
    with oracles.refused("beta = 0 needs a base"):
        ReplicaExchange(walk, [0.0, 1.0])
    with oracles.refused("begin at 0"):
        ReplicaExchange(walk, [0.1, 1.0], base=ex.Uniform(ex.Spin(2)))
    with oracles.refused("base must be", "exact draws"):
        ReplicaExchange(walk, base=registry._rbm())
    with oracles.refused("BlockGibbs", "Tempered", "base"):
        ex.sample(registry._rbm(), 10, key=ex.key(0), kernel=ReplicaExchange(ex.BlockGibbs()))
    with oracles.refused("one space"):
        other = ReplicaExchange(walk, base=ex.Uniform(ex.Spin(3)))
        ex.sample(registry._rbm(), 10, key=ex.key(0), kernel=other)
    with oracles.refused("ladder_report", "states"):
        ladder_report(ReplicaExchange(walk), walk)
