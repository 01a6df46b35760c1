"""Noise-contrastive estimation: telling the data from noise whose density is known."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from energax.energies import (
    AbstractEnergy,
    AbstractNormalised,
    AbstractTractable,
    check_same_space,
    unfreeze,
)
from energax.objectives._base import AbstractObjective, Step, count_field, value_and_gradient
from energax.partition import base_rates
from energax.spaces import State

_FIRST_ROWS = 1000
"""Rows that log Z is first found from."""

_FIRST_STEPS = 100
"""Steps of the fixed point that finds it."""

_RATE = 0.1
"""The share of a Newton step that log Z takes: its error is averaged over some ten batches."""

_LEASH = 1.0
"""Nats that log Z may be from what one batch says. Further off, it is not noise but has lost the
model, whose parameters moved: then it is pulled along."""

_TOLD_APART = 0.999
"""The share of right answers from which data and noise hardly overlap."""


class NoiseContrastiveState(eqx.Module):
    """What is learnt beside the energy's parameters."""

    log_partition: Float[Array, ""]
    curvature: Float[Array, ""]
    """The running mean of the loss's second derivative in log Z."""
    noise: AbstractTractable | None
    """The noise, if it was fitted to the data."""


class NoiseContrastiveEstimation(AbstractObjective):
    """Logistic regression between the data and `ratio` times as many draws of known noise q:

        J = E[ log(1 + exp(-g(x))) ] + ratio E_q[ log(1 + exp(g(x))) ],
        g(x) = -E(x) - log Z - log q(x) - log ratio.

    log Z is a parameter like any other: J is least where exp(-E) / Z is the data's distribution.
    It is learned beside the energy, by a share of a Newton step for every batch, and logged as
    `log_partition`; with a learning rate that decays, it settles where the parameters do. No
    chains, discrete or continuous states alike; but noise that is easily told from the data
    teaches little, and leaves log Z uncertain: `accuracy` is the share of right answers.

    **Arguments:**

    - `noise`: a density with known log Z and exact draws over the energy's space, positive
      wherever data may be; if `None`, every entry's own distribution in the data (normal, base
      rates), or the uniform one on other bounded spaces.
    - `ratio`: draws of noise for a row of data; more are better.

    **Raises:** `ValueError` before training if the noise does not fit the space, or none is known
    for it.

    ```python
    import energax as ex
    import numpy as np

    rows = np.random.default_rng(0).random((500, 16)) < 0.3
    rbm = ex.RBM.init(ex.key(0), n_visible=16, n_hidden=8)
    run = ex.fit(rbm, rows, ex.NoiseContrastiveEstimation(), key=ex.key(1), steps=200)
    run.history[-1]["log_partition"]
    ```

    Source: M. Gutmann and A. Hyvärinen, "Noise-contrastive estimation of unnormalized statistical
    models, with applications to natural image statistics" (2012), equations 8 and 9.
    """

    noise: AbstractEnergy | None = None
    ratio: int = count_field("ratio", 5)

    def __check_init__(self):
        noise: Any = self.noise
        if noise is not None and not isinstance(unfreeze(noise), AbstractTractable):
            raise ValueError(
                "noise must be an energy with known Z and exact draws, such as a Gaussian, got"
                f" {type(noise).__name__}"
            )

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        rows = AbstractObjective.prepare(self, energy, data)
        if self.noise is not None:
            check_same_space(self.noise, energy)
            _check_covered(self.noise, rows)
        else:
            _fitted(energy, jax.tree.map(lambda leaf: leaf[:2], rows))
        return rows

    def init(
        self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]
    ) -> NoiseContrastiveState:
        fitted = _fitted(energy, rows) if self.noise is None else None
        first = jax.tree.map(lambda leaf: leaf[:_FIRST_ROWS], rows)
        log_z, curvature = _first(self, energy, self._noise(fitted), first, key)
        return NoiseContrastiveState(log_z, curvature, fitted)

    def gradient(
        self,
        energy: AbstractEnergy,
        batch: State,
        state: NoiseContrastiveState,
        *,
        key: Key[Array, ""],
    ) -> Step:
        noise = self._noise(state.noise)

        def loss(energy: AbstractEnergy) -> tuple[Array, tuple[Array, Array]]:
            data, other = self._log_ratios(energy, noise, batch, key)
            data, other = data - state.log_partition, other - state.log_partition
            value = jnp.mean(jax.nn.softplus(-data)) + self.ratio * jnp.mean(jax.nn.softplus(other))
            return value, (data, other)

        (value, (data, other)), gradient = value_and_gradient(energy, loss, has_aux=True)
        right = jnp.mean(data > 0, dtype=data.dtype)
        right = (right + self.ratio * jnp.mean(other < 0, dtype=data.dtype)) / (1 + self.ratio)
        measures = {
            "loss": value,
            "log_partition": state.log_partition,
            "accuracy": right,
        }
        return Step(gradient, self._moved(state, data, other), measures)

    def complaint(self, measures: dict[str, float]) -> str:
        accuracy = measures.get("accuracy", 0.0)
        if accuracy <= _TOLD_APART:
            return ""
        return (
            f"{accuracy:.2%} of data and noise are told apart, so that little more is learnt and"
            " log Z is uncertain: take noise that is nearer to the data"
        )

    def _noise(self, fitted: AbstractTractable | None) -> AbstractTractable:
        noise = unfreeze(self.noise) if self.noise is not None else fitted
        assert isinstance(noise, AbstractTractable)
        return noise

    def _log_ratios(
        self, energy: AbstractEnergy, noise: AbstractTractable, rows: State, key: Key[Array, ""]
    ) -> tuple[Float[Array, " rows"], Float[Array, " draws"]]:
        """g + log Z of the rows, and of `ratio` draws of noise for each."""
        n_rows = len(jax.tree.leaves(rows)[0])
        draws = jax.vmap(noise.draw)(jax.random.split(key, n_rows * self.ratio))
        shift = math.log(self.ratio) - noise.log_normaliser()

        def of(x: State) -> Float[Array, ""]:
            return noise.energy(x) - energy.energy(x) - shift

        return jax.vmap(of)(rows), jax.vmap(of)(draws)

    def _derivatives(self, data: Array, other: Array) -> tuple[Array, Array]:
        """The first and second derivative of J in log Z, from g of both."""
        missed, taken = jax.nn.sigmoid(-data), jax.nn.sigmoid(other)
        slope = jnp.mean(missed) - self.ratio * jnp.mean(taken)
        spread = jnp.mean(missed * (1 - missed)) + self.ratio * jnp.mean(taken * (1 - taken))
        return slope, jnp.maximum(spread, jnp.finfo(spread.dtype).eps)

    def _to_balance(self, data: Array, other: Array) -> Float[Array, ""]:
        """What log Z lacks for both kinds of error to weigh alike, however far off it is.

        One step of the fixed point of X. Meng and W. Wong (1996): a logarithm of a ratio of two
        means, so that neither may vanish.
        """
        taken = logsumexp(jax.nn.log_sigmoid(other)) - math.log(other.size)
        missed = logsumexp(jax.nn.log_sigmoid(-data)) - math.log(data.size)
        return math.log(self.ratio) + taken - missed

    def _moved(self, state: NoiseContrastiveState, data: Array, other: Array) -> Any:
        """The next state.

        The step is linear in the batch's slope, so that log Z settles where the mean slope over
        batches is zero: a quotient of two means of a batch would be biased.
        """
        slope, spread = self._derivatives(data, other)
        step = jnp.clip(-_RATE * slope / state.curvature, -_LEASH, _LEASH)
        lacking = self._to_balance(data, other)
        pulled = lacking - jnp.clip(lacking, -_LEASH, _LEASH)
        curvature = (1 - _RATE) * state.curvature + _RATE * spread
        return NoiseContrastiveState(state.log_partition + step + pulled, curvature, state.noise)


