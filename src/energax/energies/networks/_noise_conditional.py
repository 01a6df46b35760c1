"""Energies of data blurred by noise, one for every size of the noise."""

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from energax.energies._base import AbstractEnergy
from energax.energies._parameters import finite_array
from energax.energies.networks._neural import NeuralEnergy
from energax.spaces import AbstractSpace, Numbers, State


class NoiseConditional(AbstractEnergy):
    """Energies of x = data + noise z, z ~ N(0, 1), one for every noise: E(x) = -f(x, noise).

    By itself it is the energy at the smallest of its noises, that of the data all but sharp;
    `at` gives the others. Where noise is large the density is broad and easy to sample, so
    `ex.sampling.annealed_langevin` and `ex.sampling.reverse_diffusion` begin there.
    `DenoisingScoreMatching` trains all at once.

    **Arguments:**

    - `function`: a callable of one unbatched state and the noise, a scalar, to a scalar.
    - `space`: what x is: `Real`, or a `Joint` of them.
    - `noises`: standard deviations, positive, shape (levels,); the largest should be as large as
      the data are far apart, the smallest finer than the details that matter.

    **Raises:** `ValueError` if `function` is not callable or the noises are not as said.

    ```python
    import energax as ex
    import jax.numpy as jnp
    import numpy as np

    def f(x, noise):  # exact for data from N(0, 1)
        return -0.5 * x @ x / (1 + noise**2)

    energy = ex.NoiseConditional(f, ex.Real(2), np.geomspace(0.1, 3.0, 10))
    energy.at(3.0).score(jnp.ones(2))
    ```

    Source: Y. Song and S. Ermon, "Generative modeling by estimating gradients of the data
    distribution" (2019), whose network is the score and not the energy.
    """

    function: Callable[[State, Array], Array]
    space: AbstractSpace
    noises: Float[Array, " levels"]
    """From the largest to the smallest."""
    noise: Float[Array, ""]
    """That of this energy."""

    fixed: ClassVar[tuple[str, ...]] = ("noises", "noise")

    def __init__(
        self, function: Callable[[Any, Any], Array], space: AbstractSpace, noises: Numbers
    ):
        if not callable(function):
            raise ValueError(f"function must be callable, got {type(function).__name__}")
        if not isinstance(space, AbstractSpace):
            raise ValueError(f"space must be a space such as ex.Real(2), got {space!r}")
        levels = finite_array(noises, "noises", positive=True)
        if levels.ndim != 1 or not levels.size:
            raise ValueError(f"noises must be a vector of levels, got shape {levels.shape}")
        self.function, self.space = function, space
        self.noises = jnp.flip(jnp.sort(levels))
        self.noise = self.noises[-1]

    def at(self, noise: ArrayLike) -> "NoiseConditional":
        """The energy of the data blurred by this noise, any positive number."""
        value = finite_array(noise, "noise", shape=(), positive=True, dtype=self.noises.dtype)
        return eqx.tree_at(lambda energy: energy.noise, self, value)

    def energy(self, x: State) -> Float[Array, ""]:
        return NeuralEnergy(lambda x: self.function(x, self.noise), self.space).energy(x)
