"""Noise taken away step by step: spreads known in closed form, modes weighed right."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
from energax.sampling import annealed_langevin, reverse_diffusion

V = 0.5
N = 20_000
ERROR = 4.5 * np.sqrt(2 / N)
"""Of a variance of N normal draws, relative: a false alarm in 1e-5."""


def blurred(x, noise):
    return -0.5 * jnp.sum(x**2) / (V + noise**2)


def gaussian(levels=6):
    """Exact scores of N(0, V), blurred."""
    return ex.NoiseConditional(blurred, ex.Real(()), np.geomspace(0.2, 3.0, levels))


def variance_of(found) -> float:
    assert not found.problems
    x = np.asarray(found.x, np.float64)
    assert abs(x.mean()) < 4.5 * x.std() / np.sqrt(len(x))
    return float(x.var())


def test_langevin_steps_have_the_spread_of_their_recursion(x64):
    """x <- (1 - h / (V + n^2)) x + sqrt(2 h) z at each noise n, h = 0.3 n^2, seven times."""
    energy = gaussian()
    found = annealed_langevin(energy, N, key=ex.key(0), steps=7, step_size=0.3)
    variance = 9.0
    for n in np.asarray(energy.noises):
        for _ in range(7):
            h = 0.3 * n**2
            variance = (1 - h / (V + n**2)) ** 2 * variance + 2 * h
    assert variance_of(found) == pytest.approx(variance, rel=ERROR)
    assert found.n_scores == 42
    np.testing.assert_allclose(found.noises, energy.noises)
    expected = jax.vmap(energy.energy)(found.x)
    np.testing.assert_allclose(found.energy, expected, rtol=1e-12)


def test_reverse_steps_have_the_spread_of_their_recursion(x64):
    found = reverse_diffusion(gaussian(), N, key=ex.key(1), n_steps=12, correct=1, step_size=0.2)
    noises = np.geomspace(3.0, 0.2, 13)
    variance = 9.0
    for a, b in itertools.pairwise(noises):
        removed = a**2 - b**2
        variance = (1 - removed / (V + a**2)) ** 2 * variance + removed
        h = 0.2 * b**2
        variance = (1 - h / (V + b**2)) ** 2 * variance + 2 * h
    assert variance_of(found) == pytest.approx(variance, rel=ERROR)
    assert found.n_scores == 24
    np.testing.assert_allclose(found.noises, noises)


def test_many_small_steps_end_at_the_blurred_data(x64):
    """V + n^2, but for what the start at noise 3 lacks of V: (V + n^2) / (V + 9) of it."""
    end = V + 0.2**2
    lacking = V * (end / (V + 9)) ** 2
    found = reverse_diffusion(gaussian(), N, key=ex.key(2), n_steps=400)
    assert variance_of(found) == pytest.approx(end - lacking, rel=ERROR + 0.01)
    sharp = reverse_diffusion(gaussian(), N, key=ex.key(2), n_steps=400, denoise=True)
    expected = variance_of(found) * (1 - 0.2**2 / end) ** 2
    assert variance_of(sharp) == pytest.approx(expected, rel=1e-9)
    assert sharp.n_scores == found.n_scores + 1


def test_the_flow_is_a_map_of_second_order(x64):
    """x shrinks by sqrt((V + 0.2^2) / (V + 3^2)), whatever the key."""
    start = np.array([1.0, -2.0, 0.3])
    exact = start * np.sqrt((V + 0.2**2) / (V + 9))

    def error(n_steps, key):
        found = reverse_diffusion(
            gaussian(), 3, key=key, n_steps=n_steps, method="ode", start=start
        )
        return np.abs(np.asarray(found.x) - exact).max()

    assert error(20, ex.key(0)) == error(20, ex.key(1))
    assert 3.5 < error(20, ex.key(0)) / error(40, ex.key(0)) < 4.5
    assert error(40, ex.key(0)) < 1e-3


def mixture(x, noise):
    """Two far modes of weights 0.2 and 0.8, blurred: what no chain at the smallest noise mixes."""
    each = -0.5 * jnp.sum((x[None] - jnp.array([[-3.0, 0.0], [3.0, 0.0]])) ** 2, 1)
    spread = 0.3**2 + noise**2
    return jax.nn.logsumexp(each / spread + jnp.log(jnp.array([0.2, 0.8]))) - jnp.log(spread)


@pytest.mark.parametrize("sampler", ["langevin", "sde", "ode"])
def test_far_modes_are_weighed(sampler):
    """The share of 4,000 draws. At a noise of 40 the data's mean of 1.8, about which the start is
    not, moves it by 0.28 * 1.8 / 40 = 0.013."""
    energy = ex.NoiseConditional(mixture, ex.Real(2), np.geomspace(0.1, 40.0, 25))
    if sampler == "langevin":
        found = annealed_langevin(energy, 4000, key=ex.key(3), steps=60)
    else:
        found = reverse_diffusion(energy, 4000, key=ex.key(3), n_steps=150, method=sampler)
    right = np.asarray(found.x)[:, 0] > 0
    assert right.mean() == pytest.approx(0.8, abs=0.015 + 4.5 * 0.4 / np.sqrt(4000))
    there = np.asarray(found.x)[right] - [3.0, 0.0]
    assert there.std(0) == pytest.approx(np.sqrt(0.1), rel=0.07)
    assert f"4000 draws by {found.method}" in found.summary


def test_parts_of_a_joint():
    space = ex.Joint(a=ex.Real(2), b=ex.Real())

    def parts(x, noise):
        return blurred(x["a"], noise) + blurred(x["b"], noise)

    energy = ex.NoiseConditional(parts, space, [2.0, 0.5])
    for found in (
        annealed_langevin(energy, 5, key=ex.key(0), steps=2),
        reverse_diffusion(energy, 5, key=ex.key(0), n_steps=2),
    ):
        assert found.x["a"].shape == (5, 2)
        assert found.x["b"].shape == (5,)
        assert not found.problems


def test_draws_that_are_not_finite_are_named():
    energy = ex.NoiseConditional(lambda x, noise: jnp.exp(x**2), ex.Real(()), [3.0, 1.0])
    found = annealed_langevin(energy, 50, key=ex.key(0), steps=20)
    (problem,) = found.problems
    assert "draws are not finite: take smaller steps" in problem
    assert problem in found.summary


@pytest.mark.usefixtures("as_users_call")
def test_bad_arguments_are_named():
    energy, key = gaussian(), ex.key(0)
    for sampler in (annealed_langevin, reverse_diffusion):
        with oracles.refused(sampler.__name__, "NoiseConditional", "Gaussian", "ex.sample"):
            sampler(ex.Gaussian(0.0), 3, key=key)
        with oracles.refused("n must be", "0"):
            sampler(energy, 0, key=key)
        with oracles.refused("step_size must be below 1"):
            sampler(energy, 3, key=key, step_size=1.0)
        with oracles.refused("step_size must be positive"):
            sampler(energy, 3, key=key, step_size=-1.0)
        with oracles.refused("start"):
            sampler(energy, 3, key=key, start=np.ones((2, 2)))
        box = ex.NoiseConditional(blurred, ex.Box(2), [1.0])
        with oracles.refused("without ends", "Box"):
            sampler(box, 3, key=key)
    with oracles.refused("method", '"sde" or "ode"', "euler"):
        reverse_diffusion(energy, 3, key=key, method="euler")
    with oracles.refused("correct"):
        reverse_diffusion(energy, 3, key=key, correct=-1)
    with oracles.refused("steps"):
        annealed_langevin(energy, 3, key=key, steps=0)
