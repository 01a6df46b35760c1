"""What a change of one entry changes in the energy, against evaluations at every value."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
import registry
from energax.energies import AbstractSitewise
from energax.objectives._site_changes import floats_a_site, site_changes
from energax.spaces import Clamped

KNOWN = [
    *("rbm", "conditioned rbm", "rbm times bernoulli", "frozen rbm", "tempered rbm", "softmax"),
    *("table of labels", "table of a joint", "conditioned table", "ising on open rows"),
    *("ising on an odd torus", "ising on a tube", "ising on a dense graph", "conditioned ising"),
    *("path to ising", "potts on a graph", "potts on open rows", "conditioned dense potts"),
    *("factor graph", "uneven factor graph", "factor graph of labels", "n-grams"),
]
VALUES = {ex.Binary: [0.0, 1.0], ex.Spin: [-1.0, 1.0]}


def _by_hand(energy, x):
    """E at every value of every entry less E(x), in numpy's own loops; NaN where it is held."""
    e = jax.jit(lambda x: energy.energy(x))
    parts = energy.space.parts if isinstance(energy.space, ex.Joint) else {"x": energy.space}
    state = x if isinstance(x, dict) else {"x": x}
    rows = []
    for name, part in parts.items():
        held = np.zeros(part.structure.shape, bool)
        while isinstance(part, Clamped):
            held, part = held | np.asarray(part.mask), part.space
        values = VALUES.get(type(part)) or range(part.n_states)
        for index in np.ndindex(*part.shape):
            row = []
            for value in values:
                changed = np.array(state[name])
                changed[index] = value
                there = {**state, name: jnp.asarray(changed)}
                row.append(float(e(there if isinstance(x, dict) else there["x"]) - e(x)))
            rows.append([np.nan] * len(row) if held[index] else row)
    most = max(map(len, rows))
    return np.array([row + [np.inf] * (most - len(row)) for row in rows])


@pytest.mark.parametrize("name", KNOWN)
def test_changes_are_those_of_the_energy(name, x64):
    energy = registry.DISCRETE[name]()
    draws = oracles.draws(energy.space, 2, seed=3)
    if name == "uneven factor graph":  # in which two variables have two values
        draws = jnp.minimum(draws, 1)
    every = jax.jit(jax.vmap(lambda x, i: site_changes(energy, x, i), in_axes=(None, 0)))
    for i in range(2):
        x = energy.space.clamp(jax.tree.map(lambda leaf, i=i: leaf[i], draws))
        expected = _by_hand(energy, x)
        found = every(x, jnp.arange(len(expected)))
        free = ~np.isnan(expected).any(1)
        assert free.any()
        np.testing.assert_allclose(np.asarray(found)[free], expected[free], atol=1e-12)


def test_graphs_and_machines_need_no_evaluation_a_change():
    for name in ("rbm", "ising on a graph", "potts on a graph", "factor graph", "softmax"):
        assert isinstance(registry.DISCRETE[name](), AbstractSitewise), name
    assert floats_a_site(registry._rbm(40, 3)) == 3
    assert floats_a_site(registry._rbm(40, 3) * ex.Bernoulli(np.zeros(40))) == 3
    assert floats_a_site(registry._table(ex.Categorical(2, 3))) == 6
