"""Warm-up: the step size that meets the target, the variances, and nothing wrecked on the way.

The statistical tests here compare 3 times 6 variances; right kernels fail one, on fresh seeds,
with a chance below 1e-4.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from warming_up import warmed_up

import energax as ex
from energax.diagnostics import convergence

pytestmark = pytest.mark.slow

SCALES = np.array([0.01, 0.1, 1.0, 3.0, 10.0, 300.0])
GAUSSIAN = ex.NeuralEnergy(
    lambda x: -0.5 * jnp.sum((x / jnp.asarray(SCALES, x.dtype)) ** 2), ex.Real(6)
)
KERNELS = {"mala": ex.MALA, "hmc": ex.HMC, "nuts": lambda step, **k: ex.NUTS(step, 6, **k)}

every = pytest.mark.parametrize("name", KERNELS)


def _tune(energy, kernel, x, n_steps, key, n_after: int = 1):
    kernel, _, (x, info) = warmed_up(energy, kernel, x, n_steps, key, n_after)
    return kernel, jnp.swapaxes(x, 0, 1), info


@every
def test_the_target_is_met_and_draws_are_right(name):
    """From steps far too long and far too short, over four orders of scale."""
    x = jax.random.normal(ex.key(5), (16, 6)) * jnp.asarray(SCALES, jnp.float32)[None]
    n_after = 1500 if name != "mala" else 4000
    found = []
    for step_size in (1e-4, 30.0):
        kernel = KERNELS[name](step_size)
        tuned, drawn, info = _tune(GAUSSIAN, kernel, x, jnp.int32(600), ex.key(1), n_after)
        assert float(info.acceptance.mean()) == pytest.approx(
            float(kernel.target_acceptance), abs=0.08
        )
        np.testing.assert_allclose(np.sqrt(tuned.inverse_mass), SCALES, rtol=0.3)
        found.append(float(tuned.step_size))
    assert found[0] == pytest.approx(found[1], rel=0.4)
    square = (np.asarray(drawn, np.float64) / SCALES) ** 2
    error = np.sqrt(2 / convergence(square).ess_bulk)
    z = (square.mean((0, 1)) - 1) / error
    assert (np.abs(z) < stats.norm.isf(1e-4 / 18 / 2)).all()


def test_another_number_of_steps_compiles_nothing_and_none_tunes_nothing():
    kernel = ex.HMC(0.3)
    x = jnp.ones((4, 6))
    _tune(GAUSSIAN, kernel, x, jnp.int32(30), ex.key(0))
    with jax.log_compiles(False), jax.check_tracer_leaks(False):
        compiled = warmed_up._cached._cache_size()
        same, _, _ = _tune(GAUSSIAN, kernel, x, jnp.int32(0), ex.key(0))
        for n_steps in (1, 2, 7, 12):
            few, _, _ = _tune(GAUSSIAN, kernel, x, jnp.int32(n_steps), ex.key(0))
            assert 1e-3 < float(few.step_size) < 1e3
            assert bool(((few.inverse_mass > 1e-6) & (few.inverse_mass < 1e6)).all())
        assert warmed_up._cached._cache_size() == compiled
    assert float(same.step_size) == pytest.approx(0.3)
    np.testing.assert_array_equal(same.inverse_mass, 1.0)
    assert jax.tree.structure(same) == jax.tree.structure(kernel)


def test_without_adaptation_the_settings_stay():
    kernel = ex.MALA(0.25, 2.0, adapt=False)
    same, _, _ = _tune(GAUSSIAN, kernel, jnp.ones((4, 6)), jnp.int32(30), ex.key(0))
    assert float(same.step_size) == 0.25
    assert float(same.inverse_mass) == 2.0


@every
def test_far_starts_and_flights_do_not_wreck_it(name):
    """x^8 from 5 away: the first gradients are 6e5, and a long step overflows to NaN."""
    energy = ex.NeuralEnergy(lambda x: -jnp.sum(x**8) + 0.0 * jnp.sum(x**12), ex.Real(2))
    x = jnp.linspace(-5.0, 5.0, 24).reshape(12, 2)
    tuned, drawn, info = _tune(energy, KERNELS[name](10.0), x, jnp.int32(800), ex.key(0), 100)
    assert bool(jnp.isfinite(info.energy).all())
    assert float(info.acceptance.mean()) > 0.4
    assert 0.05 < float(tuned.step_size) < 20
    assert float(jnp.abs(drawn).max()) < 2


def test_a_failed_chain_does_not_speak_for_the_others():
    energy = ex.NeuralEnergy(lambda x: jnp.where(x > 50, jnp.nan, -(x**2) / 2), ex.Real())
    x = jnp.concatenate([jnp.zeros(7), jnp.full(1, 60.0)])
    tuned, _, info = _tune(energy, ex.MALA(0.1), x, jnp.int32(300), ex.key(0), 200)
    assert bool(jnp.isnan(info.energy[:, 7]).all())
    assert bool(jnp.isfinite(info.energy[:, :7]).all())
    assert float(info.acceptance[:, :7].mean()) == pytest.approx(0.574, abs=0.1)
    assert 0.3 < float(tuned.inverse_mass[0]) < 2
    alone, _, _ = _tune(energy, ex.MALA(0.1), jnp.full(8, 60.0), jnp.int32(300), ex.key(0))
    assert float(alone.step_size) > 0
    assert bool(jnp.isfinite(alone.inverse_mass).all())


def test_observed_entries_are_no_part_of_it():
    held = ex.condition(GAUSSIAN, np.full(6, 2.0), np.arange(6) == 5)
    x = jnp.full((8, 6), 2.0)
    tuned, drawn, info = _tune(held, ex.HMC(), x, jnp.int32(400), ex.key(0), 300)
    assert bool((drawn[..., 5] == 2).all())
    np.testing.assert_allclose(np.sqrt(tuned.inverse_mass[:5]), SCALES[:5], rtol=0.3)
    assert float(info.acceptance.mean()) == pytest.approx(0.8, abs=0.1)


@every
def test_in_double_precision_with_settings_in_single(name):
    kernel = KERNELS[name](0.1)
    with jax.enable_x64(True):
        energy = ex.NeuralEnergy(lambda x: -jnp.sum(x**4), ex.Real(2))
        plain = warmed_up.__wrapped__
        states, info = jax.eval_shape(
            lambda key: plain(energy, kernel, jnp.ones((4, 2)), jnp.int32(9), key)[2], ex.key(0)
        )
        assert states.dtype == info.energy.dtype == info.acceptance.dtype == jnp.float64
