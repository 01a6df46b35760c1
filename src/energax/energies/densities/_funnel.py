"""Neal's funnel."""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from energax.energies._base import AbstractNormalised
from energax.energies._parameters import finite_array, one_state
from energax.random import as_count, normal
from energax.spaces import Numbers, Real

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Funnel(AbstractNormalised):
    """x_0 ~ N(0, s^2), and the others, given it, independent N(0, exp(x_0)).

    Its neck is narrower by orders of magnitude than its mouth, so no single step size fits; this
    is how variances behave in hierarchical models. Normalised, with exact draws, so that what a
    sampler misses shows in x_0.

    **Arguments:**

    - `size`: how many entries x has, at least 2.
    - `scale`: s, a positive scalar.

    **Raises:** `ValueError` if `size` is no integer of at least 2, or `scale` not positive.

    ```python
    import energax as ex

    draws = ex.sample(ex.Funnel(), 100, key=ex.key(0), kernel=ex.NUTS(), warmup=100)
    ```

    Source: R. Neal, "Slice sampling" (2003), section 8, where s = 3 and x has 10 entries.
    """

    log_scale: Float[Array, ""]
    size: int = eqx.field(static=True)

    def __init__(self, size: int = 10, scale: Numbers = 3.0):
        self.size = as_count(size, "size", least=2)
        self.log_scale = jnp.log(finite_array(scale, "scale", shape=(), positive=True))

    @property
    def scale(self) -> Float[Array, ""]:
        """The standard deviation of x_0."""
        return jnp.exp(self.log_scale)

    @property
    def space(self) -> Real:
        return Real(self.size)

    def energy(self, x: Float[Array, " size"]) -> Float[Array, ""]:
        x = one_state(x, (self.size,))
        width = x[0] / 2  # the logarithm of the others' standard deviation
        first = 0.5 * jnp.square(x[0] * jnp.exp(-self.log_scale)) + self.log_scale
        # Where an entry is 0 it adds nothing, however narrow the neck: exp would overflow there.
        middle = x[1:] == 0
        scaled = jnp.where(middle, 0.0, x[1:] * jnp.exp(-jnp.where(middle, 0.0, width)))
        others = 0.5 * jnp.sum(jnp.square(scaled)) + (self.size - 1) * width
        return first + others + self.size * _HALF_LOG_2PI

    def draw(self, key: Key[Array, ""]) -> Float[Array, " size"]:
        z = normal(key, (self.size,), self.log_scale.dtype)
        first = self.scale * z[:1]
        return jnp.concatenate([first, jnp.exp(first / 2) * z[1:]])
