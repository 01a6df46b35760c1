"""Histograms, from a run of which no draw is kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from energax.sampling._collect import AbstractCollector, outputs_of
from energax.spaces import State, float_dtype


@dataclass(frozen=True, eq=False)
class Binned:
    """How often f(x) fell where, over all healthy chains.

    Counts are whole numbers of 64 bits: arrays of f's shape, of `counts` and `by_chain` with a
    last axis of bins, or trees of them if f returns one.
    """

    edges: np.ndarray
    """Of the bins, as they were compared with: one more than there are bins."""
    counts: Any
    """Draws in each bin: shape (*shape, bins)."""
    below: Any
    """Draws below the first edge, -inf among them."""
    above: Any
    """Draws above the last edge, +inf among them."""
    nan: Any
    """Draws where f(x) was NaN."""
    by_chain: Any
    """`counts` of every healthy chain, shape (chain, *shape, bins): chains that mix look alike."""
    n_draws: int
    """How many draws there were, over all healthy chains."""

    @property
    def density(self) -> Any:
        """Share of all draws in each bin over the bin's width: it integrates to the share of draws
        within the edges."""
        n = self.n_draws if self.n_draws else np.nan
        return jax.tree.map(lambda counts: counts / n / np.diff(self.edges), self.counts)


class Histogram(AbstractCollector):
    """How often f(x) fell into each of some bins, in memory that does not grow.

    A bin holds its lower edge and not its upper one, but for the last, which holds both, as in
    `numpy.histogram`. What lies outside the edges and what is NaN is counted apart. Every entry of
    f(x) has a histogram of its own over the same edges. Counts are integers of 32 bits in each
    chain, which no chain's number of draws exceeds, and of 64 bits over all chains.

    Whether the chains agree, `Binned.by_chain` shows; for R-hat and errors, collect a `Mean` of
    the same function beside it.

    ```python
    import energax as ex
    import numpy as np
    from energax.sampling import Histogram

    rbm = ex.RBM.init(ex.key(0), n_visible=20, n_hidden=15)
    lit = Histogram(lambda v: v.sum(), edges=np.arange(22) - 0.5)
    draws = ex.sample(rbm, 3200, key=ex.key(1), collect=lit)
    draws.collected.counts  # how many draws have 0, 1, ..., 20 ones
    ```

    **Arguments:**

    - `function`: one state to an array or a tree of arrays of real numbers; x itself if `None`.
    - `edges`: of the bins, finite and increasing, at least two. They are compared in the precision
      of JAX's floats.

    **Raises:** `ValueError` for a function that is none, or edges that are not as said.
    """

    function: Callable[[State], Any] | None
    edges: Float[Array, " edges"]

    def __init__(
        self,
        function: Callable[[State], Any] | None = None,
        *,
        edges: ArrayLike | Sequence[float | int],
    ):
        if function is not None and not callable(function):
            raise ValueError(f"function must be callable, got {type(function).__name__}")
        self.function = function
        self.edges = jnp.asarray(_edges(edges))

    def init(self, x: State) -> Any:
        n_slots = self.edges.size + 2
        return jax.tree.map(
            lambda leaf: jnp.zeros((*leaf.shape, n_slots), jnp.int32),
            jax.eval_shape(self._values, x),
        )

    def update(self, memory: Any, x: State, index: Int[Array, ""], n_draws: Int[Array, ""]) -> Any:
        edges = self.edges.astype(float_dtype())

        def with_value(value: Array, counts: Array) -> Array:
            # Slot 0 lies below, then come the bins, then what lies above, and NaN.
            slot = jnp.searchsorted(edges, value, side="right", method="scan_unrolled")
            slot = jnp.where(value == edges[-1], edges.size - 1, slot)
            return counts.at[jnp.where(jnp.isnan(value), edges.size + 1, slot)].add(1)

        def with_values(values: Array, counts: Array) -> Array:
            flat = counts.reshape(-1, counts.shape[-1])
            return jax.vmap(with_value)(values.reshape(-1), flat).reshape(counts.shape)

        return jax.tree.map(with_values, self._values(x), memory)

    def finish(self, memory: Any, healthy: Bool[np.ndarray, " chains"]) -> Binned:
        memory = jax.tree.map(lambda leaf: np.asarray(leaf, np.int64)[healthy], memory)
        pooled = jax.tree.map(lambda leaf: leaf.sum(0), memory)
        n_draws = max(int(leaf.sum(-1).max(initial=0)) for leaf in jax.tree.leaves(pooled))
        return Binned(
            np.asarray(self.edges),
            jax.tree.map(lambda leaf: leaf[..., 1:-2], pooled),
            jax.tree.map(lambda leaf: leaf[..., 0], pooled),
            jax.tree.map(lambda leaf: leaf[..., -2], pooled),
            jax.tree.map(lambda leaf: leaf[..., -1], pooled),
            jax.tree.map(lambda leaf: leaf[..., 1:-2], memory),
            n_draws,
        )

    def _values(self, x: State) -> Any:
        values = x if self.function is None else outputs_of(self.function, x)
        return jax.tree.map(lambda leaf: leaf.astype(float_dtype()), values)


def _edges(edges: Any) -> np.ndarray:
    """The edges as they will be compared with, or a `ValueError`."""
    try:
        array = np.asarray(edges, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"edges must be numbers, got {edges!r}") from None
    if array.ndim != 1 or array.size < 2:
        raise ValueError(f"edges must be a list of at least 2 numbers, got shape {array.shape}")
    with np.errstate(over="ignore"):
        rounded = array.astype(float_dtype())
    if not np.isfinite(rounded).all():
        raise ValueError("edges must be finite: what lies outside them is counted apart")
    if not (np.diff(array) > 0).all():
        raise ValueError("edges must increase")
    if not (np.diff(rounded) > 0).all():
        raise ValueError(f"edges lie too close together to be told apart in {rounded.dtype}")
    return rounded
