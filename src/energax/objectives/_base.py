"""The contract of everything that can be trained on."""

import abc
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy, trainable
from energax.random import as_count, is_number
from energax.spaces import State


class Step(eqx.Module):
    """What an objective says of one batch."""

    gradient: Any
    """The gradient to descend, in the trainable leaves of the energy; `None` elsewhere."""
    state: Any
    """The objective's own state for the next step: chains, running means."""
    measures: dict[str, Float[Array, ""]]
    """What to log; always the same names."""
    chain_energies: Float[Array, " chains"] | None = None
    """E of each chain that lives on from step to step; `None` if there are none."""


class AbstractObjective(eqx.Module):
    """Something training minimises, given by its gradient on a batch.

    An objective holds settings only. What changes from step to step (persistent chains, running
    means) is its *state*, made by `init`, carried by the trainer and saved in checkpoints.
    """

    learns_from_rows: ClassVar[bool] = True
    """Whether the data are rows of the energy's space, and not another kind such as moments."""

    minimised: ClassVar[str] = "loss"
    """The measure whose mean the steps are to make smaller, if it is among them: the guard watches
    it."""

    @abc.abstractmethod
    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> Any:
        """The state before the first step. `rows` are the data, as `prepare` returned them."""

    @abc.abstractmethod
    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        """The gradient on one batch of rows, the next state, and measures."""

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        """The user's data as rows of the energy's space.

        **Raises:** `ValueError` saying what is wrong with them.
        """
        return energy.space.convert(jax.tree.map(np.asarray, data))

    def calmed(self, energy: AbstractEnergy, factor: Float[Array, ""]) -> "AbstractObjective":
        """The same with chains whose steps are `factor` times as long; itself if it has no such."""
        return self

    def chains(self, state: Any) -> State | None:
        """The states of chains that live on in the objective's state; `None` if there are none.

        Of a `Joint` they may have some parts only.
        """
        return None

    def default_optimizer(self) -> optax.GradientTransformation:
        """The optimiser used when none is given."""
        return optax.adam(1e-3)

    def complaint(self, measures: dict[str, float]) -> str:
        """What the last measures say against the result, as a sentence; empty if nothing."""
        return ""


def count_field(name: str, default: int, *, least: int = 1) -> Any:
    """A field that is an integer of at least `least`, checked and made one of Python's."""
    return eqx.field(default=default, converter=functools.partial(as_count, name=name, least=least))


def number_field(name: str, default: float, *, most: float = math.inf) -> Any:
    """A field that is a number from 0 to `most`, checked and made one of Python's."""

    def convert(value: Any) -> float:
        if not is_number(value):
            raise ValueError(f"{name} must be a number, got {value!r}")
        if not 0 <= value <= most or value == math.inf:
            limit = "of at least 0" if most == math.inf else f"between 0 and {most:g}"
            raise ValueError(f"{name} must be a number {limit}, got {value!r}")
        return float(value)

    return eqx.field(default=default, converter=convert)


def positive_number(value: Any, name: str) -> float:
    """The value as Python's float, or `ValueError` unless it is a positive, finite number."""
    if not is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value!r}")
    return float(value)


def optional_count_field(name: str) -> Any:
    """A field that is a positive integer, or `None`, which is the default."""

    def converted(value: Any) -> int | None:
        return None if value is None else as_count(value, name)

    return eqx.field(default=None, converter=converted)


def value_and_gradient(
    energy: AbstractEnergy, function: Callable[[AbstractEnergy], Any], *, has_aux: bool = False
) -> Any:
    """`function(energy)` and its gradient in the trainable leaves of `energy`."""
    parameters, rest = eqx.partition(energy, trainable(energy))
    return jax.value_and_grad(lambda p: function(eqx.combine(p, rest)), has_aux=has_aux)(parameters)


class Contrast(NamedTuple):
    """What rows of data and states of the model say together."""

    gradient: Any
    measures: dict[str, Float[Array, ""]]
    """Both means of E, the lowest of the model's states, and how far energies spread about each
    mean (standard deviations)."""
    model_energies: Float[Array, " chains"]


def contrast(
    energy: AbstractEnergy, data: State, model: State, *, penalty: float = 0.0
) -> Contrast:
    """The gradient of mean E(data) - mean E(model), the states held.

    With model states drawn from p this is, on average, the gradient of the mean negative
    log-likelihood. With a `penalty` that times mean E(data)^2 + mean E(model)^2 is added to what
    the gradient is of.
    """

    def gap(energy: AbstractEnergy) -> tuple[Array, tuple[Array, Array]]:
        low = jax.vmap(energy.energy)(data)
        high = jax.vmap(energy.energy)(model)
        value = jnp.mean(low) - jnp.mean(high)
        if penalty:
            value = value + penalty * (jnp.mean(low**2) + jnp.mean(high**2))
        return value, (low, high)

    (_, (low, high)), gradient = value_and_gradient(energy, gap, has_aux=True)
    mean_low, mean_high = jnp.mean(low), jnp.mean(high)
    measures = {
        "energy_gap": mean_low - mean_high,
        "energy_data": mean_low,
        "energy_model": mean_high,
        "energy_lowest": jnp.min(high),
    }
    if low.size > 1 and high.size > 1:
        measures |= {"spread_data": jnp.std(low), "spread_model": jnp.std(high)}
    return Contrast(gradient, measures, high)
