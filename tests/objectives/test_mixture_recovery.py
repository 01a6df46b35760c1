"""Every objective finds a mixture of two normal densities in the plane from exact draws of it.

The family holds the truth, and its modes overlap enough for chains to pass between them and for
scores to tell their weights. The bounds are about five standard errors of maximum likelihood from
as many rows: means are known to 0.02, scales to 0.012 and weights to 0.008.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import energax as ex
import registry

MEANS, SCALE, WEIGHTS = np.array([[-1.2, 0.5], [1.2, -0.5]]), 0.7, np.array([0.7, 0.3])
N_ROWS, BATCH = 8000, 200
DATA_NOISE, BLUR = 0.1, 0.2
WALK = ex.RandomWalkMetropolis(1.0)

RECIPES = {
    "cd": ex.ContrastiveDivergence(n_steps=10, kernel=WALK),
    "pcd": ex.PersistentContrastiveDivergence(n_steps=10, n_chains=BATCH, kernel=WALK),
    "monte carlo": ex.MonteCarloMaximumLikelihood(n_steps=50, n_samples=BATCH, kernel=WALK),
    "score matching": ex.ScoreMatching(),
    "sliced score matching": ex.SlicedScoreMatching(),
    "denoising score matching": ex.DenoisingScoreMatching(BLUR),
    "noise contrastive": ex.NoiseContrastiveEstimation(),
    "energy discrepancy": ex.EnergyDiscrepancy(noise=1.0, n_negatives=64, stabilisation=0.0),
    "replay buffer": ex.ReplayBuffer(
        size=1000, n_chains=BATCH, n_steps=10, data_noise=DATA_NOISE, kernel=ex.MALA(0.5)
    ),
    "tempered cd": ex.TemperedContrastiveDivergence(n_steps=5, n_chains=50, n_replicas=3),
    "combined": ex.CombinedObjective(
        [
            ex.ReplayBuffer(
                size=1000, n_chains=BATCH, n_steps=10, data_noise=BLUR, kernel=ex.MALA(0.5)
            ),
            ex.DenoisingScoreMatching(BLUR),
        ],
        [1.0, 0.5],
    ),
    "unbiased cd": ex.UnbiasedContrastiveDivergence(n_pairs=100, kernel=WALK),
}
BLURRED = {"denoising score matching": BLUR, "combined": BLUR, "replay buffer": DATA_NOISE}


def model(means, scale, weights):
    return ex.mixture([ex.Gaussian(mean, scale) for mean in means], weights)


def draws(means, scale, weights, n, seed=0):
    return jax.vmap(model(means, scale, weights).draw)(jax.random.split(ex.key(seed), n))


def found(energy):
    """Means, scales and weights, the mode of the smaller first coordinate first."""
    means = np.stack([member.mean for member in energy.members])
    scales = np.stack([member.scale for member in energy.members])
    weights = np.asarray(jax.nn.softmax(energy.log_weights))
    order = np.argsort(means[:, 0])
    return means[order], scales[order], weights[order]


def fitted(objective, rows, start, *, steps, optimizer=None):
    schedule = optax.cosine_decay_schedule(0.03, steps)
    run = ex.fit(
        start,
        rows,
        objective,
        key=ex.key(1),
        optimizer=optax.adam(schedule) if optimizer is None else optimizer,
        steps=steps,
        batch_size=BATCH,
    )
    assert run.ok, run.message
    return run.energy


def test_every_objective_has_a_recipe():
    assert set(RECIPES) == set(registry.CONTINUOUS_OBJECTIVES)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_mixture_is_recovered(name):
    """Blurred data are those of the mixture whose variances are larger by the blur's."""
    rows = draws(MEANS, SCALE, WEIGHTS, N_ROWS)
    start = model([[-0.5, 0.0], [0.5, 0.0]], 1.0, [0.5, 0.5])
    means, scales, weights = found(fitted(RECIPES[name], rows, start, steps=1500))
    scale = np.hypot(SCALE, BLURRED.get(name, 0.0))
    np.testing.assert_allclose(means, MEANS, atol=0.1)
    np.testing.assert_allclose(scales, scale, atol=0.06)
    np.testing.assert_allclose(weights, WEIGHTS, atol=0.04)


SGD_RATE = {"denoising score matching": 1.0}  # whose loss has a factor of the blur's square
BLIND = ["score matching", "sliced score matching", "denoising score matching"]


@pytest.mark.parametrize("name", BLIND)
def test_scores_of_modes_that_are_far_apart_do_not_tell_their_weights(name):
    """What scores see is each mode by itself: its mean and scale are found, its weight is not.

    Between the modes, where it would show, there are no rows: its gradient is next to nothing and
    the weights stay what they were. (Adam, which divides a gradient by its size, would take them
    anywhere.)
    """
    rows = draws(4 * MEANS, SCALE, WEIGHTS, N_ROWS)
    start = model(3.5 * MEANS, 1.0, [0.5, 0.5])
    descent = optax.sgd(SGD_RATE.get(name, 0.1))
    means, scales, weights = found(fitted(RECIPES[name], rows, start, steps=600, optimizer=descent))
    np.testing.assert_allclose(means, 4 * MEANS, atol=0.15)
    np.testing.assert_allclose(scales, np.hypot(SCALE, BLURRED.get(name, 0.0)), atol=0.1)
    np.testing.assert_allclose(weights, [0.5, 0.5], atol=0.01)


def test_likelihoods_do_tell_them():
    """The same rows and start: contrasted with draws of the model, the weights are found."""
    rows = draws(4 * MEANS, SCALE, WEIGHTS, N_ROWS)
    start = model(3.5 * MEANS, 1.0, [0.5, 0.5])
    objective = ex.NoiseContrastiveEstimation(ex.Gaussian(jnp.zeros(2), 4.0))
    means, scales, weights = found(fitted(objective, rows, start, steps=800))
    np.testing.assert_allclose(means, 4 * MEANS, atol=0.15)
    np.testing.assert_allclose(scales, SCALE, atol=0.1)
    np.testing.assert_allclose(weights, WEIGHTS, atol=0.05)
