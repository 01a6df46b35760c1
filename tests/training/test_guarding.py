"""Training that fails goes back to a healthy state, tries again lower, and tells the story."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training_setups import BARS, SGD, Failing, assert_same, bits, rbm, train

import energax as ex
from energax.training._guard import Finding, Limits, lowered
from energax.training._step import _norm
from energax.training._watch import Watch, spread_of_chains

ROWS = np.eye(8)  # 4 batches of 2


def failing(at, what="gradient", value=math.nan, **options):
    """Gradient ones, from zero: parameters after n good steps of SGD(0.1) are -n / 10."""
    options = {"optimizer": SGD, "steps": 90, "batch_size": 2, "log_every": 3, **options}
    options = {"retries": 0, **options}
    return ex.fit(
        ex.Bernoulli(jnp.zeros(8)), ROWS, Failing(at, what, value), key=ex.key(0), **options
    )


def assert_kept(run, step):
    """Diverged, with the state after `step` steps and a history of numbers."""
    assert run.status == "diverged"
    assert not run.ok
    assert run.step == step == int(run.state.step)
    np.testing.assert_allclose(run.energy.logits, -0.1 * step, rtol=1e-5)
    assert bits(run.energy) == bits(run.state.energy)
    assert [row["step"] for row in run.history] == list(range(3, step + 1, 3))
    assert all(math.isfinite(value) for row in run.history for value in row.values())
    assert run.alarms[-1]["back_to"] == step
    assert f"The parameters are those after step {step}." in run.message
    words = (
        "smaller learning rate" if len(run.alarms) == 1 else "The same step failed at every rate"
    )
    assert words in run.message
    assert "\n" not in run.message


# --- in the compiled step ----------------------------------------------------------------------


# Eight healthy chunks of three steps (20 steps and one chunk) must follow a state before it is
# known as healthy; the next on trial is the one there.
@pytest.mark.parametrize(("bad", "kept"), [(1, 0), (3, 0), (47, 0), (49, 24), (72, 24), (73, 48)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_gradient_goes_back_to_a_state_found_healthy_later(bad, kept, value):
    run = failing(bad - 1, value=value)
    assert_kept(run, kept)
    assert f"diverged at step {bad} gradient_norm stopped being finite" in run.message
    assert run.alarms[0]["cause"] == "not finite"


@pytest.mark.parametrize(
    ("what", "value", "cause", "words"),
    [
        ("loss", math.nan, "not finite", "loss stopped being finite"),
        ("loss", -math.inf, "not finite", "loss stopped being finite"),
        ("energy_data", math.nan, "not finite", "energy_data stopped being finite"),
        ("loss", 2e6, "exploded", "loss reached 2e+06, beyond the limit of 8e+03"),
        ("energy_data", -2e6, "exploded", "energy_data reached -2e+06, beyond the limit of 8e+03"),
    ],
)
def test_a_bad_measure_stops_too_and_is_named(what, value, cause, words):
    run = failing(49, what, value)
    assert_kept(run, 24)
    assert f"diverged at step 50 {words}" in run.message
    told = {"step": 50, "cause": cause, "met": words, "back_to": 24, "again": False}
    assert run.alarms == [{**told, "text": f"at step 50 {words}"}]


def test_the_limit_is_a_thousand_an_entry_or_what_is_asked_for():
    short = {"steps": 6}
    assert failing(4, "energy_data", 7990.0, **short).ok  # 8 entries
    assert failing(4, "energy_data", 8010.0, **short).status == "diverged"
    assert failing(4, "energy_data", 8010.0, energy_limit=9000, **short).ok
    run = failing(4, "energy_data", 7990.0, energy_limit=50.0, **short)
    assert_kept(run, 0)
    assert "beyond the limit of 50" in run.message


def test_the_limit_grows_with_the_energies_at_the_start():
    # log(1 + exp(-30)) an entry is about 0, and 30 where the row has a 0: 7 x 30 a row.
    start = ex.Bernoulli(jnp.full(8, 30.0))
    options = {"key": ex.key(0), "optimizer": SGD, "steps": 4, "batch_size": 2, "retries": 0}
    assert ex.fit(start, ROWS, Failing(1, "energy_data", 209e3), **options).ok
    run = ex.fit(start, ROWS, Failing(1, "energy_data", 211e3), **options)
    assert "beyond the limit of 2.1e+05" in run.message


@pytest.mark.parametrize("steps", [6, 20])
def test_parameters_that_overflow_in_the_last_step_of_a_chunk_are_not_kept(steps):
    # The gradient that would show what the sixth step did never comes before the chunk's end.
    blown = optax.GradientTransformation(
        lambda parameters: jnp.zeros((), jnp.int32),
        lambda updates, count, parameters=None: (
            optax.tree.scale(jnp.where(count == 5, -jnp.inf, -0.1), updates),
            count + 1,
        ),
    )
    run = failing(99, optimizer=blown, steps=steps)
    assert_kept(run, 0)
    assert "diverged at step 6 parameters stopped being finite" in run.message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_model_without_a_finite_energy_of_a_row_is_refused(value, tmp_path):
    def odd(x):
        return jnp.where(x[0] > 2.5, value, -jnp.sum(x**2))

    energy = ex.NeuralEnergy(odd, ex.Real(2))
    rows = np.zeros((6, 2))
    rows[4, 0] = 3.0
    fit = {"key": ex.key(0), "steps": 4, "checkpoint": tmp_path / "state.ckpt"}
    with pytest.raises(ValueError, match=f"data row 4 is {-value} before training"):
        ex.fit(energy, rows, ex.ContrastiveDivergence(), **fit)
    with pytest.raises(ValueError, match=f"validation row 4 is {-value} before training"):
        ex.fit(energy, rows[:4], ex.ContrastiveDivergence(), validation=rows, **fit)
    assert list(tmp_path.iterdir()) == []


# --- trying again ------------------------------------------------------------------------------


def test_each_try_goes_further_back_and_ten_times_slower():
    # The objective's own count of steps is in its state, so it fails at step 74 again and again.
    run = failing(73, retries=3)
    # It ends with the newest state found healthy, not with where the slow tries had come.
    assert_kept(run, 48)
    assert [alarm["step"] for alarm in run.alarms] == [74] * 4
    assert [alarm["back_to"] for alarm in run.alarms] == [48, 24, 0, 48]
    assert [alarm["again"] for alarm in run.alarms] == [True, True, True, False]
    factors = [alarm["learning_rate_factor"] for alarm in run.alarms[:3]]
    np.testing.assert_allclose(factors, [0.1, 0.01, 0.001], rtol=1e-6)
    assert "after 3 tries with lower settings" in run.message


WILD = {"optimizer": optax.sgd(1e5), "retries": 9}


def test_another_try_takes_a_slower_way_by_other_chance():
    run = train(**WILD, steps=40)
    assert run.ok
    scale = float(run.state.scale)
    assert 1e-9 < scale < 1e-3
    assert run.message.startswith("40 steps; at step ")
    assert f"with the learning rate times {scale:g}" in run.message
    assert bits(run.state.key) != bits(jax.random.split(ex.key(1), 3)[2])
    assert [row["step"] for row in run.history] == list(range(4, 41, 4))
    assert np.abs(run.energy.weights).max() < 100


def test_retries_are_counted_over_the_whole_run():
    assert failing(2, retries=2).alarms[-1]["again"] is False
    assert len(failing(2, retries=2).alarms) == 3
    with pytest.raises(ValueError, match="retries must be an integer of at least 0, got -1"):
        failing(2, retries=-1)


@pytest.mark.parametrize("stop", [6, 8, 10])
def test_a_run_stopped_in_a_recovery_goes_on_bit_for_bit(stop, tmp_path, monkeypatch):
    from energax.training import _loop

    wild = {**WILD, "steps": 60}
    whole = train(**wild)
    assert len(whole.alarms) > 2
    real, calls = _loop.run_chunk, []

    def stopped(*args):
        calls.append(args)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return real(*args)

    path = tmp_path / "state.ckpt"
    with monkeypatch.context() as patch:
        patch.setattr(_loop, "run_chunk", stopped)
        part = train(**wild, checkpoint=path, checkpoint_seconds=0)
    assert part.status == "interrupted"
    assert len(part.alarms) > 0
    rest = train(**wild, checkpoint=path)
    assert_same(rest, whole)
    assert rest.alarms == whole.alarms
    assert rest.message == whole.message


def test_the_checkpoint_of_a_diverged_run_is_its_healthy_state(tmp_path):
    path = tmp_path / "state.ckpt"
    run = failing(50, checkpoint=path, checkpoint_seconds=0)
    assert_kept(run, 24)
    assert [file.name for file in tmp_path.iterdir()] == ["state.ckpt"]
    again = failing(50, checkpoint=path)  # goes on from there, and fails at the same step
    assert again.step == 24
    assert again.alarms == run.alarms * 2


# --- while every number is finite --------------------------------------------------------------

WALK = ex.RandomWalkMetropolis
PLANE = np.random.default_rng(0).normal(size=(100, 2))


def bowl():
    return ex.Gaussian(jnp.zeros(2))


def causes(energy, rows, objective, **options):
    options = {"key": ex.key(0), "learning_rate": 1e-3, "steps": 60, "log_every": 10, **options}
    run = ex.fit(energy, rows, objective, batch_size=50, **options)
    assert all(math.isfinite(value) for row in run.history for value in row.values())
    return run, [alarm["cause"] for alarm in run.alarms]


def test_chains_that_are_stuck_get_shorter_steps():
    pcd = ex.PersistentContrastiveDivergence(2, 20, kernel=WALK(1e3))
    run, found = causes(bowl(), PLANE, pcd)
    assert run.ok
    assert found[0] == "stuck"
    assert set(found) == {"stuck"}
    assert float(run.state.calm) < 0.2
    assert "with the step size times 0.1" in run.message
    assert run.history[-1]["acceptance"] > 0.01
    assert (
        causes(bowl(), PLANE, ex.PersistentContrastiveDivergence(2, 20, kernel=WALK(1.0)))[1] == []
    )


def test_chains_that_explode_get_shorter_steps_and_the_learning_rate_stays():
    pcd = ex.PersistentContrastiveDivergence(20, 20, kernel=ex.UnadjustedLangevin(4.0))
    run, found = causes(bowl(), PLANE, pcd)
    assert run.ok
    assert found == ["chains left"]
    assert float(run.state.scale) == 1.0
    assert float(run.state.calm) == pytest.approx(0.1)


def test_chains_that_are_all_alike_are_met():
    # Without noise, Langevin's chains all end at the bottom of the bowl.
    cold = ex.PersistentContrastiveDivergence(20, 20, kernel=ex.UnadjustedLangevin(0.1, 1e-5))
    run, found = causes(bowl(), PLANE, cold, retries=1)
    assert run.status == "diverged"
    assert found == ["collapsed", "collapsed"]
    assert "more noise in the kernel" in run.message


def test_a_gap_that_chains_of_the_model_cannot_have_is_met():
    start = rbm(n_hidden=4)
    pcd = ex.PersistentContrastiveDivergence(1, 20)
    run, found = causes(start, BARS, pcd, learning_rate=100.0, momentum=0.0, retries=6)
    assert found[0] in ("drifted", "stuck", "collapsed")
    assert run.ok
    assert float(run.state.scale) < 0.2


def test_a_loss_that_rises_is_met():
    options = {"learning_rate": 100.0, "momentum": 0.9, "retries": 9}
    run, found = causes(rbm(n_hidden=4), BARS, ex.MaximumLikelihood(), **options)
    assert run.ok
    assert set(found) == {"loss"}
    assert run.history[-1]["loss"] < 9 * np.log(2) + 0.1


@pytest.mark.parametrize("log_every", [1, 30])
def test_a_start_at_the_optimum_is_no_alarm_however_noisy_the_loss(log_every):
    # The first batch of four may be a lucky one: of ten such runs two were taken to get worse.
    energy = ex.Gaussian(jnp.zeros(20))
    for seed in range(10):
        rows = np.random.default_rng(seed).normal(size=(400, 20))
        run = ex.fit(
            energy,
            rows,
            ex.MaximumLikelihood(),
            key=ex.key(seed),
            batch_size=4,
            steps=10 * log_every if log_every > 1 else 60,
            log_every=log_every,
            learning_rate=1e-4,
        )
        assert run.status == "finished", run.message
        assert not run.alarms


@pytest.mark.parametrize(
    ("objective", "rate"), [(ex.ScoreMatching(), 3.0), (ex.SlicedScoreMatching(), 3.0)]
)
def test_score_matching_that_rises_is_met(objective, rate):
    network = ex.DenseNetwork.init(ex.key(0), ex.Real(2), width=32)
    energy = ex.NeuralEnergy(network, ex.Real(2)) * ex.freeze(ex.Gaussian(jnp.zeros(2)))
    rows = np.random.default_rng(0).normal([1.0, -1.0], 0.5, (500, 2))
    run = ex.fit(
        energy,
        rows,
        objective,
        key=ex.key(1),
        optimizer=optax.adam(rate),
        steps=400,
        log_every=20,
        retries=0,
    )
    assert run.status == "diverged"
    assert run.alarms[0]["cause"] == "loss"
    assert run.alarms[0]["met"].startswith("the mean loss is")


def test_a_row_far_from_all_others_is_not_blamed_on_the_rate():
    rows = np.random.default_rng(0).normal(size=(200, 3))
    rows[77] = 1e15
    kernel = ex.UnadjustedLangevin(0.1)
    pcd = ex.PersistentContrastiveDivergence(2, 20, kernel=kernel)
    energy = ex.Gaussian(jnp.zeros(3))
    run = ex.fit(
        energy, rows, pcd, key=ex.key(0), steps=100, log_every=10, batch_size=10, energy_limit=1e6
    )
    assert run.status == "diverged"
    assert len({alarm["step"] for alarm in run.alarms}) == 1
    assert run.alarms[0]["step"] > 2
    assert "The same step failed at every rate" in run.message
    assert "rows with values far from all others" in run.message


def test_a_rate_that_is_far_too_high_is_blamed():
    rows = np.random.default_rng(0).normal(size=(200, 3))
    options = {"key": ex.key(0), "steps": 100, "log_every": 10, "batch_size": 10}
    optimizer = optax.sgd(1e12)
    run = ex.fit(
        ex.Gaussian(jnp.zeros(3)), rows, ex.MaximumLikelihood(), optimizer=optimizer, **options
    )
    assert run.status == "diverged"
    assert len({alarm["step"] for alarm in run.alarms}) == 1
    assert "Try a smaller learning rate" in run.message


def test_a_joint_classifiers_chains_are_watched():
    rows = {"hidden": BARS[:, :2], "visible": BARS}
    energy = rbm(n_hidden=2).joint
    run = ex.fit(energy, rows, ex.JointClassifier("hidden"), key=ex.key(0), steps=40, log_every=20)
    assert run.status == "finished", run.message
    assert 0.2 < run.history[-1]["chain_spread"] < 20


def test_a_joint_classifiers_loss_is_watched_beside_its_chains():
    rows = {"hidden": BARS[:, :2], "visible": BARS}
    run = ex.fit(
        rbm(n_hidden=2).joint,
        rows,
        ex.JointClassifier("hidden", weight=1e-3),
        optimizer=optax.sgd(-0.5),  # uphill
        key=ex.key(0),
        steps=60,
        log_every=10,
        retries=0,
    )
    assert run.status == "diverged"
    assert [alarm["cause"] for alarm in run.alarms] == ["loss"]


def test_a_run_does_not_end_in_a_state_that_looks_ill():
    # One chunk is too few for the guard's patience, but it is the last.
    pcd = ex.PersistentContrastiveDivergence(2, 20, kernel=WALK(1e6))
    run, found = causes(bowl(), PLANE, pcd, steps=10, retries=0)
    assert run.status == "diverged"
    assert found == ["stuck"]
    assert run.step == 0


# --- the parts ---------------------------------------------------------------------------------


def test_limits_are_those_of_the_states_of_a_space():
    assert Limits.of(ex.Binary(9)).gap == pytest.approx(9 * np.log(2))
    assert Limits.of(ex.Real(3)).gap == 24
    joint = ex.Joint(a=ex.Spin(2), b=ex.Real(2))
    assert Limits.of(joint).gap == pytest.approx(2 * np.log(2) + 16)


@pytest.mark.parametrize("n", [2, 3, 16, 512])
def test_no_distribution_of_so_many_states_has_a_larger_spread(n):
    # The extreme ones give one state some mass and share the rest among the others.
    mass = np.linspace(0.001, 0.999, 999)
    p = np.concatenate([mass[:, None], np.repeat((1 - mass)[:, None] / (n - 1), n - 1, 1)], 1)
    energy = -np.log(p)
    spread = np.sqrt((p * energy**2).sum(1) - (p * energy).sum(1) ** 2)
    limit = Limits(np.log(n), np.sqrt(1 + np.log(n) ** 2 / 4)).spread
    assert spread.max() < limit
    assert spread.max() > 0.6 * limit  # and it is not far above what there is
    bits_of = {2: 1, 16: 4, 512: 9}.get(n)
    if bits_of:
        assert Limits.of(ex.Binary(bits_of)).spread == pytest.approx(limit)


def test_what_is_lowered_follows_the_cause():
    stuck, loss = (Finding(cause, "", 1) for cause in ("stuck", "loss"))
    assert lowered(stuck, 1.0, 1.0, True, False) == (1.0, 0.1)
    assert lowered(stuck, 1.0, 1.0, True, True) == (0.1, 0.1)
    assert lowered(stuck, 1.0, 1.0, False, False) == (0.1, 1.0)  # Gibbs has no step size
    assert lowered(loss, 1.0, 0.5, True, False) == (0.1, 0.5)


KERNELS = {
    "langevin": ex.UnadjustedLangevin(0.2, 0.4),
    "underdamped": ex.UnderdampedLangevin(0.2),
    "mala": ex.MALA(0.2),
    "hmc": ex.HMC(0.2),
    "nuts": ex.NUTS(0.2),
    "metropolis": WALK(0.2),
    "discrete langevin": ex.DiscreteLangevin(0.2),
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_calmed_kernel_takes_shorter_steps(name):
    kernel = KERNELS[name]
    calmed = kernel.calmed(0.25)
    assert type(calmed) is type(kernel)
    assert float(calmed.step_size) == pytest.approx(0.05)
    if name == "langevin":  # at the same temperature, noise^2 / (2 step)
        assert float(calmed.noise_scale) == pytest.approx(0.2)
        assert ex.UnadjustedLangevin(0.2).calmed(0.5).noise_scale is None
    parts = ex.Alternating({"a": ex.Gibbs(), "b": kernel}).calmed(0.25).kernels
    assert float(parts["b"].step_size) == pytest.approx(0.05)
    assert float(ex.ReplicaExchange(kernel).calmed(0.25).kernel.step_size) == pytest.approx(0.05)
    assert parts["a"].calmed(0.25) is parts["a"]
    for still in (ex.Alternating({"a": ex.Gibbs()}), ex.ReplicaExchange(ex.Gibbs())):
        assert still.calmed(0.25) is still


def test_objectives_are_calmed_through_their_kernel():
    for objective in (ex.ContrastiveDivergence(), ex.MonteCarloMaximumLikelihood()):
        assert float(objective.calmed(bowl(), jnp.asarray(0.5)).kernel.step_size) == 0.25
        assert objective.calmed(rbm(), jnp.asarray(0.5)) is objective  # Gibbs
        table = ex.NeuralEnergy(jnp.sum, ex.Binary(3))  # bits are flipped: no step size either
        assert objective.calmed(table, jnp.asarray(0.5)) is objective
    assert ex.MaximumLikelihood().calmed(bowl(), jnp.asarray(0.5)) == ex.MaximumLikelihood()
    half = jnp.asarray(0.5)
    for kernel, size in ((None, 0.5), (WALK(0.4), 0.4)):
        pairs = ex.UnbiasedContrastiveDivergence(kernel=kernel).calmed(bowl(), half)
        assert float(pairs.kernel.step_size) == pytest.approx(size / 2)
    for kernel, size in ((None, 0.5), (ex.ReplicaExchange(WALK(0.4), n_replicas=3), 0.4)):
        ladders = ex.TemperedContrastiveDivergence(kernel=kernel).calmed(bowl(), half)
        assert float(ladders.kernel.kernel.step_size) == pytest.approx(size / 2)
    for still in (ex.UnbiasedContrastiveDivergence(), ex.TemperedContrastiveDivergence()):
        assert still.calmed(rbm(), half) is still
        assert still.calmed(ex.NeuralEnergy(jnp.sum, ex.Binary(3)), half) is still
    joint = ex.NeuralEnergy(
        lambda s: -(s["x"] ** 2) * (1 + s["y"]), ex.Joint(x=ex.Real(), y=ex.Binary())
    )
    chains = ex.PersistentContrastiveDivergence(kernel=WALK(0.4))
    classifier = ex.JointClassifier("y", chains).calmed(joint, half)
    assert float(classifier.generative.kernel.step_size) == pytest.approx(0.2)
    still = ex.JointClassifier("hidden", ex.PersistentContrastiveDivergence())
    assert still.calmed(rbm().joint, half) is still


def test_a_ladder_tuned_on_each_rung_is_calmed_on_each():
    ladder = ex.ReplicaExchange(WALK(1.0), n_replicas=3)
    sizes = jnp.asarray([4.0, 2.0, 1.0])
    settings = eqx.tree_at(lambda k: k.step_size, ladder.kernel, sizes)
    tuned = eqx.tree_at(lambda k: k.settings, ladder, settings, is_leaf=lambda node: node is None)
    assert jnp.allclose(tuned.calmed(0.5).settings.step_size, sizes / 2)


def test_ladders_that_are_stuck_get_shorter_steps_on_the_rungs_they_have():
    wide = ex.ReplicaExchange(WALK(1e3), n_replicas=3)
    objective = ex.TemperedContrastiveDivergence(5, 20, kernel=wide)
    run, found = causes(bowl(), PLANE, objective, steps=200)
    assert run.ok
    assert set(found) == {"stuck"}
    assert float(run.state.calm) < 0.2
    assert run.history[-1]["acceptance"] > 0.01
    kernel = run.state.objective.kernel
    assert float(kernel.kernel.step_size) == 1e3  # it is the calm that is kept, not what it made
    assert not jnp.allclose(kernel.betas, wide.betas)


def test_the_spread_of_chains_is_held_against_that_of_the_rows():
    rows = {"a": jnp.asarray(np.random.default_rng(0).normal(size=(50, 3))), "b": jnp.ones((50, 2))}
    chains = {"a": 0.1 * rows["a"][:20], "b": jnp.ones((20, 2))}
    expected = np.var(chains["a"], 0).sum() / np.var(rows["a"], 0).sum()
    assert float(spread_of_chains(chains, rows)) == pytest.approx(float(expected), rel=1e-5)
    assert float(spread_of_chains(chains, {"a": jnp.ones((50, 3)), "b": jnp.ones((50, 2))})) == 1
    assert spread_of_chains(None, rows) is None
    assert spread_of_chains({"a": rows["a"][:1]}, rows) is None


@pytest.mark.parametrize("signal", [0.0, 0.5, 2.0])
def test_signal_to_noise_is_that_of_independent_gradients(signal):
    # |m|^2 over the trace of the covariance, from 400 gradients of 300 entries. The mean of the
    # estimate's square is off by some 2 / sqrt(400 x 256): ten times that is asked for.
    noise = jax.random.normal(ex.key(0), (400, 300))
    gradients = noise + signal

    def add(watch, gradient):
        return watch.after(jnp.zeros(0), gradient, jnp.asarray(True)), None

    watch, _ = jax.lax.scan(add, Watch.none({}, gradients[0]), gradients)
    assert watch.signal_to_noise() == pytest.approx(signal**2, abs=0.01 + 0.06 * signal)
    one = Watch.none({}, gradients[0]).after(jnp.zeros(0), gradients[0], jnp.asarray(True))
    assert math.isnan(one.signal_to_noise())


@pytest.mark.parametrize("sizes", [(1,), (1024,), (1025, 3), (28 * 28 * 1024 + 5,), (300, 700)])
def test_the_norm_counts_every_number_once(sizes):
    tree = {
        str(n): jnp.asarray(np.random.default_rng(n).normal(size=n), jnp.float32) for n in sizes
    }
    exact = math.sqrt(sum((np.asarray(leaf, np.float64) ** 2).sum() for leaf in tree.values()))
    assert float(jax.jit(_norm)(tree)) == pytest.approx(exact, rel=1e-6)
