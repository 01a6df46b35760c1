"""The reverse of a diffusion: noise is taken away as it was added."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Key

from energax.energies import AbstractEnergy, NoiseConditional
from energax.kernels._coordinates import noise_like
from energax.random import as_count, as_key
from energax.sampling._diffused import (
    Diffused,
    as_conditional,
    as_step_size,
    denoised,
    langevin,
    noisy_starts,
    scores,
)
from energax.spaces import State


def reverse_diffusion(
    energy: AbstractEnergy,
    n: int,
    *,
    key: Key[Array, ""],
    n_steps: int = 500,
    method: Literal["sde", "ode"] = "sde",
    correct: int = 0,
    step_size: ArrayLike = 0.1,
    denoise: bool = False,
    start: State = None,
) -> Diffused:
    """`n` draws of a `NoiseConditional`, read as a diffusion model run backwards.

    Data to which noise is added diffuse, dx = sqrt(d noise^2 / dt) dw. Backwards in time, from
    the largest noise to the smallest in `n_steps` equal ratios,

        "sde":  x <- x + (a^2 - b^2) s(x, a) + sqrt(a^2 - b^2) z    from noise a to b < a,
        "ode":  dx / d noise = -noise s(x, noise), by Heun's rule, two scores a step.

    Both pass through the same distributions; the second is deterministic, a smooth map of the
    start, and needs fewer steps. The function has to be right between the noises it was trained
    at: train at ten or more. One compiled program. What is drawn are data blurred by the smallest
    noise, up to the error of the steps.

    **Arguments:**

    - `n_steps`: from the largest noise to the smallest.
    - `method`: as above.
    - `correct`: Langevin steps at each noise, which mend what the steps between got wrong.
    - `step_size`: of those, in squares of the noise.
    - `denoise`: end at the mean of the data behind each draw, x + noise^2 s.
    - `start`: rows with a leading axis, used in turn; `None` takes the largest noise about zero,
      which is right where it is many times as large as the data.

    **Raises:** `ValueError` for an energy that is no `NoiseConditional` over real entries, or
    settings out of range.

    ```python
    import energax as ex
    import numpy as np
    from energax.sampling import reverse_diffusion

    def f(x, noise):  # data from N(0, 1)
        return -0.5 * x @ x / (1 + noise**2)

    energy = ex.NoiseConditional(f, ex.Real(2), np.geomspace(0.1, 3.0, 10))
    reverse_diffusion(energy, 100, key=ex.key(0), n_steps=20, method="ode").x
    ```

    Sources: Y. Song, J. Sohl-Dickstein, D. Kingma, A. Kumar, S. Ermon and B. Poole, "Score-based
    generative modeling through stochastic differential equations" (2021), algorithms 2 and 4 and
    equation 13; Heun's rule, T. Karras, M. Aittala, T. Aila and S. Laine, "Elucidating the design
    space of diffusion-based generative models" (2022), algorithm 1.
    """
    model = as_conditional(energy, "reverse_diffusion")
    n, n_steps = as_count(n, "n"), as_count(n_steps, "n_steps")
    correct = as_count(correct, "correct", least=0)
    if method not in ("sde", "ode"):
        raise ValueError(f'method must be "sde" or "ode", got {method!r}')
    h = as_step_size(step_size)
    key_start, key_run = jax.random.split(as_key(key))
    x = noisy_starts(model, n, start, key_start)
    largest, smallest = (float(noise) for noise in (model.noises[0], model.noises[-1]))
    if largest == smallest:
        raise ValueError(
            f"reverse_diffusion needs two different noises or more, got {largest:g} alone: of an"
            " energy of one noise draw with ex.sample(energy.at(noise), ...)"
        )
    noises = np.geomspace(largest, smallest, n_steps + 1)
    x, energies = _reversed(
        model,
        x,
        jnp.asarray(noises, model.noises.dtype),
        h,
        key_run,
        method=method,
        correct=correct,
        denoise=denoise,
    )
    each = (2 if method == "ode" else 1) + correct
    names = {"sde": "the reverse diffusion", "ode": "the probability flow"}
    return Diffused(
        x,
        np.asarray(energies),
        noises,
        n_scores=each * n_steps + bool(denoise),
        method=names[method] + (", corrected" if correct else ""),
    )


@eqx.filter_jit
def _reversed(
    energy: NoiseConditional,
    x: State,
    noises: Float[Array, " levels"],
    step_size: Float[Array, ""],
    key: Key[Array, ""],
    *,
    method: str,
    correct: int,
    denoise: bool,
) -> tuple[State, Float[Array, " n"]]:
    def down(x: State, step: tuple[Array, Array, Array]) -> tuple[State, None]:
        index, before, after = step
        keys = jax.random.split(jax.random.fold_in(key, index), correct + 1)
        if method == "sde":
            x = _random_step(energy, before, after, x, keys[0])
        else:
            x = _heun_step(energy, before, after, x)
        for key_correct in keys[1:]:
            x = langevin(energy, after, step_size, x, key_correct)
        return x, None

    x, _ = lax.scan(down, x, (jnp.arange(noises.size - 1), noises[:-1], noises[1:]))
    x = denoised(energy, x) if denoise else x
    return x, jax.vmap(energy.at(noises[-1]).energy)(x)


def _random_step(
    energy: NoiseConditional, before: Array, after: Array, x: State, key: Key[Array, ""]
) -> State:
    removed = (before - after) * (before + after)
    return jax.tree.map(
        lambda x, s, z: x + removed.astype(x.dtype) * s + jnp.sqrt(removed).astype(x.dtype) * z,
        x,
        scores(energy, before, x),
        noise_like(x, key),
    )


def _heun_step(energy: NoiseConditional, before: Array, after: Array, x: State) -> State:
    def slope(noise: Array, x: State) -> State:
        return jax.tree.map(lambda s: -noise.astype(s.dtype) * s, scores(energy, noise, x))

    width = after - before
    first = slope(before, x)
    ahead = jax.tree.map(lambda x, d: x + width.astype(x.dtype) * d, x, first)
    return jax.tree.map(
        lambda x, a, b: x + (width / 2).astype(x.dtype) * (a + b), x, first, slope(after, ahead)
    )
