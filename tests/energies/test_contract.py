"""What every energy promises, over every constructor of the registry."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import registry
from energax.energies import AbstractBipartite, AbstractTractable, trainable
from energax.exact import all_states
from oracles import (
    ALARM,
    assert_drawn_from,
    chi_squared_p,
    draws,
    index_of,
    log_z,
    probabilities,
    refused,
    stacked,
)

EVERY = {**registry.DISCRETE, **registry.CONTINUOUS, **registry.COUNTS}
GRID = {
    "gaussian": ([-5.5, -13.0], [6.5, 11.0]),
    "multivariate gaussian": ([-7.5, -12.5], [8.5, 10.5]),
    "exponential": ([0.0, 0.0], [60.0, 15.0]),
    "gaussian times gaussian": (-6.5, 8.0),
    "tempered gaussian": (-23.0, 23.0),
    "gaussian mixture": (-7.0, 9.5),
    "uniform box": (-1.0, 3.0),
    "two double wells": (-3.0, 3.0),
    "ring": (-2.6, 2.6),
    "banana": ([-8.0, -5.0], [8.0, 33.0]),
    "funnel": ([-4.0, -25.0], [4.0, 25.0]),
    "gaussian mrf": (-8.0, 9.0),
    "many gaussians": (-6.5, 6.5),
}
"""Where the density of a tractable energy lies, to within 1e-14."""


def _row(rows, i):
    return jax.tree.map(lambda leaf: leaf[i], rows)


def _close(a, b, tolerance):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_energy_of_one_state_is_one_number(name, double):
    with jax.enable_x64(double):
        energy = EVERY[name]()
        tolerance = 1e-12 if double else 2e-5

        @eqx.filter_jit  # the energy is an argument: its arrays, and its space's, are traced
        def compiled(energy, keys):
            rows = jax.vmap(energy.space.draw)(keys)
            if isinstance(energy, ex.FactorGraph) and energy.sizes is not None:
                # Values that a variable does not have are states of energy +inf.
                rows = jax.tree.map(lambda leaf: jnp.minimum(leaf, 1), rows)
            x, y = _row(rows, 0), _row(rows, 1)
            return (
                rows,
                jax.vmap(energy.energy)(rows),
                jax.vmap(energy.log_density)(rows),
                jax.vmap(lambda x: energy.energy_of(energy.terms(x)))(rows),
                energy.log_ratio(x, y),
            )

        # A module is a pytree: taken apart and put together it is the same energy.
        leaves, tree = jax.tree.flatten(energy)
        again = jax.tree.unflatten(tree, leaves)
        assert jax.tree.structure(again) == tree
        rows, values, densities, from_terms, ratio = compiled(
            again, jax.random.split(jax.random.key(1), 6)
        )
        assert values.shape == (6,)
        assert ratio.shape == ()
        assert values.dtype == densities.dtype == (jnp.float64 if double else jnp.float32)
        assert np.isfinite(values).all()
        _close(densities, -values, 0)
        _close(from_terms, values, tolerance)
        _close(ratio, values[1] - values[0], 4 * tolerance)
        if double:
            eager = energy.energy(_row(rows, 5))
            assert eager.shape == ()
            _close(eager, values[5], tolerance)


@pytest.mark.parametrize("name", registry.CONTINUOUS)
def test_score_is_the_gradient_of_the_log_density(name, x64):
    energy = registry.CONTINUOUS[name]()
    rows = draws(energy.space, 3, seed=2)
    score = jax.jit(lambda rows: jax.vmap(energy.score)(rows))(rows)
    size = max(int(np.prod(energy.space.shape)), 1)
    moves = 1e-5 * np.eye(size).reshape(size, *energy.space.shape)
    density = jax.jit(lambda rows: jax.vmap(energy.log_density)(rows))
    differences = [(density(rows + m[None]) - density(rows - m[None])) / 2e-5 for m in moves]
    np.testing.assert_allclose(
        np.asarray(score).reshape(3, size), np.stack(differences, 1), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("name", [*registry.DISCRETE, *registry.COUNTS])
def test_discrete_states_have_no_score(name):
    energy = EVERY[name]()
    with refused("score", "continuous"):
        energy.score(energy.space.draw(ex.key(0)))


def test_a_joint_with_one_discrete_part_has_no_score():
    for label in (ex.Categorical((), 3), ex.Spin(), ex.Joint(inner=ex.Binary())):
        space = ex.Joint(x=ex.Real(2), label=label)
        energy = ex.NeuralEnergy(lambda s: -jnp.sum(s["x"] ** 2), space)
        with refused("score", "continuous"):
            energy.score(space.draw(ex.key(0)))


def test_a_joint_of_continuous_parts_has_a_score():
    space = ex.Joint(x=ex.Real(2), y=ex.Box(low=-1.0))
    energy = ex.NeuralEnergy(lambda s: -jnp.sum(s["x"] ** 2) - 3 * s["y"], space)
    score = energy.score({"x": jnp.array([1.0, -2.0]), "y": jnp.array(0.5)})
    np.testing.assert_allclose(score["x"], [-2.0, 4.0])
    np.testing.assert_allclose(score["y"], -3.0)


def _tractable(table):
    return [name for name in table if isinstance(table[name](), AbstractTractable)]


def test_the_tractable_energies_are_these():
    assert _tractable(registry.DISCRETE) == [
        "bernoulli",
        "conditioned softmax",
        "softmax",
        "mixture",
    ]
    assert _tractable(registry.CONTINUOUS) == list(GRID)
    assert _tractable(registry.COUNTS) == ["poisson"]


@pytest.mark.parametrize("name", ["bernoulli", "softmax", "mixture"])
def test_tractable_discrete_energies(name, x64):
    energy = registry.DISCRETE[name]()
    np.testing.assert_allclose(energy.log_normaliser(), log_z(energy), atol=1e-13)
    drawn = index_of(energy.space, draws(energy, 10_000, seed=3))
    p = probabilities(energy)
    assert_drawn_from(np.bincount(drawn, minlength=p.size), p)


@pytest.mark.parametrize("name", GRID)
def test_tractable_continuous_energies(name, x64):
    energy = registry.CONTINUOUS[name]()
    shape = energy.space.shape
    low, high = (np.broadcast_to(end, shape) for end in GRID[name])
    # Fine cells within coarse ones: their sum is Z, their shares what draws must show.
    coarse, fine = 12, 60
    n = coarse * fine
    axes = [
        low.reshape(-1)[i] + (np.arange(n) + 0.5) * (high - low).reshape(-1)[i] / n
        for i in range(low.size)
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, *shape)
    density = jax.jit(lambda rows: jnp.exp(jax.vmap(energy.log_density)(rows)))(points)
    volume = np.prod((high - low) / n)
    mass = (volume * np.asarray(density)).reshape((coarse, fine) * max(len(shape), low.size))
    mass = mass.sum(tuple(range(1, mass.ndim, 2)))
    exact = name != "exponential"  # whose density jumps at 0, where the midpoint rule is slow
    np.testing.assert_allclose(
        energy.log_normaliser(), np.log(mass.sum()), atol=1e-9 if exact else 1e-3
    )
    drawn = np.asarray(draws(energy, 10_000, seed=4)).reshape(10_000, -1)
    counts, _ = np.histogramdd(
        drawn, coarse, list(zip(low.reshape(-1), high.reshape(-1), strict=True))
    )
    assert counts.sum() == 10_000
    assert chi_squared_p(counts.reshape(-1), mass.reshape(-1) / mass.sum()) > ALARM


@pytest.mark.parametrize("name", EVERY)
def test_bipartite_energies_are_the_marginal_of_their_layers(name, x64):
    energy = EVERY[name]()
    if not isinstance(energy, AbstractBipartite):
        assert "annealed" not in name
        assert name not in ("rbm", "rbm.joint", "conditioned rbm", "rbm times rbm")
        return
    hidden = stacked(energy.hidden_space)
    by_hidden = jax.jit(lambda h: jax.vmap(energy.hidden_log_density)(h))(hidden)
    total = float(jax.scipy.special.logsumexp(by_hidden))
    if name == "conditioned rbm":
        e = jax.jit(lambda: jax.vmap(energy.energy)(all_states(energy.space)))()
        assert total == pytest.approx(np.log(np.exp(-np.asarray(e)).sum()), abs=1e-12)
    else:
        assert total == pytest.approx(log_z(energy), abs=1e-12)


TRAINED = {
    "rbm": [".hidden_bias", ".visible_bias", ".weights"],
    "rbm.joint": [".rbm.hidden_bias", ".rbm.visible_bias", ".rbm.weights"],
    "conditioned rbm": [".rbm.hidden_bias", ".rbm.visible_bias", ".rbm.weights"],
    "annealed rbm": [".rbm.hidden_bias", ".rbm.visible_bias", ".rbm.weights"],
    "tempered rbm": [".inner.hidden_bias", ".inner.visible_bias", ".inner.weights"],
    "rbm times bernoulli": [
        ".factors[0].hidden_bias",
        ".factors[0].visible_bias",
        ".factors[0].weights",
        ".factors[1].logits",
    ],
    "frozen rbm": [],
    "bernoulli": [".logits"],
    "mixture": [".log_weights", ".members[0].logits", ".members[1].logits"],
    "exponential family": [".natural_parameter"],
    "conditioned table": [],
    "conditioned joint": [],
    "geometric path": [],
    "gaussian": [".log_scale", ".mean"],
    "multivariate gaussian": [".mean", ".precision_factor"],
    "exponential": [".log_rate"],
    "gaussian times gaussian": [".inner.log_scale", ".inner.mean"],
    "tempered gaussian": [".inner.log_scale", ".inner.mean"],
    "box": [],
    "uniform box": [],
    "two double wells": [".log_distance", ".log_height"],
    "ring": [".log_radius", ".log_width"],
    "banana": [".bend", ".location", ".log_scale", ".log_width", ".offset"],
    "funnel": [".log_scale"],
    "gaussian mrf": [".coupling", ".mass", ".mean"],
    "mueller brown": [],
    "many gaussians": [".log_scales", ".log_weights", ".means"],
    "poisson": [".log_rate"],
}


@pytest.mark.parametrize("name", TRAINED)
def test_an_optimiser_sees_the_parameters_and_nothing_else(name):
    energy = EVERY[name]()
    marks = trainable(energy)
    assert jax.tree.structure(marks) == jax.tree.structure(energy)
    flat = jax.tree.leaves_with_path(marks)
    assert all(type(mark) is bool for _, mark in flat)
    assert sorted(jax.tree_util.keystr(path) for path, mark in flat if mark) == TRAINED[name]


def test_networks_train_and_what_surrounds_them_does_not():
    network = eqx.nn.MLP(2, "scalar", 3, 1, key=jax.random.key(0))
    energy = ex.NeuralEnergy(network, ex.Box(2, -1.0, 1.0))
    held = ex.condition(energy**2.0, np.array([0.5, 0.0]), np.array([True, False]))
    both = ex.product([held, ex.freeze(held)])
    marks = jax.tree.leaves_with_path(trainable(both))
    on = sorted(jax.tree_util.keystr(path) for path, mark in marks if mark)
    stem = ".factors[0].inner.inner.function.layers"
    assert on == [f"{stem}[{i}].{part}" for i in (0, 1) for part in ("bias", "weight")]
    parameters, _ = eqx.partition(both, trainable(both))
    assert len(jax.tree.leaves(parameters)) == 4
