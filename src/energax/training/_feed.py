"""Where the steps of a chunk find their rows."""

import abc

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from energax.spaces import State
from energax.training._step import Order, Recipe, pack
from energax.training._streamed import StreamedRows
from energax.training._watch import ROWS


class AbstractFeed(abc.ABC):
    """The rows of a run, chunk by chunk."""

    order: Order
    """To begin with: which of the rows of a chunk a step sees."""
    key: Key[Array, ""] | None
    """What orders are made from; `None` where rows come in order."""
    sample: State
    """Some rows, to hold chains against."""

    @abc.abstractmethod
    def rows(self, step: int, n_steps: int) -> State:
        """The rows for so many steps from `step` on.

        **Raises:** `ValueError` if they cannot be had, or are not the space's.
        """

    def read_ahead(self, step: int, n_steps: int) -> None:  # noqa: B027
        """What can be done for these steps while those before them are computed."""


class InMemory(AbstractFeed):
    """All rows on the device."""

    def __init__(self, rows: State, n_rows: int, key: Key[Array, ""]):
        self.sample, self.key = rows, key
        self.order = Order.unknown(n_rows)

    def rows(self, step: int, n_steps: int) -> State:
        return self.sample


class Streamed(AbstractFeed):
    """The rows of one chunk on the device, those of the next read while it is computed.

    A chunk begins where its first step would stand had it `log_every` of them, however many steps
    the run has: programs of another shape may round otherwise.
    """

    def __init__(
        self,
        rows: StreamedRows,
        key: Key[Array, ""],
        recipe: Recipe,
        log_every: int,
    ):
        self._rows, self._key, self._most = rows, key, log_every
        self._rows_a_step = recipe.rows_a_step
        self._per_epoch = rows.n_rows // recipe.rows_a_step
        self._epoch: tuple[int, np.ndarray] | None = None
        self._ahead: tuple[tuple[int, int], State] | None = None
        self.key = None
        n = self._most * recipe.rows_a_step
        self.order = Order(jnp.arange(n, dtype=jnp.int32), jnp.zeros((), jnp.int32))
        self.sample = pack(rows.space, rows.every(ROWS))

    def rows(self, step: int, n_steps: int) -> State:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == (step, n_steps):
            return ahead[1]
        return self._read(step, n_steps)

    def read_ahead(self, step: int, n_steps: int) -> None:
        try:
            self._ahead = (step, n_steps), self._read(step, n_steps)
        except Exception:  # told when these steps are due, the ones before them done
            self._ahead = None

    def _read(self, step: int, n_steps: int) -> State:
        size, first = self._rows_a_step, step % self._most
        wanted = np.concatenate([self._of_step(step + i) for i in range(n_steps)])
        # One shape for every chunk: the rows of steps that are not taken are some row again.
        numbers = np.full(self._most * size, wanted[0])
        numbers[first * size : (first + n_steps) * size] = wanted
        return pack(self._rows.space, self._rows.at(numbers))

    def _of_step(self, step: int) -> np.ndarray:
        epoch, place = divmod(step, self._per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, self._rows.order(self._key, epoch)
        first = place * self._rows_a_step
        return self._epoch[1][first : first + self._rows_a_step]
