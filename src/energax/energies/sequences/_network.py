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
    a `NeuralEnergy`. Of a sequence of any length; padding is not read and adds nothing.

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
    forwards: eqx.nn.GRUCell
    backwards: eqx.nn.GRUCell
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
        key_in, key_forth, key_back, key_mix, key_out = jax.random.split(key, 5)
        # Of unit variance, whatever the number of tokens.
        embedding = weight(key_in, space.n_states, width, gain=space.n_states**0.5)
        return cls(
            embedding=embedding,
            forwards=eqx.nn.GRUCell(width, width, key=key_forth),
            backwards=eqx.nn.GRUCell(width, width, key=key_back),
            mixing=weight(key_mix, 2 * width, width),
            bias=jnp.zeros((width,), float_dtype()),
            readout=weight(key_out, width, 1, gain=0.1)[:, 0],
            padding=padding,
        )

    def __call__(self, x: Int[Array, " length"]) -> Float[Array, ""]:
        tokens = self.embedding[x]
        if self.padding is None:
            counts = jnp.ones(x.shape, tokens.dtype)
        else:
            counts = (x != self.padding).astype(tokens.dtype)
        start = jnp.zeros((tokens.shape[-1],), tokens.dtype)

        def read(cell: eqx.nn.GRUCell, reverse: bool) -> Float[Array, "length width"]:
            def step(memory: Array, each: tuple[Array, Array]) -> tuple[Array, Array]:
                token, count = each
                memory = memory + count * (cell(token, memory) - memory)
                return memory, memory

            return lax.scan(step, start, (tokens, counts), reverse=reverse)[1]

        memories = [read(self.forwards, False), read(self.backwards, True)]
        hidden = jnp.tanh(jnp.concatenate(memories, 1) @ self.mixing + self.bias[None])
        return counts @ (hidden @ self.readout)


def _checked(space: Any) -> Categorical:
    if not isinstance(space, Categorical) or len(space.shape) != 1:
        raise ValueError(
            f"space must be a vector of labels, such as ex.Categorical(20, 1000), got {space!r}"
        )
    return space
