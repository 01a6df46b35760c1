"""A normal density bent along a parabola."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from energax.energies._base import AbstractNormalised
from energax.energies._parameters import finite_array, one_state
from energax.random import normal
from energax.spaces import Numbers, Real

_LOG_2PI = math.log(2 * math.pi)


class Banana(AbstractNormalised):
    """A normal density in the plane, bent along a parabola:

    x_0 ~ N(m, s^2),  x_1 given x_0 ~ N(c + b x_0^2, w^2).

    Normalised, with exact draws and moments. By default that of Haario, Saksman and Tamminen,
    "Adaptive proposal distribution for random walk Metropolis algorithm" (1999), section 4, in
    its first two coordinates: N(0, diag(100, 1)) bent by b = 0.03 (moderately; 0.1 is strongly).
    `Banana.rosenbrock` is the other density of that name.

    **Arguments:**

    - `bend`: b, a scalar.
    - `location`, `scale`: m and s, scalars, s positive.
    - `width`: w, across the banana, a positive scalar.
    - `offset`: c, a scalar; by default -b (m^2 + s^2), so that x_1 has mean 0.

    **Raises:** `ValueError` if a parameter is not one finite number, or `scale` or `width` not
    positive.

    ```python
    import energax as ex

    banana = ex.Banana(bend=0.1)
    draws = ex.sample(banana, 100, key=ex.key(0))
    banana.mean, banana.covariance
    ```
    """

    bend: Float[Array, ""]
    location: Float[Array, ""]
    log_scale: Float[Array, ""]
    log_width: Float[Array, ""]
    offset: Float[Array, ""]

    def __init__(
        self,
        bend: Numbers = 0.03,
        *,
        location: Numbers = 0.0,
        scale: Numbers = 10.0,
        width: Numbers = 1.0,
        offset: Numbers | None = None,
    ):
        self.bend = finite_array(bend, "bend", shape=())
        dtype = self.bend.dtype
        self.location = finite_array(location, "location", shape=(), dtype=dtype)
        scale = finite_array(scale, "scale", shape=(), positive=True, dtype=dtype)
        width = finite_array(width, "width", shape=(), positive=True, dtype=dtype)
        self.log_scale, self.log_width = jnp.log(scale), jnp.log(width)
        if offset is None:
            offset = -self.bend * (self.location**2 + scale**2)
        self.offset = finite_array(offset, "offset", shape=(), dtype=dtype)

    @classmethod
    def rosenbrock(
        cls, a: Numbers = 1.0, b: Numbers = 100.0, *, temperature: Numbers = 20.0
    ) -> "Banana":
        """p(x) proportional to exp(-((a - x_0)^2 + b (x_1 - x_0^2)^2) / temperature).

        H. Rosenbrock, "An automatic method for finding the greatest or least value of a function"
        (1960), as a density: at temperature 20 by J. Goodman and J. Weare, "Ensemble samplers
        with affine invariance" (2010), equation 26.
        """
        b = finite_array(b, "b", shape=(), positive=True)
        temperature = finite_array(
            temperature, "temperature", shape=(), positive=True, dtype=b.dtype
        )
        return cls(
            1.0,
            location=a,
            scale=jnp.sqrt(temperature / 2),
            width=jnp.sqrt(temperature / (2 * b)),
            offset=0.0,
        )

    @property
    def mean(self) -> Float[Array, " 2"]:
        """The exact mean."""
        square = self.location**2 + jnp.exp(2 * self.log_scale)
        return jnp.stack([self.location, self.offset + self.bend * square])

    @property
    def covariance(self) -> Float[Array, "2 2"]:
        """The exact covariance."""
        variance = jnp.exp(2 * self.log_scale)
        across = 2 * self.bend * self.location * variance
        up = self.bend**2 * (2 * variance**2 + 4 * self.location**2 * variance)
        up = up + jnp.exp(2 * self.log_width)
        return jnp.stack([jnp.stack([variance, across]), jnp.stack([across, up])])

    @property
    def space(self) -> Real:
        return Real(2)

    def energy(self, x: Float[Array, " 2"]) -> Float[Array, ""]:
        x = one_state(x, (2,))
        along = (x[0] - self.location) * jnp.exp(-self.log_scale)
        across = (x[1] - self.offset - self.bend * x[0] ** 2) * jnp.exp(-self.log_width)
        return 0.5 * (along**2 + across**2) + self.log_scale + self.log_width + _LOG_2PI

    def draw(self, key: Key[Array, ""]) -> Float[Array, " 2"]:
        z = normal(key, (2,), self.bend.dtype)
        along = self.location + jnp.exp(self.log_scale) * z[0]
        across = self.offset + self.bend * along**2 + jnp.exp(self.log_width) * z[1]
        return jnp.stack([along, across])
