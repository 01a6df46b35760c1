"""Unbiased expectations against enumeration, and what is said where chains do not meet."""

import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
import registry
from energax.sampling import unbiased

pytestmark = pytest.mark.slow


def _itself(v):
    return v


def _mean(energy) -> np.ndarray:
    return oracles.probabilities(energy) @ np.asarray(oracles.stacked(energy.space))


@pytest.mark.parametrize(("k", "m", "lag"), [(0, 0, 1), (0, 3, 1), (2, 4, 3)])
def test_few_steps_are_unbiased(k, m, lag):
    rbm = registry._rbm(scale=1.6)
    n = 8000
    found = unbiased(rbm, _itself, key=ex.key(k), k=k, m=m, lag=lag, replicates=n)
    assert found.trusted
    assert (found.meeting_times >= lag).all()
    oracles.assert_mean(found.estimates, _mean(rbm))
    np.testing.assert_allclose(found.value, found.estimates.mean(0))
    np.testing.assert_allclose(found.std_error, found.estimates.std(0, ddof=1) / np.sqrt(n))
    assert (found.lower < found.value).all()
    assert "BlockGibbs" in found.method


def test_without_the_correction_it_would_be_biased():
    """A pair that met before k + lag is a plain average: those of a chain's first draw are off."""
    energy = registry._rbm(scale=1.6)
    found = unbiased(energy, _itself, key=ex.key(0), k=0, m=0, replicates=8000)
    at_once = found.estimates[found.meeting_times == 1]
    assert np.isin(at_once, (0, 1)).all()
    with pytest.raises(AssertionError):
        oracles.assert_mean(at_once, _mean(energy))


def test_a_table_by_metropolis():
    energy = registry._table(ex.Spin(3))
    found = unbiased(
        energy, lambda x: x[0] * x[1], key=ex.key(3), kernel=ex.RandomWalkMetropolis(), k=1, m=6,
        replicates=4000,
    )  # fmt: skip
    assert found.trusted
    x = np.asarray(oracles.stacked(energy.space))
    oracles.assert_mean(found.estimates, oracles.probabilities(energy) @ (x[:, 0] * x[:, 1]))


def test_a_gaussian_by_reflected_walks():
    energy = ex.Gaussian(jnp.array([1.5, -1.0]), jnp.array([0.7, 1.5]))
    found = unbiased(
        energy, lambda x: jnp.concatenate([x, x**2]), key=ex.key(4),
        kernel=ex.RandomWalkMetropolis(1.0), k=1, m=10, replicates=4000,
    )  # fmt: skip
    assert found.trusted
    oracles.assert_mean(found.estimates, np.array([1.5, -1.0, 1.5**2 + 0.7**2, 1 + 1.5**2]))
    np.testing.assert_array_equal(
        found.cost, found.meeting_times * 2 - 1 + np.maximum(10 - found.meeting_times, 0)
    )


def test_the_distance_to_the_model_is_bounded():
    """Of Potts spins, whose labels are drawn from one uniform number each."""
    found = unbiased(
        ex.Potts((3, 3), 3, 0.4), lambda x: jnp.mean(x == 0), key=ex.key(5), k=0, m=5, lag=5,
        replicates=500,
    )  # fmt: skip
    oracles.assert_mean(found.estimates, 1 / 3)
    bounds = [found.distance_after(step) for step in range(30)]
    assert (np.diff(bounds) <= 0).all()
    assert bounds[0] > 0.3
    assert bounds[-1] < 0.02
    assert "500 pairs met" in found.summary


def test_pairs_that_did_not_meet_are_reported():
    frozen = ex.Ising((4, 4), 3.0)
    found = unbiased(
        frozen, jnp.mean, key=ex.key(6), k=0, m=5, replicates=20, max_steps=10,
        kernel=ex.BlockGibbs(),
    )  # fmt: skip
    assert not found.trusted
    assert not found.met.all()
    assert "did not meet within 10 steps" in found.problems[0]
    assert np.isinf(found.lower)
    assert np.isinf(found.upper)
    assert found.distance_after(3) == np.inf
    assert "did not meet" in found.summary


