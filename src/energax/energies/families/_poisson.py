"""Counts of rare events."""

import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int, Key

from energax.energies._base import AbstractNormalised
from energax.energies._parameters import finite_array, one_state
from energax.random import poisson
from energax.spaces import Count, Numbers


class Poisson(AbstractNormalised):
    """Independent counts: log p(x) = x log r - r - log x!.

    **Arguments:**

    - `rate`: r, the mean, positive, any shape.
    """

    log_rate: Float[Array, "*shape"]

    def __init__(self, rate: Numbers = 1.0):
        self.log_rate = jnp.log(finite_array(rate, "rate", positive=True))

    @property
    def rate(self) -> Float[Array, "*shape"]:
        """The mean."""
        return jnp.exp(self.log_rate)

    @property
    def space(self) -> Count:
        return Count(self.log_rate.shape)

    def energy(self, x: Int[Array, "*shape"]) -> Float[Array, ""]:
        count = one_state(x, self.log_rate.shape).astype(self.log_rate.dtype)
        energy = jnp.sum(self.rate + gammaln(count + 1) - count * self.log_rate)
        return jnp.where(jnp.all(x >= 0), energy, jnp.inf)

    def draw(self, key: Key[Array, ""]) -> Int[Array, "*shape"]:
        return poisson(key, self.rate)
