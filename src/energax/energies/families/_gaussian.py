"""Gaussians with a diagonal and with a full covariance."""

import math

import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, Key

from energax.energies._base import AbstractEnergy, AbstractNormalised
from energax.energies._parameters import finite_array, is_traced, one_state
from energax.energies.algebra._rules import POWER, PRODUCT
from energax.energies.algebra._shifted import Shifted
from energax.random import normal
from energax.spaces import Numbers, Real

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class Gaussian(AbstractNormalised):
    """Independent normal entries.

    **Arguments:**

    - `mean`: any shape.
    - `scale`: standard deviations, positive, a scalar or the shape of `mean`.
    """

    mean: Float[Array, "*shape"]
    log_scale: Float[Array, "*shape"]

    def __init__(self, mean: Numbers = 0.0, scale: Numbers = 1.0):
        self.mean = finite_array(mean, "mean")
        scale = finite_array(scale, "scale", positive=True, dtype=self.mean.dtype)
        if scale.shape not in ((), self.mean.shape):
            raise ValueError(f"scale must have shape () or {self.mean.shape}, got {scale.shape}")
        self.log_scale = jnp.broadcast_to(jnp.log(scale), self.mean.shape)

    @classmethod
    def from_data(cls, data: Numbers) -> "Gaussian":
        """The maximum-likelihood fit to rows of data."""
        rows = Real(np.shape(data)[1:]).convert(data)
        return cls(jnp.mean(rows, 0), jnp.maximum(jnp.std(rows, 0), 1e-6))

    @property
    def scale(self) -> Float[Array, "*shape"]:
        """The standard deviations."""
        return jnp.exp(self.log_scale)

    @property
    def space(self) -> Real:
        return Real(self.mean.shape)

    def energy(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        z = (one_state(x, self.mean.shape) - self.mean) * jnp.exp(-self.log_scale)
        return jnp.sum(0.5 * z**2 + self.log_scale + _HALF_LOG_2PI)

    def draw(self, key: Key[Array, ""]) -> Float[Array, "*shape"]:
        return self.mean + self.scale * normal(key, self.mean.shape, self.mean.dtype)


class MultivariateGaussian(AbstractNormalised):
    """A normal vector with any covariance.

    Held as the lower Cholesky factor L of the *precision* L L^T, so that a density costs one
    product and no solve.

    **Arguments:**

    - `mean`: shape (n,).
    - `covariance` or `precision`: one of them, symmetric positive definite, shape (n, n).

    **Raises:** `ValueError` if neither or both are given, or the matrix is not as said.
    """

    mean: Float[Array, " n"]
    precision_factor: Float[Array, "n n"]

    def __init__(
        self,
        mean: Numbers,
        covariance: Numbers | None = None,
        *,
        precision: Numbers | None = None,
    ):
        self.mean = finite_array(mean, "mean")
        if self.mean.ndim != 1:
            raise ValueError(f"mean must be a vector, got shape {self.mean.shape}")
        if (covariance is None) == (precision is None):
            raise ValueError("give either covariance or precision")
        name, given = "covariance", covariance
        if given is None:
            name, given = "precision", precision
        assert given is not None
        n = self.mean.shape[0]
        matrix = finite_array(given, name, shape=(n, n), dtype=self.mean.dtype)
        if is_traced(matrix):
            matrix = matrix if covariance is None else jnp.linalg.inv(matrix)
            self.precision_factor = jnp.linalg.cholesky((matrix + matrix.T) / 2)
            return
        # In double precision whatever the dtype: a covariance near singular would be lost.
        exact = np.asarray(given, float)
        if not np.allclose(exact, exact.T, rtol=1e-5, atol=1e-8 * np.abs(exact).max()):
            raise ValueError(f"{name} must be symmetric")
        try:
            np.linalg.cholesky(exact)
            exact = exact if covariance is None else np.linalg.inv(exact)
            factor = np.linalg.cholesky((exact + exact.T) / 2)
        except np.linalg.LinAlgError:
            raise ValueError(f"{name} must be positive definite") from None
        self.precision_factor = jnp.asarray(factor, self.mean.dtype)

    @classmethod
    def from_data(cls, data: Numbers) -> "MultivariateGaussian":
        """The maximum-likelihood fit to rows of data, shape (rows, n), rows > n."""
        rows = Real(np.shape(data)[1:]).convert(data)
        if rows.ndim != 2 or rows.shape[0] <= rows.shape[1]:
            raise ValueError(f"data must have more rows than columns, got {rows.shape}")
        return cls(jnp.mean(rows, 0), jnp.atleast_2d(jnp.cov(rows.T, bias=True)))

    @property
    def precision(self) -> Float[Array, "n n"]:
        """The inverse of the covariance."""
        factor = jnp.tril(self.precision_factor)
        return factor @ factor.T

    @property
    def covariance(self) -> Float[Array, "n n"]:
        """The covariance."""
        return jnp.linalg.inv(self.precision)

    @property
    def space(self) -> Real:
        return Real(self.mean.shape)

    def energy(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        factor = jnp.tril(self.precision_factor)
        z = (one_state(x, self.mean.shape) - self.mean) @ factor
        half_log_det = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(factor))))
        return 0.5 * jnp.sum(z**2) - half_log_det + self.mean.shape[0] * _HALF_LOG_2PI

    def draw(self, key: Key[Array, ""]) -> Float[Array, " n"]:
        z = normal(key, self.mean.shape, self.mean.dtype)
        factor = jnp.tril(self.precision_factor)
        return self.mean + solve_triangular(factor, z, trans=1, lower=True)


