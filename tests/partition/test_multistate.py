"""The joint solution for several partition functions, on normal densities whose Z are known."""

import numpy as np
import pytest
from scipy import stats

from energax.partition._multistate import multistate

SCALES = np.array([1.0, 1.6, 2.5])
MEANS = np.array([0.0, 0.5, 1.5])


def _problem(generator, n, each=1):
    """`n` sources, each with `each` draws of every state."""
    states = np.repeat(np.arange(3), n * each)
    x = MEANS[states] + SCALES[states] * generator.normal(size=states.size)
    ratios = -0.5 * ((x[:, None] - MEANS) / SCALES) ** 2
    sources = np.tile(np.repeat(np.arange(n), each), 3)
    return ratios + generator.normal(size=(x.size, 1)), np.full(3, n * each), sources


def test_it_finds_known_values_and_its_own_error():
    generator = np.random.default_rng(0)
    truth = np.log(SCALES / SCALES[0])
    z = []
    for _ in range(300):
        found = multistate(*_problem(generator, 40, each=3))
        z.append((found.log_z - truth)[1:] / found.std_error[1:])
    z = np.array(z)
    # Mean square of a standard score: 1, to within chance and the error's own error.
    assert abs(z.mean(0)).max() < 4 / np.sqrt(300)
    np.testing.assert_allclose((z**2).mean(0), 1.0, atol=0.3)
    assert found.log_z[0] == found.std_error[0] == 0.0


def test_the_equation_holds_at_the_solution():
    ratios, counts, sources = _problem(np.random.default_rng(1), 200)
    log_z = multistate(ratios, counts, sources).log_z
    mixed = np.logaddexp.reduce(np.log(counts) + ratios - log_z, axis=1)
    again = np.logaddexp.reduce(ratios - mixed[:, None], axis=0)
    np.testing.assert_allclose(again, log_z, atol=1e-9)


def test_two_states_of_two_sets_of_sources():
    """Bennett's ratio on normal log weights, for which forward and backward mirror each other."""
    generator = np.random.default_rng(2)
    sigma, delta, z = 1.5, 0.7, []
    for _ in range(300):
        up = delta - sigma**2 / 2 + sigma * generator.normal(size=80)
        down = -delta - sigma**2 / 2 + sigma * generator.normal(size=80)
        ratios = np.zeros((160, 2))
        ratios[:80, 1], ratios[80:, 0] = up, down
        found = multistate(ratios, np.array([80, 80]), np.arange(160))
        z.append((found.log_z[1] - delta) / found.std_error[1])
    assert stats.kstest(z, "norm").pvalue > 1e-4


def test_states_that_exclude_draws():
    """Uniform on [0, 2] and on [0, 1]: half of the first's draws are impossible in the second."""
    generator = np.random.default_rng(3)
    x = np.concatenate([2 * generator.random(2000), generator.random(2000)])
    ratios = np.stack([np.zeros(4000), np.where(x < 1, 0.0, -np.inf)], 1)
    found = multistate(ratios, np.array([2000, 2000]), np.arange(4000))
    assert found.log_z[1] == pytest.approx(-np.log(2), abs=4 * found.std_error[1])
