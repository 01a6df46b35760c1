"""Likelihoods of data, with the interval of log Z carried through."""

from dataclasses import dataclass

import equinox as eqx
import jax
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from energax.energies import AbstractEnergy
from energax.partition._estimate import LogPartition
from energax.spaces import State


@dataclass(frozen=True)
class LogLikelihood:
    """The mean log-probability of rows of data, in nats."""

    mean: float
    """Mean over rows of -E(x) - log Z."""
    lower: float
    """Lower end: from log Z's upper end alone, or `-inf`."""
    upper: float
    """Upper end: from log Z's lower end alone, or `inf`."""
    row_error: float
    """Standard error of the mean over rows: how far other data of this kind would differ."""
    n_rows: int
    """How many rows."""
    trusted: bool
    """Whether log Z is."""

    bits_per_dimension: float
    """-mean / log 2 per entry of a state."""


def energies_of(
    energy: AbstractEnergy, rows: State, *, block: int = 1000
) -> Float[np.ndarray, " rows"]:
    """E(x) of every row, block by block."""
    return np.asarray(_energies(energy, rows, block), np.float64)


@eqx.filter_jit
def _energies(energy: AbstractEnergy, rows: State, block: int) -> Float[Array, " rows"]:
    with jax.default_matmul_precision("highest"):
        return lax.map(energy.energy, rows, batch_size=block)


def log_likelihood(
    energy: AbstractEnergy, rows: State, log_z: LogPartition, *, name: str = "rows"
) -> LogLikelihood:
    """The mean log-likelihood of rows under a model whose log Z was found.

    The interval is log Z's, turned round: a log Z that may be larger means data that may be less
    likely. `row_error` says how much the mean would vary with other rows.

    **Raises:** `ValueError` if rows are not states of the model's space, or `log_z` is no
    `LogPartition`.
    """
    if not isinstance(log_z, LogPartition):
        raise ValueError(f"log_z must be what ex.log_partition returns, got {type(log_z).__name__}")
    rows = energy.space.convert(jax.tree.map(np.asarray, rows), name=name)
    values = -energies_of(energy, rows)
    size = sum(
        int(np.prod(leaf.shape, dtype=int)) for leaf in jax.tree.leaves(energy.space.structure)
    )
    mean = float(values.mean())
    spread = float(values.std(ddof=1)) if values.size > 1 and np.isfinite(mean) else np.inf
    return LogLikelihood(
        mean=mean - log_z.value,
        lower=mean - log_z.upper,
        upper=mean - log_z.lower,
        row_error=spread / np.sqrt(values.size),
        n_rows=int(values.size),
        trusted=log_z.trusted,
        bits_per_dimension=-(mean - log_z.value) / (np.log(2) * max(size, 1)),
    )
