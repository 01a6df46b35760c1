"""Mixtures of many normal densities, in one evaluation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from energax.energies._base import AbstractNormalised
from energax.energies._parameters import finite_array, one_state
from energax.random import as_count, categorical, normal
from energax.spaces import Numbers, Real

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class GaussianMixture(AbstractNormalised):
    """p(x) = sum_k w_k N(x; m_k, diag(s_k^2)), all members in one evaluation.

    What `ex.mixture` of Gaussians is, for any number of them: one array operation instead of an
    object a member. `GaussianMixture.ring` and `GaussianMixture.grid` are the usual tests.

    **Arguments:**

    - `means`: shape `(members, *shape)`.
    - `scales`: standard deviations, positive: a scalar, `(members,)` or the shape of `means`.
    - `weights`: positive, `(members,)`, scaled to sum to 1; equal by default.

    **Raises:** `ValueError` if shapes differ, or scales or weights are not positive.

    ```python
    import energax as ex

    ring = ex.GaussianMixture.ring(8, radius=4.0)
    draws = ex.sample(ring, 100, key=ex.key(0))
    ```
    """

    means: Float[Array, "members *shape"]
    log_scales: Float[Array, "members *shape"]
    log_weights: Float[Array, " members"]

    def __init__(self, means: Numbers, scales: Numbers = 1.0, weights: Numbers | None = None):
        self.means = finite_array(means, "means")
        if self.means.ndim == 0 or self.means.shape[0] == 0:
            raise ValueError(
                f"means needs a first axis over the members, got shape {self.means.shape}"
            )
        members, dtype = self.means.shape[:1], self.means.dtype
        scales = finite_array(scales, "scales", positive=True, dtype=dtype)
        if scales.shape not in ((), members, self.means.shape):
            raise ValueError(
                f"scales must have shape (), {members} or {self.means.shape}, got {scales.shape}"
            )
        if scales.shape == members:
            scales = scales.reshape(*members, *(1,) * (self.means.ndim - 1))
        self.log_scales = jnp.broadcast_to(jnp.log(scales), self.means.shape)
        if weights is None:
            weights = np.ones(members)
        weights = finite_array(weights, "weights", shape=members, positive=True, dtype=dtype)
        self.log_weights = jax.nn.log_softmax(jnp.log(weights))

    @classmethod
    def ring(
        cls, members: int = 8, *, radius: float = 4.0, scale: Numbers = 0.5
    ) -> "GaussianMixture":
        """Equal members evenly on a circle in the plane."""
        angle = 2 * np.pi * np.arange(as_count(members, "members")) / members
        return cls(radius * np.stack([np.cos(angle), np.sin(angle)], 1), scale)

    @classmethod
    def grid(
        cls, side: int = 5, *, spacing: float = 2.0, scale: Numbers = 0.1
    ) -> "GaussianMixture":
        """Equal members on a square grid in the plane, `side` by `side`, about the origin."""
        axis = spacing * (np.arange(as_count(side, "side")) - (side - 1) / 2)
        return cls(np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2), scale)

    @property
    def space(self) -> Real:
        return Real(self.means.shape[1:])

    def energy(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        z = (one_state(x, self.means.shape[1:])[None] - self.means) * jnp.exp(-self.log_scales)
        inside = tuple(range(1, z.ndim))
        each = -jnp.sum(0.5 * z**2 + self.log_scales + _HALF_LOG_2PI, inside)
        return -logsumexp(jax.nn.log_softmax(self.log_weights) + each)

    def draw(self, key: Key[Array, ""]) -> Float[Array, "*shape"]:
        key_member, key_normal = jax.random.split(key)
        member = categorical(key_member, self.log_weights)
        z = normal(key_normal, self.means.shape[1:], self.means.dtype)
        return self.means[member] + jnp.exp(self.log_scales[member]) * z
