"""Denoising score matching: its mean in closed form, its bias, one noise or many."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles

ROWS = np.random.default_rng(0).normal([1.0, -0.5], [0.5, 1.5], (30, 2))
N = 4000


def steps(objective, energy, rows):
    """N steps of as many keys."""
    rows = objective.prepare(energy, rows)
    return jax.jit(jax.vmap(lambda key: objective.gradient(energy, rows, None, key=key)))(
        jax.random.split(ex.key(0), N)
    )


def vectors(gradient) -> np.ndarray:
    return np.concatenate([np.reshape(leaf, (N, -1)) for leaf in jax.tree.leaves(gradient)], 1)


def test_its_mean_on_a_gaussian_is_known(x64):
    """With precision q, E_z J = n^2 q^2 (x - m)^2 / 2 + (1 - n^2 q)^2 / 2 for each entry."""
    n, mean, scale = 0.6, np.array([0.5, 0.0]), np.array([0.7, 1.2])
    found = steps(ex.DenoisingScoreMatching(n), ex.Gaussian(mean, scale), ROWS)
    q, off = scale**-2, ROWS.mean(0) - mean
    square = ((ROWS - mean) ** 2).mean(0)
    value = (n**2 * q**2 * square / 2 + (1 - n**2 * q) ** 2 / 2).sum()
    oracles.assert_mean(np.asarray(found.measures["loss"]), value)
    slope = (n**2 * q * square - n**2 * (1 - n**2 * q)) * -2 * q
    expected = np.concatenate([-(n**2) * q**2 * off, slope])
    oracles.assert_mean(vectors(found.gradient), expected)


def test_what_is_fitted_is_the_blurred_data(x64):
    """Its bias: the variance at rest is v + noise^2, and not v."""
    n, mean, variance = 0.6, ROWS.mean(0), ROWS.var(0)
    objective = ex.DenoisingScoreMatching(n)
    blurred = steps(objective, ex.Gaussian(mean, np.sqrt(variance + n**2)), ROWS)
    oracles.assert_mean(vectors(blurred.gradient), 0.0)
    sharp = vectors(steps(objective, ex.Gaussian(mean, np.sqrt(variance)), ROWS).gradient)
    error = sharp.std(0) / np.sqrt(N)
    assert (np.abs(sharp.mean(0) / error)[2:] > 20).all()


class Blurred(eqx.Module):
    """Log-density of N(0, v) blurred by a noise."""

    log_variance: jax.Array

    def __call__(self, x, noise):
        return -0.5 * jnp.sum(x**2) / (jnp.exp(self.log_variance) + noise**2)


@pytest.mark.parametrize("own", [True, False])
def test_many_noises_are_drawn_evenly_and_weigh_alike(x64, own):
    levels, v = np.array([0.1, 0.5, 2.0]), 0.8
    energy = ex.NoiseConditional(Blurred(jnp.log(v)), ex.Real(2), levels if own else [0.3, 5.0])
    objective = ex.DenoisingScoreMatching(None if own else levels)
    found = steps(objective, energy, ROWS)
    q, square = 1 / (v + levels**2), (ROWS**2).mean(0).sum()
    value = levels**2 * q**2 * square / 2 + (1 - levels**2 * q) ** 2
    oracles.assert_mean(np.asarray(found.measures["loss"]), value.mean())
    slope = (levels**2 * q * square - 2 * levels**2 * (1 - levels**2 * q)) * -(q**2) * v
    oracles.assert_mean(vectors(found.gradient)[:, 0], slope.mean())


def test_an_energy_of_every_noise_knows_the_data_themselves(x64):
    """The family holds the truth for every noise, so that the gradient rests at the sharp v."""
    rows = ROWS / np.sqrt((ROWS**2).mean())
    energy = ex.NoiseConditional(Blurred(jnp.zeros(())), ex.Real(2), [0.1, 0.5, 2.0])
    found = steps(ex.DenoisingScoreMatching(), energy, rows)
    oracles.assert_mean(vectors(found.gradient)[:, 0], 0.0)


def test_one_noise_of_many_may_be_trained(x64):
    energy = ex.NoiseConditional(Blurred(jnp.log(0.8)), ex.Real(2), [0.1, 0.5])
    at = ex.Gaussian(np.zeros(2), np.sqrt(0.8 + 0.7**2))
    one = ex.DenoisingScoreMatching(0.7)
    rows = jnp.asarray(ROWS)
    conditional, plain = (
        one.gradient(e, rows, None, key=ex.key(3)).measures["loss"] for e in (energy, at)
    )
    assert float(conditional) == pytest.approx(float(plain), rel=1e-12)


def test_parts_of_a_joint_are_blurred_apart():
    space = ex.Joint(a=ex.Real(2), b=ex.Real())
    energy = ex.NeuralEnergy(lambda x: -0.5 * (jnp.sum(x["a"] ** 2) + x["b"] ** 2), space)
    objective = ex.DenoisingScoreMatching(1.0)
    rows = objective.prepare(energy, {"a": np.zeros((400, 2)), "b": np.zeros(400)})
    loss = objective.gradient(energy, rows, None, key=ex.key(0)).measures["loss"]
    assert float(loss) == 0.0  # the score of x = z is -z exactly


def test_what_does_not_fit_is_refused():
    gaussian = ex.Gaussian(np.zeros(2))
    with oracles.refused("Gaussian knows no noise", "DenoisingScoreMatching(0.1)"):
        ex.DenoisingScoreMatching().prepare(gaussian, ROWS)
    with oracles.refused("NoiseConditional", "got Gaussian"):
        ex.DenoisingScoreMatching([0.1, 1.0]).prepare(gaussian, ROWS)
    box = ex.NeuralEnergy(lambda x: -jnp.sum(x), ex.Box(2))
    for energy, rows in ((box, np.ones((3, 2))), (ex.Bernoulli(np.zeros(2)), np.ones((3, 2)))):
        with oracles.refused("continuous space without ends", "ScoreMatching"):
            ex.DenoisingScoreMatching(0.1).prepare(energy, rows)
    for noise in (0.0, -1.0, [0.1, 0.0]):
        with oracles.refused("noise must be positive"):
            ex.DenoisingScoreMatching(noise)
    for noise in ([], [[0.1]]):
        with oracles.refused("noise must be a number or a vector"):
            ex.DenoisingScoreMatching(noise)
