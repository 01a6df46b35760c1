"""Kernels of discrete states and of joints: what they refuse, keep, show, and how biased they are.

The statistical tests are three; on fresh seeds one fails for ideal draws with a chance below
`ALARM`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_moves import moves, states_of
from scipy import stats

import energax as ex
import registry
from energax.kernels import start_chains, step_chains
from energax.random import categorical
from oracles import refused

ALARM = 1e-4 / 3


@pytest.mark.parametrize("n", [2, 7, 50])
def test_choices_are_drawn_as_often_as_they_are_likely(n):
    logits = jnp.linspace(-3.0, 1.0, n).at[-1].set(-jnp.inf)
    drawn = jax.jit(lambda key: categorical(key, jnp.tile(logits, (400_000, 1))))(ex.key(n))
    seen = np.bincount(np.asarray(drawn), minlength=n)
    assert len(seen) == n
    assert seen[-1] == 0
    if n == 2:
        return
    p = np.exp(np.asarray(logits, np.float64)[:-1])
    tail = stats.chisquare(seen[:-1], p / p.sum() * seen.sum()).pvalue
    assert 2 * min(tail, 1 - tail) > ALARM


def test_what_cannot_be_drawn_from_gives_the_first():
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        for n in (3, 50):
            assert int(categorical(ex.key(0), jnp.full((n,), bad))) == 0


def test_spaces_that_do_not_fit_are_refused(as_users_call):
    labels, counts = registry.DISCRETE["softmax"](), ex.Poisson(jnp.ones(2))
    normal, joint = ex.Gaussian(jnp.zeros(2)), registry.DISCRETE["table of a joint"]()
    for kernel in (ex.GibbsWithGradients(), ex.DiscreteLangevin()):
        for energy in (labels, counts, normal, joint):
            with refused(type(kernel).__name__, "Binary or Spin"):
                kernel.check(energy)
    for energy in (counts, normal):
        with refused("Gibbs", "RandomWalkMetropolis"):
            ex.Gibbs().check(energy)
    with refused("Joint"):
        ex.Alternating({"a": ex.Gibbs()}).check(labels)
    with refused("each of ['a', 'b']"):
        ex.Alternating({"a": ex.Gibbs()}).check(joint)
    with refused("part 'b'", "Binary or Spin"):
        ex.Alternating({"a": ex.Gibbs(), "b": ex.GibbsWithGradients()}).check(joint)
    with refused("all chains at once"):
        ex.Alternating({"a": ex.PackedGibbs(), "b": ex.Gibbs()})
    with refused("scan"):
        ex.Gibbs("both")
    with refused("step_size"):
        ex.DiscreteLangevin(0.0)


def test_a_kernel_made_of_others_is_exact_if_they_are():
    exact = ex.Alternating({"a": ex.Gibbs(), "b": ex.DiscreteLangevin()})
    biased = ex.Alternating({"a": ex.Gibbs(), "b": ex.DiscreteLangevin(corrected=False)})
    assert exact.is_exact
    assert not biased.is_exact


def test_the_bias_of_uncorrected_langevin_falls_with_its_step_size(x64):
    energy = registry._rbm(3, 2)

    def bias(step_size):
        made = moves(ex.DiscreteLangevin(step_size, corrected=False), energy)
        values, vectors = np.linalg.eig(made.matrix.T)
        stationary = np.real(vectors[:, np.argmax(np.real(values))])
        return 0.5 * np.abs(stationary / stationary.sum() - made.target).sum()

    small, middle, large = (bias(step_size) for step_size in (0.1, 0.3, 1.0))
    assert small < 0.3 * middle
    assert middle < large
    assert small > 0


@pytest.mark.parametrize(
    "kernel_name", ["gibbs", "gibbs at random", "gibbs with gradients", "discrete"]
)
def test_observed_entries_stay(kernel_name):
    energy = registry.DISCRETE["conditioned rbm"]()
    kernel = {**registry.KERNELS, "discrete": lambda _: ex.DiscreteLangevin(2.0)}[kernel_name](
        energy
    )
    whole = ex.condition(energy, np.array([1, 0, 1, 0]), np.ones(4, bool))
    x = jnp.array([[1.0, 0.0, 1.0, 0.0]])
    for model, free in ((energy, 2), (whole, 0)):
        states = start_chains(model, kernel, jnp.tile(x, (200, 1)), ex.key(0))
        new, info = jax.jit(lambda s, m=model: step_chains(m, kernel, s, ex.key(1)))(states)
        moved = np.asarray(new.x != x).any(0)
        assert moved.sum() == free
        assert not moved[[0, 3]].any()
        assert np.isfinite(info.acceptance).all()


@pytest.mark.parametrize("kernel", [ex.Gibbs(), ex.GibbsWithGradients(), ex.DiscreteLangevin(5.0)])
@pytest.mark.parametrize("value", [jnp.nan, -jnp.inf])
def test_a_failing_energy_stays_visible(kernel, value):
    energy = ex.NeuralEnergy(lambda x: jnp.where(jnp.sum(x) > 1, -value, 0.0), ex.Binary(3))
    states = start_chains(energy, kernel, jnp.zeros((50, 3)), ex.key(0))

    @jax.jit
    def run(states):
        def body(states, key):
            return step_chains(energy, kernel, states, key)[0], None

        return jax.lax.scan(body, states, jax.random.split(ex.key(1), 30))[0]

    states = run(states)
    failed = np.asarray(states.x).sum(-1) > 1
    assert failed.mean() > 0.9
    assert not np.isfinite(np.asarray(states.energy)[failed]).any()


def test_parts_of_two_kinds_keep_their_joint_distribution():
    centres = jnp.array([-2.0, 0.0, 3.0])
    space = ex.Joint(label=ex.Categorical(n_states=3), x=ex.Real())
    energy = ex.NeuralEnergy(lambda s: -0.5 * (s["x"] - centres[s["label"]]) ** 2, space)
    kernel = ex.Alternating({"label": ex.Gibbs(), "x": ex.RandomWalkMetropolis(2.0)})
    n = 100_000
    generator = np.random.default_rng(0)
    label = generator.integers(0, 3, n)
    x = np.asarray(centres)[label] + generator.standard_normal(n)
    start = {"label": jnp.asarray(label, jnp.int32), "x": jnp.asarray(x, jnp.float32)}

    @jax.jit
    def run(start):
        states = start_chains(energy, kernel, start, ex.key(1))
        return step_chains(energy, kernel, states, ex.key(2))[0].x

    after = run(start)
    assert (np.asarray(after["label"]) != label).mean() > 0.05
    residual = np.asarray(after["x"] - centres[after["label"]])
    assert stats.kstest(residual, "norm").pvalue > ALARM


_ONE = ex.Gibbs("random")

STALE = {
    "gibbs": (ex.Gibbs(), "rbm"),
    "gibbs at random": (ex.Gibbs("random"), "rbm"),
    "gibbs with gradients": (ex.GibbsWithGradients(), "rbm"),
    "discrete langevin": (ex.DiscreteLangevin(0.8), "rbm"),
    "alternating": (ex.Alternating({"hidden": _ONE, "visible": _ONE}), "joint"),
}


@pytest.mark.parametrize("name", STALE)
def test_a_stale_state_is_a_wrong_sampler_and_a_refreshed_one_is_not(name, x64):
    kernel, kind = STALE[name]
    models = [registry._rbm(3, 2, seed=seed) for seed in (0, 5)]
    before, after = models if kind == "rbm" else [model.joint for model in models]
    kernel.check(after)

    def stale(x, key):
        return kernel.init(before, x, key)

    def refreshed(x, key):
        return kernel.refresh(after, stale(x, key))

    def worst(start):
        made = moves(kernel, after, start=start, states=states_of(after.space))
        return np.abs(made.target @ made.matrix - made.target).max()

    assert worst(stale) > 1e-3
    assert worst(refreshed) < 1e-12


@pytest.mark.parametrize(
    "kernel",
    [
        ex.Gibbs(),
        ex.RandomWalkMetropolis(),
        ex.GibbsWithGradients(),
        ex.DiscreteLangevin(0.5),
    ],
    ids=lambda k: type(k).__name__,
)
def test_observed_entries_are_put_in_place_at_the_start_and_when_they_change(kernel):
    inner = ex.NeuralEnergy(lambda x: jnp.sum(x) + 0.5 * x[0] * x[1], ex.Binary(3))
    mask = np.array([True, False, False])
    one, other = (ex.condition(inner, np.array([v, 0, 0]), mask) for v in (1, 0))
    state = kernel.init(one, jnp.zeros(3), ex.key(0))
    np.testing.assert_array_equal(state.x, [1, 0, 0])
    assert float(state.energy) == pytest.approx(float(inner.energy(jnp.array([1.0, 0.0, 0.0]))))
    state = kernel.refresh(other, state)
    np.testing.assert_array_equal(state.x, [0, 0, 0])
    assert float(state.energy) == pytest.approx(float(inner.energy(jnp.zeros(3))))
