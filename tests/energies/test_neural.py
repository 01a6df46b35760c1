"""Any callable as an energy: what g makes of f, states of no density, and wrong callables."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
from oracles import refused


@pytest.mark.parametrize(
    ("positive", "expected"),
    [
        ("exp", lambda f: -f),
        ("square", lambda f: -np.log(f**2)),
        ("abs", lambda f: -np.log(abs(f))),
    ],
)
def test_energy_is_minus_log_g(positive, expected, x64):
    energy = ex.NeuralEnergy(lambda x: 3 * x - 1, ex.Real(), positive=positive)
    for x in (-2.0, 0.1, 5.0):
        value = float(energy.energy(jnp.array(x)))
        assert value == pytest.approx(expected(3 * x - 1), rel=1e-13)


def test_the_default_is_exp():
    assert ex.NeuralEnergy(lambda x: x, ex.Real()).positive == "exp"


@pytest.mark.parametrize("positive", ["square", "abs"])
def test_where_f_is_zero_nothing_is_likely_and_gradients_stay_finite(positive, x64):
    class Line(eqx.Module):
        slope: jax.Array

        def __call__(self, x):
            return self.slope * x

    energy = ex.NeuralEnergy(Line(jnp.array(2.0)), ex.Real(), positive=positive)
    zero = jnp.zeros(())
    assert energy.energy(zero) == jnp.inf
    assert energy.log_density(zero) == -jnp.inf
    assert energy.score(zero) == 0
    gradient = jax.grad(lambda m: m.energy(zero))(energy)
    assert gradient.function.slope == 0
    # A batch with such a state has the gradient of the others.
    rows = jnp.array([0.0, 1.0, -3.0])
    total = jax.grad(lambda m: jnp.sum(jnp.where(rows == 0, 0.0, jax.vmap(m.energy)(rows))))(energy)
    assert float(total.function.slope) == pytest.approx(-2.0 if positive == "square" else -1.0)


def test_large_outputs_do_not_overflow():
    energy = ex.NeuralEnergy(lambda x: 1e30 * x, ex.Real(), positive="square")
    assert float(energy.energy(jnp.array(1.0))) == pytest.approx(-2 * np.log(1e30), rel=1e-6)


def test_nan_is_not_hidden():
    for positive in ("exp", "square", "abs"):
        energy = ex.NeuralEnergy(lambda x: x * jnp.nan, ex.Real(), positive=positive)
        assert jnp.isnan(energy.energy(jnp.array(1.0)))


def test_networks_of_equinox_and_outputs_of_one_entry():
    network = eqx.nn.MLP(2, 1, 4, 1, key=jax.random.key(0))
    energy = ex.NeuralEnergy(network, ex.Real(2))
    x = jnp.array([0.3, -0.4])
    assert energy.energy(x).shape == ()
    np.testing.assert_allclose(energy.energy(x), -network(x)[0], rtol=1e-6)
    gradient = jax.grad(lambda x: network(x)[0])(x)
    np.testing.assert_allclose(energy.score(x), gradient, rtol=1e-5)


def test_a_function_that_counts_gives_a_float():
    energy = ex.NeuralEnergy(lambda x: jnp.sum(x), ex.Categorical(3, 4))
    value = energy.energy(jnp.array([1, 3, 0]))
    assert value.dtype == jnp.float32
    assert value == -4
    equal = ex.NeuralEnergy(lambda x: x[0] == x[1], ex.Spin(2))
    assert equal.energy(jnp.array([1.0, 1.0])) == -1


def test_states_of_a_joint_reach_the_function_as_a_dictionary():
    space = ex.Joint(x=ex.Real(2), label=ex.Categorical((), 3))
    energy = ex.NeuralEnergy(lambda s: s["x"][s["label"] % 2], space)
    assert energy.energy({"x": jnp.array([5.0, 7.0]), "label": jnp.int32(1)}) == -7


@pytest.mark.parametrize(
    "function",
    [lambda x: x, lambda x: jnp.stack([x[0], x[1]])[None], lambda x: (x[0], x[1])],
    ids=["a vector", "a matrix", "a pair"],
)
def test_outputs_of_several_numbers_are_refused(function):
    with refused("one number", "2"):
        ex.NeuralEnergy(function, ex.Real(2)).energy(jnp.zeros(2))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ex.NeuralEnergy(3, ex.Real()), ["function", "callable", "int"]),
        (lambda: ex.NeuralEnergy(jnp.sin, ex.Real), ["space"]),
        (lambda: ex.NeuralEnergy(jnp.sin, (2,)), ["space", "(2,)"]),
        (lambda: ex.NeuralEnergy(jnp.sin, ex.Real(), "cube"), ["positive", "square", "'cube'"]),
        (lambda: ex.NeuralEnergy(jnp.sin, ex.Real(), positive=None), ["positive", "None"]),
    ],
)
def test_bad_arguments_are_refused(make, words):
    with refused(*words):
        make()
