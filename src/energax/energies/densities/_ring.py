"""A ring in the plane."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, Key

from energax.energies._base import AbstractTractable
from energax.energies._parameters import finite_array, is_traced, one_state
from energax.energies.algebra._rules import POWER
from energax.random import bernoulli, normal
from energax.spaces import Numbers, Real

_LOG_2PI = math.log(2 * math.pi)


class Ring(AbstractTractable):
    """A ring in the plane: E(x) = (|x| - R)^2 / (2 w^2).

    A valley of constant energy, which a diagonal mass cannot straighten. With t = R / w and the
    normal distribution function Phi, Z = 2 pi w^2 (exp(-t^2 / 2) + t sqrt(2 pi) Phi(t)); draws
    are exact.

    **Arguments:**

    - `radius`: R, positive, a scalar.
    - `width`: w, positive, a scalar.

    **Raises:** `ValueError` if a parameter is not one positive number.

    ```python
    import energax as ex

    ring = ex.Ring(radius=2.0, width=0.1)
    ex.log_partition(ring, key=ex.key(0)).value
    ```
    """

    log_radius: Float[Array, ""]
    log_width: Float[Array, ""]

    def __init__(self, radius: Numbers = 1.0, width: Numbers = 0.1):
        self.log_radius = jnp.log(finite_array(radius, "radius", shape=(), positive=True))
        self.log_width = jnp.log(
            finite_array(width, "width", shape=(), positive=True, dtype=self.log_radius.dtype)
        )

    @property
    def radius(self) -> Float[Array, ""]:
        """Where the energy is lowest."""
        return jnp.exp(self.log_radius)

    @property
    def width(self) -> Float[Array, ""]:
        """The standard deviation across the ring."""
        return jnp.exp(self.log_width)

    @property
    def space(self) -> Real:
        return Real(2)

    def energy(self, x: Float[Array, " 2"]) -> Float[Array, ""]:
        squared = jnp.sum(jnp.square(one_state(x, (2,))))
        middle = squared == 0  # where |x| has no gradient, and symmetry makes it 0
        r = jnp.where(middle, 0.0, jnp.sqrt(jnp.where(middle, 1.0, squared)))
        return 0.5 * jnp.square((r - self.radius) / self.width)

    def log_normaliser(self) -> Float[Array, ""]:
        log_t = self.log_radius - self.log_width
        t = jnp.exp(log_t)
        ring = log_t + 0.5 * _LOG_2PI + log_ndtr(t)
        return _LOG_2PI + 2 * self.log_width + jnp.logaddexp(-0.5 * t**2, ring)

    def draw(self, key: Key[Array, ""]) -> Float[Array, " 2"]:
        # The radius has density r exp(-(r - R)^2 / 2 w^2). As log r lies below its tangent at the
        # mode m, a normal proposal about m is kept with probability (r / m) exp(1 - r / m).
        radius, width = self.radius, self.width
        mode = radius / 2 + jnp.hypot(radius / 2, width)
        failed = ~jnp.isfinite(mode / width)  # nothing to draw from, and no proposal is kept

        def propose(carry):
            _, _, round = carry
            key_normal, key_keep = jax.random.split(jax.random.fold_in(key_radius, round))
            r = mode + width * normal(key_normal, (), width.dtype)
            ratio = jnp.maximum(r / mode, 0.0)
            keep = bernoulli(key_keep, ratio * jnp.exp(1 - ratio))
            return r, keep, round + 1

        key_radius, key_angle = jax.random.split(key)
        start = jnp.where(failed, jnp.nan, mode), failed, jnp.zeros((), jnp.int32)
        r, *_ = lax.while_loop(lambda carry: ~carry[1], propose, start)
        angle = jax.random.uniform(key_angle, (), width.dtype, 0.0, 2 * math.pi)
        return r * jnp.stack([jnp.cos(angle), jnp.sin(angle)])


def _power(a: Ring, beta: Array) -> Ring | None:
    if not is_traced(beta) and np.asarray(beta) == 0:
        return None  # flat: nothing to draw from
    return Ring(a.radius, a.width / jnp.sqrt(beta))


POWER[Ring] = _power
