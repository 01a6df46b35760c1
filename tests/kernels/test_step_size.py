"""Step sizes found in warm-up: of random walks, of discrete Langevin, and of the parts of a joint.

The tests of acceptance allow what chains of the length here vary by. The four tests of
distributions fail for right kernels, on fresh seeds, with a chance below `ALARM` together.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_moves import moves
from scipy import stats
from warming_up import warmed_up

import energax as ex
import registry
from energax.spaces import Clamped

pytestmark = pytest.mark.slow

ALARM = 1e-4 / 4

SCALES = np.array([0.01, 0.1, 1.0, 3.0, 10.0, 300.0])
CENTRES = np.array([-2.0, 0.0, 3.0])
MLP = eqx.nn.MLP(64, "scalar", 32, 1, key=ex.key(4))


def _tune(energy, kernel, x, n_steps, key, n_after: int = 1):
    """The kernel after a warm-up, the chains after more steps, and the acceptance in these."""
    kernel, chains, (_, info) = warmed_up(energy, kernel, x, n_steps, key, n_after)
    return kernel, chains, info.acceptance


def _starts(energy, n: int = 16):
    return jax.vmap(energy.space.draw)(jax.random.split(ex.key(9), n))


REAL = {
    "one dimension": (lambda: ex.Gaussian(jnp.zeros(())), 0.44),
    "fifty": (lambda: ex.Gaussian(jnp.zeros(50), 0.2), 0.238),
    "four orders of scale": (
        lambda: ex.NeuralEnergy(
            lambda x: -0.5 * jnp.sum((x / jnp.asarray(SCALES, x.dtype)) ** 2), ex.Real(6)
        ),
        0.268,
    ),
    "box": (registry.CONTINUOUS["box"], 0.337),
    "uniform box": (registry.CONTINUOUS["uniform box"], 0.337),
    "one wall": (lambda: ex.NeuralEnergy(lambda x: -jnp.sum(x), ex.Box(3, 0.0, jnp.inf)), 0.303),
    "steep": (lambda: ex.NeuralEnergy(lambda x: -jnp.sum(x**8), ex.Real(2)), 0.337),
    "two parts": (
        lambda: ex.NeuralEnergy(
            lambda s: -0.5 * jnp.sum(s["a"] ** 2) - 0.5 * s["b"] ** 2,
            ex.Joint(a=ex.Real(6), b=ex.Real()),
        ),
        (0.268 + 0.44) / 2,
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_a_random_walk_meets_its_target(name):
    make, target = REAL[name]
    energy, found = make(), []
    for step_size in (1e-4, 300.0):
        kernel = ex.RandomWalkMetropolis(step_size)
        tuned, _, seen = _tune(energy, kernel, _starts(energy), jnp.int32(500), ex.key(1), 600)
        assert float(seen.mean()) == pytest.approx(target, abs=0.06)
        found.append(float(tuned.step_size))
    assert found[0] == pytest.approx(found[1], rel=0.3)


def test_the_step_is_as_long_as_theory_says():
    """2.38 / sqrt(d) standard deviations (Gelman, Roberts and Gilks, 1996)."""
    for size in (1, 6):
        energy = ex.Gaussian(jnp.zeros(size), 20.0)
        kernel = ex.RandomWalkMetropolis(0.01)
        tuned, _, _ = _tune(energy, kernel, _starts(energy), jnp.int32(500), ex.key(0))
        assert float(tuned.step_size) == pytest.approx(2.38 / np.sqrt(size) * 20, rel=0.25)
        assert float(kernel.step_size) == pytest.approx(0.01)


def test_another_target_is_met_and_a_single_chain_is_enough():
    energy = ex.Gaussian(jnp.zeros(6), 20.0)
    aimed = ex.RandomWalkMetropolis(5.0, target_acceptance=0.6)
    _, _, seen = _tune(energy, aimed, _starts(energy), jnp.int32(500), ex.key(0), 600)
    assert float(seen.mean()) == pytest.approx(0.6, abs=0.05)
    one = _starts(energy, 1)
    _, _, seen = _tune(energy, ex.RandomWalkMetropolis(), one, jnp.int32(1000), ex.key(0), 3000)
    assert float(seen.mean()) == pytest.approx(0.268, abs=0.08)


def test_only_free_entries_are_counted_and_tuned():
    energy = ex.Gaussian(jnp.zeros(6), 2.0)
    kernel = ex.RandomWalkMetropolis(0.01)
    held = ex.condition(energy, np.full(6, 1.0), np.arange(6) != 3)
    assert float(kernel.aim(held)) == pytest.approx(0.44, abs=1e-3)
    tuned, chains, seen = _tune(held, kernel, _starts(held), jnp.int32(400), ex.key(0), 400)
    assert float(seen.mean()) == pytest.approx(0.44, abs=0.06)
    assert float(tuned.step_size) == pytest.approx(2.38 * 2, rel=0.3)
    assert bool((chains.x[:, np.arange(6) != 3] == 1).all())
    whole = ex.condition(energy, np.full(6, 1.0), np.ones(6, bool))
    same, _, _ = _tune(whole, kernel, _starts(whole), jnp.int32(50), ex.key(0))
    assert float(same.step_size) == pytest.approx(0.01)


def test_a_walk_on_a_joint_learns_from_proposals_of_real_entries_alone():
    """Flips of free bits are always accepted, and say nothing of the step size."""
    space = ex.Joint(
        a=ex.Binary(3), b=ex.Real(), c=Clamped(ex.Real(), jnp.ones(()), jnp.array(True))
    )
    energy = ex.NeuralEnergy(lambda s: -0.5 * (s["b"] / 7) ** 2, space)
    kernel = ex.RandomWalkMetropolis(0.1)
    assert float(kernel.aim(energy)) == pytest.approx(0.44, abs=1e-3)
    for chains in (4, 16):
        x = _starts(energy, chains)
        tuned, after, seen = _tune(energy, kernel, x, jnp.int32(1000), ex.key(0), 1000)
        assert float(tuned.step_size) == pytest.approx(2.38 * 7, rel=0.35)
        # The part that is held is not proposed.
        assert float(seen.mean()) == pytest.approx((1 + 0.44) / 2, abs=0.06)
        assert bool((after.x["c"] == 1).all())


@pytest.mark.parametrize(
    ("kernel", "energy"),
    [
        (ex.RandomWalkMetropolis(0.3, adapt=False), ex.Gaussian(jnp.zeros(2))),
        (ex.RandomWalkMetropolis(0.3), registry._rbm()),
        (ex.DiscreteLangevin(0.3, adapt=False), registry._rbm()),
        (ex.DiscreteLangevin(0.3, corrected=False), registry._rbm()),
        (ex.Alternating({"a": ex.Gibbs(), "b": ex.Gibbs()}), "table of a joint"),
    ],
)
def test_where_there_is_nothing_to_tune_nothing_is(kernel, energy):
    energy = registry.DISCRETE[energy]() if isinstance(energy, str) else energy
    assert not kernel.tunes(energy)
    before = _starts(energy, 4)
    same, chains, _ = _tune(energy, kernel, before, jnp.int32(50), ex.key(0))
    assert jax.tree.structure(same) == jax.tree.structure(kernel)
    for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(kernel), strict=True):
        np.testing.assert_array_equal(a, b)
    moved = zip(jax.tree.leaves(chains.x), jax.tree.leaves(before), strict=True)
    assert any(bool((a != b).any()) for a, b in moved)


def test_no_step_tunes_nothing_and_few_do_no_harm():
    energy, kernel = ex.Gaussian(jnp.zeros(2)), ex.RandomWalkMetropolis(0.3)
    for n_steps in (0, 1, 2, 3, 9):
        tuned, _, _ = _tune(energy, kernel, jnp.zeros((4, 2)), jnp.int32(n_steps), ex.key(0))
        if n_steps == 0:
            assert float(tuned.step_size) == pytest.approx(0.3)
        assert 0.3 / 2**n_steps <= float(tuned.step_size) * (1 + 1e-6)
        assert float(tuned.step_size) < 100


def test_failed_chains_and_chains_outside_the_support_have_no_say():
    energy = ex.NeuralEnergy(lambda x: jnp.where(x > 50, jnp.nan, -(x**2) / 2), ex.Real())
    kernel = ex.RandomWalkMetropolis(0.1)
    x = jnp.concatenate([jnp.zeros(7), jnp.full(9, 60.0)])
    _, _, seen = _tune(energy, kernel, x, jnp.int32(500), ex.key(0), 500)
    assert float(seen[:, :7].mean()) == pytest.approx(0.44, abs=0.06)
    alone, _, _ = _tune(energy, kernel, jnp.full(8, 60.0), jnp.int32(500), ex.key(0))
    assert float(alone.step_size) == pytest.approx(0.1)


DISCRETE = {
    "network of bits": lambda: ex.NeuralEnergy(lambda x: 20 * MLP(x), ex.Binary(64)),
    "spins": lambda: ex.Ising((8, 8), 0.4),
    "rbm": lambda: registry._rbm(60, 30, scale=0.6),
    "conditioned rbm": lambda: ex.condition(
        registry._rbm(60, 30, scale=0.6), np.ones(60), np.arange(60) < 20
    ),
}


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_langevin_meets_its_target(name):
    energy, found = DISCRETE[name](), []
    for step_size in (1e-3, 50.0):
        kernel = ex.DiscreteLangevin(step_size)
        tuned, _, seen = _tune(energy, kernel, _starts(energy), jnp.int32(500), ex.key(1), 600)
        assert float(seen.mean()) == pytest.approx(0.574, abs=0.06)
        found.append(float(tuned.step_size))
    assert found[0] == pytest.approx(found[1], rel=0.4)


def test_independent_bits_take_the_longest_steps():
    energy = ex.Bernoulli(jnp.linspace(-1.0, 1.0, 20))
    kernel = ex.DiscreteLangevin()
    tuned, _, seen = _tune(energy, kernel, _starts(energy), jnp.int32(300), ex.key(0), 100)
    assert float(tuned.step_size) == pytest.approx(1000.0)
    assert float(seen.mean()) > 0.574


@pytest.mark.parametrize("name", ["table of bits", "table of spins", "conditioned rbm"])
def test_tuned_discrete_langevin_is_exact(name, x64):
    energy = registry.DISCRETE[name]()
    kernel = ex.DiscreteLangevin(0.05)
    tuned, _, _ = _tune(energy, kernel, _starts(energy), jnp.int32(100), ex.key(0))
    assert float(tuned.step_size) > 0.1
    made = moves(tuned, energy)
    np.testing.assert_allclose(made.target @ made.matrix, made.target, rtol=0, atol=1e-12)


def _exact_residuals(n: int):
    """Labels and real numbers about their centres, drawn exactly."""
    generator = np.random.default_rng(0)
    label = generator.integers(0, 3, n)
    x = CENTRES[label] + 0.05 * generator.standard_normal(n)
    return {"label": jnp.asarray(label, jnp.int32), "x": jnp.asarray(x, jnp.float32)}


def _labelled(s):
    return -0.5 * ((s["x"] - jnp.asarray(CENTRES, s["x"].dtype)[s["label"]]) / 0.05) ** 2


LABELLED = ex.NeuralEnergy(_labelled, ex.Joint(label=ex.Categorical(n_states=3), x=ex.Real()))


@pytest.mark.parametrize(
    "walk", [ex.RandomWalkMetropolis(3.0), ex.HMC(3.0, 3)], ids=lambda k: type(k).__name__
)
def test_alternating_tunes_its_parts_and_stays_exact(walk):
    kernel = ex.Alternating({"label": ex.Gibbs(), "x": walk})
    tuned, _, seen = _tune(LABELLED, kernel, _exact_residuals(16), jnp.int32(500), ex.key(0), 500)
    target = 0.44 if isinstance(walk, ex.RandomWalkMetropolis) else 0.8
    assert float(seen.mean()) == pytest.approx((1 + target) / 2, abs=0.05)
    assert tuned.kernels["label"] == kernel.kernels["label"]
    if isinstance(walk, ex.RandomWalkMetropolis):
        assert float(tuned.kernels["x"].step_size) == pytest.approx(2.4 * 0.05, rel=0.3)
    start = _exact_residuals(100_000)
    _, chains, _ = _tune(LABELLED, tuned, start, jnp.int32(0), ex.key(1))
    after = chains.x
    assert float((after["x"] != start["x"]).mean()) > 0.3
    residual = np.asarray(after["x"]) - CENTRES[np.asarray(after["label"])]
    assert stats.kstest(residual / 0.05, "norm").pvalue > ALARM


def test_a_tuned_walk_is_exact():
    for number, sd in enumerate((0.02, 50.0)):
        energy = ex.Gaussian(jnp.zeros(2), sd)
        kernel = ex.RandomWalkMetropolis()
        tuned, _, _ = _tune(energy, kernel, _starts(energy), jnp.int32(300), ex.key(number))
        exact = jax.vmap(energy.draw)(jax.random.split(ex.key(5), 50_000))
        _, chains, _ = _tune(energy, tuned, exact, jnp.int32(0), ex.key(6))
        assert 0.2 < float((chains.x != exact).mean()) < 0.5
        p = stats.kstest(np.asarray(chains.x).sum(1) / (np.sqrt(2) * sd), "norm").pvalue
        assert p > ALARM


def test_parts_of_all_kinds_are_tuned_together():
    """Real parts on scales of their own, one of them moved by a function and so untuned, and a
    joint within the joint, whose kernels are tuned as well."""
    inner = ex.Joint(p=ex.Real(2), q=ex.Box((), 0.0, jnp.inf))
    space = ex.Joint(a=ex.Spin(2), b=ex.Real(3), c=inner, d=ex.Real())

    def log_density(s):
        on = 1.5 + 0.5 * jnp.sum(s["a"])  # scales that change with a
        return (
            -0.5 * jnp.sum((s["b"] / 0.01) ** 2)
            - 0.5 * jnp.sum((s["c"]["p"] / 30) ** 2)
            - s["c"]["q"] / 100
            - 0.5 * (on * s["d"]) ** 2
            + jnp.log(jnp.abs(on) + 1e-6)
        )

    energy = ex.NeuralEnergy(log_density, space)

    def stepped(key, x):
        return x + jax.random.normal(key, x.shape)

    kernel = ex.Alternating(
        {
            "a": ex.Gibbs(),
            "b": ex.MALA(1.0),
            "c": ex.Alternating({"p": ex.RandomWalkMetropolis(), "q": ex.RandomWalkMetropolis()}),
            "d": ex.MetropolisHastings(stepped),
        }
    )
    kernel.check(energy)
    tuned, _, _ = _tune(energy, kernel, _starts(energy), jnp.int32(600), ex.key(0))
    assert jax.tree.structure(tuned.kernels["a"]) == jax.tree.structure(kernel.kernels["a"])
    mala, within = tuned.kernels["b"], tuned.kernels["c"].kernels
    np.testing.assert_allclose(np.sqrt(mala.inverse_mass), 0.01, rtol=0.3)
    assert float(within["p"].step_size) == pytest.approx(2.38 / np.sqrt(2) * 30, rel=0.35)
    assert 100 < float(within["q"].step_size) < 600
    assert tuned.kernels["d"].propose is stepped


def test_sample_tunes_the_kernels_of_a_mixed_joint_by_default():
    start = _exact_residuals(16)
    draws = ex.sample(LABELLED, 1600, key=ex.key(0), start=start)
    assert draws.method == "Alternating"
    walk = draws.kernel.kernels["x"]
    assert float(walk.step_size) == pytest.approx(2.4 * 0.05, rel=0.3)


def test_replicas_have_a_step_size_each_where_there_is_one():
    betas = np.array([0.01, 0.1, 1.0])
    for kernel, energy, found in (
        (ex.RandomWalkMetropolis(), ex.Gaussian(jnp.asarray(0.0)), lambda k: k.step_size),
        (
            ex.Alternating({"label": ex.Gibbs(), "x": ex.RandomWalkMetropolis()}),
            LABELLED,
            lambda k: k.kernels["x"].step_size / 0.05,
        ),
    ):
        exchange = ex.ReplicaExchange(kernel, betas, adapt=False)
        x = _starts(energy, 32)
        tuned, _, _ = _tune(energy, exchange, x, jnp.int32(600), ex.key(0))
        np.testing.assert_allclose(found(tuned.settings), 2.4 * betas**-0.5, rtol=0.4)
    flips = ex.ReplicaExchange(ex.RandomWalkMetropolis(), [0.1, 1.0], adapt=False)
    energy = registry._table(ex.Spin(3))
    tuned, _, _ = _tune(energy, flips, _starts(energy), jnp.int32(60), ex.key(0))
    assert tuned.settings is None


def test_settings_are_checked(as_users_call):
    for kernel in (ex.RandomWalkMetropolis, ex.DiscreteLangevin):
        for target in (0.0, 1.0, -0.5, np.nan, [0.2, 0.3]):
            with pytest.raises(ValueError, match="target_acceptance"):
                kernel(target_acceptance=target)


@pytest.mark.parametrize("kernel", [ex.RandomWalkMetropolis(0.1), ex.DiscreteLangevin(0.1)])
def test_in_double_precision_with_settings_in_single(kernel):
    with jax.enable_x64(True):
        space = ex.Real(2) if isinstance(kernel, ex.RandomWalkMetropolis) else ex.Binary(2)
        energy = ex.NeuralEnergy(lambda x: -jnp.sum(x**4), space)
        plain = warmed_up.__wrapped__
        chains, (_, info) = jax.eval_shape(
            lambda key: plain(energy, kernel, jnp.ones((4, 2)), jnp.int32(9), key)[1:], ex.key(0)
        )
        assert chains.x.dtype == chains.energy.dtype == info.acceptance.dtype == jnp.float64
