"""What is added up over a chunk, inside the compiled program: a few hundred numbers."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from energax.spaces import State, float_dtype

_PROBED = 256
"""Entries of the gradient whose moments are kept: enough for a signal-to-noise ratio within some
tenth of itself, few enough to cost nothing."""

ROWS = 1000
"""Rows that the spread of chains is held against."""


class Watch(eqx.Module):
    """Sums over steps."""

    names: tuple[str, ...] = eqx.field(static=True)
    """Of the measures; vectors of them are in this order."""
    n: Int[Array, ""]
    """How many steps."""
    first: Float[Array, " measures"]
    """The measures of the first step."""
    last: Float[Array, " measures"]
    """Those of the last step, whether it counted or not."""
    totals: Float[Array, " measures"]
    squares: Float[Array, " measures"]
    gradient: Float[Array, " probed"]
    gradient_squares: Float[Array, " probed"]

    @classmethod
    def none(cls, measures: Any, gradient: Any) -> "Watch":
        """Of no step yet; the arguments tell names, shapes and dtypes."""
        zeros = jnp.zeros((len(measures),), float_dtype())
        none = jnp.zeros(jax.eval_shape(_probe, gradient).shape, float_dtype())
        names = tuple(sorted(measures))
        return cls(names, jnp.zeros((), jnp.int32), zeros, zeros, zeros, zeros, none, none)

    def vector(self, measures: dict[str, Array]) -> Float[Array, " measures"]:
        """The measures of one step side by side: one kernel for all, not one for each."""
        return jnp.stack([measures[name].astype(float_dtype()) for name in self.names])

    def after(
        self, measures: Float[Array, " measures"], gradient: Any, counts: Bool[Array, ""]
    ) -> "Watch":
        """With one more step, if it counts."""

        def add(total: Array, value: Array) -> Array:
            return total + jnp.where(counts, value, 0)

        probe = _probe(gradient)
        return Watch(
            self.names,
            add(self.n, jnp.ones((), jnp.int32)),
            jnp.where(self.n == 0, measures, self.first),
            measures,
            add(self.totals, measures),
            add(self.squares, measures * measures),
            add(self.gradient, probe),
            add(self.gradient_squares, probe * probe),
        )

    def named(self, vector: Float[Array, " measures"]) -> dict[str, float]:
        """A vector's entries by name."""
        return dict(zip(self.names, np.asarray(vector).tolist(), strict=True))

    def means(self) -> dict[str, float]:
        """Each measure's mean over the steps."""
        n = int(self.n)
        return {name: total / n for name, total in self.named(self.totals).items()}

    def error(self, name: str) -> float:
        """The standard error of a measure's mean, were its values at each step independent.

        0 of a single step.
        """
        mean, size, n = self.means()[name], self.sizes()[name], int(self.n)
        return math.sqrt(max(size**2 - mean**2, 0.0) / max(n - 1, 1))

    def sizes(self) -> dict[str, float]:
        """The square root of each measure's mean square: large too where signs alternate."""
        n = int(self.n)
        return {name: float(np.sqrt(s / n)) for name, s in self.named(self.squares).items()}

    def signal_to_noise(self) -> float:
        """|mean gradient|^2 over the sum of its entries' variances, over the steps of the chunk.

        Of 256 entries, evenly spread over each parameter. What the noise adds to the square of
        the mean is taken off; 0 where nothing more is left, NaN of a single step.
        """
        n = int(self.n)
        if n < 2:
            return float("nan")
        mean = np.asarray(self.gradient, np.float64) / n
        square = np.asarray(self.gradient_squares, np.float64) / n
        variance = float(np.maximum(square - mean**2, 0.0).sum()) * n / (n - 1)
        signal = max(float((mean**2).sum()) - variance / n, 0.0)
        return signal / variance if variance > 0 else float("inf") if signal > 0 else 0.0


def _probe(gradient: Any) -> Float[Array, " probed"]:
    """The gradient at a few entries of each leaf, evenly spread."""
    leaves = jax.tree.leaves(gradient)
    each = max(1, _PROBED // len(leaves))
    parts = []
    for leaf in leaves:
        stride = max(1, leaf.size // each)
        parts.append(jnp.ravel(leaf)[::stride][:each].astype(float_dtype()))
    return jnp.concatenate(parts)


def spread_of_chains(chains: State | None, rows: State) -> Float[Array, ""] | None:
    """The variance of the chains' entries over that of the rows'; `None` without chains.

    Summed over entries, so that those which never vary say nothing. Of two chains or more, and
    of the rows' parts that the chains have.
    """
    if chains is None or len(jax.tree.leaves(chains)[0]) < 2:
        return None

    def variance(states: State) -> Float[Array, ""]:
        leaves = [leaf.astype(float_dtype()) for leaf in jax.tree.leaves(states)]
        return jnp.sum(jnp.stack([jnp.sum(jnp.var(leaf, 0)) for leaf in leaves]))

    if isinstance(chains, dict) and isinstance(rows, dict):
        rows = {name: rows[name] for name in chains}
    some = jax.tree.map(lambda leaf: leaf[:: max(1, len(leaf) // ROWS)], rows)
    data = variance(some)
    return jnp.where(data > 0, variance(chains) / jnp.where(data > 0, data, 1.0), 1.0)
