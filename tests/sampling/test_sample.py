"""`sample`: the bookkeeping of chains exactly, the draws against enumeration.

The statistical tests share one budget: an ideal sampler fails one of them, on fresh seeds, with a
chance below `ALARM`.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from counting import Counter, CountState, Still
from scipy import stats

import energax as ex
import oracles
import registry
from energax.diagnostics import mean_and_error
from energax.kernels import (
    AbstractEnsembleKernel,
    AbstractTunableKernel,
    Info,
)
from energax.sampling import default_kernel, start_states, walk_chains
from oracles import refused

ALARM = 1e-4
N_TESTS = 30  # p-values asked in this file, rounded up


LINE = ex.NeuralEnergy(lambda x: -(x**2), ex.Real())
COUNTER = Counter()


def _count(n=12, start: Any = (0.0, 0.0, 0.0), **settings):
    settings = {"chains": 3, "warmup": 0, "thin": 1} | settings
    every: Any = settings | {"kernel": COUNTER, "start": start}
    return ex.sample(LINE, n, key=ex.key(0), **every)


@pytest.mark.parametrize(("warmup", "thin"), [(0, 1), (5, 1), (0, 4), (7, 3)])
def test_warmup_is_dropped_and_every_thin_th_state_kept(warmup, thin):
    draws = _count(warmup=warmup, thin=thin)
    kept = warmup + thin * np.arange(1, 5)
    np.testing.assert_array_equal(draws.x, np.tile(kept, (3, 1)))
    np.testing.assert_array_equal(draws.energy, np.asarray(draws.x) ** 2)
    np.testing.assert_array_equal(draws.final, np.full(3, kept[-1]))
    # Acceptance is the mean over all steps after the warmup, those not kept as well.
    steps = warmup + np.arange(1, 4 * thin + 1)
    np.testing.assert_allclose(draws.acceptance, np.full(3, steps.mean() / 1000), rtol=1e-6)


def test_other_warmups_and_thinnings_compile_nothing():
    _count(warmup=2, thin=2)
    before = len(COUNTER.traced)
    for warmup, thin in ((0, 1), (9, 5), (3, 2)):
        _count(warmup=warmup, thin=thin)
    assert len(COUNTER.traced) == before
    _count(n=15)  # another shape of result is another program
    assert len(COUNTER.traced) > before


def test_draws_are_shared_among_chains_rounded_up():
    draws = _count(n=10)
    assert draws.x.shape == draws.energy.shape == (3, 4)
    assert draws.flat.shape == (12,)
    assert draws.n_chains == 3
    assert draws.acceptance.shape == draws.final.shape == (3,)
    few = _count(n=2)
    assert few.x.shape == (2, 1)


def test_chains_start_at_rows_in_turn():
    draws = _count(start=np.array([10.0, 20.0]), n=3)
    np.testing.assert_array_equal(draws.x[:, 0], [11, 21, 11])


def test_chains_go_on_where_earlier_draws_ended():
    first = _count(start=np.array([10.0, 20.0, 30.0]))
    again = _count(start=first)
    np.testing.assert_array_equal(again.x[:, 0], np.asarray(first.x[:, -1]) + 1)
    # Exact draws can be gone on from as well: each of them is an end.
    exact = ex.sample(ex.Gaussian(jnp.zeros(())), 5, key=ex.key(0))
    after = _count(start=exact)
    np.testing.assert_allclose(after.x[:, 0], exact.flat[:3] + 1, rtol=1e-6)


def test_without_a_start_chains_begin_at_base_draws():
    x = start_states(ex.NeuralEnergy(jnp.sum, ex.Spin(50)), 40, start=None, key=ex.key(3))
    assert x.shape == (40, 50)
    assert set(np.unique(x)) == {-1.0, 1.0}
    ones = int((np.asarray(x) == 1).sum())
    assert stats.binomtest(ones, 2000).pvalue > ALARM / N_TESTS


def test_states_of_named_parts_keep_their_names():
    energy = registry.DISCRETE["table of a joint"]()
    start = {"a": [[1, -1], [1, 1]], "b": [2, 0]}
    draws = ex.sample(energy, 8, key=ex.key(0), kernel=Still(), chains=2, warmup=0, start=start)
    assert {name: leaf.shape for name, leaf in draws.x.items()} == {"a": (2, 4, 2), "b": (2, 4)}
    assert draws.flat["a"].shape == (8, 2)
    np.testing.assert_array_equal(draws.x["a"][0], np.tile([1, -1], (4, 1)))
    np.testing.assert_array_equal(draws.final["b"], [2, 0])
    assert draws.x["b"].dtype == jnp.int32


def test_the_number_of_steps_may_be_an_integer_or_an_array():
    states = CountState(jnp.zeros((2,)))
    for n_steps in (3, jnp.asarray(3), np.int32(3)):
        walked = walk_chains(LINE, COUNTER, states, n_steps, ex.key(0))
        np.testing.assert_array_equal(walked.states.x, [3, 3])
        np.testing.assert_allclose(walked.acceptance, [0.002, 0.002], rtol=1e-6)
        assert np.isfinite(walked.energy).all()
    walked = walk_chains(LINE, COUNTER, states, 0, ex.key(0))
    np.testing.assert_array_equal(walked.states.x, [0, 0])
    np.testing.assert_array_equal(walked.acceptance, [0, 0])
    np.testing.assert_allclose(walked.energy, jax.vmap(LINE.energy)(walked.states.x))


@pytest.mark.parametrize("kernel", [ex.BlockGibbs(), ex.RandomWalkMetropolis()])
def test_the_energies_of_draws_are_those_of_the_states(kernel):
    rbm = registry.DISCRETE["rbm"]()
    draws = ex.sample(rbm, 60, key=ex.key(0), kernel=kernel, chains=3, thin=2)
    again = jax.vmap(jax.vmap(rbm.energy))(draws.x)
    np.testing.assert_allclose(draws.energy, again, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("level", [jnp.nan, jnp.inf])
def test_a_state_whose_energy_fails_is_not_hidden_by_exact_draws(level):
    values = jnp.zeros((8,)).at[3].set(level)  # f: +inf is an energy of -inf
    energy = ex.NeuralEnergy(lambda x: values[x], ex.Categorical((), 8))
    draws = ex.sample(energy, 50, key=ex.key(0))
    assert not draws.converged
    assert "not finite" in draws.summary


@pytest.mark.parametrize("key", [0, jnp.zeros((2,), jnp.uint32), None, jax.random.split(ex.key(0))])
def test_a_key_that_is_none_is_refused(key):
    with refused("key must be one random key such as ex.key(0)"):
        ex.sample(ex.Gaussian(jnp.zeros(2)), 10, key=key)
    with refused("key must be one random key such as ex.key(0)"):
        ex.log_partition(ex.Gaussian(jnp.zeros(2)), key=key)
    with refused("key must be one random key such as ex.key(0)"):
        ex.RBM.init(key, n_visible=3, n_hidden=2)


def test_a_start_need_not_know_what_is_observed():
    held = registry.DISCRETE["conditioned rbm"]()
    x = start_states(held, 2, start=np.zeros((1, 4)), key=ex.key(0))
    np.testing.assert_array_equal(x, [[1, 0, 0, 0]] * 2)


def test_exact_draws_where_the_model_allows():
    for energy, method in (
        (ex.Gaussian(jnp.zeros(2)), "exact draws"),
        (ex.freeze(ex.Bernoulli(jnp.zeros(2))), "exact draws"),
        (registry.DISCRETE["conditioned rbm"](), "enumeration"),
        (registry.DISCRETE["rbm"](), "enumeration"),
    ):
        draws = ex.sample(energy, 7, key=ex.key(0))
        assert draws.method == method
        assert draws.independent
        assert draws.converged
        assert draws.energy.shape == (1, 7)
        np.testing.assert_array_equal(draws.acceptance, [1.0])
        one = jax.tree.map(lambda leaf: leaf[0, 3], draws.x)
        np.testing.assert_allclose(draws.energy[0, 3], energy.energy(one), rtol=1e-5)
        assert "exact and independent" in draws.summary


def test_the_default_kernel_fits_the_model():
    assert isinstance(default_kernel(registry.DISCRETE["frozen rbm"]()), ex.BlockGibbs)
    assert isinstance(default_kernel(LINE), ex.RandomWalkMetropolis)
    large = ex.RBM.init(ex.key(0), n_visible=20, n_hidden=2)
    draws = ex.sample(large, 8, key=ex.key(0), chains=4, warmup=3)
    assert draws.method == "BlockGibbs"
    assert not draws.independent
    assert draws.x.shape == (4, 2, 20)


def _no_gradient(x):
    return -jax.lax.while_loop(lambda y: y > 9, lambda y: y / 2, jnp.sum(x**2))


@pytest.mark.parametrize(
    ("energy", "kernel"),
    [
        (ex.NeuralEnergy(lambda x: -jnp.sum(x**2), ex.Real(2)), ex.HMC),
        (ex.NeuralEnergy(lambda x: -jnp.sum(x**2), ex.Box(2, 0.0, 1.0)), ex.HMC),
        (ex.NeuralEnergy(_no_gradient, ex.Real(2)), ex.RandomWalkMetropolis),
        (ex.NeuralEnergy(jnp.sum, ex.Spin(40)), ex.Gibbs),
        (ex.Poisson(jnp.ones(2)) ** 0.5, ex.RandomWalkMetropolis),
        (ex.Ising((8, 8), 0.3), ex.PackedGibbs),
        (ex.Ising((7, 8), 0.3), ex.BlockGibbs),
        (
            ex.NeuralEnergy(
                lambda x: jnp.sum(x["a"]) - x["b"] ** 2, ex.Joint(a=ex.Spin(20), b=ex.Real())
            ),
            ex.Alternating,
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_default_kernel_after_a_warm_up(energy, kernel):
    chosen = default_kernel(energy, warmed_up=True)
    assert type(chosen) is kernel
    chosen.check(energy)
    cheap = ex.BlockGibbs if isinstance(energy, ex.Ising) else ex.RandomWalkMetropolis
    assert type(default_kernel(energy)) is cheap
    draws = ex.sample(energy, 64, key=ex.key(0), chains=4, warmup=5, start="base")
    assert draws.method == kernel.__name__
    assert np.isfinite(draws.energy).all()


def test_listed_draws_have_the_models_probabilities():
    for seed, name in enumerate(("table of a joint", "conditioned rbm")):
        energy = registry.DISCRETE[name]()
        draws = ex.sample(energy, 50_000, key=ex.key(seed))
        rows = draws.flat
        if name == "conditioned rbm":
            np.testing.assert_array_equal(rows[:, [0, 3]], np.tile([1, 0], (50_000, 1)))
            free = [s for s in oracles.states(ex.Binary(4)) if s[0] == 1 and s[3] == 0]
            e = np.array([float(energy.energy(s)) for s in free])
            p = np.exp(-e) / np.exp(-e).sum()
            counts = np.bincount((np.asarray(rows[:, 1:3]) @ [2, 1]).astype(int), minlength=4)
        else:
            p = oracles.probabilities(energy)
            counts = np.bincount(oracles.index_of(energy.space, rows), minlength=len(p))
        tail = oracles.chi_squared_p(counts, p)
        assert 2 * min(tail, 1 - tail) > ALARM / N_TESTS


def test_a_key_fixes_the_draws():
    energy = registry.DISCRETE["rbm"]()

    def run(seed):
        return np.asarray(
            ex.sample(energy, 32, key=ex.key(seed), kernel=ex.BlockGibbs(), warmup=5).x
        )

    np.testing.assert_array_equal(run(0), run(0))
    assert (run(0) != run(1)).any()
    np.testing.assert_array_equal(
        ex.sample(energy, 9, key=ex.key(2)).x, ex.sample(energy, 9, key=ex.key(2)).x
    )


@pytest.mark.parametrize("kernel", [ex.BlockGibbs(), ex.RandomWalkMetropolis()])
def test_means_agree_with_enumeration(kernel):
    energy = registry.DISCRETE["rbm"]()
    n = 40_000 if isinstance(kernel, ex.RandomWalkMetropolis) else 10_000
    draws = ex.sample(energy, n, key=ex.key(5), kernel=kernel, chains=20)
    assert draws.converged, draws.problems
    assert draws.method == type(kernel).__name__
    assert float(draws.rhat.max()) < 1.01
    assert draws.ess.shape == (4,)
    assert (draws.ess > 400).all()

    def measured(x, energy):
        """Every coordinate, a product of two, and the energy."""
        x = np.asarray(x, np.float64)
        return np.concatenate([x, x[..., :1] * x[..., 1:2], np.asarray(energy)[..., None]], -1)

    p, states = oracles.probabilities(energy), oracles.stacked(energy.space)
    exact = p @ measured(states, oracles.energies(energy))
    mean, error = mean_and_error(measured(draws.x, draws.energy))
    assert (2 * stats.norm.sf(np.abs(mean - exact) / error) > ALARM / N_TESTS).all()


def test_chains_stuck_in_two_modes_have_not_converged():
    well = ex.NeuralEnergy(lambda x: -50 * (x**2 - 1) ** 2, ex.Real())
    draws = ex.sample(
        well,
        2000,
        key=ex.key(0),
        kernel=ex.RandomWalkMetropolis(0.1),
        chains=4,
        start=np.array([-1.0, 1.0]),
    )
    assert (np.sign(draws.x) == np.array([[-1], [1], [-1], [1]])).all()
    assert not draws.converged
    assert "R-hat" in draws.summary
    assert "crosses between modes" in draws.summary


def test_chains_that_never_move_are_named():
    draws = ex.sample(
        LINE, 40, key=ex.key(0), kernel=ex.RandomWalkMetropolis(1e9), chains=4, warmup=0
    )
    assert not draws.converged
    assert "chains 0, 1, 2, 3 hardly moved" in draws.summary


def test_a_start_where_the_energy_fails_names_its_chains():
    walk = ex.RandomWalkMetropolis(2.0)
    far = ex.NeuralEnergy(lambda x: jnp.where(x > 50, jnp.nan, -(x**2) / 2), ex.Real())
    draws = ex.sample(far, 4000, key=ex.key(0), kernel=walk, chains=4, start=[0.0, 90.0])
    assert draws.problems == [
        "chains 1, 3 started where the energy is NaN or -inf: look at E there, or give another"
        " start"
    ]
    np.testing.assert_array_equal(draws.healthy, [True, False, True, False])
    np.testing.assert_array_equal(draws.start_energy, [0, np.nan, 0, np.nan])
    assert not draws.converged
    assert draws.final.shape == (4,)
    # The others went on, and are judged by themselves.
    assert np.isfinite(draws.x[::2]).all()
    assert draws.rhat < 1.01
    assert draws.ess > 400


class Tuned(AbstractTunableKernel):
    """Steps by a size that is the number of its warm-up's steps."""

    size: Any = 0.5

    is_exact: ClassVar[bool] = False

    def init(self, energy, x, key) -> Any:
        return CountState(x)

    def step(self, energy, state, key) -> Any:
        x = state.x + jnp.asarray(self.size, state.x.dtype)
        return CountState(x), Info(jnp.ones_like(x), energy.energy(x))

    def refresh(self, energy, state) -> Any:
        return state

    def tune(self, energy, states, n_steps, key) -> Any:
        return Tuned(jnp.asarray(n_steps, jnp.float32)), states


