"""Numbers and states as users give them: whole, half precision, too large, of a wrong shape."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
import registry
from energax.energies import Tempered
from oracles import refused


@pytest.mark.parametrize(
    "make",
    [
        lambda: ex.Ising((4, 4), 0.4, 0.3),
        lambda: ex.Ising([(0, 1), (1, 2)], [0.4, -0.2], 0.3),
        lambda: ex.GaussianMRF((4, 4), 0.4, mass=0.3, mean=0.6),
        lambda: ex.MuellerBrown(),
        lambda: ex.DoubleWell(0.3, 1.5, shape=2),
    ],
)
def test_whole_numbers_are_states(make, as_users_call):
    energy = make()
    shape = energy.space.structure.shape
    whole = jnp.asarray(np.where(np.arange(np.prod(shape)).reshape(shape) % 3, 1, -1))
    with jax.numpy_dtype_promotion("standard"):
        value = jax.jit(lambda x: energy.energy(x))(whole)
        assert value == jax.jit(lambda x: energy.energy(x))(whole.astype(jnp.float32)) != 0
    if hasattr(energy, "sweep"):
        swept = jax.jit(lambda x: energy.sweep(x, ex.key(0)))
        np.testing.assert_array_equal(swept(whole), swept(whole.astype(jnp.float32)))


ONE_STATE = [
    *registry.GRAPHS,
    *registry.CONTINUOUS,
    *registry.COUNTS,
    *("bernoulli", "softmax", "mixture"),
]


@pytest.mark.parametrize("name", ONE_STATE)
def test_many_states_at_once_are_refused_by_name(name, as_users_call):
    energy = {**registry.DISCRETE, **registry.CONTINUOUS, **registry.COUNTS}[name]()
    if name == "double well" or "network" in name or name in ("box", "uniform box"):
        return  # of functions of a user's own, and of nothing but a space
    rows = jax.eval_shape(lambda: jax.vmap(energy.space.draw)(jax.random.split(ex.key(0), 3)))
    with (
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        refused(str(rows.shape), str(rows.shape[1:]), "vmap"),
    ):
        jax.eval_shape(energy.energy, rows)


TOO_LARGE = {
    "height": lambda: ex.DoubleWell(1e300),
    "radius": lambda: ex.Ring(1e-60),
    "width": lambda: ex.Banana(width=1e-60),
    "scale": lambda: ex.Gaussian(0.0, 1e39),
    "mean": lambda: ex.GaussianMRF(4, mean=1e39),
    "covariance": lambda: ex.MultivariateGaussian([0.0], [[1e39]]),
    "coupling": lambda: ex.Ising(4, 1e39),
    "field": lambda: ex.Potts(4, 3, 1.0, [0.0, 1e39, 0.0]),
    "logits": lambda: ex.Softmax([1e39, 0.0]),
    "weights": lambda: ex.RBM([[1e39]], [0.0], [0.0]),
    "hidden_bias": lambda: ex.RBM([[1.0]], [0.0], [10**400]),
    "beta": lambda: ex.NeuralEnergy(lambda x: x, ex.Real()) ** 1e39,
    "factor 0": lambda: ex.FactorGraph(1, 2, [ex.Factor([0], [0.0, 1e39])]),
    "factor": lambda: ex.FactorGraph(1, 2, [ex.Factor([0], [0.0, -1e39])]),
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_single_precision_does_not_hold_is_refused(name):
    with refused(name):
        TOO_LARGE[name]()


def test_powers_of_powers_that_overflow_are_refused():
    power = ex.NeuralEnergy(lambda x: x, ex.Real()) ** 1e30
    assert isinstance(power, Tempered)
    with refused("beta", "finite"):
        power**1e30


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.int32, bool])
@pytest.mark.parametrize("compiled", [False, True])
def test_parameters_are_held_in_single_precision_at_least(dtype, compiled):
    def make(coupling):
        model = ex.Ising(4, coupling, 0.5)
        well = ex.DoubleWell(coupling)
        return model.coupling, model.field, well.log_height, ex.Softmax(coupling[None]).logits

    one = jnp.asarray(1, dtype)
    for array in jax.jit(make)(one) if compiled else make(one):
        assert array.dtype == jnp.float32
    assert make(one)[1] == 0.5


def test_no_parameter_is_weakly_typed():
    everything = {**registry.DISCRETE, **registry.CONTINUOUS, **registry.COUNTS}
    for name, make in everything.items():
        for leaf in jax.tree.leaves(eqx.filter(make(), eqx.is_array)):
            assert not leaf.weak_type, name
    weak = jnp.asarray(0.4)
    assert weak.weak_type
    for make in (ex.Ising, ex.GaussianMRF):
        for coupling in (weak, 0.4):
            made = make(4, coupling, coupling)
            assert not any(a.weak_type for a in jax.tree.leaves(made)), make


@pytest.mark.parametrize("make", [lambda: ex.DoubleWell([1.0, 2.0]), lambda: ex.Ring()])
def test_draws_of_failed_parameters_are_nan(make):
    for wrong in (jnp.nan, jnp.inf, -jnp.inf):
        broken = jax.tree.map(
            lambda a, wrong=wrong: a.at[..., :1].set(wrong) if a.ndim else a + wrong, make()
        )
        drawn = np.asarray(ex.sample(broken, 3, key=ex.key(0)).x)[0]
        assert np.isnan(drawn[:, 0]).all()
    drawn = ex.sample(ex.Ring(1e30, 1e28), 3, key=ex.key(0)).x
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ex.NeuralEnergy(lambda x: x * 1j, ex.Real()).energy(jnp.ones(())),
        lambda: ex.FactorGraph(1, 2, [ex.Factor([0], [0.0, 1j])]),
        lambda: ex.FactorGraph(1, 2, [ex.Factor([0], lambda a: a * 1j)]),
        lambda: ex.Ising(4, 1j),
    ],
)
def test_complex_numbers_are_refused(make):
    with jax.numpy_dtype_promotion("standard"), refused("real", "complex"):
        make()
