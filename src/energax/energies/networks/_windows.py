"""Matrices over windows of an image, and their gradients, fast in a compiled loop on a CPU.

`windowed` and its transpose are primitives of their own for two reasons. Under `jax.vmap` they take
images as further positions, so that the gradient in the matrix is one product, not as many as there
are images or one whose operands are first transposed. And what the gradient in the image should be
made of depends on whether that in the matrix is wanted too: see `_in_image`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

_TOGETHER = {1: ((0, 1),), 3: ((0, 4), (4, 9))}
"""Which shifted copies of an image stand side by side in one product, by the window's side: with
nine products their sum is made again for each that asks for it, with one the copies cost more than
they spare."""


def windowed(
    x: Float[Array, "*images height width in"], matrix: Float[Array, "taps_in out"], side: int
) -> Float[Array, "*images height width out"]:
    """The matrix applied to the window of `side` x `side` positions (1 or 3) around each position.

    Rows of the matrix are ordered by the window's rows, columns and channels; beyond the edges
    there are zeros. With 3 this is the convolution (cross-correlation) of the field.
    """
    dtype = jnp.result_type(x, matrix)
    x, matrix = x.astype(dtype), matrix.astype(dtype)
    if jax.sharding.get_abstract_mesh().manual_axes:
        # Inside `jax.shard_map`: its types of arrays are kept by JAX's own operations only.
        return _gathered(x, matrix, side=side)
    return _gather.bind(x, matrix, side=side, both=False)


# --- values ---------------------------------------------------------------------------------------


def _gathered(x: Array, matrix: Array, *, side: int, both: bool = False) -> Array:
    """What `windowed` says. `both`, here and below: whether gradients in both arguments are wanted,
    which is nothing to the value."""
    channels, out = x.shape[-1], matrix.shape[-1]
    taps = matrix.reshape(side * side, channels, out)
    total = jnp.zeros((), x.dtype)
    for (first, last), beside in zip(_TOGETHER[side], _beside(x, side), strict=True):
        total = total + beside @ taps[first:last].reshape(-1, out)
    return total.reshape(*x.shape[:-1], out)


def _spread_out(y: Array, matrix: Array, *, side: int, both: bool = False) -> Array:
    """Its transpose in x: each position's products, shifted to the window's positions and added."""
    channels = len(matrix) // side**2
    gathered = partial(_gathered, matrix=matrix, side=side)
    like = jax.ShapeDtypeStruct((*y.shape[:-1], channels), y.dtype)
    (found,) = jax.linear_transpose(gathered, like)(y)
    return found


def _in_matrix(x: Array, y: Array, *, side: int) -> Array:
    """The gradient in the matrix of the sum of y * windowed(x, matrix): x by shifted copies of y.

    Copies of y and not of x: the gradient in x can be made of the same (see `_in_image`).
    """
    channels, out = x.shape[-1], y.shape[-1]
    rows = x.reshape(-1, channels).T
    by_taps = [(rows @ beside).reshape(channels, -1, out) for beside in _beside(y, side)]
    turned = jnp.concatenate(by_taps, 1)[:, ::-1]
    return turned.transpose(1, 0, 2).reshape(-1, out)


def _in_image(y: Array, matrix: Array, *, side: int, both: bool) -> Array:
    """The gradient in x of the sum of y * windowed(x, matrix).

    Where that in the matrix is wanted as well, a window over y with the matrix turned, since the
    copies of y serve both. Alone, products that are shifted and added are cheaper.
    """
    if not both:
        return _spread.bind(y, matrix, side=side, both=False)
    taps = matrix.reshape(side * side, -1, matrix.shape[-1])
    turned = taps[::-1].transpose(0, 2, 1).reshape(-1, taps.shape[1])
    return _gather.bind(y, turned, side=side, both=False)


def _beside(x: Array, side: int) -> list[Float[Array, "positions some_in"]]:
    """Shifted copies of the images side by side, in the order of a window's positions."""
    *images, height, width, channels = x.shape
    if side == 1:
        return [x.reshape(-1, channels)]
    padded = jnp.pad(x, [(0, 0)] * len(images) + [(1, 1), (1, 1), (0, 0)])
    copies = [
        padded[..., i : i + height, j : j + width, :] for i in range(side) for j in range(side)
    ]
    return [
        jnp.concatenate(copies[first:last], -1).reshape(-1, (last - first) * channels)
        for first, last in _TOGETHER[side]
    ]


# --- primitives -----------------------------------------------------------------------------------

_gather = Primitive("windowed")
_spread = Primitive("windowed_transpose")


def _jvp(
    which: Primitive, primals: Sequence[Any], tangents: Sequence[Any], *, side: int, both: bool
) -> tuple[Any, Any]:
    """Linear in each of its arguments; where both move, that is noted for the way back."""
    moved = [not isinstance(tangent, ad.Zero) for tangent in tangents]
    (x, matrix), (x_along, matrix_along) = primals, tangents
    bind = partial(which.bind, side=side, both=both or all(moved))
    parts = [bind(x_along, matrix)] if moved[0] else []
    parts += [bind(x, matrix_along)] if moved[1] else []
    return which.bind(x, matrix, side=side, both=both), sum(parts[1:], parts[0])


def _gather_transposed(slope: Any, x: Any, matrix: Any, *, side: int, both: bool) -> Any:
    if ad.is_undefined_primal(x):
        return _unless_zero(slope, x, lambda: _in_image(slope, matrix, side=side, both=both)), None
    return None, _unless_zero(slope, matrix, lambda: _in_matrix(x, slope, side=side))


def _spread_transposed(slope: Any, y: Any, matrix: Any, *, side: int, both: bool) -> Any:
    if ad.is_undefined_primal(y):
        return _unless_zero(
            slope, y, lambda: _gather.bind(slope, matrix, side=side, both=False)
        ), None
    return None, _unless_zero(slope, matrix, lambda: _in_matrix(slope, y, side=side))


def _unless_zero(slope: Any, argument: Any, otherwise: Any) -> Any:
    return ad.Zero(argument.aval) if isinstance(slope, ad.Zero) else otherwise()


def _batch(
    which: Primitive, arguments: Sequence[Any], axes: Sequence[Any], *, side: int, both: bool
) -> tuple[Array, int]:
    (x, matrix), (x_axis, matrix_axis) = arguments, axes
    if matrix_axis is None:
        return which.bind(jnp.moveaxis(x, x_axis, 0), matrix, side=side, both=both), 0
    value = partial(_VALUES[which], side=side)
    return jax.vmap(value, (x_axis, matrix_axis))(x, matrix), 0


def _abstract(which: Primitive, x: Any, matrix: Any, *, side: int, both: bool) -> Any:
    shapes = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in (x, matrix))
    found = jax.eval_shape(partial(_VALUES[which], side=side), *shapes)
    return ShapedArray(found.shape, found.dtype)


_VALUES = {_gather: _gathered, _spread: _spread_out}

for _which, _value in _VALUES.items():
    _which.def_impl(jax.jit(_value, static_argnames=("side", "both")))
    _which.def_abstract_eval(partial(_abstract, _which))
    mlir.register_lowering(_which, mlir.lower_fun(_value, multiple_results=False))
    ad.primitive_jvps[_which] = partial(_jvp, _which)
    batching.primitive_batchers[_which] = partial(_batch, _which)
ad.primitive_transposes[_gather] = _gather_transposed
ad.primitive_transposes[_spread] = _spread_transposed