def test_the_tuned_kernel_and_its_states_are_kept_and_can_go_on():
    settings: Any = {"key": ex.key(0), "chains": 2}
    draws = ex.sample(LINE, 6, kernel=Tuned(), warmup=3, start=[0.0, 100.0], **settings)
    assert isinstance(draws.kernel, Tuned)
    assert draws.kernel.size == 3
    np.testing.assert_array_equal(draws.x, [[3, 6, 9], [103, 106, 109]])
    np.testing.assert_array_equal(draws.states.x, draws.final)
    again = ex.sample(LINE, 2, kernel=draws.kernel, warmup=0, start=draws, **settings)
    # Without a warm-up `tune` is asked for no step, and this one then steps by 0.
    np.testing.assert_array_equal(again.x[:, 0], [9, 109])


class Pairs(AbstractEnsembleKernel):
    """Takes an even number of chains."""

    is_exact: ClassVar[bool] = True

    def init(self, energy, x, key) -> Any:
        if len(x) % 2:
            raise ValueError(f"Pairs needs an even number of chains, got {len(x)}")
        return CountState(x)

    def step(self, energy, state, key) -> Any:
        value = jax.vmap(energy.energy)(state.x)
        return state, jax.vmap(lambda v: Info(jnp.ones_like(v), v))(value)

    def refresh(self, energy, state) -> Any:
        return state


