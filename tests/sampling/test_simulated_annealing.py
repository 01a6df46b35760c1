"""Annealed chains find the lowest states of small models, and say what they saw."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
import registry
from energax.sampling import simulated_annealing

pytestmark = pytest.mark.slow


class Vector(ex.AbstractEnergy):
    space: ex.Spin = ex.Spin(2)

    def energy(self, x):
        return x


def test_the_ground_state_of_a_glass_is_found():
    generator = np.random.default_rng(0)
    glass = ex.Ising((3, 4), generator.normal(size=(2, 3, 4)), periodic=False)
    found = simulated_annealing(glass, key=ex.key(0), betas=np.geomspace(0.1, 5, 60), chains=8)
    lowest = oracles.energies(glass).min()
    np.testing.assert_allclose(found.energy, lowest, rtol=1e-5)
    np.testing.assert_allclose(found.energy, glass.energy(found.x), rtol=1e-6)
    assert found.path.shape == (8, 60)
    assert found.path[:, :10].mean() > found.path[:, -10:].mean()  # cooled
    assert (found.best_energy[:, None] <= found.path + 1e-4).all()
    np.testing.assert_allclose(found.best_energy, jax.vmap(glass.energy)(found.best), rtol=1e-5)
    assert not found.problems
    assert "BlockGibbs" in found.method


def test_the_lower_of_two_wells_is_found():
    well = ex.NeuralEnergy(lambda x: -10 * (x**2 - 1) ** 2 + x, ex.Real())
    found = simulated_annealing(
        well, key=ex.key(1), kernel=ex.RandomWalkMetropolis(0.5), betas=np.geomspace(0.1, 50, 200),
        start=-np.ones(4), chains=4, steps=3,
    )  # fmt: skip
    assert abs(float(found.x) - 1.01) < 0.1


def test_every_temperature_is_sampled():
    """At one beta for long, what is left is a sample of exp(-beta E)."""
    energy = registry._table(ex.Spin(3))
    found = simulated_annealing(
        energy, key=ex.key(2), kernel=ex.RandomWalkMetropolis(), betas=[0.2, 1.5], steps=60,
        chains=4000,
    )  # fmt: skip
    counts = np.bincount(oracles.index_of(energy.space, found.final), minlength=8)
    oracles.assert_drawn_from(counts, oracles.probabilities(energy**1.5))
    values = np.round(oracles.energies(energy), 4)
    warm = np.array([np.sum(np.round(found.path[:, 0], 4) == value) for value in values])
    oracles.assert_drawn_from(warm, oracles.probabilities(energy**0.2))


BROAD = np.array([1.0, 1.0, 2.0, 4.0, 4.0])


@pytest.mark.parametrize(
    "kernel",
    [
        ex.RandomWalkMetropolis(1e-3),
        ex.RandomWalkMetropolis(1e4),
        ex.MALA(1e4),
        ex.HMC(1e-2),
    ],
    ids=lambda k: f"{type(k).__name__} {float(k.step_size):g}",
)
def test_step_sizes_are_found_as_it_cools(kernel):
    """From a beta of 1e-4 to 1e4: x shrinks by four orders, and so must the steps.

    In equilibrium 2 beta E is a chi-squared of 5 degrees of freedom.
    """
    energy = ex.NeuralEnergy(lambda x: -0.5 * jnp.sum((x / BROAD) ** 2), ex.Real(5))
    betas = np.concatenate([np.geomspace(1e-4, 1e4, 1500), np.full(500, 1e4)])
    cooled = simulated_annealing(
        energy, key=ex.key(5), kernel=kernel, betas=betas, chains=32, steps=4
    )
    assert not cooled.problems
    assert cooled.energy < 1e-4
    for place in (slice(700, 800), slice(1100, 1200), slice(1800, 2000)):
        scaled = 2 * cooled.path[:, place] * betas[place]
        assert scaled.mean() == pytest.approx(5.0, rel=0.2)


def test_a_kernel_that_is_not_to_adapt_does_not():
    energy = ex.NeuralEnergy(lambda x: -0.5 * jnp.sum((x / BROAD) ** 2), ex.Real(5))
    found = {}
    for adapt in (True, False):
        cooled = simulated_annealing(
            energy, key=ex.key(5), kernel=ex.RandomWalkMetropolis(1e-3, adapt=adapt),
            betas=np.geomspace(0.01, 1e4, 500), start=np.full((8, 5), 10.0), chains=8,
        )  # fmt: skip
        found[adapt] = cooled.energy
    assert found[True] < 0.01
    assert found[False] > 10


def test_parts_of_a_joint_are_tuned_as_they_cool():
    space = ex.Joint(a=ex.Spin(3), x=ex.Real(2))
    energy = ex.NeuralEnergy(
        lambda s: jnp.sum(s["a"]) - 0.5 * jnp.sum((s["x"] - 100 * s["a"][:2]) ** 2), space
    )
    kernel = ex.Alternating({"a": ex.Gibbs(), "x": ex.RandomWalkMetropolis(1e-4)})
    cooled = simulated_annealing(energy, key=ex.key(6), kernel=kernel, chains=8)
    np.testing.assert_allclose(np.abs(cooled.x["x"]), 100, atol=0.3)
    np.testing.assert_allclose(cooled.x["x"], 100 * cooled.x["a"][:2], atol=0.3)


def test_failures_are_named_and_never_the_best():
    energy = ex.NeuralEnergy(
        lambda x: jnp.where(x > 1, jnp.nan, jnp.where(x < -1, jnp.inf, -(x**2))), ex.Real()
    )
    found = simulated_annealing(
        energy, key=ex.key(3), kernel=ex.RandomWalkMetropolis(1.0), betas=np.ones(50), chains=8,
        start=np.full(8, 0.5),
    )  # fmt: skip
    assert "chains 0, 1, 2, 3, 4 and 3 more met an energy of NaN or -inf" in found.problems[0]
    assert (np.abs(found.best) <= 1).all()
    assert np.isfinite(found.best_energy).all()


def test_a_chain_that_failed_from_the_start_does_not_win():
    for bad in (jnp.nan, -jnp.inf):
        energy = ex.NeuralEnergy(lambda x, bad=bad: jnp.where(x > 5, -bad, -(x**2)), ex.Real())
        found = simulated_annealing(
            energy, key=ex.key(4), kernel=ex.RandomWalkMetropolis(0.1), betas=np.ones(5), chains=3,
            start=np.array([0.5, 90.0, -0.2]),
        )  # fmt: skip
        assert np.isfinite(found.energy)
        assert found.energy == found.best_energy[[0, 2]].min()
        assert found.problems == ["chains 1 met an energy of NaN or -inf: look at E there"]
    assert found == found
    assert found != simulated_annealing(energy, key=ex.key(4), betas=np.ones(2), chains=2)


def test_arguments_are_checked():
    rbm = registry._rbm()

    def call(**given):
        simulated_annealing(rbm, key=ex.key(0), **given)

    for betas in ([], 1.0, [[1.0]]):
        with oracles.refused("betas must be a vector"):
            call(betas=betas)
    for betas in ([0.0, 1.0], [1.0, np.inf]):
        with oracles.refused("positive and finite"):
            call(betas=betas)
    with oracles.refused("steps"):
        call(steps=0)
    with oracles.refused("steps", f"at most {2**31 - 1}"):
        call(steps=2**31)
    with oracles.refused("Vector.energy must return one number", "shape (2,)"):
        simulated_annealing(Vector(), key=ex.key(0))
    with oracles.refused("kernel must be", "str"):
        call(kernel="gibbs")
    with oracles.refused("BlockGibbs", "Tempered"):
        call(kernel=ex.BlockGibbs())
