"""Pareto k-hat: against known tails, and what has none."""

import numpy as np
import pytest

from energax.diagnostics import pareto_k


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_the_shape_of_a_pareto_tail_is_found(k):
    # Weights u^-k have the tail of index 1/k exactly. The fit's own error is near (1 + k) over
    # the root of the tail's length, 3 sqrt(n); it is drawn to 0.5 by ten weights' worth.
    n = 100_000
    found = pareto_k(-k * np.log(np.random.default_rng(0).random(n)))
    n_tail = 3 * np.sqrt(n)
    assert found == pytest.approx(k, abs=5 * (1 + k) / np.sqrt(n_tail))


def test_heavier_tails_have_larger_shapes_and_scale_says_nothing():
    draws = np.random.default_rng(1).normal(size=2000)
    found = [pareto_k(s * draws) for s in (0.5, 1.0, 2.0, 4.0)]
    assert found == sorted(found)
    assert found[0] < 0.5 < 0.7 < found[3]
    assert pareto_k(draws + 700) == pytest.approx(found[1], rel=1e-9)
    assert pareto_k(np.append(draws, -np.inf)) == pytest.approx(found[1], abs=0.02)


def test_weights_of_few_values_have_no_tail():
    assert pareto_k(np.zeros(50)) == -np.inf
    assert pareto_k(np.repeat([0.0, 1.0, 2.0], 40)) == -np.inf


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.zeros(24), "n >= 25"),
        (np.full(30, np.nan), "no NaN"),
        (np.full(30, -np.inf), "finite values"),
    ],
)
def test_bad_weights_are_refused(weights, words):
    with pytest.raises(ValueError, match=words):
        pareto_k(weights)
