"""A residual convolution network for images, of matrix products alone."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from energax.energies.networks._layers import (
    ACTIVATIONS,
    Activation,
    check_activation,
    check_limit,
    limited,
    weight,
)
from energax.energies.networks._windows import windowed
from energax.random import as_count
from energax.spaces import float_dtype


class ResidualNetwork(eqx.Module):
    r"""Residual blocks of 3 x 3 convolutions over an image, to one number.

    The image is cut in tiles of `patch` x `patch` pixels, each of them a vector of channels; then,
    at each resolution, blocks

    $$h \leftarrow h + C_2 * \phi(C_1 * \phi(h) + b_1) + b_2,$$

    and, from one resolution to the next, tiles of 2 x 2 mixed into one. At the end a number is read
    off each position's $\phi(h)$, and f is their sum. Such a sum does not know where in the image
    a thing is: with `dense` units f has a second term, $v \cdot \phi(W \phi(h) + c)$ over all
    positions together.

    A convolution is two products, of shifted slices side by side. On a CPU, in a compiled loop, the
    gradient of such a network is found several times as fast as with XLA's own convolutions, whose
    transposes it does not optimise there (`benchmarks/deep_training.py`).

    ```python
    import energax as ex

    network = ex.ResidualNetwork.init(ex.key(0), (28, 28), channels=(8, 16))
    energy = ex.NeuralEnergy(network, ex.Box((28, 28), 0.0, 1.0))
    ```
    """

    stems: list[Array]
    """Tiles to channels, of shape (tile, channels): of pixels first, then of each next
    resolution."""
    blocks: list[list["ResidualBlock"]]
    """By resolution."""
    readout: Float[Array, "channels 1"]
    dense: "DenseTop | None"
    patch: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    lipschitz: float | None = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        key: Key[Array, ""],
        shape: Sequence[int],
        *,
        channels: Sequence[int] = (32, 64),
        n_blocks: int = 1,
        patch: int = 2,
        dense: int = 0,
        activation: Activation = "silu",
        lipschitz: float | int | None = None,
    ) -> "ResidualNetwork":
        """A network with random weights.

        **Arguments:**

        - `shape`: of an image, (height, width) or (height, width, colours).
        - `channels`: at each resolution, from the finest, which is that of tiles.
        - `n_blocks`: at each resolution.
        - `patch`: pixels along a side of a tile.
        - `dense`: units that see all positions of the last resolution together; 0 for none, and an
          f that images shifted by whole tiles share, but for the edges.
        - `activation`: `"silu"`, `"softplus"`, `"gelu"` or `"tanh"`, all smooth.
        - `lipschitz`: a bound on how much each matrix stretches; `None` leaves them free. A
          convolution of 3 x 3 may stretch by three times as much.

        **Raises:** `ValueError` for a shape whose sides are no multiples of
        patch * 2^(len(channels) - 1), numbers out of range or an unknown activation.
        """
        sizes = [as_count(c, "channels") for c in channels]
        n_blocks, patch = as_count(n_blocks, "n_blocks"), as_count(patch, "patch")
        dense = as_count(dense, "dense", least=0)
        check_activation(activation)
        if not sizes:
            raise ValueError("channels must have one entry a resolution, got none")
        height, width, colours = _image(shape)
        multiple = patch * 2 ** (len(sizes) - 1)
        if height % multiple or width % multiple:
            raise ValueError(
                f"sides must be multiples of {multiple}, for tiles of {patch} pixels at"
                f" {len(sizes)} resolutions, got shape {tuple(shape)}: pad the images, or take"
                " fewer channels"
            )
        tiles = [patch * patch * colours, *(4 * c for c in sizes[:-1])]
        key_stems, key_blocks, key_readout = jax.random.split(key, 3)
        return cls(
            stems=[
                weight(k, tile, size)
                for k, tile, size in zip(
                    jax.random.split(key_stems, len(sizes)), tiles, sizes, strict=True
                )
            ],
            blocks=[
                [ResidualBlock.init(k, size) for k in jax.random.split(keys, n_blocks)]
                for keys, size in zip(jax.random.split(key_blocks, len(sizes)), sizes, strict=True)
            ],
            readout=weight(key_readout, sizes[-1], 1, gain=multiple / math.sqrt(height * width)),
            dense=DenseTop.init(
                jax.random.fold_in(key_readout, 1),
                (height // multiple) * (width // multiple) * sizes[-1],
                dense,
            )
            if dense
            else None,
            patch=patch,
            activation=activation,
            lipschitz=check_limit(lipschitz),
        )

    def __call__(self, x: Float[Array, "height width *colours"]) -> Float[Array, ""]:
        hidden = self.positions(x)
        value = (jnp.sum(hidden, (0, 1)) @ limited(self.readout, self.lipschitz))[0]
        if self.dense is not None:
            value = value + self.dense(hidden.reshape(-1), self.activation, self.lipschitz)
        return value

    def positions(
        self, x: Float[Array, "height width *colours"]
    ) -> Float[Array, "rows columns channels"]:
        """What the readout sees: the channels at each position of the last resolution."""
        half = x.reshape(*x.shape[:2], -1)
        for i, (stem, blocks) in enumerate(zip(self.stems, self.blocks, strict=True)):
            matrix = limited(stem, self.lipschitz)
            tiles = _tiles(half, self.patch if i == 0 else 2)
            half = windowed(tiles, 0.5 * matrix if i == 0 else matrix, 1)
            for block in blocks:
                half = block(half, self.activation, self.lipschitz)
        return ACTIVATIONS[self.activation](half)


class DenseTop(eqx.Module):
    """A dense layer over all positions, and a number read off it."""

    matrix: Float[Array, "entries units"]
    bias: Float[Array, " units"]
    readout: Float[Array, "units 1"]

    @classmethod
    def init(cls, key: Key[Array, ""], entries: int, units: int) -> "DenseTop":
        first, second = jax.random.split(key)
        return cls(
            weight(first, entries, units),
            jnp.zeros(units, float_dtype()),
            weight(second, units, 1),
        )

    def __call__(
        self, hidden: Float[Array, " entries"], activation: Activation, lipschitz: float | None
    ) -> Float[Array, ""]:
        half = hidden @ (0.5 * limited(self.matrix, lipschitz)) + 0.5 * self.bias
        units = ACTIVATIONS[activation](half)
        return (units @ limited(self.readout, lipschitz))[0]


class ResidualBlock(eqx.Module):
    """Two convolutions beside the identity."""

    first: Float[Array, "nine_in channels"]
    second: Float[Array, "nine_in channels"]
    first_bias: Float[Array, " channels"]
    second_bias: Float[Array, " channels"]

    @classmethod
    def init(cls, key: Key[Array, ""], channels: int) -> "ResidualBlock":
        first, second = jax.random.split(key)
        zeros = jnp.zeros(channels, float_dtype())
        return cls(
            weight(first, 9 * channels, channels),
            # Small: at the start a block is nearly the identity, whatever their number.
            weight(second, 9 * channels, channels, gain=0.1),
            zeros,
            zeros,
        )

    def __call__(self, half: Array, activation: Activation, lipschitz: float | None) -> Array:
        """Half of what follows, from half of the channels."""
        phi = ACTIVATIONS[activation]
        height, width, channels = half.shape

        def convolved(row: Array, matrix: Array, bias: Array) -> Array:
            image = windowed(phi(row).reshape(half.shape), 0.5 * limited(matrix, lipschitz), 3)
            return image.reshape(row.shape) + _repeated(0.5 * bias, width)[None]

        # Rows of the image as one axis: on a CPU, tanh of few channels and a bias takes several
        # times as long.
        rows = half.reshape(height, width * channels)
        hidden = convolved(rows, self.first, self.first_bias)
        return (rows + convolved(hidden, self.second, self.second_bias)).reshape(half.shape)


def _repeated(bias: Float[Array, " channels"], times: int) -> Float[Array, " times_channels"]:
    """`times` copies in a row, as a product, whose gradient is found sooner than `jnp.tile`'s."""
    copies = jnp.tile(jnp.eye(bias.size, dtype=bias.dtype), (1, times))
    return jnp.matmul(bias, copies, precision="highest")


def _tiles(x: Float[Array, "height width c"], side: int) -> Float[Array, "rows columns tile"]:
    """Tiles of side x side entries, each as one vector of channels."""
    height, width, channels = x.shape
    cut = x.reshape(height // side, side, width // side, side, channels)
    return cut.transpose(0, 2, 1, 3, 4).reshape(height // side, width // side, -1)


def _image(shape: Sequence[int]) -> tuple[int, int, int]:
    sizes = tuple(as_count(n, "shape") for n in shape)
    if len(sizes) not in (2, 3):
        raise ValueError(
            f"shape must be (height, width) or (height, width, colours), got {tuple(shape)}"
        )
    return sizes[0], sizes[1], sizes[2] if len(sizes) == 3 else 1
