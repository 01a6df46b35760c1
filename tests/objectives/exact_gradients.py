"""Gradients of energies and likelihoods by going through every state of a small model."""

import equinox as eqx
import jax
import numpy as np

import oracles
from energax.energies import trainable


def vector(gradient) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(gradient)])


def energy_gradients(energy) -> np.ndarray:
    """The gradient of E in the parameters at every state: axes (state, parameter)."""
    parameters, rest = eqx.partition(energy, trainable(energy))

    def gradient(x):
        return jax.grad(lambda p: eqx.combine(p, rest).energy(x))(parameters)

    each = jax.vmap(gradient)(oracles.stacked(energy.space))
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(each)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], 1)


def likelihood_gradient(energy, rows) -> np.ndarray:
    """mean over rows of grad E, less its mean over the model: brute force over all states."""
    at = energy_gradients(energy)
    seen = oracles.index_of(energy.space, rows)
    return at[seen].mean(0) - oracles.probabilities(energy) @ at


def each(gradients, n: int) -> np.ndarray:
    """Gradients on a leading axis as rows: axes (gradient, parameter)."""
    leaves = [np.asarray(leaf).reshape(n, -1) for leaf in jax.tree.leaves(gradients)]
    return np.concatenate(leaves, 1)


def gibbs_matrix(rbm) -> np.ndarray:
    """P[v, v'] of one sweep, from both layers' conditionals by enumeration."""
    visible, hidden = oracles.stacked(rbm.space), oracles.stacked(rbm.hidden_space)
    up = np.asarray(jax.vmap(lambda v: rbm.hidden_mean(rbm.terms(v)))(visible))
    down = np.asarray(jax.nn.sigmoid(jax.vmap(rbm.visible_input)(hidden)))
    v, h = np.asarray(visible), np.asarray(hidden)
    to_hidden = np.prod(np.where(h[None] == 1, up[:, None], 1 - up[:, None]), -1)
    to_visible = np.prod(np.where(v[None] == 1, down[:, None], 1 - down[:, None]), -1)
    return to_hidden @ to_visible
