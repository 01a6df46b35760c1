"""A recurrent network that reads a sequence both ways."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from energax.energies.networks._layers import weight
from energax.random import as_count
from energax.spaces import Categorical, float_dtype


class SequenceNetwork(eqx.Module):
    r"""Gated recurrent units over a sequence of tokens, forwards and backwards, to one number:

    $$f(x) = \sum_t u \cdot \tanh(A\, [h_t, g_t] + a)$$

    with h_t what the tokens up to t, and g_t what those from t on, have left in memory: the f of
    a `NeuralEnergy`. A token with the embedding e changes a memory h to

    $$z h + (1 - z) \tanh(W_n e + r\, V_n h + b_n), \quad
    r = \sigma(W_r e + V_r h + b_r), \quad z = \sigma(W_z e + V_z h + b_z).$$

    Of a sequence of any length; padding is not read and adds nothing.

    ```python
    import energax as ex

    space = ex.Categorical(8, n_states=50)
    network = ex.SequenceNetwork.init(ex.key(0), space, width=16, padding=49)
    energy = ex.NeuralEnergy(network, space)
    ```

    Source: K. Cho et al., "Learning phrase representations using RNN encoder-decoder" (2014); two
    ways by M. Schuster and K. Paliwal, "Bidirectional recurrent neural networks" (1997).
    """

    embedding: Float[Array, "states width"]
    inputs: Float[Array, "2 width three_widths"]
    """W_r, W_z and W_n side by side, forwards and backwards."""
    memories: Float[Array, "2 width three_widths"]
    """V_r, V_z and V_n."""
    biases: Float[Array, "2 three_widths"]
    mixing: Float[Array, "two_widths width"]
    bias: Float[Array, " width"]
    readout: Float[Array, " width"]
    padding: int | None = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        key: Key[Array, ""],
        space: Categorical,
        *,
        width: int = 64,
        padding: int | None = None,
    ) -> "SequenceNetwork":
        """A network with random weights.

        **Arguments:**

        - `space`: a vector of labels.
        - `width`: numbers a token, and of either memory.
        - `padding`: the token that fills sequences up, or `None`.

        **Raises:** `ValueError` for another kind of space, or a padding that is no token.
        """
        space = _checked(space)
        width = as_count(width, "width")
        if padding is not None:
            padding = as_count(padding, "padding", least=0, most=space.n_states - 1)
        keys = jax.random.split(key, 7)
        return cls(
            # Of unit variance, whatever the number of tokens.
            embedding=weight(keys[0], space.n_states, width, gain=space.n_states**0.5),
            inputs=jnp.stack([weight(k, width, 3 * width) for k in keys[1:3]]),
            memories=jnp.stack([weight(k, width, 3 * width) for k in keys[3:5]]),
            biases=jnp.zeros((2, 3 * width), float_dtype()),
            mixing=weight(keys[5], 2 * width, width),
            bias=jnp.zeros((width,), float_dtype()),
            readout=weight(keys[6], width, 1, gain=0.1)[:, 0],
            padding=padding,
        )

    def __call__(self, x: Int[Array, " length"]) -> Float[Array, ""]:
        tokens, width = self.embedding[x], self.embedding.shape[1]
        if self.padding is None:
            counts = jnp.ones(x.shape, tokens.dtype)
        else:
            counts = (x != self.padding).astype(tokens.dtype)
        # Both ways side by side, the one from the end turned round.
        inputs = jnp.einsum("tw,dwv->tdv", tokens, self.inputs) + self.biases[None]
        inputs = jnp.stack([inputs[:, 0], inputs[::-1, 1]], 1)
        reads = jnp.stack([counts, counts[::-1]], 1)

        def read(memory: Array, each: tuple[Array, Array]) -> tuple[Array, Array]:
            given, reads = each
            kept = jnp.einsum("dw,dwv->dv", memory, self.memories)
            gates = jax.nn.sigmoid(given[:, : 2 * width] + kept[:, : 2 * width])
            reset, update = gates[:, :width], gates[:, width:]
            new = jnp.tanh(given[:, 2 * width :] + reset * kept[:, 2 * width :])
            memory = memory + reads[:, None] * (1 - update) * (new - memory)
            return memory, memory

        start = jnp.zeros((2, width), tokens.dtype)
        memories = lax.scan(read, start, (inputs, reads))[1]
        both = jnp.concatenate([memories[:, 0], memories[::-1, 1]], 1)
        hidden = jnp.tanh(both @ self.mixing + self.bias[None])
        return counts @ (hidden @ self.readout)


def _checked(space: Any) -> Categorical:
    if not isinstance(space, Categorical) or len(space.shape) != 1:
        raise ValueError(
            f"space must be a vector of labels, such as ex.Categorical(20, 1000), got {space!r}"
        )
    return space
