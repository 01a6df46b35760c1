"""Ladders of chains in training: they cross where plain chains stay, and follow the energy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_gradients import each, likelihood_gradient

import energax as ex
import oracles
import registry
from energax.kernels import ladder_report

pytestmark = pytest.mark.slow

ROWS = np.random.default_rng(0).integers(0, 2, (7, 4))
Tempered = ex.TemperedContrastiveDivergence


def _two_modes() -> ex.RBM:
    """Six bits that are all 0 or all 1, the latter with a probability of about 0.85: a sweep
    hardly ever goes from one to the other, and from fair coins both are as near."""
    return ex.RBM(np.full((6, 2), 3.5), np.full(6, -3.2), np.full(2, -10.5))


def _gradients(objective, energy, rows, n_steps, n_runs):
    """The last of `n_steps` gradients of each of many runs, the energy held; and the states."""

    @jax.jit
    @jax.vmap
    def run(key):
        key_init, key_steps = jax.random.split(key)
        state = objective.init(energy, rows, key=key_init)
        keys = jax.random.split(key_steps, n_steps)

        def one(i, state):
            return objective.gradient(energy, rows, state, key=keys[i]).state

        state = jax.lax.fori_loop(0, n_steps - 1, one, state)
        step = objective.gradient(energy, rows, state, key=keys[-1])
        return step.gradient, step.state

    gradients, states = run(jax.random.split(ex.key(3), n_runs))
    return each(gradients, n_runs), states


def test_plain_chains_are_stuck_where_ladders_are_not(x64):
    """After 60 steps from fair coins: the mean over 1,000 runs of ten chains against the exact
    gradient by enumeration; false alarm 1e-5 over all 20 parameters. Plain chains keep the shares
    of the modes that the coins gave them."""
    rbm = _two_modes()
    rows = jnp.concatenate([jnp.zeros((1, 6)), jnp.ones((1, 6))])
    exact = likelihood_gradient(rbm, rows)
    p = oracles.probabilities(rbm)
    assert p[-1] > 5 * p[0] > 0.5
    base = ex.Bernoulli(np.zeros(6))
    ladder = ex.ReplicaExchange(ex.BlockGibbs(), n_replicas=6, base=base)
    found, states = _gradients(Tempered(n_chains=10, kernel=ladder), rbm, rows, 60, 1000)
    oracles.assert_mean(found, exact)
    assert np.asarray(states.chains.swaps.round_trips).mean() > 1
    plain = ex.PersistentContrastiveDivergence(n_chains=10)
    stuck, _ = _gradients(plain, rbm, rows, 60, 1000)
    with pytest.raises(AssertionError):
        oracles.assert_mean(stuck, exact)
    # The share of ones, in the gradient of the visible biases.
    assert np.abs(stuck.mean(0) - exact)[12:18].min() > 0.2


def test_persistent_chains_may_be_ladders_too():
    """A fixed ladder, bit for bit the same by either name, and only its cold replicas count."""
    rbm = registry._rbm()
    rows = rbm.space.convert(ROWS)
    ladder = ex.ReplicaExchange(
        ex.BlockGibbs(), n_replicas=3, base=ex.Bernoulli(np.zeros(4)), adapt=False
    )
    plain = ex.PersistentContrastiveDivergence(n_chains=20, n_steps=2, kernel=ladder)
    named = Tempered(n_chains=20, n_steps=2, kernel=ladder)
    steps = []
    for objective in (plain, named):
        state = objective.init(rbm, rows, key=ex.key(0))
        go = jax.jit(lambda s, k, o=objective: o.gradient(rbm, rows, s, key=k))
        steps.append(go(go(state, ex.key(1)).state, ex.key(2)))
    for a, b in zip(
        jax.tree.leaves(steps[0].gradient), jax.tree.leaves(steps[1].gradient), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    chains = steps[1].state.chains
    assert chains.x.shape == (20, 4)
    cold = np.argmax(chains.level, 1)
    np.testing.assert_array_equal(chains.x, np.asarray(chains.replicas.x)[np.arange(20), cold])
    energies = jax.jit(jax.vmap(rbm.energy))(chains.x)
    assert float(steps[1].measures["energy_model"]) == pytest.approx(float(energies.mean()), 1e-5)
    np.testing.assert_array_equal(steps[1].state.kernel.betas, ladder.betas)


def test_ladders_are_refreshed_after_an_update(x64):
    # What every replica keeps belongs to the parameters before the update.
    rbm = registry._rbm()
    rows = rbm.space.convert(ROWS)
    objective = Tempered(n_chains=20, n_replicas=3)
    state = objective.init(rbm, rows, key=ex.key(0))
    other = eqx.tree_at(lambda r: r.weights, rbm, -rbm.weights)
    step = jax.jit(lambda s: objective.gradient(other, rows, s, key=ex.key(1)).state.chains)
    fresh = jax.vmap(state.kernel.refresh, in_axes=(None, 0))(other, state.chains)
    a, b = step(state), step(eqx.tree_at(lambda s: s.chains, state, fresh))
    np.testing.assert_array_equal(a.replicas.x, b.replicas.x)
    np.testing.assert_array_equal(a.level, b.level)


def test_rungs_follow_the_energy_where_they_may():
    """From a poor ladder, on a model whose replicas find the outer swaps easy: after 100 steps
    the rungs have moved to where all swaps are refused as often. The ends stay."""
    rbm = _two_modes()
    rows = jnp.ones((2, 6))
    betas = [0.0, 0.02, 0.04, 0.06, 1.0]
    base = ex.Bernoulli(np.zeros(6))
    ladder = ex.ReplicaExchange(ex.BlockGibbs(), betas, base=base)
    objective = Tempered(n_steps=10, n_chains=50, kernel=ladder)
    step = jax.jit(lambda s, key: objective.gradient(rbm, rows, s, key=key))
    state = objective.init(rbm, rows, key=ex.key(0))
    rates = []
    for i in range(60):
        new = step(state, ex.key(i))
        rates.append(float(new.measures["swap_rate"]))
        moved = np.any(new.state.kernel.betas != state.kernel.betas)
        assert moved == (i % 10 == 9)
        state = new.state
    np.testing.assert_array_equal(np.asarray(state.kernel.betas)[[0, -1]], [0, 1])
    assert rates[-1] > 1.5 * rates[8]
    report = ladder_report(state.kernel, step(state, ex.key(99)).state.chains)
    assert np.ptp(report.swap_rates) < 0.2
    assert report.n_steps == 10  # counted anew on each ladder
    assert report.round_trips.sum() > 50  # and these from the start


def test_the_ladder_that_is_chosen_fits_the_energy():
    rbm = registry._rbm()
    rows = rbm.space.convert(ROWS)
    state = Tempered(n_chains=4, n_replicas=5).init(rbm, rows, key=ex.key(0))
    np.testing.assert_allclose(state.kernel.base.logits, ex.Bernoulli.from_data(ROWS).logits)
    assert state.kernel.n_replicas == 5
    state = Tempered(n_chains=4).init(ex.Ising(4, 0.5), jnp.ones((2, 4)), key=ex.key(0))
    assert state.kernel.base is None  # a power of an Ising model is one
    assert isinstance(state.kernel.kernel, ex.BlockGibbs)
    with oracles.refused("ReplicaExchange", "BlockGibbs"):
        Tempered(kernel=ex.BlockGibbs())
    with oracles.refused("n_replicas", "at least 2"):
        Tempered(n_replicas=1)
    with oracles.refused("cannot move on every rung"):
        Tempered(kernel=ex.ReplicaExchange(ex.BlockGibbs())).init(rbm, rows, key=ex.key(0))


def test_ladders_that_do_not_help_are_complained_of():
    said = Tempered().complaint
    assert "only 2% of the swaps" in said({"swap_rate": 0.02, "round_trips": 5.0})
    assert "no replica went from cold to hot and back" in said(
        {"swap_rate": 0.5, "round_trips": 0.0}
    )
    assert said({"swap_rate": 0.5, "round_trips": 0.1}) == ""
