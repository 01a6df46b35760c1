"""Products over windows of an image: what they are, and that every derivative is that of a
convolution, however it is taken."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
from energax.energies.networks._windows import windowed

X = np.random.default_rng(0).normal(size=(4, 6, 5, 3))
ALONG = np.random.default_rng(1).normal(size=X.shape)


def _matrix(side, out=2):
    return np.random.default_rng(2).normal(size=(side * side * 3, out))


def _convolved(x, matrix, side):
    """The same by XLA's convolution, of one image."""
    kernel = matrix.reshape(side, side, x.shape[-1], -1)
    return jax.lax.conv_general_dilated(
        x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


def _summed(product, side):
    """A number of images and a matrix, bent so that all second derivatives count."""

    def value(x, matrix):
        return jnp.sum(jnp.tanh(jax.vmap(lambda x: product(x, matrix, side))(x)))

    return value


def _slopes(f):
    return jax.grad(f, argnums=(0, 1))


WAYS = {
    "value": lambda f: f,
    "of both": _slopes,
    "of the image": jax.grad,
    "of the matrix": lambda f: jax.grad(f, argnums=1),
    "forward": lambda f: lambda x, m: jax.jvp(f, (x, m), (jnp.asarray(ALONG), m)),
    "linearised": lambda f: lambda x, m: jax.linearize(f, x, m)[1](jnp.asarray(ALONG), m),
    "hessian": lambda f: jax.hessian(f, argnums=(0, 1)),
    "a penalty on the slope": lambda f: _slopes(lambda x, m: jnp.sum(jax.grad(f)(x, m) ** 2)),
    "third order": lambda f: _slopes(
        lambda x, m: jnp.sum(jax.grad(lambda x: jnp.sum(jax.grad(f)(x, m)))(x) ** 2)
    ),
    "a gradient an image": lambda f: jax.vmap(
        _slopes(lambda x, m: f(x[None], m)), in_axes=(0, None)
    ),
    "images on another axis": lambda f: (
        lambda x, m: jax.vmap(_slopes(lambda x, m: f(x[None], m)), in_axes=(2, None))(
            jnp.stack([x[0], x[1]], 2), m
        )
    ),
    "recomputed": lambda f: _slopes(jax.checkpoint(f)),
    "many matrices": lambda f: (
        lambda x, m: jax.vmap(_slopes(f), (None, 0))(x, jnp.stack([m, 2 * m]))
    ),
    "a matrix an image": lambda f: (
        lambda x, m: jax.vmap(_slopes(lambda x, m: f(x[None], m)), in_axes=(3, -1), out_axes=-1)(
            jnp.stack([x[0]] * 4, 3), jnp.stack([m, m + 1, m + 2, m + 3], -1)
        )
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("side", [1, 3])
def test_it_is_a_convolution_however_it_is_differentiated(side, way, x64):
    x, matrix = jnp.asarray(X), jnp.asarray(_matrix(side))
    found, expected = (WAYS[way](_summed(product, side)) for product in (windowed, _convolved))
    wanted = expected(x, matrix)
    for values in (found(x, matrix), jax.jit(found)(x, matrix)):
        for a, b in zip(jax.tree.leaves(values), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


def test_a_batch_under_vmap_makes_one_product_of_each_kind():
    """No matrix by image: those of 50 images are products of two dimensions."""
    network = ex.ResidualNetwork.init(ex.key(0), (8, 8), channels=(4, 4))
    x = jnp.zeros((50, 8, 8))
    lowered = jax.jit(jax.grad(lambda n: jnp.sum(jax.vmap(n)(x)))).lower(network)
    text = lowered.as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) > 20
    assert not any("batching_dims" in line for line in products)
    for line in products:
        shapes = line.split(": (")[-1]
        assert all(part.count("x") <= 2 for part in shapes.split("tensor<")[1:]), line


def test_halves_keep_their_type():
    x = jnp.asarray(X, jnp.bfloat16)
    value, back = jax.vjp(lambda x, m: windowed(x, m, 3), x, jnp.asarray(_matrix(3), jnp.bfloat16))
    assert value.dtype == jnp.bfloat16
    slopes = back(value)
    assert {leaf.dtype for leaf in slopes} == {jnp.dtype(jnp.bfloat16)}
    _, wide = jax.vjp(
        lambda x, m: windowed(x, m, 3), *(a.astype(jnp.float32) for a in (x, _matrix(3)))
    )
    for slope, expected in zip(slopes, wide(value.astype(jnp.float32)), strict=True):
        off = np.asarray(slope, np.float32) - np.asarray(expected)
        assert np.sqrt(np.mean(off**2)) < 0.02 * np.sqrt(np.mean(np.asarray(expected) ** 2))


@pytest.mark.parametrize("types", [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_gradients_have_the_types_of_their_arguments(types):
    x, matrix = jnp.asarray(X, types[0]), jnp.asarray(_matrix(3), types[1])
    with jax.numpy_dtype_promotion("standard"):
        value, back = jax.vjp(lambda x, m: windowed(x, m, 3), x, matrix)
        slopes = back(jnp.ones_like(value))
    assert value.dtype == jnp.float32
    assert tuple(str(slope.dtype) for slope in slopes) == types


def test_inside_shard_map_it_keeps_the_types_of_mapped_axes():
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec
    x, matrix = jnp.asarray(X, jnp.float32), jnp.asarray(_matrix(3), jnp.float32)

    def slope(x, matrix):
        return jax.grad(_summed(windowed, 3), argnums=1)(x, matrix)

    mapped = jax.shard_map(slope, mesh=mesh, in_specs=(spec("i"), spec()), out_specs=spec())
    np.testing.assert_allclose(jax.jit(mapped)(x, matrix), slope(x, matrix), rtol=1e-4)
