"""Denoising score matching: scores of blurred data."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy, NoiseConditional
from energax.energies._parameters import finite_array
from energax.kernels._coordinates import noise_like
from energax.objectives._base import AbstractObjective, Step, value_and_gradient
from energax.objectives._score_fields import dot
from energax.sampling._diffused import is_unbounded
from energax.spaces import Numbers, State


class DenoisingScoreMatching(AbstractObjective):
    """The score of blurred data, from the noise that blurred them:

        J = E[ |noise s(x + noise z) + z|^2 / 2 ],    s = grad log p, z ~ N(0, 1).

    One gradient a row and no second derivatives. What is fitted is the distribution of the data
    *blurred by the noise*, not of the data: variances come out larger by noise^2.

    With several noises the energy is a `NoiseConditional`, and each row is blurred by one of them,
    drawn evenly. The factor noise^2 in J is what makes all of them weigh alike.

    **Arguments:**

    - `noise`: the standard deviation of the blur, in units of x: a positive number; or several,
      shape (levels,). `None` takes those of a `NoiseConditional`.

    **Raises:** `ValueError` for a noise that is not positive; before training for a space that is
    not `Real` (blurred data would leave a `Box`), or several noises and an energy that knows one.

    ```python
    import energax as ex
    import numpy as np

    rows = np.random.default_rng(0).normal(3.0, 0.5, (1000, 2))
    sharp = ex.DenoisingScoreMatching(0.1)
    run = ex.fit(ex.Gaussian(np.zeros(2)), rows, sharp, key=ex.key(0), steps=200)
    ```

    Sources: P. Vincent, "A connection between score matching and denoising autoencoders" (2011),
    equation 11; several noises, Y. Song and S. Ermon, "Generative modeling by estimating gradients
    of the data distribution" (2019), equations 5 and 6.
    """

    noise: Float[Array, ""] | Float[Array, " levels"] | None

    def __init__(self, noise: Numbers | None = None):
        self.noise = None if noise is None else finite_array(noise, "noise", positive=True)
        if self.noise is not None and (self.noise.ndim > 1 or not self.noise.size):
            raise ValueError(
                f"noise must be a number or a vector of them, got shape {self.noise.shape}"
            )

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        if not is_unbounded(energy.space):
            raise ValueError(
                "DenoisingScoreMatching needs a continuous space without ends (Real, or a Joint of"
                f" them), got {energy.space}: on a Box take ex.ScoreMatching"
            )
        if not isinstance(energy, NoiseConditional):
            if self.noise is None:
                raise ValueError(
                    f"{type(energy).__name__} knows no noise: give one, as in"
                    " DenoisingScoreMatching(0.1)"
                )
            if self.noise.ndim:
                raise ValueError(
                    "several noises need an ex.NoiseConditional, an energy for each of them, got"
                    f" {type(energy).__name__}"
                )
        return AbstractObjective.prepare(self, energy, data)

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> None:
        return None

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        key_noise, key_level = jax.random.split(key)
        leaf = jax.tree.leaves(batch)[0]
        z = noise_like(batch, key_noise)
        level = self._levels(energy, key_level, len(leaf)).astype(leaf.dtype)

        def loss(energy: AbstractEnergy) -> Array:
            def of_row(x: State, z: State, noise: Array) -> Float[Array, ""]:
                model = energy.at(noise) if isinstance(energy, NoiseConditional) else energy
                score = model.score(jax.tree.map(lambda x, z: x + noise * z, x, z))
                left = jax.tree.map(lambda s, z: noise * s + z, score, z)
                return 0.5 * dot(left, left)

            return jnp.mean(jax.vmap(of_row)(batch, z, level))

        value, gradient = value_and_gradient(energy, loss)
        return Step(gradient, None, {"loss": value})

    def _levels(self, energy: AbstractEnergy, key: Key[Array, ""], n: int) -> Float[Array, " rows"]:
        """A noise for every row."""
        noise = self.noise
        if noise is None:
            assert isinstance(energy, NoiseConditional)
            noise = energy.noises
        noise = jnp.atleast_1d(noise)
        return noise[jax.random.randint(key, (n,), 0, noise.size)]
