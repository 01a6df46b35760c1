"""Annealed importance sampling: unbiased, covering, exact in its sums, honest when it failed.

The statistical tests share one budget: a right estimator fails one of them, on fresh seeds, with
a chance below `ALARM`, apart from the test of coverage, which says its own.
"""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import energax as ex
import oracles
import registry
from energax.energies import AbstractNormalised
from energax.exact import log_partition_enumerated, log_partition_on_grid
from energax.kernels import AbstractKernel, AbstractKernelState, Info, MetropolisHastings
from energax.partition import anneal, log_partition_annealed
from energax.partition._annealed import from_weights
from energax.sampling import default_kernel

pytestmark = pytest.mark.slow

ALARM = 1e-4
N_TESTS = 12  # p-values asked in this file


class StillState(AbstractKernelState):
    x: Any
    terms: Any


class Still(AbstractKernel):
    """Never moves, so that a weight is the ratio of two densities at one state."""

    is_exact: ClassVar[bool] = True

    def init(self, energy, x, key) -> Any:
        return StillState(x, energy.terms(x))

    def step(self, energy, state, key) -> Any:
        value = energy.energy_of(state.terms)
        return state, Info(jnp.ones_like(value), value)

    def refresh(self, energy, state) -> Any:
        return StillState(state.x, energy.terms(state.x))

    def retemper(self, energy, state) -> Any:
        return state


def _spins():
    field = jnp.array([0.5, -0.3, 0.2, 0.9])
    return ex.NeuralEnergy(lambda x: 0.8 * jnp.sum(x[1:] * x[:-1]) + x @ field, ex.Spin(4))


def _well():
    return ex.NeuralEnergy(lambda x: -3 * (x**2 - 1) ** 2 + 0.5 * x, ex.Real())


def _corner():
    return ex.NeuralEnergy(lambda x: 4 * x[0] * x[1], ex.Box(2, -1.0, 1.0))


def _p_value(log_weights, log_ratio: float) -> float:
    """Of the mean of exp(log_weights) being exp(log_ratio), two-sided."""
    weights = np.exp(np.asarray(log_weights, np.float64) - log_ratio)
    z = (weights.mean() - 1) / (weights.std(ddof=1) / np.sqrt(weights.size))
    return float(2 * stats.norm.sf(abs(z)))


UNBIASED = {
    "rbm": (
        lambda: ex.Bernoulli(jnp.linspace(-1.0, 1.0, 4)),
        registry._rbm,
        lambda model: oracles.log_z(model),
    ),
    "rbm by single flips": (
        lambda: ex.Bernoulli(jnp.linspace(-1.0, 1.0, 4)),
        registry.DISCRETE["rbm times bernoulli"],
        lambda model: oracles.log_z(model),
    ),
    "spins": (lambda: ex.Uniform(ex.Spin(4)), _spins, lambda model: oracles.log_z(model)),
    "labels": (
        lambda: ex.Softmax(jnp.linspace(-1.0, 1.0, 6).reshape(2, 3)),
        lambda: registry._table(ex.Categorical(2, 3)),
        lambda model: oracles.log_z(model),
    ),
    "double well": (
        lambda: ex.Gaussian(jnp.asarray(0.3), 1.5),
        _well,
        lambda model: float(log_partition_on_grid(model, n_points=2000, low=-4.0, high=4.0)),
    ),
    "box": (
        lambda: ex.Uniform(ex.Box(2, -1.0, 1.0)),
        _corner,
        lambda model: float(log_partition_on_grid(model, n_points=400)),
    ),
    "a target that excludes": (
        lambda: ex.Uniform(ex.Categorical((), 4)),
        lambda: ex.NeuralEnergy(
            lambda x: jnp.array([1.0, -jnp.inf, 2.0, -jnp.inf])[x], ex.Categorical((), 4)
        ),
        lambda model: float(np.log(np.e + np.e**2)),
    ),
}


