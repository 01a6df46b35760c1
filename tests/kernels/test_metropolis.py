"""The Metropolis test: what it accepts, what it refuses, and what it must not hide.

The statistical tests here are eight; an ideal kernel fails one of them, on fresh seeds, with a
chance below `ALARM`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from enumerated_moves import moves, registered
from scipy import stats

import energax as ex
from energax.kernels import MetropolisHastings, RandomWalkMetropolis, start_chains, step_chains
from energax.random import bernoulli
from energax.spaces import Clamped
from oracles import refused

ALARM = 1e-4 / 8

TABLES = ["table of bits", "table of spins", "table of labels", "table of a joint"]


def _steps(kernel, energy, x, n_steps: int = 1, seed: int = 0):
    """The chains' states after `n_steps` steps, and what the last step told."""
    key_init, key_walk = jax.random.split(ex.key(seed))

    @jax.jit
    def run(x):
        chains = start_chains(energy, kernel, x, key_init)

        def body(chains, key):
            return step_chains(energy, kernel, chains, key)

        return jax.lax.scan(body, chains, jax.random.split(key_walk, n_steps))

    chains, info = run(x)
    return chains, jax.tree.map(lambda leaf: leaf[-1], info)


@pytest.mark.parametrize("energy_name", TABLES)
def test_downhill_by_the_ratio_of_probabilities_and_uphill_always(energy_name):
    made = registered("random walk", energy_name)
    p, matrix = made.target, made.matrix
    # Half of the outcomes accept, the last draw of a step; those show where a proposal leads.
    accepting = made.reached[:, 1::2]
    ratio = np.minimum(1.0, p[accepting] / p[:, None])
    np.testing.assert_allclose(made.acceptance[:, 1::2], ratio, rtol=1e-12)
    np.testing.assert_array_equal(made.acceptance[:, 0::2], made.acceptance[:, 1::2])
    assert (ratio < 1).any()
    assert (made.reached[:, 0::2] == np.arange(len(p))[:, None]).all()
    flow = p[:, None] * matrix
    np.testing.assert_allclose(flow, flow.T, rtol=0, atol=1e-15)


def test_every_neighbour_is_proposed_equally_often():
    made = registered("random walk", "table of labels")
    proposals = np.zeros((9, 9))
    np.add.at(
        proposals,
        (np.arange(9)[:, None], made.reached[:, 1::2]),
        1 / made.reached[:, 1::2].shape[1],
    )
    np.testing.assert_allclose(proposals, proposals.T)
    assert ((proposals > 0).sum(1) == 4).all()  # either of two labels to either other value
    np.testing.assert_allclose(proposals[proposals > 0], 0.25)


_HALF = np.arange(4) < 2

HELD = {
    "bits": ex.condition(ex.Uniform(ex.Binary(4)), np.ones(4), _HALF),
    "spins, conditioned twice": ex.condition(
        ex.condition(ex.Uniform(ex.Spin(4)), np.ones(4), _HALF), np.ones(4), np.arange(4) > 2
    ),
    "labels": ex.condition(ex.Uniform(ex.Categorical(4, 3)), np.ones(4), _HALF),
    "a part that is held": ex.NeuralEnergy(
        lambda s: jnp.zeros(()),
        ex.Joint(
            a=Clamped(ex.Spin(2), jnp.ones(2), jnp.ones(2, bool)),
            b=Clamped(ex.Binary(3), jnp.ones(3), jnp.arange(3) == 0),
            c=ex.Categorical((), 1),
        ),
    ),
    "real numbers in a joint": ex.NeuralEnergy(
        lambda s: jnp.zeros(()),
        ex.Joint(a=ex.Real(), b=Clamped(ex.Real(2), jnp.ones(2), jnp.ones(2, bool))),
    ),
}


@pytest.mark.parametrize("name", HELD)
def test_what_is_held_is_not_proposed(name):
    """All states are alike, so every proposal is accepted: each has to be of another state."""
    energy = HELD[name]
    x = jax.vmap(energy.space.draw)(jax.random.split(ex.key(7), 2000))
    chains, info = _steps(RandomWalkMetropolis(), energy, x)
    assert bool((info.acceptance == 1).all())
    assert bool(jax.vmap(energy.space.contains)(chains.x).all())
    pairs = zip(jax.tree.leaves(chains.x), jax.tree.leaves(x), strict=True)
    changed = np.concatenate([np.asarray(a != b).reshape(2000, -1) for a, b in pairs], 1)
    assert (changed.sum(1) == 1).all()
    free = changed.any(0)
    # Every free entry as often as any other.
    assert stats.chisquare(changed.sum(0)[free]).pvalue > ALARM or free.sum() == 1
    expected = {"spins, conditioned twice": 1, "real numbers in a joint": 1}
    assert free.sum() == expected.get(name, 2)


