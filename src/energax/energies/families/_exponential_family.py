"""Any exponential family, given by its sufficient statistic."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from energax.energies._base import AbstractEnergy
from energax.energies._parameters import finite_array, is_traced
from energax.spaces import AbstractSpace, Numbers, State


class ExponentialFamily(AbstractEnergy):
    """p(x) = exp(eta . T(x)) / Z(eta).

    Among all models with the same expected T(x) this is the one of greatest entropy; fit it to
    given expectations with `ex.fit(family, moments, ex.MaximumEntropy(), ...)`.

    **Arguments:**

    - `sufficient_statistic`: T, a callable of one state to an array of shape (k,).
    - `natural_parameter`: eta, shape (k,).
    - `space`: what x is.

    **Raises:** `ValueError` if T is not callable or its output does not have eta's shape.
    """

    sufficient_statistic: Callable[[State], Array]
    natural_parameter: Float[Array, " k"]
    space: AbstractSpace

    def __init__(
        self,
        sufficient_statistic: Callable[[Any], Array],
        natural_parameter: Numbers,
        space: AbstractSpace,
    ):
        if not callable(sufficient_statistic):
            got = type(sufficient_statistic).__name__
            raise ValueError(f"sufficient_statistic must be callable, got {got}")
        if not isinstance(space, AbstractSpace):
            raise ValueError(f"space must be a space such as ex.Real(2), got {space!r}")
        self.sufficient_statistic = sufficient_statistic
        self.natural_parameter = jnp.atleast_1d(
            finite_array(natural_parameter, "natural_parameter")
        )
        self.space = space
        if not is_traced(natural_parameter):
            shape = jax.eval_shape(self.statistic, space.structure).shape
            if shape != self.natural_parameter.shape:
                raise ValueError(
                    f"natural_parameter has shape {np.shape(natural_parameter)} but the"
                    f" sufficient statistic has shape {shape}"
                )

    def statistic(self, x: State) -> Float[Array, " k"]:
        """T(x), as a vector of floats."""
        value = jnp.atleast_1d(self.sufficient_statistic(x))
        return value.astype(self.natural_parameter.dtype)

    def energy(self, x: State) -> Float[Array, ""]:
        return -jnp.dot(self.natural_parameter, self.statistic(x))
