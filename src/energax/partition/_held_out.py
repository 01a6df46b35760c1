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
    n_dimensions: int
    """Entries of a state."""

    @property
    def bits_per_dimension(self) -> float:
        """-mean / log 2 per entry of a state. Of real entries it depends on their unit."""
        return self._nats(self.mean) / np.log(2)

    @property
    def bits_interval(self) -> tuple[float, float]:
        """Both ends of `bits_per_dimension`: the lower one from `upper`."""
        return self._nats(self.upper) / np.log(2), self._nats(self.lower) / np.log(2)

    @property
    def perplexity(self) -> float:
        """exp(-mean) per entry of a state, 2 to the power of `bits_per_dimension`: among how many
        equally likely values an entry is as uncertain. Of real entries it depends on their unit.

        Per entry, as language models give it per token: F. Jelinek, R. Mercer, L. Bahl and
        J. Baker, "Perplexity: a measure of the difficulty of speech recognition tasks" (1977).
        """
        return _exp(self._nats(self.mean))

    @property
    def perplexity_interval(self) -> tuple[float, float]:
        """Both ends of `perplexity`: the lower one from `upper`."""
        return _exp(self._nats(self.upper)), _exp(self._nats(self.lower))

    def _nats(self, mean: float) -> float:
        """-mean per entry; of a state without entries, all of it."""
        return -mean / max(self.n_dimensions, 1)


@dataclass(frozen=True, eq=False)
class LogProbabilities:
    """log p(x) of each of several rows, in nats, with the interval of log Z carried through.

    All rows share one log Z: if it is wrong, all are wrong by the same number, and differences
    between rows are not wrong at all.
    """

    value: np.ndarray
    """-E(x) - log Z of each row, shape (rows,)."""
    lower: np.ndarray
    """Lower ends: from log Z's upper end; may be `-inf`."""
    upper: np.ndarray
    """Upper ends: from log Z's lower end; may be `inf`."""
    trusted: bool
    """Whether log Z is."""
    level: float
    """The intervals' nominal coverage: log Z's."""


def energies_of(
    energy: AbstractEnergy, rows: State, *, block: int = 1000
) -> Float[np.ndarray, " rows"]:
    """E(x) of every row, block by block."""
    return np.asarray(_energies(energy, rows, block), np.float64)


@eqx.filter_jit
def _energies(energy: AbstractEnergy, rows: State, block: int) -> Float[Array, " rows"]:
    with jax.default_matmul_precision("highest"):
        return lax.map(energy.energy, rows, batch_size=block)


def log_prob(
    energy: AbstractEnergy, rows: State, log_z: LogPartition, *, name: str = "rows"
) -> LogProbabilities:
    """log p(x) = -E(x) - log Z of every row, with the interval of log Z carried through.

    **Arguments:**

    - `rows`: states of the model's space, stacked on a leading axis.
    - `log_z`: what `ex.log_partition` found of the same model.
    - `name`: what error messages call the rows.

    **Returns:** `LogProbabilities`: arrays of shape (rows,), in nats. A row that the model excludes
    has `-inf` throughout.

    **Raises:** `ValueError` if rows are not states of the model's space, or `log_z` is no
    `LogPartition`.

    ```python
    import energax as ex

    ising = ex.Ising(6, 0.4)
    log_z = ex.log_partition(ising, key=ex.key(0))
    found = ex.log_prob(ising, [[1, 1, 1, 1, 1, 1], [1, -1, 1, -1, 1, -1]], log_z)
    found.value, found.lower, found.upper
    ```
    """
    check_log_z(log_z)
    minus = minus_energies(energy, rows, name)
    return LogProbabilities(
        value=_less(minus, log_z.value),
        lower=_less(minus, log_z.upper),
        upper=_less(minus, log_z.lower),
        trusted=log_z.trusted,
        level=log_z.level,
    )


def log_likelihood(
    energy: AbstractEnergy, rows: State, log_z: LogPartition, *, name: str = "rows"
) -> LogLikelihood:
    """The mean log-likelihood of rows under a model whose log Z was found.

    The interval is log Z's, turned round: a log Z that may be larger means data that may be less
    likely. `row_error` says how much the mean would vary with other rows.

    **Arguments:** as in `log_prob`, which gives each row's own.

    **Returns:** `LogLikelihood`, which has bits per dimension and perplexity too.

    **Raises:** `ValueError` if rows are not states of the model's space, or `log_z` is no
    `LogPartition`.

    ```python
    import energax as ex

    ising = ex.Ising(6, 0.4)
    log_z = ex.log_partition(ising, key=ex.key(0))
    found = ex.log_likelihood(ising, [[1, 1, 1, 1, 1, 1], [1, -1, 1, -1, 1, -1]], log_z)
    found.mean, found.perplexity, found.bits_interval
    ```
    """
    check_log_z(log_z)
    values = minus_energies(energy, rows, name)
    mean = float(values.mean())
    return LogLikelihood(
        mean=float(_less(mean, log_z.value)),
        lower=float(_less(mean, log_z.upper)),
        upper=float(_less(mean, log_z.lower)),
        row_error=error_of_mean(values),
        n_rows=int(values.size),
        trusted=log_z.trusted,
        n_dimensions=sum(
            int(np.prod(leaf.shape, dtype=int)) for leaf in jax.tree.leaves(energy.space.structure)
        ),
    )


def minus_energies(energy: AbstractEnergy, rows: State, name: str) -> Float[np.ndarray, " rows"]:
    """-E(x) of rows that are first made states of the model's space."""
    return -energies_of(energy, energy.space.convert(jax.tree.map(np.asarray, rows), name=name))


def check_log_z(log_z: LogPartition, name: str = "log_z") -> None:
    """Raise `ValueError` for anything but a `LogPartition`."""
    if not isinstance(log_z, LogPartition):
        raise ValueError(
            f"{name} must be what ex.log_partition returns, got {type(log_z).__name__}"
        )


def error_of_mean(values: Float[np.ndarray, " rows"]) -> float:
    """Standard error of the mean of independent values; infinite where they do not say."""
    if values.size < 2 or not np.isfinite(values).all():
        return np.inf
    return float(values.std(ddof=1) / np.sqrt(values.size))


def _less(minus_energy: np.ndarray | float, log_z: float) -> np.ndarray:
    """What is excluded stays so, whatever log Z may be."""
    minus = np.asarray(minus_energy, np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(np.isneginf(minus), -np.inf, minus - log_z)


def _exp(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(value))