def test_one_cell_with_a_total_is_not_proposed():
    energy = ex.NeuralEnergy(
        lambda s: -0.5 * s["x"] ** 2, ex.Joint(cell=ex.Count((1,), total=3), x=ex.Real())
    )
    draws = ex.sample(energy, 4000, key=ex.key(0), kernel=RandomWalkMetropolis(), chains=8)
    assert 0.3 < float(draws.acceptance.mean()) < 0.6
    assert 1 < float(draws.kernel.step_size) < 6


def test_where_all_is_held_nothing_moves():
    for space, values in ((ex.Spin(3), np.ones(3)), (ex.Categorical(3, 4), np.full(3, 2))):
        held = ex.condition(ex.Uniform(space), values, np.ones(3, bool))
        x = jax.vmap(held.space.draw)(jax.random.split(ex.key(0), 10))
        chains, info = _steps(RandomWalkMetropolis(), held, x, 3)
        np.testing.assert_array_equal(chains.x, np.broadcast_to(values, (10, 3)))
        np.testing.assert_array_equal(info.acceptance, 1.0)


def test_proposals_outside_a_box_are_refused():
    energy = ex.Uniform(ex.Box(2, -1.0, 3.0))
    x = jnp.asarray(np.random.default_rng(0).uniform(-1, 3, (20_000, 2)), jnp.float32)
    chains, info = _steps(RandomWalkMetropolis(2.0), energy, x)
    assert bool(jnp.all((chains.x >= -1) & (chains.x <= 3)))
    # The chance to stay inside, over both coordinates, of normal steps of width 2.
    w = 4 / 2
    inside = ((2 * stats.norm.cdf(w) - 1) - 2 * (stats.norm.pdf(0) - stats.norm.pdf(w)) / w) ** 2
    seen = np.asarray(info.acceptance, np.float64)
    assert set(np.unique(seen)) == {0.0, 1.0}
    z = (seen.mean() - inside) / np.sqrt(inside * (1 - inside) / len(seen))
    assert 2 * stats.norm.sf(abs(z)) > ALARM


def test_an_energy_that_is_nothing_outside_its_box_is_no_failure():
    # log x is NaN below zero, where no state lies.
    energy = ex.NeuralEnergy(lambda x: jnp.log(x) - x, ex.Box((), 0.0, jnp.inf))
    x = jnp.full((500,), 0.1)
    chains, _ = _steps(RandomWalkMetropolis(1.0), energy, x, n_steps=50)
    assert bool(jnp.all(jnp.isfinite(chains.energy)))
    assert bool(jnp.all(chains.x > 0))
    assert float(chains.x.mean()) > 1


def test_counts_stay_counts_and_keep_their_distribution():
    energy = ex.Poisson(jnp.array([0.5, 3.0]))
    x = jnp.asarray(np.random.default_rng(1).poisson([0.5, 3.0], (200_000, 2)), jnp.int32)
    chains, info = _steps(RandomWalkMetropolis(), energy, x)
    assert chains.x.dtype == jnp.int32
    assert int(chains.x.min()) == 0
    assert float(info.acceptance.min()) == 0.0  # from 0 down
    for column, rate in enumerate((0.5, 3.0)):
        seen = np.bincount(np.asarray(chains.x[:, column]))
        expected = stats.poisson.pmf(np.arange(len(seen)), rate) * len(x)
        kept = expected > 5
        statistic = ((seen - expected) ** 2 / expected)[kept].sum()
        tail = stats.chi2.sf(statistic, kept.sum() - 1)
        assert 2 * min(tail, 1 - tail) > ALARM


def test_counts_with_a_total_keep_it(x64):
    energy = ex.NeuralEnergy(
        lambda x: 0.7 * x[0].astype(float) - 0.2 * (x[1] * x[2]).astype(float), ex.Count(3, total=2)
    )
    states = [np.array(s, np.int32) for s in np.ndindex(3, 3, 3) if sum(s) == 2]
    made = moves(RandomWalkMetropolis(), energy, states=states)
    np.testing.assert_allclose(made.target @ made.matrix, made.target, rtol=0, atol=1e-12)
    assert (np.linalg.matrix_power(np.eye(6) + made.matrix, 6) > 0).all()


def test_infinite_energies_are_refused_and_left():
    # Even labels are excluded: 1 and 3 are not neighbours of each other through a state allowed.
    levels = jnp.array([jnp.inf, 0.0, jnp.inf, 1.0])
    energy = ex.NeuralEnergy(lambda x: -levels[x], ex.Categorical((), 4))
    x = jnp.repeat(jnp.arange(4, dtype=jnp.int32), 500)
    chains, info = _steps(RandomWalkMetropolis(), energy, x)
    started, ended = np.asarray(x), np.asarray(chains.x)
    allowed = np.isin(started, (1, 3))
    assert np.isin(ended[allowed], (1, 3)).all()
    moved = ended != started
    # From where p = 0 every step to a finite energy is uphill; none to another infinite one.
    assert np.isin(ended[~allowed & moved], (1, 3)).all()
    assert (np.asarray(info.acceptance)[~allowed & moved] == 1).all()
    assert (~np.isin(ended[~allowed & ~moved], (1, 3))).all()
    assert (np.asarray(info.acceptance)[~allowed & ~moved] == 0).all()
    assert not np.isnan(np.asarray(info.acceptance)).any()