def test_a_failing_energy_is_reported():
    energy = ex.NeuralEnergy(lambda x: jnp.where(x[0] > 0, jnp.nan, 0.0 * x[1]), ex.Spin(2))
    found = unbiased(
        energy, jnp.sum, key=ex.key(0), k=0, m=3, replicates=8, max_steps=20,
        kernel=ex.RandomWalkMetropolis(),
    )  # fmt: skip
    assert "NaN" in found.problems[0]
    assert np.isinf(found.upper)


def test_values_that_are_not_finite_are_reported():
    rbm = registry._rbm()
    for bad in (jnp.nan, jnp.inf):
        found = unbiased(
            rbm, lambda v, bad=bad: jnp.where(v[0] > 0, jnp.stack([bad, 1.0]), v[:2]), k=0, m=3,
            key=ex.key(0), replicates=20,
        )  # fmt: skip
        assert not found.trusted
        assert "f was not finite along" in found.problems[0]
        assert (found.lower[0], found.upper[0]) == (-np.inf, np.inf)
        assert np.isfinite(found.upper[1])
    assert found != unbiased(rbm, jnp.sum, key=ex.key(0), k=0, m=3, replicates=2)


def test_a_base_is_over_the_energys_space():
    plane, bits, spins = ex.Gaussian(np.zeros(2)), ex.Bernoulli(np.zeros(9)), ex.Ising((3, 3), 0.2)
    narrow, wide = (ex.Uniform(ex.Box(2, 0.0, end)) for end in (1.0, 2.0))
    for energy, base in (
        (plane, ex.Gaussian(np.zeros(5))), (spins, bits), (plane, narrow), (narrow, wide),
        (narrow, plane),
    ):  # fmt: skip
        with oracles.refused("base must be over", str(energy.space), str(base.space)):
            unbiased(energy, jnp.sum, key=ex.key(0), base=base)


def test_starts_hold_what_was_observed():
    observed = ex.condition(registry._rbm(), np.array([1.0, 0, 0, 0]), np.array([1, 0, 0, 0]) > 0)
    found = unbiased(
        observed, lambda v: v[0], key=ex.key(0), base=ex.Bernoulli(np.full(4, -3.0)), k=0, m=0,
        replicates=50,
    )  # fmt: skip
    assert found.value == 1


def test_arguments_are_checked():
    rbm = registry._rbm()

    def call(f=jnp.sum, **given):
        return unbiased(rbm, f, key=ex.key(0), **given)

    with oracles.refused("m must be", "at least 5", "3"):
        call(k=5, m=3)
    with oracles.refused("replicates", "at least 2"):
        call(replicates=1)
    with oracles.refused("max_steps", "at least 1001"):
        call(max_steps=1000)
    with oracles.refused("one array"):
        call(f=lambda v: (v, v))
    with oracles.refused("f fails on one state: ", "TypeError"):
        call(f=lambda v: v @ jnp.zeros(7))
    with oracles.refused("f must be a function", "int"):
        call(f=3)
    with oracles.refused("m must be", f"at most {2**31 - 2}"):
        call(m=2**31)
    with oracles.refused("max_steps must be", f"at most {2**31 - 1}"):
        call(max_steps=2**31)
    with oracles.refused("one number", "shape (2,)"):
        unbiased(ex.NeuralEnergy(lambda x: -x[:2], ex.Spin(3)), jnp.sum, key=ex.key(0))
    with oracles.refused("base must be"):
        call(base=rbm)
    with oracles.refused("even lag", "1"):
        call(kernel=ex.ReplicaExchange(ex.RandomWalkMetropolis()))
    with oracles.refused("level"):
        call(level=1.0)