def _shifted_to(energy: AbstractNormalised, at: Array, value: Array) -> Shifted:
    """`energy` plus the constant that makes it `value` at the point `at`."""
    return Shifted(energy, value - energy.energy(at))


def _diagonal_product(a: Gaussian, b: Gaussian) -> AbstractEnergy:
    precision_a, precision_b = jnp.exp(-2 * a.log_scale), jnp.exp(-2 * b.log_scale)
    precision = precision_a + precision_b
    mean = (precision_a * a.mean + precision_b * b.mean) / precision
    merged = Gaussian(mean, 1 / jnp.sqrt(precision))
    return _shifted_to(merged, mean, a.energy(mean) + b.energy(mean))


def _diagonal_power(a: Gaussian, beta: Array) -> AbstractEnergy | None:
    if not is_traced(beta) and beta == 0:
        return None  # flat: no Gaussian
    powered = Gaussian(a.mean, a.scale / jnp.sqrt(beta))
    return _shifted_to(powered, a.mean, beta * a.energy(a.mean))


def _full(a: Gaussian | MultivariateGaussian) -> tuple[Array, Array]:
    if isinstance(a, Gaussian):
        return a.mean, jnp.diag(jnp.exp(-2 * a.log_scale))
    return a.mean, a.precision


def _full_product(a: Gaussian | MultivariateGaussian, b: MultivariateGaussian) -> AbstractEnergy:
    (mean_a, precision_a), (mean_b, precision_b) = _full(a), _full(b)
    precision = precision_a + precision_b
    mean = jnp.linalg.solve(precision, precision_a @ mean_a + precision_b @ mean_b)
    merged = MultivariateGaussian(mean, precision=precision)
    return _shifted_to(merged, mean, a.energy(mean) + b.energy(mean))


def _full_power(a: MultivariateGaussian, beta: Array) -> AbstractEnergy | None:
    if not is_traced(beta) and beta == 0:
        return None
    powered = MultivariateGaussian(a.mean, precision=beta * a.precision)
    return _shifted_to(powered, a.mean, beta * a.energy(a.mean))


PRODUCT[Gaussian, Gaussian] = _diagonal_product
PRODUCT[Gaussian, MultivariateGaussian] = _full_product
PRODUCT[MultivariateGaussian, MultivariateGaussian] = _full_product
POWER[Gaussian] = _diagonal_power
POWER[MultivariateGaussian] = _full_power
