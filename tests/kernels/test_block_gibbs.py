"""Block Gibbs: which energies it takes, and what its steps draw."""

import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_moves import moves, pairs, states_of

import energax as ex
import registry


def test_it_takes_energies_with_blocks_and_refuses_others():
    takes = {energy for kernel, energy in pairs() if kernel == "block gibbs"}
    assert takes == {
        "rbm",
        "rbm.joint",
        "conditioned rbm",
        "annealed rbm",
        "rbm times rbm",
        "frozen rbm",
        *registry.GRAPHS,
    }
    with pytest.raises(ValueError, match="two layers"):
        ex.BlockGibbs().check(registry._table(ex.Spin(3)))


def test_its_matrix_is_the_sum_over_hidden_units(x64):
    rbm = registry._rbm(3, 2)
    w, b, c = (np.asarray(a) for a in (rbm.weights, rbm.visible_bias, rbm.hidden_bias))
    v = np.array(states_of(ex.Binary(3)))
    h = np.array(states_of(ex.Binary(2)))
    joint = np.exp(v @ b[:, None] + (h @ c)[None] + v @ w @ h.T)
    expected = (joint / joint.sum(1, keepdims=True)) @ (joint / joint.sum(0)).T
    np.testing.assert_allclose(moves(ex.BlockGibbs(), rbm).matrix, expected, atol=1e-14)


def test_observed_units_are_never_drawn(x64):
    energy = registry.DISCRETE["conditioned rbm"]()
    made = moves(ex.BlockGibbs(), energy)
    assert made.matrix.shape == (4, 4)
    assert (made.matrix > 0).all()


@pytest.mark.parametrize("name", ["ising on a dense graph", "conditioned dense potts"])
def test_blocks_of_a_dense_graph_may_be_narrow(name, x64, monkeypatch):
    energy = registry.GRAPHS[name]()
    in_one = moves(ex.BlockGibbs(), energy)
    monkeypatch.setattr("energax.energies.graphs._dense._WIDTH", 2)
    np.testing.assert_allclose(moves(ex.BlockGibbs(), energy).matrix, in_one.matrix, atol=1e-14)


def test_nothing_is_refused(x64):
    rbm = registry._rbm()
    made = moves(ex.BlockGibbs(), rbm)
    assert (made.acceptance == 1).all()
    assert (made.matrix > 0).all()


def test_the_state_holds_the_hidden_inputs():
    rbm = registry._rbm()
    v = jnp.array([1.0, 0.0, 1.0, 1.0])
    state = ex.BlockGibbs().init(rbm, v, ex.key(0))
    np.testing.assert_allclose(state.terms[1], v @ rbm.weights + rbm.hidden_bias, rtol=1e-6)
