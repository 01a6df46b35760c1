"""Two wells with a barrier between them."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from energax.energies._base import AbstractTractable
from energax.energies._parameters import finite_array, is_traced, one_state
from energax.energies.algebra._rules import POWER
from energax.random import bernoulli, normal
from energax.spaces import Numbers, Real
from energax.spaces._base import shape_of

_CUT = 42.0
"""exp(-42) is nothing beside 1, even in double precision."""

_N_POINTS = 2048

_LOW = 0.6
"""Below this height draws are proposed from one normal density over both wells."""


class DoubleWell(AbstractTractable):
    """Independent entries in two wells: E(x) = sum_i h_i ((x_i / d_i)^2 - 1)^2.

    Wells of depth 0 at -d and d, and a barrier of h between them at 0. Draws are exact, by
    rejection, and so is log Z, by a one-dimensional integral to the last digits.

    **Arguments:**

    - `height`: h, in nats, positive, a scalar or the shape of x.
    - `distance`: d, of a well from the barrier, positive, a scalar or the shape of x.
    - `shape`: of x; by default that of `height` and `distance`.

    **Raises:** `ValueError` if a parameter is not positive, or does not broadcast to `shape`.

    ```python
    import energax as ex

    well = ex.DoubleWell(height=2.0, shape=2)
    draws = ex.sample(well, 100, key=ex.key(0))
    ```
    """

    log_height: Float[Array, "*shape"]
    log_distance: Float[Array, "*shape"]

    def __init__(
        self,
        height: Numbers = 2.0,
        distance: Numbers = 1.0,
        shape: int | tuple[int, ...] | None = None,
    ):
        height = finite_array(height, "height", positive=True)
        distance = finite_array(distance, "distance", positive=True, dtype=height.dtype)
        given = None if shape is None else shape_of(shape)
        try:
            full = jnp.broadcast_shapes(height.shape, distance.shape) if given is None else given
            self.log_height = jnp.broadcast_to(jnp.log(height), full)
            self.log_distance = jnp.broadcast_to(jnp.log(distance), full)
        except ValueError:
            raise ValueError(
                f"height and distance must broadcast to one shape{_named(given)}, got"
                f" {height.shape} and {distance.shape}"
            ) from None

    @property
    def height(self) -> Float[Array, "*shape"]:
        """The barrier h."""
        return jnp.exp(self.log_height)

    @property
    def distance(self) -> Float[Array, "*shape"]:
        """How far a well is from the barrier."""
        return jnp.exp(self.log_distance)

    @property
    def space(self) -> Real:
        return Real(self.log_height.shape)

    def energy(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        y = one_state(x, self.log_height.shape) * jnp.exp(-self.log_distance)
        return jnp.sum(self.height * jnp.square(jnp.square(y) - 1))

    def log_normaliser(self) -> Float[Array, ""]:
        # Z = 2 d times the integral over y > 0 of exp(-h (y^2 - 1)^2). With y = exp(s) it is one
        # over the whole line, where the trapezoidal rule errs by an exponentially small amount.
        height = self.height[None]
        reach = jnp.sqrt(_CUT / height)
        top = jnp.log1p(reach) / 2
        inside = jnp.where(reach < 1, reach, 0.5)
        bottom = jnp.where(reach < 1, jnp.log1p(-inside) / 2, -jnp.inf)
        bottom, top = lax.stop_gradient((jnp.maximum(bottom, top - _CUT), top))
        share = jnp.arange(_N_POINTS, dtype=top.dtype) / (_N_POINTS - 1)
        s = bottom + (top - bottom) * share.reshape(-1, *(1,) * (top.ndim - 1))
        log_terms = s - height * jnp.square(jnp.expm1(2 * s))
        log_step = jnp.log(2 * (top - bottom) / (_N_POINTS - 1))
        each = logsumexp(log_terms, axis=0) + log_step[0] + self.log_distance
        return jnp.sum(each)

    def draw(self, key: Key[Array, ""]) -> Float[Array, "*shape"]:
        # For y > 0 the density is at most exp(-h (y - 1)^2), a normal one, whose proposal is kept
        # with probability exp(-h (y - 1)^2 y (y + 2)): at a high barrier, every second time. At a
        # low one, where that falls as h^(1/4), the tangent to (y^2 - 1)^2 at y^2 = c gives half a
        # normal density, whose proposal is kept with probability exp(-h (y^2 - c)^2): with the best
        # c, four times in five as h falls to 0, and every second time at _LOW.
        height = self.height
        best = (1 + jnp.sqrt(1 + 1 / height)) / 2
        is_low = height < _LOW
        centre = jnp.where(is_low, 0.0, 1.0)
        scale = jnp.where(is_low, 1 / jnp.sqrt(4 * height * (best - 1)), 1 / jnp.sqrt(2 * height))
        failed = ~(jnp.isfinite(scale) & jnp.isfinite(height))  # nothing to draw from

        def propose(carry):
            y, done, round = carry
            key_normal, key_keep = jax.random.split(jax.random.fold_in(key_draws, round))
            z = normal(key_normal, scale.shape, scale.dtype)
            new = centre + scale * jnp.where(is_low, jnp.abs(z), z)
            log_share = -height * jnp.where(
                is_low,
                jnp.square(jnp.square(new) - best),
                jnp.square(new - 1) * new * (new + 2),
            )
            keep = (new > 0) & bernoulli(key_keep, jnp.exp(jnp.minimum(log_share, 0.0)))
            return jnp.where(done, y, new), done | keep, round + 1

        key_draws, key_sign = jax.random.split(key)
        start = jnp.where(failed, jnp.nan, jnp.ones_like(scale)), failed, jnp.zeros((), jnp.int32)
        y, *_ = lax.while_loop(lambda carry: ~jnp.all(carry[1]), propose, start)
        sign = jax.random.rademacher(key_sign, scale.shape, scale.dtype)
        return sign * y * self.distance


def _named(shape: object) -> str:
    return "" if shape is None else f", {shape}"


def _power(a: DoubleWell, beta: Array) -> DoubleWell | None:
    if not is_traced(beta) and np.asarray(beta) == 0:
        return None  # flat: nothing to draw from
    return DoubleWell(beta * a.height, a.distance)


POWER[DoubleWell] = _power
