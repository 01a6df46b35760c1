"""Training that fails stops, says at which step and why, and keeps what was good before."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from training_setups import SGD, Failing, assert_same, bits, rbm, train

import energax as ex
from energax.training._step import _norm

ROWS = np.eye(8)  # 4 batches of 2


def failing(at, what="gradient", value=math.nan, **options):
    """Gradient ones, from zero: parameters after n good steps of SGD(0.1) are -n / 10."""
    options = {"optimizer": SGD, "steps": 20, "batch_size": 2, "log_every": 3, **options}
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
    assert [row["step"] for row in run.history] == [s for s in (3, 6, 9, 12) if s <= step]
    assert all(math.isfinite(value) for row in run.history for value in row.values())
    assert f"The parameters are those after step {step}." in run.message
    assert "smaller learning rate" in run.message
    assert "\n" not in run.message


# (the bad step counted from 1, the end of the last good chunk): chunks end at 3, 6, 9, 12
@pytest.mark.parametrize(("bad", "kept"), [(1, 0), (2, 0), (3, 0), (4, 3), (5, 3), (8, 6), (9, 6)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_bad_gradient_stops_at_its_step_with_the_last_good_chunk(bad, kept, value):
    run = failing(bad - 1, value=value)
    assert_kept(run, kept)
    assert f"diverged at step {bad}: gradient_norm stopped being finite" in run.message


@pytest.mark.parametrize(
    ("what", "value", "words"),
    [
        ("loss", math.nan, "loss stopped being finite"),
        ("loss", -math.inf, "loss stopped being finite"),
        ("energy_data", math.nan, "energy_data stopped being finite"),
        ("loss", 2e6, "loss reached 2e+06, beyond the limit of 8e+03"),
        ("energy_data", -2e6, "energy_data reached -2e+06, beyond the limit of 8e+03"),
    ],
)
def test_a_bad_measure_stops_too_and_is_named(what, value, words):
    run = failing(4, what, value)
    assert_kept(run, 3)
    assert f"diverged at step 5: {words}" in run.message


def test_the_limit_is_a_thousand_an_entry_or_what_is_asked_for():
    assert failing(4, "energy_data", 7990.0).ok  # 8 entries
    assert failing(4, "energy_data", 8010.0).status == "diverged"
    assert failing(4, "energy_data", 8010.0, energy_limit=9000).ok
    run = failing(4, "energy_data", 7990.0, energy_limit=50.0)
    assert_kept(run, 3)
    assert "beyond the limit of 50" in run.message


def test_the_limit_grows_with_the_energies_at_the_start():
    # log(1 + exp(-30)) an entry is about 0, and 30 where the row has a 0: 7 x 30 a row.
    start = ex.Bernoulli(jnp.full(8, 30.0))
    options = {"key": ex.key(0), "optimizer": SGD, "steps": 4, "batch_size": 2}
    assert ex.fit(start, ROWS, Failing(1, "loss", 209e3), **options).ok
    run = ex.fit(start, ROWS, Failing(1, "loss", 211e3), **options)
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
    assert_kept(run, 3)
    assert "diverged at step 6: parameters stopped being finite" in run.message


@pytest.mark.parametrize("rate", [1e5, 1e30])
def test_an_exploding_learning_rate_is_caught(rate):
    run = train(optimizer=optax.sgd(rate), steps=40)
    assert run.status == "diverged"
    assert "diverged at step" in run.message
    last_good = train(optimizer=optax.sgd(rate), steps=run.step).energy if run.step else rbm()
    assert bits(run.energy) == bits(last_good)
    assert all(np.isfinite(leaf).all() for leaf in (run.energy.weights, run.energy.hidden_bias))
    assert all(math.isfinite(value) for row in run.history for value in row.values())


def test_the_checkpoint_of_a_diverged_run_is_its_last_good_state(tmp_path):
    path = tmp_path / "state.ckpt"
    run = failing(6, checkpoint=path, checkpoint_seconds=0)
    assert_kept(run, 6)
    assert [file.name for file in tmp_path.iterdir()] == ["state.ckpt"]
    good = failing(6, steps=6, checkpoint=path)  # resumes it, with nothing left to do
    assert good.ok
    assert_same(good, run)
    assert_same(failing(6, checkpoint=path), run)  # and it diverges again at the same step


def test_a_run_that_diverges_at_once_keeps_the_start(tmp_path):
    run = failing(0, checkpoint=tmp_path / "state.ckpt")
    assert_kept(run, 0)
    assert run.history == []
    assert_same(failing(0, checkpoint=tmp_path / "state.ckpt"), run)


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


@pytest.mark.parametrize("sizes", [(1,), (1024,), (1025, 3), (28 * 28 * 1024 + 5,), (300, 700)])
def test_the_norm_counts_every_number_once(sizes):
    tree = {
        str(n): jnp.asarray(np.random.default_rng(n).normal(size=n), jnp.float32) for n in sizes
    }
    exact = math.sqrt(sum((np.asarray(leaf, np.float64) ** 2).sum() for leaf in tree.values()))
    assert float(jax.jit(_norm)(tree)) == pytest.approx(exact, rel=1e-6)
