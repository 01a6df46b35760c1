"""Waiting times."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from energax.energies._base import AbstractEnergy, AbstractNormalised
from energax.energies._parameters import finite_array, is_traced, one_state
from energax.energies.algebra._rules import POWER, PRODUCT
from energax.energies.algebra._shifted import Shifted
from energax.spaces import Box, Numbers


class Exponential(AbstractNormalised):
    """Independent entries of at least 0 with density r exp(-r x).

    **Arguments:**

    - `rate`: r, positive, any shape.
    """

    log_rate: Float[Array, "*shape"]

    def __init__(self, rate: Numbers = 1.0):
        self.log_rate = jnp.log(finite_array(rate, "rate", positive=True))

    @property
    def rate(self) -> Float[Array, "*shape"]:
        """One over the mean."""
        return jnp.exp(self.log_rate)

    @property
    def space(self) -> Box:
        return Box(self.log_rate.shape, 0.0, jnp.inf)

    def energy(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        x = one_state(x, self.log_rate.shape)
        energy = jnp.sum(self.rate * x - self.log_rate)
        return jnp.where(jnp.all(x >= 0), energy, jnp.inf)

    def draw(self, key: Key[Array, ""]) -> Float[Array, "*shape"]:
        unit = jax.random.exponential(key, self.log_rate.shape, self.log_rate.dtype)
        return unit / self.rate


def _product(a: Exponential, b: Exponential) -> Shifted:
    merged = Exponential(a.rate + b.rate)
    return Shifted(merged, jnp.sum(merged.log_rate - a.log_rate - b.log_rate))


def _power(a: Exponential, beta: Array) -> AbstractEnergy | None:
    if not is_traced(beta) and beta == 0:
        return None  # flat on a half line: no density
    powered = Exponential(beta * a.rate)
    return Shifted(powered, jnp.sum(powered.log_rate - beta * a.log_rate))


PRODUCT[Exponential, Exponential] = _product
POWER[Exponential] = _power
