"""Independent categorical entries."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int, Key

from energax.energies._base import AbstractNormalised
from energax.energies._parameters import finite_array
from energax.energies.algebra._rules import POWER, PRODUCT
from energax.energies.algebra._shifted import Shifted
from energax.spaces import Categorical, Numbers, float_dtype


class Softmax(AbstractNormalised):
    """The categorical distribution: p(x = k) = exp(l_k) / sum_j exp(l_j), entry by entry.

    **Arguments:**

    - `logits`: l, shape `(*shape, n_states)`; a state has shape `shape`.
    """

    logits: Float[Array, "*shape states"]

    def __init__(self, logits: Numbers):
        self.logits = finite_array(logits, "logits")
        if self.logits.ndim == 0:
            raise ValueError("logits needs a last axis over the states, got a single number")

    @classmethod
    def from_data(cls, data: Any, space: Categorical, *, pseudo_count: float = 0.5) -> "Softmax":
        """The base-rate model: each entry's own share of every label in rows of data.

        `pseudo_count` of each label are added, so that no share is 0.

        **Raises:** `ValueError` for rows that are not states of `space`, as labels or one-hot.
        """
        if not pseudo_count > 0:
            raise ValueError(f"pseudo_count must be positive, got {pseudo_count}")
        rows = space.convert(data)
        labels = jnp.arange(space.n_states, dtype=rows.dtype)
        counts = jnp.stack([jnp.sum(rows == label, 0) for label in labels], -1)
        return cls(jnp.log(counts.astype(float_dtype()) + pseudo_count))

    @property
    def space(self) -> Categorical:
        return Categorical(self.logits.shape[:-1], self.logits.shape[-1])

    def energy(self, x: Int[Array, "*shape"]) -> Float[Array, ""]:
        log_probs = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.take_along_axis(log_probs, x[..., None], axis=-1))

    def draw(self, key: Key[Array, ""]) -> Int[Array, "*shape"]:
        return jax.random.categorical(key, self.logits).astype(jnp.int32)


def _log_sum(logits: Array) -> Array:
    return jnp.sum(logsumexp(logits, axis=-1))


def _product(a: Softmax, b: Softmax) -> Shifted:
    merged = Softmax(a.logits + b.logits)
    return Shifted(merged, _log_sum(a.logits) + _log_sum(b.logits) - _log_sum(merged.logits))


def _power(a: Softmax, beta: Array) -> Shifted:
    powered = Softmax(beta * a.logits)
    return Shifted(powered, beta * _log_sum(a.logits) - _log_sum(powered.logits))


PRODUCT[Softmax, Softmax] = _product
POWER[Softmax] = _power
