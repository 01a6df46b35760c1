"""Energies combined: densities multiply, mix and slice exactly, constants and structure kept."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

import energax as ex
import registry
from energax.energies import (
    AbstractTractable,
    Conditioned,
    Frozen,
    GeometricPath,
    Mixture,
    MixtureOfEnergies,
    Product,
    Shifted,
    Tempered,
    freeze,
    unfreeze,
)
from energax.energies.machines import AnnealedRBM, ConditionedRBM, JointRBM
from energax.exact import log_partition_enumerated, log_partition_on_grid
from oracles import assert_drawn_from, draws, energies, index_of, log_z, refused, stacked

RBM = registry.DISCRETE["rbm"]
RNG = np.random.default_rng(0)


def _gaussian(seed=0):
    rng = np.random.default_rng(seed)
    return ex.Gaussian(rng.normal(size=2), np.exp(0.3 * rng.normal(size=2)))


def _full(seed=1):
    rng = np.random.default_rng(seed)
    root = 0.6 * rng.normal(size=(2, 2))
    return ex.MultivariateGaussian(rng.normal(size=2), np.eye(2) * 0.5 + root @ root.T)


def _softmax(seed=0):
    return ex.Softmax(np.random.default_rng(seed).normal(size=(2, 3)) * 2)


def _bits(seed=0):
    return ex.Bernoulli(np.random.default_rng(seed).normal(size=4) * 2)


def _table(name="table of bits"):
    return registry.DISCRETE[name]()


def _energies(energy, rows):
    return np.asarray(jax.jit(lambda rows: jax.vmap(energy.energy)(rows))(rows))


def _structure(energy):
    """The types from the outside in."""
    inner = getattr(energy, "inner", None)
    return (type(energy), *(() if inner is None else _structure(inner)))


PRODUCTS = {
    "gaussians": (_gaussian, lambda: _gaussian(3), (Shifted, ex.Gaussian)),
    "gaussian and full": (_gaussian, _full, (Shifted, ex.MultivariateGaussian)),
    "full and gaussian": (_full, _gaussian, (Shifted, ex.MultivariateGaussian)),
    "full and full": (_full, lambda: _full(4), (Shifted, ex.MultivariateGaussian)),
    "a product and a gaussian": (
        lambda: _gaussian() * _gaussian(3),
        lambda: _gaussian(5),
        (Shifted, ex.Gaussian),
    ),
    "two powers": (lambda: _gaussian() ** 0.5, lambda: _full() ** 2.0, None),
    "exponentials": (
        lambda: ex.Exponential([0.5, 2.0]),
        lambda: ex.Exponential([1.0, 0.3]),
        (Shifted, ex.Exponential),
    ),
    "bernoullis": (_bits, lambda: _bits(1), (Shifted, ex.Bernoulli)),
    "softmaxes": (_softmax, lambda: _softmax(1), (Shifted, ex.Softmax)),
    "machines": (RBM, lambda: registry._rbm(seed=1, n_hidden=2), (ex.RBM,)),
    "machine and base rates": (RBM, _bits, (Product,)),
    "base rates and machine": (_bits, RBM, (Product,)),
    "frozen gaussian": (lambda: ex.freeze(_gaussian()), _gaussian, (Product,)),
    "mixtures": (registry.DISCRETE["mixture"], registry.DISCRETE["mixture"], (Product,)),
    "poissons": (lambda: ex.Poisson([1.0, 2.0]), lambda: ex.Poisson([3.0, 0.5]), (Product,)),
    "tables": (_table, _table, (Product,)),
    "joint machines": (registry.DISCRETE["rbm.joint"], registry.DISCRETE["rbm.joint"], (Product,)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_energies_of_a_product_add(name, x64):
    make_a, make_b, structure = PRODUCTS[name]
    a, b = make_a(), make_b()
    both = a * b
    if structure is not None:
        assert _structure(both) == structure
    rows = draws(a.space, 20, seed=1)
    expected = _energies(a, rows) + _energies(b, rows)
    np.testing.assert_allclose(_energies(both, rows), expected, rtol=1e-12, atol=1e-11)
    kept = jax.vmap(lambda x: both.energy_of(both.terms(x)))(rows)
    np.testing.assert_allclose(kept, expected, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("name", ["bernoullis", "softmaxes", "machines", "tables"])
def test_log_z_of_a_discrete_product(name, x64):
    a, b, _ = (make() if callable(make) else None for make in PRODUCTS[name])
    both = a * b
    expected = logsumexp(-energies(a) - energies(b))
    assert log_z(both) == pytest.approx(expected, abs=1e-12)
    if isinstance(both, AbstractTractable):
        assert float(both.log_normaliser()) == pytest.approx(expected, abs=1e-12)


GAUSSIANS = ["gaussians", "gaussian and full", "full and full", "a product and a gaussian"]


@pytest.mark.parametrize("name", [*GAUSSIANS, "two powers"])
def test_log_z_of_a_gaussian_product(name, x64):
    make_a, make_b, _ = PRODUCTS[name]
    a, b = make_a(), make_b()
    both = a * b
    assert isinstance(both, AbstractTractable)
    plain = Product((a, b))  # without the rule
    grid = log_partition_on_grid(plain, n_points=300, low=-9.0, high=9.0)
    np.testing.assert_allclose(both.log_normaliser(), grid, atol=1e-11)


def test_log_z_of_a_product_of_exponentials(x64):
    a, b = ex.Exponential([0.5, 2.0]), ex.Exponential([1.0, 0.3])
    # The integral of r s exp(-(r + s) x) over x > 0, entry by entry.
    expected = np.log(0.5 * 1.0 / 1.5) + np.log(2.0 * 0.3 / 2.3)
    np.testing.assert_allclose((a * b).log_normaliser(), expected, rtol=1e-12)


def test_the_product_of_two_gaussians_is_known(x64):
    # N(x; 0, 2) N(x; 1, 1) = N(1; 0, sqrt 5) N(x; 4/5, sqrt(4/5))
    both = ex.Gaussian(0.0, 2.0) * ex.Gaussian(1.0, 1.0)
    evidence = ex.Gaussian(0.0, np.sqrt(5.0)).log_prob(jnp.array(1.0))
    np.testing.assert_allclose(both.log_normaliser(), evidence, rtol=1e-13)
    np.testing.assert_allclose(both.inner.mean, 0.8, rtol=1e-14)
    np.testing.assert_allclose(both.inner.scale, np.sqrt(0.8), rtol=1e-14)


def test_products_flatten_and_merge_what_they_can():
    rbm, other, table = RBM(), registry._rbm(seed=1), _bits()
    assert [type(f) for f in (rbm * table).factors] == [ex.RBM, ex.Bernoulli]
    merged = (rbm * table) * (table * other)
    assert [type(f) for f in merged.factors] == [ex.RBM, Shifted]
    assert merged.factors[0].n_hidden == 6
    frozen = ex.freeze(rbm)
    flat = (frozen * rbm) * (frozen * frozen)
    assert [type(f) for f in flat.factors] == [Frozen, ex.RBM, Frozen, Frozen]
    assert ex.product([rbm]) is rbm
    three = ex.product([_gaussian(), _full(), _gaussian(2)])
    assert _structure(three) == (Shifted, ex.MultivariateGaussian)


def test_a_product_in_a_compiled_program_is_the_same(x64):
    rows = jax.vmap(ex.Exponential([1.0, 1.0]).draw)(jax.random.split(ex.key(0), 3))

    @eqx.filter_jit
    def compiled(a, b, c, rows):
        return jax.vmap((a * b).energy)(rows), jax.vmap((c * c).energy)(rows), (a * b).space

    a, b = ex.Exponential([0.5, 2.0]), ex.Exponential([1.0, 0.3])
    merged, doubled, _ = compiled(a, b, _full(), rows)
    np.testing.assert_allclose(merged, _energies(a, rows) + _energies(b, rows), rtol=1e-12)
    np.testing.assert_allclose(doubled, 2 * _energies(_full(), rows), rtol=1e-12)


# Powers


POWERS = {
    "gaussian": (_gaussian, (Shifted, ex.Gaussian)),
    "full gaussian": (_full, (Shifted, ex.MultivariateGaussian)),
    "exponential": (lambda: ex.Exponential([0.5, 2.0]), (Shifted, ex.Exponential)),
    "bernoulli": (_bits, (Shifted, ex.Bernoulli)),
    "softmax": (_softmax, (Shifted, ex.Softmax)),
    "joint machine": (registry.DISCRETE["rbm.joint"], (JointRBM,)),
    "machine": (RBM, (Tempered, ex.RBM)),
    "poisson": (lambda: ex.Poisson([1.0, 2.0]), (Tempered, ex.Poisson)),
    "product of gaussians": (lambda: _gaussian() * _full(), (Shifted, ex.MultivariateGaussian)),
    "frozen": (lambda: ex.freeze(_gaussian()), (Tempered, Frozen, ex.Gaussian)),
    "power": (lambda: RBM() ** 0.5, (Tempered, ex.RBM)),
}


@pytest.mark.parametrize("name", POWERS)
def test_energies_of_a_power_scale(name, x64):
    make, structure = POWERS[name]
    energy = make()
    power = energy**1.7
    assert _structure(power) == structure
    rows = draws(energy.space, 20, seed=2)
    expected = 1.7 * _energies(energy, rows)
    np.testing.assert_allclose(_energies(power, rows), expected, rtol=1e-12, atol=1e-12)
    kept = jax.vmap(lambda x: power.energy_of(power.terms(x)))(rows)
    np.testing.assert_allclose(kept, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["bernoulli", "softmax"])
def test_log_z_of_a_discrete_power(name, x64):
    energy = POWERS[name][0]()
    for beta in (0.0, 0.3, 1.0, 2.5):
        expected = logsumexp(-beta * energies(energy))
        assert float((energy**beta).log_normaliser()) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["gaussian", "full gaussian", "product of gaussians"])
def test_log_z_of_a_gaussian_power(name, x64):
    energy = POWERS[name][0]()
    grid = log_partition_on_grid(Tempered(energy, jnp.array(0.4)), n_points=300, low=-20, high=20)
    np.testing.assert_allclose((energy**0.4).log_normaliser(), grid, atol=1e-11)


def test_log_z_of_an_exponential_power(x64):
    # The integral of r^b exp(-b r x) over x > 0 is r^(b - 1) / b.
    rate = np.array([0.5, 2.0])
    got = (ex.Exponential(rate) ** 0.4).log_normaliser()
    np.testing.assert_allclose(got, (-0.6 * np.log(rate) - np.log(0.4)).sum(), rtol=1e-12)


def test_powers_of_powers_collapse():
    twice = (RBM() ** 0.5) ** 0.4
    assert type(twice.inner) is ex.RBM
    assert float(twice.beta) == pytest.approx(0.2)
    assert _structure((_gaussian() ** 0.5) ** 0.5) == (Shifted, ex.Gaussian)


def test_draws_survive_products_and_powers(x64):
    energy = (_bits() * _bits(1)) ** 0.5
    drawn = index_of(energy.space, draws(energy, 5_000, seed=3))
    p = np.exp(-energies(energy))
    assert_drawn_from(np.bincount(drawn, minlength=16), p)


@pytest.mark.parametrize(
    "make",
    [
        _gaussian,
        _full,
        lambda: ex.Exponential([0.5, 2.0]),
        lambda: _gaussian() * _full(),
        lambda: ex.Uniform(ex.Box(2, -1.0, 1.0)),
    ],
)
def test_at_beta_zero_nothing_is_excluded(make, x64):
    flat = make() ** 0.0
    assert not isinstance(flat, AbstractTractable)  # there is no flat density without ends
    for x in (jnp.array([0.3, 0.2]), jnp.array([-3.0, 2.0])):  # the second is outside of some
        assert flat.energy(x) == 0
        assert flat.energy_of(flat.terms(x)) == 0


def test_excluded_states_at_any_beta(x64):
    hole = ex.NeuralEnergy(lambda x: x[0] - 1, ex.Spin(2), positive="square")
    outside = jnp.array([1.0, 1.0])
    for beta, expected in ((0.0, 0.0), (0.5, np.inf), (2.0, np.inf)):
        assert (hole**beta).energy(outside) == expected
    assert log_z(hole**0.0) == pytest.approx(np.log(4))
    assert log_z(hole**2.0) == pytest.approx(np.log(2 * 16.0))
    path = ex.path(ex.Uniform(ex.Spin(2)), hole)
    assert float(path.at(0.0).energy(outside)) == pytest.approx(np.log(4))
    assert path.at(0.1).energy(outside) == np.inf
    terms = path.terms(outside)
    assert path.at(0.0).log_increment(terms, jnp.array(0.0)) == 0
    assert path.at(0.0).log_increment(terms, jnp.array(0.1)) == -np.inf
    assert (hole * hole).energy(outside) == np.inf
    assert ex.mixture([hole, hole]).energy(outside) == np.inf


# Mixtures


def test_a_mixture_of_normalised_members(x64):
    members = [_bits(seed) for seed in range(3)]
    mixed = ex.mixture(members, [1.0, 2.0, 5.0])
    assert type(mixed) is Mixture
    p = sum(w * np.exp(-energies(m)) for w, m in zip([1 / 8, 2 / 8, 5 / 8], members, strict=True))
    np.testing.assert_allclose(np.exp(-energies(mixed)), p, rtol=1e-12)
    assert log_z(mixed) == pytest.approx(0, abs=1e-13)
    # Weights that training moved are normalised again.
    moved = eqx.tree_at(lambda m: m.log_weights, mixed, mixed.log_weights + 3.0)
    np.testing.assert_allclose(energies(moved), energies(mixed), rtol=1e-12)
    drawn = index_of(mixed.space, draws(moved, 8_000, seed=4))
    assert_drawn_from(np.bincount(drawn, minlength=16), p)


def test_a_mixture_of_others_weighs_unnormalised_densities(x64):
    members = [RBM(), registry._rbm(seed=1), _bits()]
    mixed = ex.mixture(members)
    assert type(mixed) is MixtureOfEnergies
    expected = logsumexp([log_z(m) - np.log(3) for m in members])
    assert log_z(mixed) == pytest.approx(expected, abs=1e-12)
    assert type(ex.mixture([_bits() * _bits(1), _bits()])) is MixtureOfEnergies


def test_mixtures_of_states_with_parts_are_drawn_whole(x64):
    space = ex.Joint(a=ex.Box(low=0.0, high=1.0), b=ex.Spin())
    other = ex.Joint(a=ex.Box(low=0.0, high=1.0), b=ex.Spin())
    mixed = ex.mixture([ex.Uniform(space), ex.Uniform(other)])
    mixed.space.check(mixed.draw(ex.key(0)))


# Paths


@pytest.mark.parametrize("beta", [0.0, 0.37, 1.0])
def test_a_geometric_path(beta, x64):
    base, target = ex.Uniform(ex.Spin(3)), _table("table of spins")
    path = ex.path(base, target, beta)
    assert type(path) is GeometricPath
    e = (1 - beta) * energies(base) + beta * energies(target)
    np.testing.assert_allclose(energies(path), e, rtol=1e-13)
    np.testing.assert_allclose(energies(ex.path(base, target).at(beta)), e, rtol=1e-13)
    rows = stacked(path.space)
    for end in (0.0, beta + 1e-9, 1.0):
        got = jax.vmap(lambda x, end=end: path.log_increment(path.terms(x), jnp.asarray(end)))(rows)
        expected = e - energies(path.at(end))
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


def test_paths_keep_structure_and_see_through_frozen():
    base, rbm = _bits(), RBM()
    assert type(ex.path(base, rbm)) is AnnealedRBM
    assert type(ex.path(base, ex.freeze(rbm))) is AnnealedRBM
    assert type(ex.path(base, rbm**0.5)) is GeometricPath
    assert float(ex.path(base, rbm).beta) == 0
    assert ex.path(base, rbm, 0.25).at(0.75).beta == 0.75


# Conditions


CONDITIONS = {
    "rbm": (RBM, [1, 0, 1, 0], [True, False, False, True], ConditionedRBM),
    "rbm in full": (RBM, [1, 0, 1, 0], [True] * 4, ConditionedRBM),
    "rbm in nothing": (RBM, [1, 0, 1, 0], [False] * 4, ConditionedRBM),
    "tempered rbm": (lambda: RBM() ** 0.5, [1, 0, 1, 0], [False, True, True, False], Conditioned),
    "bits": (_table, [0, 1, 1], [False, True, False], Conditioned),
    "spins": (lambda: _table("table of spins"), [-1, 1, 1], [True, False, True], Conditioned),
    "labels": (lambda: _table("table of labels"), [2, 0], [True, False], Conditioned),
    "softmax": (_softmax, [0, 1], [False, True], Shifted),
    "annealed": (
        registry.DISCRETE["annealed rbm"],
        [1, 1, 0, 0],
        [True] + [False] * 3,
        Conditioned,
    ),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_is_a_slice_of_the_whole(name, x64):
    make, values, mask, kind = CONDITIONS[name]
    energy, values, mask = make(), np.array(values), np.array(mask)
    held = ex.condition(energy, values, mask)
    assert type(held) is kind
    rows = np.asarray(stacked(energy.space))
    slice_ = (rows[:, mask] == values[mask]).all(1)
    n_free = slice_.sum()
    assert held.space.cardinality == n_free
    e = energies(energy)
    np.testing.assert_allclose(_energies(held, rows[slice_]), e[slice_], atol=1e-12)
    listed = jax.vmap(held.space.state)(jnp.arange(n_free, dtype=jnp.uint32))
    assert set(index_of(energy.space, listed)) == set(np.flatnonzero(slice_))
    assert float(jax.jit(lambda: log_partition_enumerated(held))()) == pytest.approx(
        logsumexp(-e[slice_]), abs=1e-12
    )
    # Whatever a state says where values are held, the held values count.
    wrong = np.where(mask, rows[::-1], rows)
    fixed = np.where(mask, values.astype(rows.dtype), rows)
    np.testing.assert_allclose(_energies(held, wrong), _energies(energy, fixed), atol=1e-12)
    kept = jax.vmap(lambda x: held.energy_of(held.terms(x)))(jnp.asarray(wrong))
    np.testing.assert_allclose(kept, _energies(energy, fixed), atol=1e-12)


def test_conditions_in_continuous_spaces(x64):
    energy = _full()
    held = ex.condition(energy, np.array([np.nan, 1.5]), np.array([False, True]))
    x = jnp.array([0.4, -7.0])
    assert held.energy(x) == energy.energy(jnp.array([0.4, 1.5]))
    np.testing.assert_allclose(held.score(x), [energy.score(jnp.array([0.4, 1.5]))[0], 0.0])
    np.testing.assert_array_equal(held.space.clamp(x), [0.4, 1.5])


def test_conditioning_twice_is_conditioning_once(x64):
    for make in (RBM, lambda: RBM() ** 0.5, lambda: registry._rbm() * _bits()):
        energy = make()
        first, second = np.array([True, False, False, False]), np.array([False, False, True, False])
        values = np.array([1, 1, 0, 0])
        once = ex.condition(energy, values, first | second)
        twice = ex.condition(ex.condition(energy, values, first), values, second)
        assert _structure(twice) == _structure(once)
        assert twice.space.cardinality == once.space.cardinality == 4
        rows = stacked(energy.space)
        np.testing.assert_array_equal(_energies(twice, rows), _energies(once, rows))
        # Agreeing with what is observed is allowed, contradicting it is not.
        ex.condition(once, values, first)
        with refused("observed", "1.0 at (0,)", "got 0.0"):
            ex.condition(once, 1 - values, first)


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_conditions_keep_what_is_tractable(power, x64):
    labels = ex.Softmax(np.random.default_rng(0).normal(size=(4, 3)))
    field = ex.GaussianMRF([(0, 1), (1, 2), (2, 3)], 0.7, mass=[1.0, 2.0, 3.0, 4.0])
    first, second = np.array([True, False, False, False]), np.array([False, False, True, False])
    for energy in (labels**power, field**power, field * field):
        once = ex.condition(energy, np.ones(4), first | second)
        twice = ex.condition(ex.condition(energy, np.ones(4), first), np.ones(4), second)
        assert _structure(twice) == _structure(once)
        assert isinstance(twice, ex.AbstractTractable)
        x = once.draw(ex.key(0))
        for a, b in ((twice.energy, once.energy), (energy.energy, once.energy)):
            np.testing.assert_allclose(a(x), b(x), rtol=1e-12)
        np.testing.assert_allclose(twice.log_normaliser(), once.log_normaliser(), rtol=1e-12)
    bits = [list(row) for row in np.ndindex(3, 3)]
    rows = jnp.asarray([[1, a, 1, b] for a, b in bits])
    held = ex.condition(labels**power, np.ones(4), first | second)
    total = jax.nn.logsumexp(-jax.vmap((labels**power).energy)(rows))
    np.testing.assert_allclose(held.log_normaliser(), total, rtol=1e-12)


def test_values_in_either_code_of_two(x64):
    bits = ex.condition(RBM(), [1, -1, -1, 1], np.array([False, True, True, False]))
    np.testing.assert_array_equal(bits.space.clamp(jnp.ones(4)), [1, 0, 0, 1])
    spins = ex.condition(_table("table of spins"), [0, 1, 1], np.array([True, True, False]))
    np.testing.assert_array_equal(spins.space.clamp(jnp.ones(3)), [-1, 1, 1])


def test_new_observations_compile_nothing():
    rbm, tempered = RBM(), RBM() ** 0.5
    traces = []

    @jax.jit
    def both(values, mask, x):
        traces.append(None)
        return [ex.condition(m, values, mask).energy(x) for m in (rbm, tempered)]

    @eqx.filter_jit
    def one(held, x):
        traces.append(None)
        return held.energy(x), held.space.contains(held.space.draw(ex.key(0)))

    rng = np.random.default_rng(0)
    for _ in range(3):
        values, x = rng.integers(0, 2, (2, 4)).astype(np.float32)
        mask = rng.integers(0, 2, 4).astype(bool)
        seen = jnp.asarray(np.where(mask, values, x))
        got = both(values, mask, x)
        np.testing.assert_allclose(got, [rbm.energy(seen), tempered.energy(seen)], rtol=1e-6)
        value, inside = one(ex.condition(rbm, values, mask), x)
        np.testing.assert_allclose(value, rbm.energy(seen), rtol=1e-6)
        assert inside
    assert len(traces) == 2


def test_conditions_inside_a_compiled_program():
    """Values and masks of any number dtype, one traced and one not, or neither."""
    rbm = RBM()
    values, mask = np.array([1, 0, 1, 0]), np.array([True, False, True, False])
    x = jnp.array([0.0, 1.0, 0.0, 1.0])
    expected = rbm.energy(jnp.array([1.0, 1.0, 1.0, 1.0]))
    for energy in (rbm, ex.freeze(rbm), rbm * _bits()):
        expected = energy.energy(jnp.array([1.0, 1.0, 1.0, 1.0]))
        got = (
            jax.jit(lambda v, e=energy: ex.condition(e, v, mask).energy(x))(values),
            jax.jit(lambda m, e=energy: ex.condition(e, values, m).energy(x))(mask),
            jax.jit(lambda x, e=energy: ex.condition(e, values, mask).energy(x))(x),
        )
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def _mixed():
    space = ex.Joint(x=ex.Real(2), label=ex.Categorical((), 3), spin=ex.Spin(2))
    return ex.NeuralEnergy(
        lambda s: jnp.sum(s["x"]) * s["spin"][0] + s["spin"][1] * s["label"].astype(float), space
    )


def test_parts_of_a_joint_by_name(x64):
    joint = registry.DISCRETE["table of a joint"]()
    held = ex.condition(joint, {"b": 2})
    rows, e = stacked(joint.space), energies(joint)
    at_2 = np.asarray(rows["b"]) == 2
    assert list(held.space.parts) == ["a"]
    np.testing.assert_allclose(_energies(held, {"a": rows["a"][at_2]}), e[at_2], rtol=1e-13)
    assert log_z(held) == pytest.approx(logsumexp(-e[at_2]), abs=1e-12)
    rbm = RBM()
    v = np.array([1, 0, 1, 0])
    given = ex.condition(rbm.joint, {"visible": v})
    assert log_z(given) == pytest.approx(-float(rbm.energy(jnp.asarray(v, float))), abs=1e-12)


def test_parts_one_after_another(x64):
    energy = _mixed()
    once = ex.condition(energy, {"label": 1, "x": [0.5, 2.0]})
    twice = ex.condition(ex.condition(energy, {"x": np.array([0.5, 2.0])}), {"label": 1})
    assert type(twice.inner) is type(energy)
    assert list(twice.space.parts) == ["spin"]
    rows = {"spin": stacked(ex.Spin(2))}
    expected = -(2.5 * np.asarray(rows["spin"])[:, 0] + np.asarray(rows["spin"])[:, 1])
    np.testing.assert_allclose(_energies(once, rows), expected)
    np.testing.assert_allclose(_energies(twice, rows), expected)


def test_new_values_of_parts_compile_nothing(x64):
    energy, traces = _mixed(), []

    @jax.jit
    def compiled(values):
        traces.append(None)
        return ex.condition(energy, values).energy({"spin": jnp.array([1.0, -1.0])})

    for label in (0, 1, 2):
        assert compiled({"label": label, "x": np.array([1, label])}) == -(1 + label - label)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ex.condition(3, {}), ["energy", "int"]),
        (lambda: ex.condition(RBM(), {"a": 1}), ["Joint", "mask"]),
        (lambda: ex.condition(_mixed(), {"colour": 1}), ["'label', 'spin', 'x'", "'colour'"]),
        (lambda: ex.condition(_mixed(), {}), ["dictionary", "'label'"]),
        (lambda: ex.condition(_mixed(), {1: 2, "label": 0}), ["dictionary", "'1'"]),
        (lambda: ex.condition(_mixed(), [1]), ["dictionary", "list"]),
        (lambda: ex.condition(_mixed(), {"label": 3}), ["label", "0 to 2", "3"]),
        (lambda: ex.condition(_mixed(), {"x": [1.0]}), ["x", "(rows, 2)", "(1, 1)"]),
        (lambda: ex.condition(_mixed(), {"x": [1.0, np.nan]}), ["x", "NaN"]),
        (
            lambda: ex.condition(_mixed(), {"x": [1.0, 2.0], "label": 0, "spin": [1, 1]}),
            ["nothing is left"],
        ),
        (lambda: ex.condition(_mixed(), {"label": 1}, np.ones(2, bool)), ["Joint", "name"]),
        (lambda: ex.condition(RBM(), np.ones(4), np.ones(3, bool)), ["mask", "(4,)", "(3,)"]),
        (lambda: ex.condition(RBM(), np.ones(3), np.ones(4, bool)), ["values", "(4,)", "(3,)"]),
        (lambda: ex.condition(RBM(), np.ones(4), np.ones(4)), ["mask", "boolean", "float64"]),
        (lambda: ex.condition(RBM(), np.full(4, 3), np.ones(4, bool)), ["values", "0 and 1", "3"]),
        (lambda: ex.condition(RBM(), np.full(4, np.nan), np.ones(4, bool)), ["values", "NaN"]),
        (lambda: ex.condition(RBM(), ["a"] * 4, np.ones(4, bool)), ["values", "numbers"]),
        (lambda: ex.condition(ex.Exponential([1.0]), [-1.0], [True]), ["values", "0 and inf"]),
        (
            lambda: ex.condition(
                ex.NeuralEnergy(jnp.sum, ex.Count(2, total=3)), [1, 2], [True, False]
            ),
            ["Count", "total"],
        ),
        (lambda: ex.freeze(3), ["energy", "int"]),
        (lambda: ex.product([]), ["at least one"]),
        (lambda: ex.product([RBM(), 3]), ["energy", "int"]),
        (lambda: ex.product([_bits(), ex.Bernoulli([0.0])]), ["one space", "(4,)", "(1,)"]),
        (lambda: RBM() * ex.Uniform(ex.Spin(4)), ["one space", "Binary", "Spin"]),
        (lambda: ex.Softmax([0.0, 1.0]) * ex.Softmax([0.0] * 3), ["one space", "n_states=3"]),
        (
            lambda: ex.Uniform(ex.Box(2, 0.0, 1.0)) * ex.Uniform(ex.Box(2, 0.0, 2.0)),
            ["one space"],
        ),
        (
            lambda: ex.product([ex.NeuralEnergy(jnp.sum, ex.Count(2, total=n)) for n in (2, 3)]),
            ["one space", "total=2", "total=3"],
        ),
        (lambda: _mixed() * registry.DISCRETE["table of a joint"](), ["one space"]),
        (
            lambda: (
                ex.condition(RBM(), np.ones(4), np.eye(4, dtype=bool)[0])
                * ex.condition(RBM(), np.ones(4), np.eye(4, dtype=bool)[1])
            ),
            ["one space"],
        ),
        (lambda: RBM() ** -1.0, ["beta", "at least 0", "-1.0"]),
        (lambda: RBM() ** np.nan, ["beta", "finite", "nan"]),
        (lambda: RBM() ** np.inf, ["beta", "finite", "inf"]),
        (lambda: RBM() ** np.ones(2), ["beta", "one finite number"]),
        (lambda: RBM() ** "a", ["beta", "number", "str"]),
        (lambda: ex.product(3), ["product", "list", "int"]),
        (lambda: ex.mixture(RBM()), ["mixture", "put the one in a list"]),
        (lambda: ex.path(_bits(), 3), ["energy", "int"]),
        (lambda: ex.path(_bits(), RBM(), np.nan), ["beta", "0 to 1", "nan"]),
        (lambda: ex.path(_bits(), RBM(), 2.0), ["beta", "0 to 1", "2.0"]),
        (lambda: ex.path(_bits(), RBM(), np.ones(2)), ["beta", "one finite number"]),
        (lambda: ex.mixture([]), ["at least one"]),
        (lambda: ex.mixture([RBM(), 3]), ["energy", "int"]),
        (lambda: ex.mixture([RBM(), ex.Bernoulli([0.0])]), ["one space"]),
        (lambda: ex.mixture([RBM()], [1.0, 2.0]), ["weights", "(1,)", "(2,)"]),
        (lambda: ex.mixture([RBM()], [-1.0]), ["weights", "positive", "-1"]),
        (lambda: ex.mixture([RBM(), RBM()], [1.0, 0.0]), ["weights", "positive", "0"]),
        (lambda: ex.mixture([RBM()], [np.nan]), ["weights", "finite", "nan"]),
    ],
)
def test_bad_combinations_are_refused(make, words):
    with refused(*words):
        make()


def test_what_is_no_energy_does_not_multiply():
    with pytest.raises(TypeError, match="unsupported operand"):
        RBM() * 3


# Frozen and shifted


def test_frozen_energies_have_no_gradient_in_their_parameters(x64):
    rbm = RBM()
    v = jnp.array([1.0, 0.0, 1.0, 0.0])
    both = ex.product([ex.freeze(rbm), rbm])
    gradient = jax.grad(lambda m: m.energy(v))(both)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient.factors[0]))
    plain = jax.grad(lambda m: m.energy(v))(rbm)
    for a, b in zip(*map(jax.tree.leaves, (gradient.factors[1], plain)), strict=True):
        np.testing.assert_array_equal(a, b)
    through = jax.grad(lambda m: m.energy_of(m.terms(v)))(ex.freeze(rbm))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(through))


def test_frozen_energies_are_the_same_energies(x64):
    gaussian = _gaussian()
    frozen = ex.freeze(gaussian)
    x = jnp.array([0.3, -2.0])
    assert frozen.energy(x) == gaussian.energy(x)
    np.testing.assert_array_equal(frozen.score(x), gaussian.score(x))
    assert ex.freeze(frozen) is frozen
    assert unfreeze(frozen) is gaussian
    assert unfreeze(gaussian) is gaussian


def test_a_shift_moves_log_z_and_nothing_else(x64):
    base = _gaussian()
    shifted = Shifted(base, jnp.array(1.25))
    x = jnp.array([0.3, -2.0])
    assert float(shifted.energy(x) - base.energy(x)) == pytest.approx(1.25)
    assert float(shifted.energy_of(shifted.terms(x)) - base.energy(x)) == pytest.approx(1.25)
    assert float(shifted.log_normaliser()) == -1.25
    np.testing.assert_array_equal(shifted.draw(ex.key(0)), base.draw(ex.key(0)))
    assert _structure(shifted * base) == (Shifted, ex.Gaussian)
    np.testing.assert_allclose(
        (shifted * base).energy(x), shifted.energy(x) + base.energy(x), rtol=1e-13
    )


def test_what_is_frozen_is_seen_through():
    held = freeze(RBM())
    observed = np.array([1, 0, 1, 0]), np.array([True, False, False, True])
    conditioned = ex.condition(held, *observed)
    assert isinstance(conditioned, Frozen)
    assert isinstance(conditioned.inner, ConditionedRBM)
    mixed = ex.mixture([freeze(_bits()), _bits(1)], [0.3, 0.7])
    assert isinstance(mixed, Mixture)
    np.testing.assert_allclose(
        _energies(mixed, stacked(mixed.space)),
        _energies(ex.mixture([_bits(), _bits(1)], [0.3, 0.7]), stacked(mixed.space)),
        rtol=1e-6,
    )
    assert draws(mixed, 3).shape == (3, 4)
    assert isinstance(ex.path(freeze(_bits()), held), AnnealedRBM)


def test_a_covariance_near_singular_keeps_its_inverse():
    covariance = np.array([[1.0, 1 - 1e-8], [1 - 1e-8, 1.0]])
    energy = ex.MultivariateGaussian(np.zeros(2), covariance)
    assert np.isfinite(energy.precision_factor).all()
    along = energy.energy(jnp.array([1.0, 1.0])) - energy.energy(jnp.zeros(2))
    assert float(along) == pytest.approx(0.5, rel=1e-3)


def test_base_rates_of_labels():
    rows = np.array([[0, 2], [0, 1], [1, 1], [0, 1]])
    rates = ex.Softmax.from_data(rows, ex.Categorical(2, 3), pseudo_count=1.0)
    assert rates.space == ex.Categorical(2, 3)
    expected = np.array([[4, 2, 1], [1, 4, 2]]) / 7
    np.testing.assert_allclose(jax.nn.softmax(rates.logits), expected, rtol=1e-6)
    hot = ex.Softmax.from_data(np.eye(3)[rows], ex.Categorical(2, 3), pseudo_count=1.0)
    np.testing.assert_array_equal(hot.logits, rates.logits)
    with refused("pseudo_count must be positive"):
        ex.Softmax.from_data(rows, ex.Categorical(2, 3), pseudo_count=0.0)
    with refused("integers from 0 to 2"):
        ex.Softmax.from_data(rows + 2, ex.Categorical(2, 3))
