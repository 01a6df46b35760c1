"""Marginals, draws and modes by variable elimination, against listing every state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import energax as ex
import registry
from energax.exact import (
    _tables,
    all_states,
    draw_eliminated,
    log_partition_eliminated,
    marginals,
    mode_eliminated,
    probabilities,
)
from energax.exact._log_tables import log_tables
from energax.spaces import Categorical, Clamped
from oracles import assert_drawn_from, refused

TABULAR = {name: make for name, make in registry.DISCRETE.items() if log_tables(make())}


def _listed(energy):
    """Numbers of states, shape (states, *shape); their probabilities; their energies."""
    rows, p, e = jax.jit(
        lambda: (
            all_states(energy.space),
            probabilities(energy),
            jax.vmap(energy.energy)(all_states(energy.space)),
        )
    )()
    entries = energy.space.space if isinstance(energy.space, Clamped) else energy.space
    rows = np.asarray(rows)
    numbers = rows if isinstance(entries, Categorical) else (rows > 0).astype(int)
    n_states = entries.n_states if isinstance(entries, Categorical) else 2
    return numbers.astype(int), np.asarray(p), np.asarray(e), n_states


@pytest.mark.parametrize("name", TABULAR)
def test_marginals_modes_and_draws(name, x64):
    energy = TABULAR[name]()
    numbers, p, e, n_states = _listed(energy)
    expected = np.einsum("s,s...k->...k", p, np.eye(n_states)[numbers])
    np.testing.assert_allclose(marginals(energy), expected, atol=1e-12)
    mode = mode_eliminated(energy)
    assert mode.energy == pytest.approx(e.min(), abs=1e-12)
    assert float(energy.energy(mode.x)) == pytest.approx(e.min(), abs=1e-12)
    draws = draw_eliminated(energy, 4000, key=ex.key(3))
    assert draws.dtype == energy.space.structure.dtype
    assert bool(jnp.all(jax.vmap(energy.space.contains)(draws)))
    rows = np.asarray(draws)
    drawn = rows.astype(int) if draws.dtype == jnp.int32 else (rows > 0).astype(int)
    place = n_states ** np.arange(drawn[0].size)
    code = {c: i for i, c in enumerate((numbers.reshape(len(p), -1) @ place).tolist())}
    at = [code[c] for c in (drawn.reshape(len(drawn), -1) @ place).tolist()]
    assert_drawn_from(np.bincount(at, minlength=len(p)), p)


@pytest.mark.parametrize("scale", [1.0, 400.0])
@pytest.mark.parametrize(("block", "run"), [(1 << 17, 1), (1 << 17, 256), (8, 1), (8, 32)])
def test_every_way_of_multiplying_tables(block, run, scale, monkeypatch, x64):
    """Blocks and runs as short as tables of 3^5 entries need for all of them to be met."""
    monkeypatch.setattr(_tables, "_BLOCK", block)
    monkeypatch.setattr(_tables, "_RUN", run)
    generator = np.random.default_rng(8)
    sizes = np.array([2, 3, 2, 3, 2, 2, 3, 2])
    scopes = [(0, 2, 4), (1, 3), (4, 5), (7, 0, 3), (6, 1), (2, 6, 5), (3, 5), (6, 7), (1, 0), (4,)]
    tables = [scale * generator.normal(size=sizes[list(scope)]) for scope in scopes]
    for table in tables[::3]:
        table[generator.random(table.shape) < 0.3] = np.inf
    model = ex.FactorGraph(8, sizes, [ex.Factor(s, t) for s, t in zip(scopes, tables, strict=True)])
    states = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), 1)
    pairs = zip(scopes, tables, strict=True)
    e = np.sum([t[tuple(states[:, list(s)].T)] for s, t in pairs], axis=0)
    expected = float(logsumexp(-e))
    assert log_partition_eliminated(model) == pytest.approx(expected, rel=1e-13)
    p = np.einsum("s,svk->vk", np.exp(-e - expected), np.eye(3)[states])
    np.testing.assert_allclose(marginals(model), p, atol=1e-12)
    mode = mode_eliminated(model)
    assert mode.energy == pytest.approx(e.min(), rel=1e-13)
    np.testing.assert_array_equal(mode.x, states[e.argmin()])


def test_marginals_are_gradients(x64):
    """Of log Z in a field: at widths and ranges of weights that take every path of the code."""
    for shape, scale in (((8, 9), 0.4), ((3, 12), 60.0)):
        field = jnp.asarray(np.random.default_rng(4).normal(size=shape))
        couplings = scale * np.random.default_rng(5).normal(size=(2, *shape))
        lattice = ex.Lattice(shape)
        got = marginals(ex.Ising(lattice, couplings, field)) @ np.array([-1.0, 1.0])
        step = 1e-5
        for at in ((0, 0), (2, 5)):
            up, down = (
                log_partition_eliminated(ex.Ising(lattice, couplings, field.at[at].add(h)))
                for h in (step, -step)
            )
            assert float(got[at]) == pytest.approx((up - down) / (2 * step), abs=1e-7)


def test_marginals_of_the_torus(x64):
    """The exact nearest-neighbour correlation of the 8 x 8 torus, from pairs given one spin."""
    torus, first = ex.Ising((8, 8), 0.3), np.zeros((8, 8), bool)
    first[0, 0] = True
    given = ex.condition(torus, np.ones((8, 8)), first)
    mean = marginals(given) @ np.array([-1.0, 1.0])
    assert float(mean[0, 1]) == pytest.approx(0.35623368633603, abs=1e-12)
    assert float(mean[7, 0]) == pytest.approx(0.35623368633603, abs=1e-12)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_modes_of_a_wider_glass(scale, x64):
    """No single flip, nor any row's, lowers the energy; the same mode is drawn when it is cold."""
    couplings = np.random.default_rng(6).normal(size=(2, 6, 6))
    glass = ex.Ising((6, 6), scale * couplings, 0.01 * scale)
    mode = mode_eliminated(glass)
    assert float(glass.energy(mode.x)) == pytest.approx(mode.energy, rel=1e-12)
    cold = draw_eliminated(glass ** (400.0 / scale), 20, key=ex.key(0))
    np.testing.assert_array_equal(cold, np.broadcast_to(mode.x, cold.shape))


