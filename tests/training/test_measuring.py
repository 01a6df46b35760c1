"""What training measures on the way: how chains mix, and how likely held-out rows are."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_setups import (
    BARS,
    MOMENTUM,
    PCD,
    assert_same,
    log_likelihood,
    rbm,
    train,
    without_seconds,
)

import energax as ex
from energax.training import _held_out, _loop
from energax.training._checks import Checks
from energax.training._mixing import Mixing

HELD_OUT = BARS[:9]


def mixing(energies):
    """The measures of a chunk whose chains had these energies, shape (steps, chains)."""
    energies = jnp.asarray(energies)
    n = jnp.asarray(len(energies), jnp.int32)

    def add(sums, given):
        i, each = given
        return sums.after(each, i, n, jnp.asarray(True)), None

    steps = jnp.arange(len(energies), dtype=jnp.int32)
    sums, _ = jax.lax.scan(add, Mixing.none(energies[0]), (steps, energies))
    return {name: float(value) for name, value in sums.measures(n).items()}


# --- chains ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_steps", [20, 21])
def test_r_hat_and_ess_are_what_their_formulas_say(n_steps, x64):
    energies = np.random.default_rng(0).normal(size=(n_steps, 6)).cumsum(0) + 100.0
    found = mixing(energies)
    each = (energies - energies.mean(1, keepdims=True))[:20]
    halves = np.concatenate([each[:10], each[10:]], 1)
    within = halves.var(0, ddof=1).mean() * 6 / 5
    between = (halves.mean(0) ** 2).sum() / 10
    assert found["chain_rhat"] == pytest.approx(math.sqrt(0.9 + between / within))
    between = each.mean(0).var(ddof=1)
    marginal = 0.95 * each.var(0, ddof=1).mean() * 6 / 5 + between
    assert found["chain_ess"] == pytest.approx(6 * min(20.0, marginal / between))


def test_independent_draws_are_worth_their_number():
    # Of 200 chains B has a relative error of 0.1, R-hat is off by some 1e-3.
    found = mixing(np.random.default_rng(0).normal(size=(100, 200)))
    assert found["chain_rhat"] == pytest.approx(1.0, abs=0.005)
    assert 0.6 * 20_000 < found["chain_ess"] <= 20_000


def test_chains_that_forget_slowly_are_worth_what_their_correlation_says():
    """AR(1) at 0.9 is worth (1 - 0.9) / (1 + 0.9) of its steps."""
    noise, x = np.random.default_rng(0).normal(size=(1000, 400)), np.zeros((1000, 400))
    x[0] = noise[0] / math.sqrt(1 - 0.81)
    for t in range(1, 1000):
        x[t] = 0.9 * x[t - 1] + noise[t]
    # B of 400 chains has a relative error of 0.07: four of these.
    assert mixing(x)["chain_ess"] == pytest.approx(400_000 / 19, rel=0.28)


def test_chains_that_stay_apart_are_worth_one_draw_each():
    apart = np.random.default_rng(0).normal(size=(1, 50)) * 100
    found = mixing(apart + np.random.default_rng(1).normal(size=(40, 50)))
    assert found["chain_rhat"] > 10
    assert found["chain_ess"] == pytest.approx(50, rel=0.02)


def test_what_all_chains_have_in_common_does_not_count():
    energies = np.random.default_rng(0).normal(size=(50, 20))
    drift = np.linspace(0, 30, 50)[:, None]
    for name, value in mixing(energies).items():
        assert mixing(energies + drift)[name] == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("shape", [(3, 10), (1, 10), (10, 1)])
def test_too_few_steps_or_chains_say_nothing(shape):
    energies = np.random.default_rng(0).normal(size=shape)
    assert not any(math.isfinite(value) for value in mixing(energies).values())


def test_chains_that_live_on_have_both_in_every_row_and_others_do_not():
    ladder = ex.TemperedContrastiveDivergence(n_chains=5, n_replicas=3)
    both = {"chain_rhat", "chain_ess"}
    for objective, has in ((PCD, True), (ladder, True), (ex.ContrastiveDivergence(), False)):
        run = train(objective=objective, steps=24, log_every=8)
        assert all((both <= set(row)) == has for row in run.history)
    last = train(steps=24, log_every=8).history[-1]
    assert 10 <= last["chain_ess"] <= 80
    assert last["chain_rhat"] > 0.8


def test_batches_that_make_one_step_count_their_last_chains():
    run = train(steps=8, accumulate=2, log_every=8)
    assert run.history[-1]["chain_ess"] <= 80


# --- pseudo-likelihood ---------------------------------------------------------------------------


def by_hand(energy, rows):
    """The mean over rows of sum_i log p(x_i | the rest), by evaluating every other value."""
    total = 0.0
    for x in np.asarray(energy.space.convert(rows), np.float64):
        here = float(energy.energy(jnp.asarray(x)))
        for i in range(x.size):
            other = x.copy()
            other[i] = 1 - other[i]
            total -= math.log1p(math.exp(here - float(energy.energy(jnp.asarray(other)))))
    return total / len(rows)


def test_the_held_out_pseudo_likelihood_is_that_of_all_entries_where_they_are_few():
    run = train(steps=12, validation=HELD_OUT)
    found = [row["validation_pseudo_likelihood"] for row in run.history]
    assert found[-1] == pytest.approx(by_hand(run.energy, HELD_OUT), rel=1e-5)
    assert found[-1] != found[0]


def test_of_many_entries_some_speak_for_all(monkeypatch):
    monkeypatch.setattr(_held_out, "_EVALUATIONS", 2 * 9 * 3)
    rows = rbm().space.convert(np.tile(HELD_OUT, (3, 1)))
    exact = by_hand(rbm(), HELD_OUT)
    each = []
    for i in range(200):
        pseudo = _held_out.PseudoLikelihoods(rbm(), rows, key=ex.key(i))
        each.append(pseudo.of(rbm()))
        assert pseudo.of(rbm()) == each[-1]
    # 27 rows, an entry each: five standard errors.
    assert np.mean(each) == pytest.approx(exact, abs=5 * np.std(each) / math.sqrt(200))
    assert np.std(each) > 0


def test_real_entries_have_no_pseudo_likelihood():
    rows = np.random.default_rng(0).normal(size=(20, 2))
    run = ex.fit(
        ex.Gaussian(jnp.zeros(2)),
        rows,
        ex.ScoreMatching(),
        key=ex.key(0),
        steps=4,
        validation=rows[:5],
    )
    assert "validation_pseudo_likelihood" not in run.history[-1]
    assert "validation_gap" in run.history[-1]


# --- likelihood ----------------------------------------------------------------------------------


def test_likelihoods_are_exact_where_log_z_is_and_stand_where_they_are_due():
    run = train(steps=24, validation=HELD_OUT, likelihood_every=10)
    due = [row["step"] for row in run.history if "log_likelihood" in row]
    assert due == [12, 20]  # the first rows at or after 10 and 20
    end = train(steps=20).energy
    row = run.history[4]
    assert row["log_likelihood"] == pytest.approx(log_likelihood(end, HELD_OUT), abs=1e-4)
    assert row["log_likelihood_low"] == row["log_likelihood"] == row["log_likelihood_high"]
    plain = without_seconds(train(steps=24, validation=HELD_OUT).history)
    for with_it, without in zip(without_seconds(run.history), plain, strict=True):
        assert {name: with_it[name] for name in without} == without


def bracketed(monkeypatch):
    """Brackets of few chains and temperatures, where log Z would be exact."""
    real = _held_out.log_partition

    def short(energy, **options):
        return real(energy, n_chains=20, n_temperatures=50, n_replicas=4, **options)

    monkeypatch.setattr(_held_out, "exact_method", lambda energy: None)
    monkeypatch.setattr(_held_out, "log_partition", short)


def test_elsewhere_they_have_an_interval_and_a_stop_changes_no_bit(tmp_path, monkeypatch):
    bracketed(monkeypatch)
    options = {"validation": HELD_OUT, "likelihood_every": 8}
    run = train(steps=16, **options)
    row = run.history[-1]
    assert row["log_likelihood_low"] < row["log_likelihood"] < row["log_likelihood_high"]
    exact = log_likelihood(run.energy, HELD_OUT)
    assert row["log_likelihood_low"] - 0.1 < exact < row["log_likelihood_high"] + 0.1
    path = tmp_path / "state.ckpt"
    train(steps=12, checkpoint=path, **options)
    assert_same(train(steps=16, checkpoint=path, **options), run)


def test_a_log_z_that_is_not_trusted_gives_ends_and_no_value(monkeypatch):
    z = ex.LogPartition(3.0, 2.0, math.inf, 0.1, False, "guessed", False, "for the test")
    monkeypatch.setattr(_held_out, "log_partition", lambda energy, **_: z)
    row = train(steps=4, validation=HELD_OUT, likelihood_every=4).history[-1]
    assert "log_likelihood" not in row
    assert row["log_likelihood_low"] == -math.inf
    assert math.isfinite(row["log_likelihood_high"])


def test_their_time_is_not_training_s(monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 1e-3
        return now[0]

    def slow(self, energy, step):
        now[0] += 1000.0
        return {"log_likelihood": -1.0}

    monkeypatch.setattr(_loop.time, "monotonic", clock)
    monkeypatch.setattr(Checks, "likelihood", slow)
    run = train(steps=24, validation=HELD_OUT, likelihood_every=4)
    assert run.history[-1]["log_likelihood"] == -1.0
    assert run.history[-1]["seconds"] < 10


def test_a_checkpoint_of_other_likelihoods_is_another_run_s(tmp_path):
    path = tmp_path / "state.ckpt"
    train(steps=4, checkpoint=path, validation=HELD_OUT, likelihood_every=4)
    for every in (None, 8):
        with pytest.raises(ValueError, match="likelihood_every"):
            train(steps=8, checkpoint=path, validation=HELD_OUT, likelihood_every=every)


def test_a_space_without_a_base_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(_loop, "run_chunk", None)
    space = ex.Joint(x=ex.Real(3), y=ex.Binary(2))
    energy = ex.NeuralEnergy(lambda s: -jnp.sum(s["x"] ** 2) * jnp.sum(s["y"]), space)
    rows = {"x": np.zeros((4, 3)), "y": np.zeros((4, 2))}
    with pytest.raises(ValueError, match="likelihood_every: log Z cannot be found here"):
        ex.fit(
            energy,
            rows,
            ex.ContrastiveDivergence(),
            key=ex.key(0),
            optimizer=MOMENTUM,
            steps=4,
            validation=rows,
            likelihood_every=4,
        )