@pytest.mark.parametrize("name", UNBIASED)
def test_weights_average_to_the_ratio_of_partition_functions(name):
    make_base, make_model, exact = UNBIASED[name]
    base, model = make_base(), make_model()
    start = ex.path(base, model)
    run = anneal(
        start, default_kernel(start), jnp.linspace(0.0, 1.0, 9), ex.key(1), n_chains=40_000
    )
    log_weights, acceptance = run.log_weights, run.acceptance
    assert np.ptp(log_weights[np.isfinite(log_weights)]) > 0.1
    assert ((acceptance >= 0) & (acceptance <= 1)).all()
    assert not np.isnan(log_weights).any()
    zero = np.isneginf(log_weights).mean()
    assert zero == pytest.approx(0.5 if name == "a target that excludes" else 0.0, abs=0.02)
    log_ratio = exact(model) - float(base.log_normaliser())
    assert _p_value(log_weights, log_ratio) > ALARM / N_TESTS


def test_a_kernel_that_is_not_invariant_is_seen():
    start = ex.path(ex.Uniform(ex.Spin(4)), _spins())
    walk = ex.RandomWalkMetropolis()
    # Accepts whatever is proposed, and says it is exact.
    wrong = MetropolisHastings(
        lambda key, x: x * jnp.where(jnp.arange(4) == jax.random.randint(key, (), 0, 4), -1, 1),
        lambda x, y: jnp.asarray(1e9),
    )
    betas = jnp.linspace(0.0, 1.0, 9)
    log_ratio = oracles.log_z(_spins())  # a uniform base is normalised
    right = anneal(start, walk, betas, ex.key(2), n_chains=40_000).log_weights
    assert _p_value(right, log_ratio) > ALARM / N_TESTS
    biased = anneal(start, wrong, betas, ex.key(2), n_chains=40_000).log_weights
    assert _p_value(biased, log_ratio) < 1e-12


def test_intervals_cover_as_often_as_they_say():
    """200 machines, one compiled program; a right interval fails with a chance of 1%."""
    n, level = 200, 0.95
    generator = np.random.default_rng(0)
    exact = eqx.filter_jit(log_partition_enumerated)
    covered, trusted = 0, 0
    for key in jax.random.split(ex.key(3), n):
        model = ex.RBM(
            generator.normal(size=(7, 4)).astype(np.float32),
            generator.normal(size=7).astype(np.float32),
            generator.normal(size=4).astype(np.float32),
        )
        base = ex.Bernoulli(0.5 * generator.normal(size=7).astype(np.float32))
        found = log_partition_annealed(
            model, base, key=key, n_chains=60, n_temperatures=50, level=level
        )
        covered += found.lower <= float(exact(model)) <= found.upper
        trusted += found.trusted
    assert stats.binom.cdf(covered, n, level) > 0.01
    assert trusted > 0.95 * n


def _fixed_base(signs: np.ndarray) -> ex.Bernoulli:
    """A base that draws one state only, up to a chance below 1e-10."""
    return ex.Bernoulli(30.0 * signs)


def test_twenty_thousand_increments_lose_nothing_in_single_precision():
    # A chain that does not move weighs exp(E_0 - E_1), whatever the ladder.
    generator = np.random.default_rng(4)
    signs = np.where(generator.random(60) < 0.5, -1.0, 1.0)
    weights, b, c = generator.normal(size=(60, 40)), generator.normal(size=60), np.full(40, 0.3)

    def log_weight() -> float:
        model = ex.RBM(*(jnp.asarray(a, jnp.zeros(()).dtype) for a in (weights, b, c)))
        start = ex.path(_fixed_base(signs), model)
        betas = jnp.linspace(0.0, 1.0, 20_001)
        found = anneal(start, Still(), betas, ex.key(0), n_chains=2).log_weights
        assert float(found[0]) == float(found[1])
        return float(found[0])

    x = (signs > 0).astype(float)
    expected = x @ b + np.logaddexp(0, c + x @ weights).sum() + 60 * np.log1p(np.exp(-30.0))
    single = log_weight()
    with jax.enable_x64(True):
        double = log_weight()
    assert abs(expected) > 50
    assert double == pytest.approx(expected, abs=1e-9)
    assert single == pytest.approx(expected, abs=5e-4)


def test_a_geometric_path_loses_nothing_either():
    energy = ex.NeuralEnergy(lambda x: 300.0 + 0.0 * jnp.sum(x), ex.Spin(2))
    start = ex.path(ex.Uniform(ex.Spin(2)), energy)
    betas = jnp.linspace(0.0, 1.0, 20_001)
    found = anneal(start, Still(), betas, ex.key(0), n_chains=2).log_weights
    assert float(found[0]) == pytest.approx(300 + 2 * np.log(2), abs=2e-4)


