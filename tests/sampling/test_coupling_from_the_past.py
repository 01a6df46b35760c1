"""Perfect draws of attractive Ising models, against enumeration and exact values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
from energax.energies.graphs import Lattice
from energax.sampling import coupling_from_the_past

pytestmark = pytest.mark.slow


def _counts(energy, draws) -> np.ndarray:
    n_states = energy.space.cardinality
    return np.bincount(oracles.index_of(energy.space, draws.flat), minlength=n_states)


def test_a_torus_is_drawn_exactly():
    energy = ex.Ising((3, 3), 0.35, field=0.1)
    draws = coupling_from_the_past(energy, 20_000, key=ex.key(0))
    assert draws.independent
    assert draws.converged
    assert draws.x.shape == (1, 20_000, 3, 3)
    oracles.assert_drawn_from(_counts(energy, draws), oracles.probabilities(energy))
    np.testing.assert_allclose(
        draws.energy[0, :50], jax.vmap(energy.energy)(draws.x[0, :50]), rtol=1e-5
    )


def test_a_graph_with_fields_of_both_signs_and_an_observed_spin():
    graph = ex.Ising(
        [(0, 1), (1, 2), (2, 0), (2, 3)], [1.0, 0.5, 0.0, 0.8], field=[0.5, -1.0, 0.0, -0.3]
    )
    draws = coupling_from_the_past(graph**0.7, 10_000, key=ex.key(1))
    oracles.assert_drawn_from(_counts(graph, draws), oracles.probabilities(graph**0.7))

    seen = ex.condition(graph, np.ones(4), np.array([False, False, False, True]))
    draws = coupling_from_the_past(seen, 10_000, key=ex.key(2))
    joint = oracles.probabilities(graph)
    kept = np.asarray(oracles.stacked(graph.space))[:, 3] == 1
    given = np.where(kept, joint, 0.0)
    oracles.assert_drawn_from(_counts(graph, draws), given / given.sum())


def test_neighbours_on_the_torus_agree_with_the_exact_value():
    """8 x 8 at beta 0.3: <s_i s_j> = 0.35623368633603 (Kaufman's formula)."""
    draws = coupling_from_the_past(ex.Ising((8, 8), 0.3), 1000, key=ex.key(3))
    each = -np.asarray(draws.energy[0], np.float64) / 0.3 / 128
    oracles.assert_mean(each, 0.35623368633603)


def test_the_same_key_gives_the_same_draws():
    energy = ex.Ising((3, 3), 0.3)
    first, again = (coupling_from_the_past(energy, 20, key=ex.key(4)) for _ in range(2))
    np.testing.assert_array_equal(first.x, again.x)
    other = coupling_from_the_past(energy, 20, key=ex.key(5))
    assert (np.asarray(first.x) != np.asarray(other.x)).any()


def test_draws_that_are_not_reached_are_not_given_out():
    with pytest.raises(RuntimeError, match="of 5 draws need to come from further back than 8"):
        coupling_from_the_past(ex.Ising((6, 6), 2.0), 5, key=ex.key(0), max_sweeps=8)


def test_more_sweeps_than_can_be_counted_are_refused():
    with oracles.refused("max_sweeps must be an integer of at most 1073741823"):
        coupling_from_the_past(ex.Ising((3, 3), 0.1), 1, key=ex.key(0), max_sweeps=2**30)


def test_what_is_not_attractive_is_refused():
    with oracles.refused("attractive", "-0.5"):
        coupling_from_the_past(ex.Ising([(0, 1), (1, 2)], [1.0, -0.5]), 5, key=ex.key(0))
    with oracles.refused("Ising", "RBM"):
        coupling_from_the_past(ex.RBM.init(ex.key(0), n_visible=3, n_hidden=2), 5, key=ex.key(0))
    with oracles.refused("n must be", "0"):
        coupling_from_the_past(ex.Ising((3, 3)), 0, key=ex.key(0))
    past_the_end = jnp.full((1, 4), 0.5).at[0, 3].set(-1.0)
    chain = ex.Ising(Lattice(4, periodic=False), past_the_end)
    assert coupling_from_the_past(chain, 5, key=ex.key(0)).independent
