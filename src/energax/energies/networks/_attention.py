"""A small attention network over the elements of a set or a sequence."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from energax.energies.networks._layers import ACTIVATIONS, Activation, check_activation, weight
from energax.random import as_count
from energax.spaces import AbstractSpace, Binary, Box, Categorical, Real, Spin, float_dtype

_LEAST_VARIANCE = 1e-5
"""Added to a variance before its root is divided by: the usual number."""


class AttentionNetwork(eqx.Module):
    r"""Attention over the elements of a state, to one number.

    The elements are the rows of an array of shape (n, features), the entries of a vector of
    labels, or the numbers of any other vector. Each is made a vector of `width` numbers; then,
    `depth` times over,

    $$h \leftarrow h + \mathrm{attention}(\mathrm{norm}(h)), \qquad
    h \leftarrow h + W_2 \phi(W_1 \mathrm{norm}(h)),$$

    and the sum of a number read off each element. Without `positions` the order of elements does
    not matter: an energy of sets. The last norm bounds f, so over unbounded states exp(f) alone has
    no finite integral: multiply by an energy that has, or take a `Box`.

    ```python
    import energax as ex
    import jax.numpy as jnp

    space = ex.Real((10, 2))  # ten points of the plane, in no order
    energy = ex.NeuralEnergy(ex.AttentionNetwork.init(ex.key(0), space, width=16), space)
    energy = energy * ex.freeze(ex.Gaussian(jnp.zeros((10, 2)), 3.0))
    ```

    Source: A. Vaswani et al., "Attention is all you need" (2017); for sets J. Lee et al., "Set
    transformer" (2019).
    """

    embedding: Float[Array, "features width"]
    positions: Float[Array, "elements width"] | None
    blocks: list["AttentionBlock"]
    scale: Float[Array, " width"]
    readout: Float[Array, "width 1"]
    n_labels: int | None = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        key: Key[Array, ""],
        space: AbstractSpace,
        *,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        positions: bool = False,
        activation: Activation = "silu",
    ) -> "AttentionNetwork":
        """A network with random weights.

        **Arguments:**

        - `space`: what x is: an array of one or two axes, the first of them that of elements.
        - `width`: numbers an element, a multiple of `heads`.
        - `depth`: blocks.
        - `positions`: whether each place has a vector of its own, so that order counts.
        - `activation`: `"silu"`, `"softplus"`, `"gelu"` or `"tanh"`, all smooth.

        **Raises:** `ValueError` for a space of another kind, or numbers out of range.
        """
        n, n_inputs, n_labels = _elements(space)
        width, depth = as_count(width, "width", least=2), as_count(depth, "depth")
        heads = as_count(heads, "heads")
        check_activation(activation)
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, got {width} and {heads}")
        key_in, key_place, key_blocks, key_out = jax.random.split(key, 4)
        return cls(
            embedding=weight(
                key_in, n_inputs, width, gain=1.0 if n_labels is None else n_inputs**0.5
            ),
            positions=weight(key_place, n, width, gain=n**0.5) if positions else None,
            blocks=[
                AttentionBlock.init(k, width, heads) for k in jax.random.split(key_blocks, depth)
            ],
            scale=jnp.ones(width, float_dtype()),
            readout=weight(key_out, width, 1, gain=n**-0.5),
            n_labels=n_labels,
            activation=activation,
        )

    def __call__(self, x: Array) -> Float[Array, ""]:
        if self.n_labels is not None:
            hidden = self.embedding[x]
        else:
            rows = x[:, None] if x.ndim == 1 else x
            hidden = rows.astype(self.embedding.dtype) @ self.embedding
        if self.positions is not None:
            hidden = hidden + self.positions
        for block in self.blocks:
            hidden = block(hidden, self.activation)
        return jnp.sum(_normed(hidden, self.scale) @ self.readout)


class AttentionBlock(eqx.Module):
    """Attention, then two layers element by element, each beside the identity."""

    scales: tuple[Float[Array, " width"], Float[Array, " width"]]
    """Of what is normed before the one and the other."""
    query: Float[Array, "width width"]
    key: Float[Array, "width width"]
    value: Float[Array, "width width"]
    output: Float[Array, "width width"]
    inner: Float[Array, "width four_widths"]
    outer: Float[Array, "four_widths width"]
    heads: int = eqx.field(static=True)

    @classmethod
    def init(cls, key: Key[Array, ""], width: int, heads: int) -> "AttentionBlock":
        """A block with random weights, nearly the identity."""
        keys = jax.random.split(key, 6)
        ones = jnp.ones(width, float_dtype())
        query, key_, value = (weight(k, width, width) for k in keys[:3])
        return cls(
            scales=(ones, ones),
            query=query,
            key=key_,
            value=value,
            output=weight(keys[3], width, width, gain=0.1),
            inner=weight(keys[4], width, 4 * width),
            outer=weight(keys[5], 4 * width, width, gain=0.1),
            heads=heads,
        )

    def __call__(self, hidden: Float[Array, "n width"], activation: Activation) -> Array:
        hidden = hidden + self._attended(_normed(hidden, self.scales[0])) @ self.output
        normed = _normed(hidden, self.scales[1])
        return hidden + ACTIVATIONS[activation](normed @ (0.5 * self.inner)) @ self.outer

    def _attended(self, x: Float[Array, "n width"]) -> Float[Array, "n width"]:
        def of_heads(matrix: Array) -> Array:
            return (x @ matrix).reshape(len(x), self.heads, -1)

        query, key, value = of_heads(self.query), of_heads(self.key), of_heads(self.value)
        scores = jnp.einsum("ihd,jhd->hij", query, key) / math.sqrt(query.shape[-1])
        mixed = jnp.einsum("hij,jhd->ihd", jax.nn.softmax(scores, -1), value)
        return mixed.reshape(x.shape)


def _normed(x: Float[Array, "n width"], scale: Float[Array, " width"]) -> Float[Array, "n width"]:
    """Each row less its mean, over its spread, times a scale."""
    centred = x - jnp.mean(x, -1, keepdims=True)
    return (
        scale[None] * centred * lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + _LEAST_VARIANCE)
    )


def _elements(space: Any) -> tuple[int, int, int | None]:
    """How many elements, numbers an element, and labels if they are labels."""
    if isinstance(space, Categorical) and len(space.shape) == 1:
        return space.shape[0], space.n_states, space.n_states
    if isinstance(space, Real | Box | Binary | Spin) and len(space.shape) in (1, 2):
        return space.shape[0], space.shape[1] if len(space.shape) == 2 else 1, None
    raise ValueError(
        "space must be an array of elements, such as ex.Real((n, features)) or"
        f" ex.Categorical(n, n_states), got {space!r}"
    )