@pytest.mark.parametrize("value", [jnp.nan, -jnp.inf])
def test_a_failing_energy_stays_visible(value):
    energy = ex.NeuralEnergy(lambda x: jnp.where(x > 1, -value, -(x**2)), ex.Real())
    chains, _ = _steps(RandomWalkMetropolis(1.0), energy, jnp.zeros((100,)), n_steps=100)
    failed = np.asarray(chains.x) > 1
    assert failed.mean() > 0.9
    assert not np.isfinite(np.asarray(chains.energy)[failed]).any()
    assert np.isfinite(np.asarray(chains.energy)[~failed]).all()


def test_a_proposal_of_nan_stays_visible():
    energy = ex.Gaussian(jnp.zeros(2))
    kernel = MetropolisHastings(lambda key, x: jnp.full_like(x, jnp.nan))
    chains, _ = _steps(kernel, energy, jnp.zeros((3, 2)))
    assert bool(jnp.all(jnp.isnan(chains.energy)))
    again = jax.vmap(kernel.refresh, in_axes=(None, 0))(energy, chains)
    assert bool(jnp.all(jnp.isnan(again.energy)))


def _doubling(corrected: bool) -> MetropolisHastings:
    def propose(key, x):
        return x * jnp.exp(0.8 * jax.random.normal(key, x.shape))

    def log_ratio(x, y):
        return jnp.sum(jnp.log(y) - jnp.log(x))

    return MetropolisHastings(propose, log_ratio if corrected else None)


def test_a_multiplicative_walk_needs_its_correction():
    energy = ex.Exponential(jnp.array([2.0]))
    x = jnp.asarray(np.random.default_rng(2).exponential(0.5, (100_000, 1)), jnp.float32)

    def p_value(corrected):
        chains, _ = _steps(_doubling(corrected), energy, x, seed=3)
        return stats.kstest(np.asarray(chains.x[:, 0]), "expon", (0, 0.5)).pvalue

    assert p_value(True) > ALARM
    assert p_value(False) < 1e-12


def test_settings_are_checked(as_users_call):
    for step_size in (0.0, -1.0, np.inf, np.nan, [0.1, 0.2]):
        with pytest.raises(ValueError, match="step_size"):
            RandomWalkMetropolis(step_size)
    with pytest.raises(ValueError, match="must have shape"):
        _steps(
            MetropolisHastings(lambda key, x: x[:1]), ex.Gaussian(jnp.zeros(2)), jnp.zeros((3, 2))
        )


def test_a_proposal_that_changes_an_observed_entry_is_refused():
    """Put back and accepted, the swap of two spins would never leave (+1, +1)."""
    flat = ex.NeuralEnergy(lambda x: 0.0 * jnp.sum(x), ex.Spin(2))
    held = ex.condition(flat, np.array([1, 1]), np.array([True, False]))
    kernel = MetropolisHastings(lambda key, x: x[::-1])
    x = jnp.tile(jnp.array([[1.0, -1.0], [1.0, 1.0]]), (5, 1))
    chains, info = _steps(kernel, held, x, 3)
    np.testing.assert_array_equal(chains.x, x)
    np.testing.assert_array_equal(info.acceptance, np.tile([0.0, 1.0], 5))


def test_a_ratio_that_is_no_number_is_refused():
    kernel = MetropolisHastings(lambda key, x: x * 1.1, lambda x, y: jnp.log(y) - jnp.log(x))
    with refused("log_proposal_ratio", "one number", "(3,)"):
        ex.sample(ex.Gaussian(jnp.zeros(3)), 10, key=ex.key(0), kernel=kernel)


def test_probabilities_below_the_spacing_of_uniform_numbers_are_zero():
    keys = jax.random.split(ex.key(0), 64)
    rare = jnp.full((1 << 18,), 1e-9)
    drawn = jax.jit(lambda keys: jax.lax.map(lambda k: jnp.sum(bernoulli(k, rare)), keys))(keys)
    assert int(jnp.sum(drawn)) == 0  # `uniform < p` is true twice in these 2^24
    assert bool(bernoulli(ex.key(0), jnp.ones((1000,))).all())
    share = float(jnp.mean(bernoulli(ex.key(1), jnp.full((1_000_000,), 0.3))))
    assert share == pytest.approx(0.3, abs=5 * np.sqrt(0.21 / 1e6))
