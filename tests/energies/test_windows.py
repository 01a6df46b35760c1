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
    assert {leaf.dtype for leaf in back(value)} == {jnp.dtype(jnp.bfloat16)}