def test_a_long_run_finds_log_z():
    model = registry._rbm()
    found = log_partition_annealed(
        model, ex.Bernoulli(jnp.zeros(4)), key=ex.key(5), n_chains=100, n_temperatures=20_000
    )
    assert found.trusted
    assert not found.exact
    assert found.std_error < 0.002
    assert found.value == pytest.approx(oracles.log_z(model), abs=0.01)
    assert found.diagnostics["ess"] > 99
    assert found.diagnostics["n_temperatures"] == 20_000
    assert found.diagnostics["log_weights"].shape == (100,)
    assert found.diagnostics["acceptance"] == pytest.approx(1.0, rel=1e-5)


SMALL = {"n_chains": 20, "n_temperatures": 10}


def test_collapsed_weights_are_not_trusted():
    strong = ex.RBM(4.0 * jax.random.normal(ex.key(0), (30, 20)), jnp.zeros(30), jnp.zeros(20))
    found = log_partition_annealed(
        strong, ex.Bernoulli(jnp.zeros(30)), key=ex.key(1), n_chains=50, n_temperatures=2
    )
    assert not found.trusted
    assert "use more temperatures" in found.reason
    assert found.reason in found.summary
    assert np.isposinf(found.upper)
    assert found.diagnostics["ess"] < 3
    assert found.diagnostics["largest_weight"] > 0.25


@pytest.mark.parametrize(
    ("level", "value", "words"),
    [
        (jnp.nan, np.nan, "20 of 20 chains met an energy that is NaN or -inf"),
        (jnp.inf, np.inf, "20 of 20 chains met an energy that is NaN or -inf"),
        (-jnp.inf, -np.inf, "every chain ended where the model has no probability"),
    ],
)
def test_weights_that_are_not_finite_are_not_trusted(level, value, words):
    energy = ex.NeuralEnergy(lambda x: jnp.full((4,), level)[x], ex.Categorical((), 4))
    found = log_partition_annealed(energy, ex.Uniform(energy.space), key=ex.key(0), **SMALL)
    assert not found.trusted
    assert words in found.reason
    np.testing.assert_equal(found.value, value)
    assert (found.lower, found.upper) == (-np.inf, np.inf)


def test_chains_that_end_in_excluded_states_weigh_nothing_and_count():
    base, model = (make() for make in UNBIASED["a target that excludes"][:2])
    found = log_partition_annealed(model, base, key=ex.key(0), n_chains=2000, n_temperatures=10)
    assert np.isneginf(found.diagnostics["log_weights"]).any()
    assert found.trusted
    assert abs(found.value - np.log(np.e + np.e**2)) < 5 * found.std_error < 0.3
    assert found.lower < np.log(np.e + np.e**2) < found.upper


@pytest.mark.parametrize("level", [jnp.nan, -jnp.inf])
def test_a_base_that_fails_is_not_hidden(level):
    class Broken(AbstractNormalised):
        space: ex.Binary = ex.Binary(2)

        def energy(self, x):
            return jnp.where(x[0] == 1, level, 0.0)

        def draw(self, key):
            return self.space.draw(key)

    found = log_partition_annealed(
        ex.NeuralEnergy(jnp.sum, ex.Binary(2)), Broken(), key=ex.key(0), **SMALL
    )
    assert not found.trusted
    assert "NaN or -inf" in found.reason


def test_a_key_fixes_the_estimate_and_a_higher_level_widens_its_interval():
    model, base = registry._rbm(), ex.Bernoulli(jnp.zeros(4))

    def run(seed, level):
        return log_partition_annealed(model, base, key=ex.key(seed), level=level, **SMALL)

    narrow, wide, other = run(0, 0.8), run(0, 0.99), run(1, 0.8)
    assert narrow.value == wide.value != other.value
    assert wide.lower < narrow.lower < narrow.value < narrow.upper < wide.upper
    assert (narrow.level, wide.level) == (0.8, 0.99)


def test_a_ladder_of_ones_own():
    model, base = registry._rbm(), ex.Bernoulli(jnp.zeros(4))
    even = log_partition_annealed(model, base, key=ex.key(0), **SMALL)
    same = log_partition_annealed(
        model, base, key=ex.key(0), n_chains=20, betas=np.linspace(0, 1, 11)
    )
    assert even.value == same.value
    assert same.diagnostics["n_temperatures"] == 10


