"""Means with their errors, from a run of which no draw is kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from energax.diagnostics import Convergence, mean_and_error
from energax.random import as_count
from energax.sampling._collect import AbstractCollector, outputs_of
from energax.spaces import State, float_dtype

LEAST_BATCHES = 4
"""With fewer batches nothing is said of errors, as with fewer draws."""


@dataclass(frozen=True, eq=False)
class Averages:
    """The means of f(x) over all healthy chains, and how well they are known.

    Every field but `n_draws` is an array of f's shape, or a tree of them if f returns one.
    """

    mean: Any
    """The mean of f(x)."""
    variance: Any
    """The variance of f(x) under the model: its spread, not the mean's error."""
    std_error: Any
    """Monte Carlo standard error of the mean; NaN where it cannot be told."""
    ess: Any
    """Effective number of draws behind the mean: variance over squared error."""
    rhat: Any
    """Split R-hat of f(x); NaN where it was constant."""
    constant: Any
    """Where f(x) had one value in every draw of every chain."""
    n_draws: int
    """How many draws were averaged, over all healthy chains."""


class _Moments(eqx.Module):
    """Of one number f(x), or of an array of them, in one chain."""

    mean: Float[Array, "2 *shape"]
    """Of the batch under way, in two floats: their sum is the mean."""
    squares: Float[Array, "2 *shape"]
    """The batch's squared deviations from its mean, likewise."""
    means: Float[Array, "batches *shape"]
    """Of every batch so far."""
    deviations: Float[Array, "batches *shape"]
    """The sums of squared deviations of every batch so far."""


class Mean(AbstractCollector):
    """The mean and variance of f(x), with the mean's error, in memory that does not grow.

    A chain's draws are cut into consecutive batches of equal length. Each batch has its mean and
    its squared deviations, summed by Welford's update in two floats a number, so that a million
    draws lose nothing in float32. The error is that of the batches' means, their remaining
    autocorrelation counted; R-hat is that of the halves of every chain, unranked.

    ```python
    import energax as ex
    from energax.sampling import Mean

    rbm = ex.RBM.init(ex.key(0), n_visible=20, n_hidden=15)
    draws = ex.sample(rbm, 3200, key=ex.key(1), collect=Mean(lambda v: v.sum()))
    draws.collected.mean, draws.collected.std_error
    ```

    **Arguments:**

    - `function`: one state to an array or a tree of arrays of real numbers; x itself if `None`.
    - `n_batches`: batches a chain. More see autocorrelation better and take more memory.

    Source: B. Welford, "Note on a method for calculating corrected sums of squares and products"
    (1962); J. Flegal and G. Jones, "Batch means and spectral variance estimators in Markov chain
    Monte Carlo" (2010).
    """

    function: Callable[[State], Any] | None
    n_batches: int = eqx.field(static=True)

    def __init__(self, function: Callable[[State], Any] | None = None, *, n_batches: int = 32):
        if function is not None and not callable(function):
            raise ValueError(f"function must be callable, got {type(function).__name__}")
        self.function = function
        self.n_batches = as_count(n_batches, "n_batches", least=LEAST_BATCHES)

    def init(self, x: State) -> Any:
        def empty(leaf: jax.ShapeDtypeStruct) -> _Moments:
            pair, every = (jnp.zeros((n, *leaf.shape), leaf.dtype) for n in (2, self.n_batches))
            return _Moments(pair, pair, every, every)

        counts = jnp.zeros((self.n_batches,), jnp.int32)
        return counts, jax.tree.map(empty, jax.eval_shape(self._values, x))

    def update(self, memory: Any, x: State, index: Int[Array, ""], n_draws: Int[Array, ""]) -> Any:
        counts, moments = memory
        batch, place = _batch_of(index, n_draws, self.n_batches)
        moments = jax.tree.map(
            lambda value, kept: _with_value(kept, value, batch, place), self._values(x), moments
        )
        return counts.at[batch].set(place + 1), moments

    def finish(self, memory: Any, healthy: Bool[np.ndarray, " chains"]) -> Averages:
        counts, moments = memory
        counts = np.asarray(counts)[0]
        found = [_summary(counts, leaf, healthy) for leaf in _leaves(moments)]
        tree = jax.tree.structure(moments, is_leaf=_is_moments)
        columns = (tree.unflatten(column) for column in zip(*found, strict=True))
        return Averages(*columns, n_draws=int(counts[_full(counts)].sum() * healthy.sum()))

    def convergence(self, memory: Any, healthy: Bool[np.ndarray, " chains"]) -> Any:
        result = self.finish(memory, healthy)
        return jax.tree.map(
            lambda rhat, ess, constant: Convergence(
                rhat, ess, np.full_like(np.asarray(ess), np.nan), constant
            ),
            result.rhat,
            result.ess,
            result.constant,
        )

    def _values(self, x: State) -> Any:
        values = x if self.function is None else outputs_of(self.function, x)
        return jax.tree.map(
            lambda leaf: (
                leaf if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.astype(float_dtype())
            ),
            values,
        )