@eqx.filter_jit
def _first(
    objective: NoiseContrastiveEstimation,
    energy: AbstractEnergy,
    noise: AbstractTractable,
    rows: State,
    key: Key[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """log Z from some rows, and the curvature there."""
    data, other = objective._log_ratios(energy, noise, rows, key)

    def improve(_: Any, log_z: Array) -> Array:
        return log_z + objective._to_balance(data - log_z, other - log_z)

    log_z = lax.fori_loop(0, _FIRST_STEPS, improve, jnp.zeros((), data.dtype))
    return log_z, objective._derivatives(data - log_z, other - log_z)[1]


def _fitted(energy: AbstractEnergy, rows: State) -> AbstractNormalised:
    """Every entry's own distribution in the rows."""
    try:
        return base_rates(energy.space, rows)[0]
    except ValueError:
        raise ValueError(
            f"no noise is known for {energy.space}: give NoiseContrastiveEstimation one, an energy"
            " with known Z and exact draws over this space"
        ) from None


def _check_covered(noise: AbstractEnergy, rows: State) -> None:
    """Raise `ValueError` for a row that the noise never draws: it would teach nothing."""
    energies = jax.jit(lambda rows: lax.map(noise.energy, rows, batch_size=_FIRST_ROWS))(rows)
    outside = np.flatnonzero(~np.isfinite(np.asarray(energies)))
    if outside.size:
        raise ValueError(
            f"row {outside[0]} of the data has probability 0 under the noise, as have"
            f" {outside.size} of {energies.size}: take noise that may draw whatever the data hold"
        )
