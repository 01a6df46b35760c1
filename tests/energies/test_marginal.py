"""Marginals against sums over the joint states, and what they refuse."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import energax as ex
import oracles
import registry
from energax.energies import Frozen, Marginal, trainable


def test_the_sum_over_the_hidden_layer_is_the_machine(x64):
    rbm = registry.DISCRETE["rbm"]()
    marginal = ex.marginal(rbm.joint, "hidden")
    assert sorted(marginal.space.parts) == ["visible"]
    rows = oracles.stacked(rbm.space)

    @jax.jit
    def both(rows):
        return (
            jax.vmap(lambda v: marginal.energy({"visible": v}))(rows),
            jax.vmap(rbm.energy)(rows),
        )

    found, expected = both(rows)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("names", ["a", "b", ["a", "c"], ["b", "c"]])
def test_it_sums_what_the_joint_says(names, x64):
    space = ex.Joint(a=ex.Spin(2), b=ex.Categorical((), 3), c=ex.Binary(2))
    joint = registry._table(space, seed=1)
    marginal = ex.marginal(joint, names)
    left = [name for name in space.parts if name not in names]
    assert sorted(marginal.space.parts) == left
    every, e = oracles.states(space), oracles.energies(joint)

    def key(state):
        return tuple(np.asarray(state[name]).tobytes() for name in left)

    for state, found in zip(
        oracles.states(marginal.space), oracles.energies(marginal), strict=True
    ):
        alike = np.array([key(other) == key(state) for other in every])
        assert found == pytest.approx(-logsumexp(-e[alike]), abs=1e-12)
    assert oracles.log_z(marginal) == pytest.approx(oracles.log_z(joint), abs=1e-12)


def test_sums_in_turn_are_one(x64):
    joint = registry._table(ex.Joint(a=ex.Spin(2), b=ex.Categorical((), 3), c=ex.Binary(2)))
    one, both = ex.marginal(ex.marginal(joint, "c"), "a"), ex.marginal(joint, ["a", "c"])
    assert isinstance(one, Marginal)
    assert one.summed == both.summed == ("a", "c")


def test_more_states_than_are_held_at_once(x64):
    """2^13 states of the summed part, in two blocks: independent bits add softplus each."""
    space = ex.Joint(bits=ex.Binary(13), x=ex.Real())
    slopes = jnp.linspace(-1.0, 1.0, 13)
    joint = ex.NeuralEnergy(lambda s: s["x"] * (slopes @ s["bits"]) - s["x"] ** 2, space)
    marginal = ex.marginal(joint, "bits")
    x = jnp.array(1.7)
    energy, score = jax.jit(lambda s: (marginal.energy(s), marginal.score(s)["x"]))({"x": x})
    expected = float(-jnp.sum(jax.nn.softplus(1.7 * slopes)) + 1.7**2)
    assert float(energy) == pytest.approx(expected, rel=1e-12)
    expected = float(jnp.sum(slopes * jax.nn.sigmoid(1.7 * slopes)) - 3.4)
    assert float(score) == pytest.approx(expected, rel=1e-12)


def test_its_parameters_are_those_of_the_joint():
    joint = registry._rbm().joint
    marginal = ex.marginal(joint, "hidden")
    parameters = eqx.filter(marginal, trainable(marginal))
    assert jax.tree.structure(parameters.inner) == jax.tree.structure(
        eqx.filter(joint, trainable(joint))
    )
    frozen = ex.marginal(ex.freeze(joint), "hidden")
    assert isinstance(frozen, Frozen)
    assert not jax.tree.leaves(eqx.filter(frozen, trainable(frozen)))


def test_a_marginal_samples_as_any_energy():
    joint = registry._table(ex.Joint(a=ex.Spin(2), b=ex.Categorical((), 3)))
    marginal = ex.marginal(joint, "b")
    draws = ex.sample(marginal, 4000, key=ex.key(0), chains=4)
    counts = np.bincount(oracles.index_of(marginal.space, draws.flat), minlength=4)
    oracles.assert_drawn_from(counts, oracles.probabilities(marginal))


def test_what_cannot_be_is_refused():
    joint = registry._rbm().joint
    with oracles.refused("marginal needs an energy", "int"):
        ex.marginal(3, "hidden")
    with oracles.refused("Joint", "Binary"):
        ex.marginal(registry._rbm(), "hidden")
    with oracles.refused("['hidden', 'visible']", "label"):
        ex.marginal(joint, "label")
    with oracles.refused("nothing is left"):
        ex.marginal(joint, ["hidden", "visible"])
    mixed = ex.NeuralEnergy(
        lambda s: -(s["x"] ** 2) + s["b"][0], ex.Joint(x=ex.Real(), b=ex.Binary(40))
    )
    for name in ("x", "b"):
        with oracles.refused("2^32", name):
            ex.marginal(mixed, name)
