"""Sequences of independent tokens, of any length up to the longest."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from energax.energies._base import AbstractNormalised
from energax.energies._parameters import finite_array, one_state
from energax.random import as_count, categorical
from energax.spaces import Categorical, Numbers


class UnigramSequences(AbstractNormalised):
    """A length, then as many independent tokens of one distribution, and padding to the end:

    p(x) = p(length of x) * product over its tokens of p(x_t)

    Normalised and drawn directly: what sequences are compared with by noise-contrastive
    estimation, or annealed from. Anything else than padding behind padding has p = 0.

    **Arguments:**

    - `lengths`: logits of the lengths 0 to L, shape (L + 1,).
    - `logits`: of the tokens; that of the padding is not looked at.
    - `padding`: the token that fills sequences up.

    ```python
    import energax as ex

    rows = [[0, 1, 2], [1, 2, 2], [0, 2, 2]]  # 2 is padding
    unigram = ex.UnigramSequences.from_data(rows, ex.Categorical(3, 3), padding=2)
    print(unigram.draw(ex.key(0)).shape)
    ```
    """

    lengths: Float[Array, " lengths"]
    logits: Float[Array, " states"]
    padding: int = eqx.field(static=True)

    def __init__(self, lengths: Numbers, logits: Numbers, *, padding: int):
        self.lengths, self.logits = finite_array(lengths, "lengths"), finite_array(logits, "logits")
        for name, array in (("lengths", self.lengths), ("logits", self.logits)):
            if array.ndim != 1 or array.size < 2:
                raise ValueError(f"{name} must be a vector of at least 2, got shape {array.shape}")
        self.padding = as_count(padding, "padding", least=0, most=self.logits.size - 1)

    @classmethod
    def from_data(
        cls, data: Any, space: Categorical, *, padding: int, pseudo_count: float = 0.5
    ) -> "UnigramSequences":
        """The shares of lengths and tokens in rows of data.

        `pseudo_count` of each are added, so that no share is 0.

        **Raises:** `ValueError` for rows that are not states of `space`, or in which a token
        stands behind padding.
        """
        if not isinstance(space, Categorical) or len(space.shape) != 1:
            raise ValueError(f"space must be a vector of labels, got {space!r}")
        if not pseudo_count > 0:
            raise ValueError(f"pseudo_count must be positive, got {pseudo_count}")
        padding = as_count(padding, "padding", least=0, most=space.n_states - 1)
        rows = np.asarray(space.convert(data))
        there = rows != padding
        late = (there[:, 1:] & ~there[:, :-1]).any(1)
        if late.any():
            raise ValueError(f"row {int(np.argmax(late))} has a token behind padding")
        lengths = np.bincount(there.sum(1), minlength=space.shape[0] + 1)
        tokens = np.bincount(rows[there], minlength=space.n_states)
        return cls(np.log(lengths + pseudo_count), np.log(tokens + pseudo_count), padding=padding)

    @property
    def space(self) -> Categorical:
        return Categorical(self.lengths.size - 1, self.logits.size)

    def energy(self, x: Int[Array, " length"]) -> Float[Array, ""]:
        x = one_state(x, (self.lengths.size - 1,))
        there = x != self.padding
        each = jnp.where(there, self._log_shares()[x], 0.0)
        late = jnp.any(there[1:] & ~there[:-1])
        length = jax.nn.log_softmax(self.lengths)[jnp.sum(there)]
        return jnp.where(late, jnp.inf, -length - jnp.sum(each))

    def draw(self, key: Key[Array, ""]) -> Int[Array, " length"]:
        key_length, key_tokens = jax.random.split(key)
        most = self.lengths.size - 1
        length = categorical(key_length, self.lengths)
        tokens = categorical(
            key_tokens, jnp.broadcast_to(self._log_shares(), (most, self.logits.size))
        )
        here = jnp.arange(most) < length
        return jnp.where(here, tokens, self.padding).astype(jnp.int32)

    def _log_shares(self) -> Float[Array, " states"]:
        is_padding = jnp.arange(self.logits.size) == self.padding
        return jax.nn.log_softmax(jnp.where(is_padding, -jnp.inf, self.logits))