class Inexact(Still):
    is_exact: ClassVar[bool] = False


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"betas": np.array([0.0, 0.5])}, "from 0 to 1"),
        ({"betas": np.array([0.0, 1.0])}, "at least 3 numbers"),
        ({"betas": np.array([0.1, 0.5, 1.0])}, "from 0 to 1"),
        ({"betas": np.array([[0.0, 0.5, 1.0]])}, "a vector"),
        ({"betas": np.array([0.0, 0.6, 0.5, 1.0])}, "increase"),
        ({"betas": np.array([0.0, 0.5, 0.5, 1.0])}, "increase"),
        ({"betas": np.array([0.0, np.nan, 1.0])}, "increase"),
        ({"n_chains": 1}, "n_chains must be an integer of at least 2, got 1"),
        ({"n_temperatures": 1}, "n_temperatures must be an integer of at least 2, got 1"),
        ({"n_chains": True}, "n_chains must be"),
        ({"level": 1.0}, "level must lie between 0 and 1, got 1.0"),
        ({"level": 0.0}, "level must lie"),
        ({"kernel": Inexact()}, "annealing needs an exact kernel, got Inexact"),
    ],
)
def test_bad_settings_are_named(settings, expected):
    settings = {"base": ex.Bernoulli(jnp.zeros(4)), "key": ex.key(0)} | settings
    with pytest.raises(ValueError, match=expected):
        log_partition_annealed(registry._rbm(), **settings)


def test_kernel_and_base_must_fit_the_model():
    uniform = ex.Uniform(ex.Spin(4))
    with pytest.raises(ValueError, match="two layers"):
        log_partition_annealed(_spins(), uniform, key=ex.key(0), kernel=ex.BlockGibbs())
    with pytest.raises(ValueError, match="over one space"):
        log_partition_annealed(registry._rbm(), uniform, key=ex.key(0))
    with pytest.raises(ValueError, match="over one space"):
        log_partition_annealed(_corner(), ex.Uniform(ex.Box(2, -0.5, 1.0)), key=ex.key(0))


def test_few_weights_and_heavy_tails_are_not_trusted():
    """Of few weights those that happen to agree would be the ones trusted; and weights whose tail
    has no mean to speak of are told whenever k-hat shows it."""
    base = ex.Bernoulli(jnp.zeros(3))
    generator = np.random.default_rng(0)
    for n in (2, 9):
        found = from_weights(base, 0.01 * generator.normal(size=n), "", 0.95, {})
        assert not found.trusted
        assert f"{n} independent weights are too few" in found.reason
        assert found.upper == np.inf
    trusted, told = 0, 0
    for _ in range(200):
        found = from_weights(base, -1.5 * np.log(generator.random(1000)), "", 0.95, {})
        trusted += found.trusted
        told += "tail is too heavy" in found.reason or "worth" in found.reason
    assert trusted == 200 - told <= 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"betas": np.array([0.0, 0.5, 1.0]), "n_temperatures": 7}, "not both"),
        ({"n_temperatures": 5, "settings": jnp.ones((3,))}, "one row for each of the 6 betas"),
    ],
)
def test_what_does_not_fit_the_ladder_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        log_partition_annealed(
            registry._rbm(), ex.Bernoulli(jnp.zeros(4)), key=ex.key(0), **options
        )


def test_what_is_no_ladder_and_no_kernel_is_named():
    model, base = registry._rbm(), ex.Bernoulli(jnp.zeros(4))
    with oracles.refused("betas must be numbers", "abc"):
        log_partition_annealed(model, base, key=ex.key(0), betas="abc")
    with oracles.refused("kernel must be a kernel", "str"):
        log_partition_annealed(model, base, key=ex.key(0), kernel="gibbs")
    with oracles.refused("method must be", "['annealing']"):
        ex.log_partition(model, key=ex.key(0), method=["annealing"])
    with oracles.refused("ran away", "give log_partition a base"):
        ex.log_partition(ex.NeuralEnergy(lambda x: 0.0 * jnp.sum(x), ex.Real(3)), key=ex.key(0))
