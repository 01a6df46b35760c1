"""Independent binary entries."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from energax.energies._base import AbstractNormalised, AbstractSitewise
from energax.energies._parameters import finite_array, one_state
from energax.energies.algebra._rules import POWER, PRODUCT
from energax.energies.algebra._shifted import Shifted
from energax.random import bernoulli
from energax.spaces import Binary, Numbers


class Bernoulli(AbstractNormalised, AbstractSitewise):
    """Independent entries of 0 and 1: log p(x) = sum_i x_i l_i - log(1 + exp(l_i)).

    **Arguments:**

    - `logits`: l, log-odds of a 1, any shape.
    """

    logits: Float[Array, "..."]

    def __init__(self, logits: Numbers):
        self.logits = finite_array(logits, "logits")

    @classmethod
    def from_data(cls, data: Numbers, *, pseudo_count: float = 0.5) -> "Bernoulli":
        """The base-rate model: each entry's own share of ones in rows of data.

        `pseudo_count` ones and as many zeros are added, so that no share is 0 or 1.
        """
        if not pseudo_count > 0:
            raise ValueError(f"pseudo_count must be positive, got {pseudo_count}")
        rows = Binary(np.shape(data)[1:]).convert(data)
        ones = jnp.sum(rows, 0) + pseudo_count
        return cls(jnp.log(ones) - jnp.log(rows.shape[0] + 2 * pseudo_count - ones))

    @property
    def space(self) -> Binary:
        return Binary(self.logits.shape)

    def energy(self, x: Float[Array, "..."]) -> Float[Array, ""]:
        return jnp.sum(jax.nn.softplus(self.logits)) - jnp.vdot(
            one_state(x, self.logits.shape), self.logits
        )

    def site_changes(self, x: Float[Array, "..."], site: Int[Array, ""]) -> Float[Array, "2"]:
        values = jnp.arange(2, dtype=self.logits.dtype)
        return (x.reshape(-1)[site] - values) * self.logits.reshape(-1)[site]

    def draw(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        return bernoulli(key, jax.nn.sigmoid(self.logits)).astype(self.logits.dtype)


def _log_sum(logits: Array) -> Array:
    return jnp.sum(jax.nn.softplus(logits))


def _product(a: Bernoulli, b: Bernoulli) -> Shifted:
    merged = Bernoulli(a.logits + b.logits)
    return Shifted(merged, _log_sum(a.logits) + _log_sum(b.logits) - _log_sum(merged.logits))


def _power(a: Bernoulli, beta: Array) -> Shifted:
    powered = Bernoulli(beta * a.logits)
    return Shifted(powered, beta * _log_sum(a.logits) - _log_sum(powered.logits))


PRODUCT[Bernoulli, Bernoulli] = _product
POWER[Bernoulli] = _power