def test_the_same_key_draws_the_same():
    model = ex.Potts((3, 4), 3, 0.8)
    one, again = (np.asarray(draw_eliminated(model, 50, key=ex.key(1))) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert (one != np.asarray(draw_eliminated(model, 50, key=ex.key(2)))).any()
    assert draw_eliminated(model, 1, key=jax.random.key(0)).shape == (1, 3, 4)


def test_refused():
    model = ex.Ising(4, 0.1)
    never = ex.FactorGraph(2, 2, [ex.Factor((0, 1), np.full((2, 2), np.inf))])
    for answer in (marginals, mode_eliminated, lambda m: draw_eliminated(m, 2, key=ex.key(0))):
        with refused("no state is possible"):
            answer(never)
        with refused("sum of tables", "NeuralEnergy"):
            answer(ex.NeuralEnergy(jnp.sum, ex.Spin(3)))
    with refused("n", "0"):
        draw_eliminated(model, 0, key=ex.key(0))
    with refused("memory=100"):
        marginals(model, memory=100)


CURIE_WEISS = {
    0.5: (69.6588552399, 0.1119244045),
    1.0: (70.7862767637, 0.2867964095),
    1.5: (81.7906876289, 0.8482099715),
}
"""log Z and the mean of |m| of 100 spins with E = -(sum s)^2 / 2N, by inverse temperature."""


@pytest.mark.parametrize("beta", CURIE_WEISS)
def test_curie_weiss_as_a_chain_of_counts(beta, x64):
    """Variable i is how many of the first i + 1 spins are up: width 1, and all spins interact."""
    n = 100
    grown = np.subtract.outer(np.arange(n + 1), np.arange(n + 1)).T  # of the next over this one
    step = np.where((grown == 0) | (grown == 1), 0.0, np.inf)
    first = np.where(np.arange(n + 1) <= 1, 0.0, np.inf)
    total = 2 * np.arange(n + 1) - n
    pairs = np.stack([np.arange(n - 1), np.arange(1, n)], 1)
    last = ex.Factor([n - 1], -beta * total**2 / (2 * n))
    model = ex.FactorGraph(n, n + 1, [ex.Factor([0], first), ex.Factor(pairs, step), last])
    log_z, mean = CURIE_WEISS[beta]
    assert log_partition_eliminated(model) == pytest.approx(log_z, rel=1e-11)
    p = np.asarray(marginals(model))[-1]
    assert p @ np.abs(total) / n == pytest.approx(mean, abs=1e-10)
