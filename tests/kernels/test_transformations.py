"""Kernels under jit and vmap, in both precisions, and with both kinds of keys."""

import energax as ex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import registry
from energax.sampling import start_chains, step_chains
from scipy import stats

CASES = {
    ("random walk", "rbm"): registry.DISCRETE["rbm"],
    ("random walk", "table of a joint"): registry.DISCRETE["table of a joint"],
    ("random walk", "gaussian"): registry.CONTINUOUS["gaussian"],
    ("block gibbs", "rbm"): registry.DISCRETE["rbm"],
    ("block gibbs", "rbm.joint"): registry.DISCRETE["rbm.joint"],
}
KEYS = {"energax": ex.key, "jax": jax.random.key}

cases = pytest.mark.parametrize(("kernel_name", "energy_name"), CASES)


def _make(kernel_name, energy_name):
    energy = CASES[kernel_name, energy_name]()
    return registry.KERNELS[kernel_name](energy), energy


def _starts(energy, n: int, key):
    return jax.vmap(energy.space.draw)(jax.random.split(key, n))


@cases
@pytest.mark.parametrize("keys", KEYS)
def test_chains_side_by_side_are_chains_one_by_one(kernel_name, energy_name, keys):
    kernel, energy = _make(kernel_name, energy_name)
    x = _starts(energy, 3, KEYS[keys](0))
    step_keys = jax.random.split(KEYS[keys](1), 3)
    chains = start_chains(energy, kernel, x, KEYS[keys](2))
    together, told = jax.jit(jax.vmap(kernel.step, in_axes=(None, 0, 0)))(energy, chains, step_keys)
    for i in range(3):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], chains)
        alone, info = kernel.step(energy, one, step_keys[i])  # not compiled
        for a, b in zip(
            jax.tree.leaves((alone, info)), jax.tree.leaves((together, told)), strict=True
        ):
            np.testing.assert_allclose(a, b[i], rtol=2e-5, atol=1e-5)


@cases
def test_shapes_and_dtypes_survive_a_step_in_double_precision(kernel_name, energy_name, x64):
    kernel, energy = _make(kernel_name, energy_name)
    state = kernel.init(energy, energy.space.draw(ex.key(0)), ex.key(1))
    new, info = jax.eval_shape(kernel.step, energy, state, ex.key(2))
    like = jax.eval_shape(lambda: state)
    assert jax.tree.structure(new) == jax.tree.structure(like)
    assert [(a.shape, a.dtype) for a in jax.tree.leaves(new)] == [
        (a.shape, a.dtype) for a in jax.tree.leaves(like)
    ]
    assert info.acceptance.dtype == info.energy.dtype == jnp.float64
    refreshed = jax.eval_shape(kernel.refresh, energy, state)
    assert jax.tree.structure(refreshed) == jax.tree.structure(like)
    retempered = jax.eval_shape(kernel.retemper, energy, state)
    assert jax.tree.structure(retempered) == jax.tree.structure(like)


@cases
@pytest.mark.parametrize("keys", KEYS)
def test_a_key_fixes_a_step_and_other_keys_are_independent(kernel_name, energy_name, keys):
    kernel, energy = _make(kernel_name, energy_name)
    n = 4000
    x = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (n, *leaf.shape)), energy.space.draw(ex.key(0))
    )

    @jax.jit
    def ends(key):
        """The energies of chains from one state after ten steps."""
        chains = start_chains(energy, kernel, x, ex.key(1))

        def body(chains, key):
            return step_chains(energy, kernel, chains, key)[0], None

        chains, _ = jax.lax.scan(body, chains, jax.random.split(key, 10))
        return jax.vmap(energy.energy)(chains.x)

    first, again, other = (np.asarray(ends(KEYS[keys](seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    # Rank correlation between keys and between neighbouring chains of one key: four per case
    # are asked, so an ideal kernel fails one of all with a chance below 1e-4 on fresh seeds.
    for a, b in ((first, other), (first[1:], first[:-1])):
        assert stats.spearmanr(a, b).pvalue > 1e-4 / (4 * len(CASES))
