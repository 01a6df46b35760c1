"""Sweeps of factor graphs where some states are forbidden, some entries held, fields added."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from enumerated_moves import moves, states_of

import energax as ex
from energax.kernels import AbstractKernel, Info
from energax.kernels._block_gibbs import SweepState

RNG = np.random.default_rng(0)


class Sweep(AbstractKernel):
    """One sweep, with whatever else it is told."""

    is_exact: ClassVar[bool] = True
    field: Any = None
    held: Any = None

    def init(self, energy, x, key) -> Any:
        return SweepState(x)

    def step(self, energy, state, key) -> Any:
        x = energy.sweep_with(self.field, state.x, key, self.held)
        value = energy.energy(x)
        return SweepState(x), Info(jnp.ones_like(value), value)

    def refresh(self, energy, state) -> Any:
        return state


def _uneven():
    """Variables of 2, 3 and 2 states; unequal neighbours forbidden at one end of the chain."""
    rule = np.array([[0.0, np.inf, 0.4], [np.inf, 0.7, np.inf]])
    factors = [ex.Factor((0, 1), rule), ex.Factor((1, 2), RNG.normal(size=(3, 2)))]
    return ex.FactorGraph(3, [2, 3, 2], factors)


def test_forbidden_states_are_left_and_never_entered(x64):
    made = moves(Sweep(), _uneven())
    p, matrix = made.target, made.matrix
    legal = p > 0
    assert legal.sum() == 6
    np.testing.assert_allclose(matrix.sum(1), 1.0, atol=1e-12)
    np.testing.assert_allclose(p @ matrix, p, atol=1e-12)
    assert (matrix[np.ix_(legal, ~legal)] == 0).all()
    # From every forbidden state, values that variables do not have included, a way leads out.
    assert (np.linalg.matrix_power(matrix, 20)[:, legal].sum(1) > 0.99).all()


def test_a_chain_that_starts_in_a_forbidden_state_gets_out():
    # Colouring a ring of 30 nodes with 3 colours, from one colour everywhere.
    ring = [(i, (i + 1) % 30) for i in range(30)]
    proper = ex.FactorGraph(30, 3, [ex.Factor(ring, jnp.where(jnp.eye(3) > 0, jnp.inf, 0.0))])
    start = np.zeros((4, 30), np.int32)
    draws = ex.sample(
        proper, 40, key=ex.key(0), kernel=ex.BlockGibbs(), chains=4, warmup=100, start=start
    )
    assert (np.asarray(draws.energy) == 0).all()


def test_held_entries_and_fields(x64):
    graph = ex.FactorGraph(3, 2, [ex.Factor([(0, 1), (1, 2), (2, 0)], RNG.normal(size=(3, 2, 2)))])
    field = jnp.asarray(RNG.normal(size=(3, 2)))
    matrix = moves(Sweep(field, jnp.array([False, True, False])), graph).matrix
    states = np.stack(states_of(graph.space))
    both = graph * ex.FactorGraph(3, 2, [ex.Factor([[0], [1], [2]], field)])
    p = np.exp(-np.asarray(jax.vmap(both.energy)(jnp.asarray(states))))
    np.testing.assert_allclose(p @ matrix, p, rtol=1e-12)
    apart = states[:, None, 1] != states[None, :, 1]
    assert (matrix[apart] == 0).all()
    assert (matrix[~apart] > 0).all()


def test_tables_that_failed_stay_visible():
    graph = ex.FactorGraph(2, 2, [ex.Factor((0, 1), np.zeros((2, 2)))])
    broken = eqx.tree_at(lambda g: g.tables[0], graph, graph.tables[0] * jnp.nan)
    draws = ex.sample(broken, 4, key=ex.key(0), kernel=ex.BlockGibbs(), chains=2, warmup=1)
    assert not draws.converged
    assert np.isnan(np.asarray(draws.energy)).all()


def test_chains_side_by_side_are_the_chains_one_by_one():
    wide = [ex.Factor([(0, 1, 2, 3), (4, 3, 2, 5)], RNG.normal(size=(2, 3, 3, 3, 3)))]
    pairs = [ex.Factor([(0, 4), (5, 1), (2, 0)], RNG.normal(size=(3, 3, 3)))]
    alone = [ex.Factor([[3], [5]], RNG.normal(size=(2, 3)))]
    for graph in (_uneven(), ex.FactorGraph((2, 3), 3, wide + pairs + alone)):
        keys = jax.random.split(ex.key(1), 40)
        x = jax.vmap(graph.space.draw)(keys)
        together = jax.jit(jax.vmap(graph.sweep))(x, keys)
        apart = jax.jit(
            lambda x, keys, graph=graph: jax.lax.map(lambda a: graph.sweep(*a), (x, keys))
        )
        np.testing.assert_array_equal(together, apart(x, keys))