def test_an_ensembles_number_of_chains_is_its_own_affair():
    with refused("Pairs needs an even number of chains, got 3"):
        ex.sample(LINE, 9, key=ex.key(0), kernel=Pairs(), chains=3)
    # Fewer draws than chains do not change how many there are.
    assert ex.sample(LINE, 3, key=ex.key(0), kernel=Pairs(), chains=4).x.shape == (4, 1)


def test_a_start_at_the_base_runs_chains_where_exact_draws_were_possible():
    settings: Any = {"key": ex.key(0), "chains": 2, "warmup": 1, "start": "base"}
    draws = ex.sample(registry.DISCRETE["rbm"](), 4, **settings)
    assert draws.method == "BlockGibbs"
    assert not draws.independent


def test_a_constant_coordinate_is_said_to_be_constant():
    held = registry.DISCRETE["conditioned rbm"]()
    walk = ex.RandomWalkMetropolis()
    draws = ex.sample(held, 20_000, key=ex.key(0), kernel=walk, chains=8)
    np.testing.assert_array_equal(draws.constant, [True, False, False, True])
    np.testing.assert_array_equal(np.isnan(draws.rhat), draws.constant)
    assert draws.summary.endswith("converged; 2 of 4 coordinates constant")


class Wrong(ex.AbstractEnergy):
    result: Any
    space: ex.Real = ex.Real(3)

    def energy(self, x):
        return self.result(x)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (lambda x: -x, "Wrong.energy must return one number for one state, got shape (3,)"),
        (lambda x: jnp.sum(x)[None], "got shape (1,)"),
        (lambda x: (x[0], x[1]), "got shape tuple"),
        (lambda x: jnp.sum(x).astype(jnp.int32), "a real floating number, got int32"),
        (lambda x: jnp.sum(x).astype(jnp.complex64), "a real floating number, got complex64"),
        (lambda x: jnp.sum(x) > 0, "a real floating number, got bool"),
        (lambda x: jnp.sum(x).astype(jnp.float16), "Wrong.energy returns float16"),
        (lambda x: jnp.sum(x.astype(jnp.bfloat16)), "cast the result up"),
        (lambda x: x @ jnp.ones(4), "Wrong fails on one state of its space Real(shape=(3,))"),
        (lambda x: float(x[0]), "Wrong fails on one state of its space"),
        (lambda x: x.missing, "AttributeError"),
    ],
)
def test_an_energy_that_is_none_is_refused_before_anything_is_compiled(result, expected):
    evaluated = []

    def watched(x):
        jax.debug.callback(evaluated.append, x.sum())
        return result(x)

    wrong, rows = Wrong(watched), np.zeros((4, 3))
    cd = ex.ContrastiveDivergence(kernel=ex.RandomWalkMetropolis(), centred=False)
    for verb in (
        lambda: ex.sample(wrong, 8, key=ex.key(0)),
        lambda: ex.log_partition(wrong, key=ex.key(0)),
        lambda: ex.log_partition(wrong, key=ex.key(0), base=ex.Gaussian(jnp.zeros(3))),
        lambda: ex.fit(wrong, rows, cd, key=ex.key(0), steps=1),
    ):
        with refused(expected):
            verb()
    jax.effects_barrier()
    assert evaluated == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"n": 0}, "n must be an integer of at least 1, got 0"),
        ({"n": True}, "n must be"),
        ({"chains": 0}, "chains must be an integer of at least 1, got 0"),
        ({"warmup": -1}, "warmup must be an integer of at least 0, got -1"),
        ({"thin": 0}, "thin must be an integer of at least 1, got 0"),
        ({"warmup": 2**31}, "warmup must be an integer of at most 2147483647, got 2147483648"),
        ({"thin": 2**31}, "thin must be an integer of at most 2147483647"),
        ({"n": 2**40, "collect": ex.sampling.Mean()}, "n / chains must be an integer of at most"),
        ({"kernel": ex.BlockGibbs()}, "two layers"),
        ({"start": np.zeros((2, 3))}, "start must have shape"),
        ({"start": np.array([np.nan])}, "start holds 1 NaN"),
        ({"start": np.zeros((0,))}, "start is empty"),
        ({"start": "data"}, "start must be rows, earlier draws or \"base\", got 'data'"),
    ],
)
def test_bad_settings_are_named(settings, expected):
    settings = {"n": 4, "kernel": None} | settings
    with pytest.raises(ValueError, match=expected):
        ex.sample(LINE, settings.pop("n"), key=ex.key(0), **settings)


def test_narrow_graphs_are_drawn_from_exactly():
    ring = ex.Ising(40, 0.6, 0.2)  # 2^40 states
    draws = ex.sample(ring, 4000, key=ex.key(0))
    assert draws.method == "elimination"
    assert draws.independent
    assert draws.converged
    assert draws.x.shape == (1, 4000, 40)
    # Pairs of neighbours by the transfer matrix; five standard errors over 40 of them, a false
    # alarm in 40,000.
    matrix = np.exp(np.array([[0.6 + 0.2, -0.6], [-0.6, 0.6 - 0.2]]))
    others = np.linalg.matrix_power(matrix, 39)
    pair = matrix * others.T / np.trace(matrix @ others)
    expected = pair[0, 0] + pair[1, 1] - pair[0, 1] - pair[1, 0]
    x = np.asarray(draws.x[0])
    products = x * np.roll(x, 1, axis=1)
    error = np.sqrt((1 - expected**2) / len(x))
    assert np.abs(products.mean(0) - expected).max() < 5 * error
    # Asked to start somewhere, it walks.
    assert ex.sample(ring, 64, key=ex.key(0), start="base", warmup=5).method != "elimination"
