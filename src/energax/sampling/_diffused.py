"""What samplers that remove noise share: the energies they take, their starts, their record."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy, NoiseConditional, check_energy, unfreeze
from energax.energies._parameters import finite_array
from energax.kernels._coordinates import noise_like
from energax.sampling._sample import start_states
from energax.spaces import AbstractSpace, Joint, Real, State


@dataclass(frozen=True, eq=False)
class Diffused:
    """Independent draws made from noise by removing it, step by step.

    They are as good as the scores and the steps: nothing measures how near their distribution is to
    the energy's, and they need not be weighed as its modes are.
    """

    x: State
    """The draws: axes (draw, *shape), or a dictionary of such."""
    energy: np.ndarray
    """E of each at the smallest noise, shape (draw,)."""
    noises: np.ndarray
    """The noises passed through, from the largest on, shape (level,)."""
    n_scores: int
    """Scores evaluated for a draw."""
    method: str
    """How they were made."""

    @property
    def problems(self) -> list[str]:
        """What went wrong, each a sentence of advice; empty if nothing did."""
        finite = np.isfinite(self.energy)
        for leaf in jax.tree.leaves(self.x):
            values = np.asarray(leaf)
            finite &= np.isfinite(values.reshape(len(values), -1)).all(1)
        if finite.all():
            return []
        return [
            f"{int((~finite).sum())} of {finite.size} draws are not finite: take smaller steps, or"
            " train at noises as large as the largest"
        ]

    @property
    def summary(self) -> str:
        """One line to print."""
        verdict = "; ".join(self.problems)
        return (
            f"{self.energy.size} draws by {self.method}, {self.n_scores} scores each, noise"
            f" {self.noises[0]:.3g} to {self.noises[-1]:.3g}" + (f": {verdict}" if verdict else "")
        )


def as_conditional(energy: Any, name: str) -> NoiseConditional:
    """The energy as one of many noises over real entries, or a `ValueError`."""
    model = unfreeze(energy) if isinstance(energy, AbstractEnergy) else energy
    if not isinstance(model, NoiseConditional):
        raise ValueError(
            f"{name} needs an ex.NoiseConditional, an energy for every noise, got"
            f" {type(model).__name__}: for another energy take ex.sample"
        )
    check_energy(model)
    if not is_unbounded(model.space):
        raise ValueError(
            f"{name} needs a continuous space without ends (Real, or a Joint of them), got"
            f" {model.space}"
        )
    return model


def is_unbounded(space: AbstractSpace) -> bool:
    """Whether every coordinate may be any real number."""
    if isinstance(space, Joint):
        return all(map(is_unbounded, space.parts.values()))
    return isinstance(space, Real)


def as_step_size(step_size: Any) -> Float[Array, ""]:
    """A step of Langevin in squares of the noise, below 1."""
    value = finite_array(step_size, "step_size", shape=(), positive=True)
    if not float(value) < 1:
        raise ValueError(
            f"step_size must be below 1, got {float(value):g}: in squares of the noise, at which a"
            " step forgets where it came from"
        )
    return value


def noisy_starts(energy: NoiseConditional, n: int, start: State, key: Key[Array, ""]) -> State:
    """`n` states of nothing but the largest noise; or rows, in turn."""
    if start is not None:
        return start_states(energy, n, start=start, key=key)
    empty = jax.tree.map(lambda s: jnp.zeros((n, *s.shape), s.dtype), energy.space.structure)
    return jax.tree.map(lambda z: energy.noises[0].astype(z.dtype) * z, noise_like(empty, key))


def scores(energy: NoiseConditional, noise: Float[Array, ""], x: State) -> State:
    """The score at a noise of each row."""
    return jax.vmap(energy.at(noise).score)(x)


def langevin(
    energy: NoiseConditional,
    noise: Float[Array, ""],
    step_size: Float[Array, ""],
    x: State,
    key: Key[Array, ""],
) -> State:
    """x + h s + sqrt(2 h) z with h = step_size noise^2, of each row."""
    h = step_size * noise**2
    return jax.tree.map(
        lambda x, s, z: x + h.astype(x.dtype) * s + jnp.sqrt(2 * h).astype(x.dtype) * z,
        x,
        scores(energy, noise, x),
        noise_like(x, key),
    )


def denoised(energy: NoiseConditional, x: State) -> State:
    """The mean of the data behind each row, x + noise^2 s at the smallest noise.

    Source: M. Miyasawa, "An empirical Bayes estimator of the mean of a normal population" (1961).
    """
    noise = energy.noises[-1]
    step = jax.tree.map(lambda s: (noise**2).astype(s.dtype) * s, scores(energy, noise, x))
    return jax.tree.map(jnp.add, x, step)
