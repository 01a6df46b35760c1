"""A run of chains in chunks of one compiled program, between which Ctrl-C is heeded."""

import signal
import threading
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from energax.energies import AbstractEnergy
from energax.kernels import AbstractKernel
from energax.sampling._chains import Run, run_of
from energax.sampling._progress import Bar
from energax.sampling._rows import Begun, Rows, begin, draws_in, fill, n_rows_of
from energax.spaces import State

CHUNK_SECONDS = 0.5
"""How long a chunk is to take: so long Ctrl-C waits, and two such calls a second cost nothing."""


def run_in_chunks(
    energy: AbstractEnergy,
    kernel: AbstractKernel,
    x: State,
    key: Key[Array, ""],
    *,
    n_draws: int | Int[Array, ""],
    warmup: Array,
    thin: Array,
    collect: Any,
    progress: bool,
) -> tuple[Run, int, bool]:
    """`run_chains` as far as Ctrl-C lets it come, how many draws a chain that are, and whether
    Ctrl-C came.

    The first row is timed, and the rest taken in chunks of `CHUNK_SECONDS`: a rest that is
    shorter in one. Nothing is read from the device inside a chunk, and how long chunks are changes
    no bit. Ctrl-C in the warm-up, or before it is known that the run is long, is raised.
    """
    n_rows, n_chains = n_rows_of(n_draws, collect), len(jax.tree.leaves(x)[0])
    ends = draws_in(np.arange(n_rows + 1), int(n_draws), n_rows)
    bar = Bar(n_chains * int(ends[-1]), 0, show=progress, title="sample", unit="draws")
    with bar, _Interrupts() as interrupts:
        bar.say("warm-up")
        begun, rows = _begin(energy, kernel, x, key, n_rows=n_rows, warmup=warmup, collect=collect)
        jax.block_until_ready(rows.energy)
        bar.say("")
        done, size, began = 0, 1, time.monotonic()
        while done < n_rows and not interrupts.any:
            at, span = time.monotonic(), jnp.asarray((done, done + size), jnp.int32)
            # Only the rows are given away: other arrays may be the user's own.
            begun, rows = _fill((energy, begun, span, n_draws, thin, collect), rows)
            jax.block_until_ready(rows.energy)
            done, now = done + size, time.monotonic()
            bar.update(
                n_chains * int(ends[done]), {}, n_chains * ends[done] / max(now - began, 1e-9)
            )
            size = next_size(size, now - at, n_rows - done)
            if size < n_rows - done:
                interrupts.note()
    return run_of(begun, rows, done, int(n_draws), collect), int(ends[done]), interrupts.any


def next_size(size: int, seconds: float, rest: int) -> int:
    """How many of the `rest` of the rows to take, after `size` of them took so many seconds."""
    wanted = size * CHUNK_SECONDS / max(seconds, 1e-9)
    return rest if rest <= 1.5 * wanted else max(1, int(wanted))


_begin = eqx.filter_jit(begin)


@eqx.filter_jit(donate="all-except-first")
def _fill(arguments: tuple, rows: Rows) -> tuple[Begun, Rows]:
    energy, begun, span, n_draws, thin, collect = arguments
    return fill(energy, begun, rows, *span, n_draws=n_draws, thin=thin, collect=collect)


class _Interrupts:
    """From `note` on Ctrl-C is noted, once, and no longer raised: it falls between two chunks.

    Where somebody else handles it, or this is not the main thread, nothing changes.
    """

    def __init__(self):
        self.any = False
        self._before: Any = None

    def __enter__(self) -> "_Interrupts":
        return self

    def note(self) -> None:
        """Do so from now on."""
        mine = threading.current_thread() is threading.main_thread()
        if mine and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._handle)

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: Any) -> None:
        if self.any:
            raise KeyboardInterrupt
        self.any = True