def _batch_of(index: Array, n_draws: Array, n_batches: int) -> tuple[Array, Array]:
    """The batch of a draw and its place there, both from 0. The first batches are longer by one
    draw where the lengths cannot be equal."""
    size, longer = jnp.divmod(n_draws, n_batches)
    edge = longer * (size + 1)
    early = index < edge
    length = jnp.where(early, size + 1, jnp.maximum(size, 1))
    batch, place = jnp.divmod(jnp.where(early, index, index - edge), length)
    return jnp.where(early, batch, batch + longer), place


def _with_value(kept: _Moments, value: Array, batch: Array, place: Array) -> _Moments:
    """One more value in the batch under way."""
    started = (place > 0).astype(value.dtype)
    mean, squares = kept.mean * started, kept.squares * started
    # What is not finite stays NaN when a batch begins: the chain is not to look healthy again.
    difference = (value - mean[0]) - mean[1]
    mean = _add(mean, difference / (place + 1).astype(value.dtype))
    squares = _add(squares, difference * ((value - mean[0]) - mean[1]))
    return _Moments(
        mean,
        squares,
        lax.dynamic_update_index_in_dim(kept.means, mean[0] + mean[1], batch, 0),
        lax.dynamic_update_index_in_dim(kept.deviations, squares[0] + squares[1], batch, 0),
    )


def _add(pair: Array, value: Array) -> Array:
    """A two-float number and a float, the rounding error of the sum kept (Knuth's two-sum)."""
    high, low = pair
    total = high + value
    part = total - high
    return jnp.stack([total, low + ((high - (total - part)) + (value - part))])


def _summary(counts: np.ndarray, moments: _Moments, healthy: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean, variance, standard error, effective size, R-hat, constancy."""
    full = _full(counts)
    weight = counts[full].astype(np.float64)
    means = np.asarray(moments.means, np.float64)[healthy][:, full]
    squares = np.asarray(moments.deviations, np.float64)[healthy][:, full]
    shape = means.shape[2:]
    if not means.size or len(weight) < LEAST_BATCHES:
        unknown = np.full(shape, np.nan)
        mean = np.asarray(means.mean((0, 1))) if means.size else unknown
        return mean, unknown, unknown, unknown, unknown, np.zeros(shape, bool)
    with np.errstate(all="ignore"):
        mean, variance = _pooled(weight, means, squares, (0, 1))
        halves = len(weight) // 2
        cuts = (slice(None, halves), slice(-halves, None))
        split = [_pooled(weight[cut], means[:, cut], squares[:, cut], 1) for cut in cuts]
        half_means, half_variances = (np.concatenate(both) for both in zip(*split, strict=True))
        n, within, between = (
            weight[:halves].sum(),
            half_variances.mean(0),
            half_means.var(0, ddof=1),
        )
        rhat = np.sqrt((n - 1) / n + between / within)
        _, error = mean_and_error(means)
        # Batches that look anticorrelated do so by chance: not less than if they were independent.
        error = np.fmax(error, means.std((0, 1), ddof=1) / np.sqrt(means.shape[0] * len(weight)))
        ess = variance / error**2
    constant = (squares == 0).all((0, 1)) & (means == means[:1, :1]).all((0, 1))
    apart = ~constant & (within == 0)
    rhat = np.where(constant, np.nan, np.where(apart, np.inf, rhat))
    ess = np.where(constant, np.nan, ess)
    return mean, variance, np.asarray(error), ess, rhat, np.asarray(constant)


def _full(counts: np.ndarray) -> np.ndarray:
    """Batches that are whole: all that hold a draw, but for the last of a run that was stopped."""
    return counts >= max(counts.max() - 1, 1)


def _pooled(
    weight: np.ndarray, means: np.ndarray, squares: np.ndarray, axes: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the draws of some batches, from the batches' own."""
    weight = np.broadcast_to(weight.reshape(1, -1, *[1] * (means.ndim - 2)), means.shape)
    total = weight.sum(axes, keepdims=True)
    mean = (weight * means).sum(axes, keepdims=True) / total
    spread = (squares + weight * (means - mean) ** 2).sum(axes)
    variance = spread / (np.squeeze(total, axes) - 1)
    return np.asarray(np.squeeze(mean, axes)), np.asarray(variance)


def _is_moments(node: Any) -> bool:
    return isinstance(node, _Moments)


def _leaves(moments: Any) -> list[_Moments]:
    return jax.tree.leaves(moments, is_leaf=_is_moments)
