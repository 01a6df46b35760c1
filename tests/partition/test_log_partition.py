"""`log_partition`: which method is chosen, and what the exact ones return."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import oracles
import registry
from energax.energies import ConditionedSoftmax, Gaussian
from energax.exact import log_partition_eliminated
from energax.partition import default_base, exact_method, log_partition

NOT_LISTED_BY_ORACLES = ("conditioned rbm", "conditioned table")


def test_a_closed_form_is_taken_where_there_is_one():
    found = log_partition(ex.Gaussian(jnp.zeros(3)), key=ex.key(0))
    assert (found.method, found.exact, found.trusted) == ("closed form", True, True)
    assert found.value == found.lower == found.upper == 0.0
    assert found.std_error == 0.0
    product = ex.Gaussian(jnp.zeros(()), 1.0) * ex.Gaussian(jnp.ones(()), 1.0)
    found = log_partition(product, key=ex.key(0))
    # The integral of two normal densities' product is a normal density of variance 2.
    assert found.value == pytest.approx(-0.25 - 0.5 * np.log(4 * np.pi), rel=1e-5)
    assert "exact, closed form" in found.summary


@pytest.mark.parametrize("name", ["rbm", "table of a joint", "mixture of rbms", "frozen rbm"])
def test_small_models_are_listed(name):
    model = registry.DISCRETE[name]()
    found = log_partition(model, key=ex.key(0))
    assert found.method.startswith("enumeration of ")
    assert (found.exact, found.trusted, found.std_error) == (True, True, 0.0)
    assert found.value == found.lower == found.upper
    assert found.value == pytest.approx(oracles.log_z(model), rel=1e-5)


def test_the_smaller_layer_is_listed():
    assert log_partition(registry._rbm(4, 3), key=ex.key(0)).diagnostics["n_states"] == 8
    assert log_partition(registry._rbm(3, 4), key=ex.key(0)).diagnostics["n_states"] == 8


def test_what_is_exact_is_told_beforehand():
    assert exact_method(ex.Gaussian(jnp.zeros(3))) == "closed form"
    assert exact_method(ex.freeze(ex.Bernoulli(jnp.zeros(90)))) == "closed form"
    assert exact_method(registry._rbm(784, 22)) == "enumeration"
    assert exact_method(registry._rbm(784, 23)) is None
    assert exact_method(ex.NeuralEnergy(jnp.sum, ex.Real(2))) is None


@pytest.mark.parametrize("name", NOT_LISTED_BY_ORACLES)
def test_models_with_observed_entries_are_listed(name):
    model = registry.DISCRETE[name]()
    held, values = np.asarray(model.mask), np.asarray(model.values)
    inner = oracles.states(model.space.space)
    e = [float(model.energy(s)) for s in inner if (np.asarray(s)[held] == values[held]).all()]
    found = log_partition(model, key=ex.key(0))
    assert found.value == pytest.approx(np.log(np.exp(-np.array(e)).sum()), rel=1e-5)
    assert found.exact


def test_a_base_or_options_ask_for_an_estimate():
    model = registry._rbm()
    base = ex.Bernoulli(jnp.zeros(4))
    settings = {"n_chains": 30, "n_temperatures": 100}
    for given in ({"base": base, **settings}, settings):
        found = log_partition(model, key=ex.key(0), **given)
        assert found.method.startswith("annealed both ways, 100 temperatures")
        assert not found.exact
        assert abs(found.value - oracles.log_z(model)) < 6 * found.std_error
        assert "annealed" in found.summary
        assert found.diagnostics["base"] == "Bernoulli"


def test_default_bases_fit_the_space():
    rbm = ex.RBM(jnp.zeros((3, 2)), jnp.array([-2.0, 0.0, 2.0]), jnp.zeros(2))
    base = default_base(rbm, key=ex.key(0))
    assert isinstance(base, ex.Bernoulli)
    # 500 draws of independent units: log-odds within five standard errors.
    np.testing.assert_allclose(base.logits, [-2, 0, 2], atol=5 * np.sqrt(10 / 500))
    well = ex.NeuralEnergy(lambda x: -((x - 3.0) ** 2) / 8, ex.Real())
    base = default_base(well, key=ex.key(0))
    assert isinstance(base, Gaussian)
    assert float(base.mean) == pytest.approx(3, abs=1.5)
    assert 2 < float(base.scale) < 5  # half as wide again as the model
    labels = ex.NeuralEnergy(lambda x: jnp.sum(jnp.where(x == 1, 2.0, 0.0)), ex.Categorical(2, 3))
    base = default_base(labels, key=ex.key(0))
    assert isinstance(base, ex.Softmax)
    np.testing.assert_allclose(
        jax.nn.softmax(base.logits)[:, 1], np.exp(2) / (np.exp(2) + 2), atol=0.1
    )
    held = ex.condition(labels, np.array([1, 0]), np.array([True, False]))
    base = default_base(held, key=ex.key(0))
    assert isinstance(base, ConditionedSoftmax)
    np.testing.assert_array_equal(base.draw(ex.key(1))[0], 1)
    spins = ex.condition(ex.Ising(3), np.ones(3), np.arange(3) == 0).space
    for space in (ex.Spin(2), ex.Box(2, 0.0, 1.0), spins, ex.Joint(a=ex.Spin(), b=ex.Box())):
        assert isinstance(default_base(ex.NeuralEnergy(jnp.sum, space), key=ex.key(0)), ex.Uniform)
    with pytest.raises(ValueError, match="no base to anneal from is known"):
        default_base(ex.NeuralEnergy(jnp.sum, ex.Count(2)), key=ex.key(0))


def test_a_sum_that_is_not_finite_is_not_trusted():
    for level, value in ((-jnp.inf, -np.inf), (jnp.nan, np.nan)):
        energy = ex.NeuralEnergy(lambda x, level=level: level * jnp.sum(x**2), ex.Spin(2))
        found = log_partition(energy, key=ex.key(0))
        assert not found.trusted
        assert "log Z is not finite" in found.reason
        np.testing.assert_equal(found.value, value)
        assert (found.lower, found.upper) == (-np.inf, np.inf)


def test_methods_that_do_not_fit_are_refused():
    key = ex.key(0)
    line = ex.NeuralEnergy(lambda x: -(x**2), ex.Real())
    with pytest.raises(ValueError, match="RBM has no closed form of Z"):
        log_partition(registry._rbm(), key=key, method="closed form")
    with pytest.raises(ValueError, match="cannot be listed"):
        log_partition(line, key=key, method="enumeration")
    with pytest.raises(ValueError, match="enumeration takes no options"):
        log_partition(registry._rbm(), key=key, method="enumeration", n_chains=5)
    with pytest.raises(ValueError, match="closed form takes no options"):
        log_partition(ex.Gaussian(jnp.zeros(2)), key=key, method="closed form", n_chains=5)
    with pytest.raises(ValueError, match="level must lie between 0 and 1"):
        log_partition(registry._rbm(), key=key, level=1.5)


def test_options_that_only_annealing_takes_are_not_ignored():
    # A closed form would make nothing of them.
    found = log_partition(
        ex.Gaussian(jnp.asarray(1.0), 2.0),
        key=ex.key(0),
        base=ex.Gaussian(jnp.asarray(0.0), 2.5),
        n_chains=200,
        n_temperatures=50,
    )
    assert found.method.startswith("annealed")
    assert abs(found.value) < 6 * found.std_error


def test_double_precision(x64):
    model = registry._rbm()
    found = log_partition(model, key=ex.key(0))
    assert found.value == pytest.approx(oracles.log_z(model), rel=1e-12)


@pytest.mark.parametrize("name", NOT_LISTED_BY_ORACLES)
def test_annealing_a_model_with_observed_entries(name):
    """What is observed is traced inside the program: the base must still know its states."""
    model = registry.DISCRETE[name]()
    base = default_base(model, key=ex.key(0))
    labels = isinstance(model.space.space, ex.Categorical)
    assert isinstance(base, ConditionedSoftmax if labels else ex.Uniform)
    x = base.draw(ex.key(1))
    compiled = jax.jit(lambda base, x: base.energy(x))(base, x)
    assert float(compiled) == pytest.approx(float(base.energy(x)), rel=1e-6)
    exact = log_partition(model, key=ex.key(0))
    found = log_partition(
        model, key=ex.key(2), method="annealing", n_chains=500, n_temperatures=200
    )
    assert found.trusted
    assert abs(found.value - exact.value) < 5 * found.std_error + 1e-5


def test_a_level_in_any_float():
    with oracles.as_users_run():
        found = log_partition(ex.Gaussian(jnp.zeros(2)), key=ex.key(0), level=np.float32(0.9))
    assert found.level == pytest.approx(0.9)


def test_factor_graphs_are_eliminated():
    strip = ex.Ising((300, 4), 0.3, 0.1, periodic=False)
    found = log_partition(strip, key=ex.key(0))
    assert found.method == "elimination, width 4"
    assert (found.exact, found.trusted) == (True, True)
    assert found.value == log_partition_eliminated(strip)
    assert found.diagnostics["width"] == 4
    assert exact_method(ex.Ising((40, 40))) is None
    assert exact_method(ex.Ising(1_000_000)) is None  # a plan would take seconds by itself
    assert exact_method(registry.DISCRETE["conditioned dense potts"]()) == "elimination"
    with pytest.raises(ValueError, match="elimination takes no options"):
        log_partition(strip, key=ex.key(0), method="elimination", n_chains=5)
    with pytest.raises(ValueError, match="sum of tables"):
        log_partition(registry._rbm(), key=ex.key(0), method="elimination")


def test_quadrature_is_taken_where_it_can_be_trusted():
    well = registry.CONTINUOUS["double well"]()
    found = log_partition(well, key=ex.key(0))
    assert found.method.startswith("quadrature, ")
    assert not found.exact
    assert found.trusted
    assert found.value == pytest.approx(0.6799261957, abs=found.std_error)
    assert found.std_error == found.diagnostics["error"] < 1e-5
    assert (found.lower, found.upper) == (
        found.value - found.std_error,
        found.value + found.std_error,
    )
    assert found.level == 0.95
    other = log_partition(well, key=ex.key(1), method="quadrature", tolerance=1e-3, level=0.5)
    assert other.value == pytest.approx(found.value, abs=1e-3)
    assert other.level == 0.5
    box = log_partition(registry.CONTINUOUS["box"](), key=ex.key(0))
    assert box.method.startswith("quadrature, ")
    closed = ex.Gaussian(jnp.zeros(2))
    assert log_partition(closed, key=ex.key(0)).method == "closed form"
    assert log_partition(closed, key=ex.key(0), method="quadrature").value == pytest.approx(
        0, abs=1e-5
    )


def test_the_bracket_is_taken_where_quadrature_fails_or_is_not_tried(monkeypatch):
    def bracket(energy, base, **options):
        return "bracket"

    module = sys.modules["energax.partition._log_partition"]
    monkeypatch.setitem(module._ESTIMATORS, "bracket", bracket)
    monkeypatch.setattr(module, "default_base", lambda energy, key: None)
    with oracles.as_users_run():
        for energy in (
            ex.NeuralEnergy(lambda x: 0.0 * x, ex.Real()),  # not integrable
            ex.NeuralEnergy(lambda x: -jnp.sum(x**4), ex.Real(3)),
            ex.Ising((30, 30), 0.4),
        ):
            assert log_partition(energy, key=ex.key(0)) == "bracket"
        well = registry.CONTINUOUS["double well"]()
        assert log_partition(well, key=ex.key(0), thin=2) == "bracket"


def test_quadrature_that_fails_says_so():
    flat = ex.NeuralEnergy(lambda x: 0.0 * x, ex.Real())
    found = log_partition(flat, key=ex.key(0), method="quadrature")
    assert not found.trusted
    assert (found.lower, found.upper, found.std_error) == (-np.inf, np.inf, np.inf)
    assert "NOT TRUSTED: p falls so slowly" in found.summary
    key = ex.key(0)
    with pytest.raises(ValueError, match="quadrature takes no base"):
        log_partition(flat, key=key, method="quadrature", base=ex.Gaussian(jnp.zeros(())))
    with pytest.raises(ValueError, match="its options are tolerance, most_evaluations"):
        log_partition(flat, key=key, method="quadrature", n_chains=50)
    with pytest.raises(ValueError, match="needs a Real or Box space"):
        log_partition(registry._rbm(), key=key, method="quadrature")
