"""Annealed Langevin dynamics: from large noise to small."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Key

from energax.energies import AbstractEnergy, NoiseConditional
from energax.random import LARGEST_COUNT, as_count, as_key
from energax.sampling._diffused import (
    Diffused,
    as_conditional,
    as_step_size,
    denoised,
    langevin,
    noisy_starts,
)
from energax.spaces import State


def annealed_langevin(
    energy: AbstractEnergy,
    n: int,
    *,
    key: Key[Array, ""],
    steps: int = 100,
    step_size: ArrayLike = 0.1,
    denoise: bool = False,
    start: State = None,
) -> Diffused:
    """`n` draws of a `NoiseConditional`, by Langevin steps at each of its noises in turn:

        x <- x + h s(x, noise) + sqrt(2 h) z,    h = step_size noise^2,    z ~ N(0, 1).

    At the largest noise the density has one broad mode, and a chain crosses everywhere; at each
    smaller one it starts near where it should be. One compiled program. What is drawn are data
    blurred by the smallest noise, up to the bias of the steps: no step is refused.

    **Arguments:**

    - `steps`: at each noise.
    - `step_size`: in squares of the noise.
    - `denoise`: end at the mean of the data behind each draw, x + noise^2 s.
    - `start`: rows with a leading axis, used in turn; `None` takes the largest noise about zero,
      which is right where it is many times as large as the data.

    **Raises:** `ValueError` for an energy that is no `NoiseConditional` over real entries, or
    numbers out of range.

    ```python
    import energax as ex
    import numpy as np
    from energax.sampling import annealed_langevin

    def f(x, noise):  # data from N(0, 1)
        return -0.5 * x @ x / (1 + noise**2)

    energy = ex.NoiseConditional(f, ex.Real(2), np.geomspace(0.1, 3.0, 10))
    annealed_langevin(energy, 100, key=ex.key(0), steps=10).x
    ```

    Source: Y. Song and S. Ermon, "Generative modeling by estimating gradients of the data
    distribution" (2019), algorithm 1, whose epsilon is 2 step_size times the smallest noise
    squared.
    """
    model = as_conditional(energy, "annealed_langevin")
    n, steps = as_count(n, "n"), as_count(steps, "steps", most=LARGEST_COUNT)
    h = as_step_size(step_size)
    key_start, key_run = jax.random.split(as_key(key))
    x = noisy_starts(model, n, start, key_start)
    x, energies = _annealed(model, x, jnp.asarray(steps, jnp.int32), h, denoise, key_run)
    return Diffused(
        x,
        np.asarray(energies),
        np.asarray(model.noises),
        n_scores=steps * model.noises.size + bool(denoise),
        method="annealed Langevin",
    )


@eqx.filter_jit
def _annealed(
    energy: NoiseConditional,
    x: State,
    steps: Array,
    step_size: Float[Array, ""],
    denoise: bool,
    key: Key[Array, ""],
) -> tuple[State, Float[Array, " n"]]:
    def at_level(x: State, level: tuple[Array, Array]) -> tuple[State, None]:
        index, noise = level
        key_level = jax.random.fold_in(key, index)

        def move(i: Array, x: State) -> State:
            return langevin(energy, noise, step_size, x, jax.random.fold_in(key_level, i))

        return lax.fori_loop(0, steps, move, x), None

    x, _ = lax.scan(at_level, x, (jnp.arange(energy.noises.size), energy.noises))
    x = denoised(energy, x) if denoise else x
    return x, jax.vmap(energy.at(energy.noises[-1]).energy)(x)
