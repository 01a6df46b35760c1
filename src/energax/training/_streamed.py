"""Rows that are not in memory, as states: some at a time, looked at when they are read."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from energax.energies import AbstractEnergy
from energax.io import Stream, stream
from energax.io._source import first_fault
from energax.objectives import AbstractObjective
from energax.spaces import AbstractSpace, Binary, Joint, Spin, State
from energax.training._step import epoch_order

_SAMPLE, _SAMPLE_BYTES = 10_000, 2**26
"""Rows that stand for all of them where an objective begins, and bytes they may take."""

_GROUPS = 16
"""Row groups of tables that a sample is taken from."""


_order = jax.jit(epoch_order, static_argnums=2)


def as_streams(data: Any) -> Any:
    """The data as streams, one a part, if any part of them is one; else `None`."""
    parts = data if isinstance(data, dict) else {"": data}
    if not any(isinstance(part, Stream) or _in_file(part) for part in parts.values()):
        return None
    made = {
        name: part if isinstance(part, Stream) else _as_stream(name, part)
        for name, part in parts.items()
    }
    return made if isinstance(data, dict) else made[""]


def _as_stream(name: str, part: Any) -> Stream:
    if isinstance(part, dict):
        raise ValueError(f"data[{name!r}] must be an array or a stream, got a dictionary")
    return stream(part if _in_file(part) else np.asarray(part))


def _in_file(part: Any) -> bool:
    """Whether an array is mapped from a file: a copy of one is of the same class, without it."""
    return isinstance(part, np.memmap) and part.filename is not None


def streamed_rows(
    objective: AbstractObjective, energy: AbstractEnergy, streams: Any
) -> "StreamedRows":
    """Rows to train on, a sample of which the objective accepts as it is."""
    name = type(objective).__name__
    if not objective.learns_from_rows:
        raise ValueError(f"{name} takes no rows, and so no stream of them")
    rows = StreamedRows(energy.space, streams)
    sample = objective.prepare(energy, jax.tree.map(np.asarray, rows.sample))
    if not eqx.tree_equal(sample, rows.sample):
        raise ValueError(f"{name} changes the rows it is given, so that they cannot be streamed")
    return rows


class StreamedRows:
    """States of a space, read from streams by their numbers."""

    def __init__(self, space: AbstractSpace, streams: Any, *, name: str = "data"):
        self.space, self._streams, self._name = space, streams, name
        self._parts: list[Stream] = jax.tree.leaves(streams)
        lengths = {len(part) for part in self._parts}
        if len(lengths) > 1:
            raise ValueError(f"the parts of {name} must have as many rows each, got {lengths}")
        (self.n_rows,) = lengths
        tables = [part for part in self._parts if part.source.edges is not None]
        self._table = tables[0] if tables else None
        self._codes: dict[int, set[int]] = {}
        a_row = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(space.structure))
        most = min(_SAMPLE, max(1, _SAMPLE_BYTES // max(a_row, 1)))
        self.sample = self.spread(most)[1]
        """States of some rows, evenly spread; of all of them if they are few."""

    def at(self, numbers: np.ndarray) -> State:
        """The states with these numbers, in this order.

        **Raises:** `ValueError` that names the file and the row of a value the space does not have.
        """
        raw = jax.tree.map(lambda part: part.take(numbers), self._streams)

        def convert(raw: Any) -> State:
            return self.space.convert(raw, name=self._name)

        try:
            states = convert(raw)
        except ValueError as error:
            part = self._part_in(str(error))
            fault = first_fault(numbers, raw, convert, part.place)
            raise fault or ValueError(f"{error} (in {part.name})") from None
        self._check_codes(raw)
        return states

    def spread(self, most: int) -> tuple[np.ndarray, State]:
        """Numbers and states of at most so many rows, evenly spread, since rows may come sorted.

        Of tables these are rows of a few row groups, not to read all of them.
        """
        numbers = self._evenly(most)
        return numbers, self.at(numbers)

    def every(self, most: int) -> State:
        """The states of every k-th row, with the largest k that leaves `most` of them."""
        if self._table is not None:
            return self.spread(most)[1]
        return self.at(np.arange(0, self.n_rows, max(1, self.n_rows // most)))

    def order(self, key: Key[Array, ""], epoch: int) -> np.ndarray:
        """The numbers of all rows in the order of an epoch: a function of key and epoch alone.

        That of rows in memory, unless row groups have to be read as a whole: then these come in a
        random order, and rows are shuffled within windows.
        """
        if self._table is None:
            return np.asarray(_order(key, jnp.asarray(epoch), self.n_rows))
        edges, window = self._table.source.edges, self._table.window
        assert edges is not None
        key_groups, key_rows = jax.random.split(jax.random.fold_in(key, epoch))
        groups = np.asarray(jax.random.permutation(key_groups, len(edges) - 1))
        lengths = np.diff(edges)[groups]
        before = np.cumsum(lengths) - lengths
        rows = np.repeat(edges[groups] - before, lengths) + np.arange(self.n_rows)
        in_window = np.repeat(before // window, lengths)
        chance = np.asarray(jax.random.bits(key_rows, (self.n_rows,), np.uint32))
        return rows[np.lexsort((chance, in_window))].astype(np.int32)

    def place(self, number: int) -> str:
        """A row in words."""
        return self._parts[0].place(number)

    @property
    def evidence(self) -> tuple[Any, ...]:
        """What a checkpoint knows the data by: shapes, dtypes, sizes of files, the sample."""
        sizes = [[len(part), part.source.n_bytes] for part in self._parts]
        empty = [np.empty((0, *p.source.shape), p.source.dtype) for p in self._parts]
        # The order of tables hangs on their row groups and windows.
        groups = [
            np.append(part.source.edges, part.window)
            for part in self._parts
            if part.source.edges is not None
        ]
        return np.asarray(sizes, np.int64), empty, groups, self.sample

    def _evenly(self, most: int) -> np.ndarray:
        if self._table is None or self.n_rows <= most:
            return np.linspace(0, self.n_rows - 1, min(self.n_rows, most)).astype(int)
        edges = self._table.source.edges
        assert edges is not None
        n_groups = len(edges) - 1
        groups = np.linspace(0, n_groups - 1, min(n_groups, _GROUPS)).astype(int)
        spans = [range(int(edges[g]), int(edges[g + 1])) for g in groups.tolist()]
        here = np.concatenate([np.arange(span.start, span.stop) for span in spans])
        return here[np.linspace(0, len(here) - 1, min(len(here), most)).astype(int)]

    def _part_in(self, words: str) -> Stream:
        if isinstance(self._streams, dict):
            for name, part in self._streams.items():
                if f"[{name!r}]" in words:
                    return part
        return self._parts[0]

    def _check_codes(self, raw: Any) -> None:
        """Raise if bits are written 0 and 1 in some rows, -1 and 1 in others."""
        spaces: Any = self.space.parts if isinstance(self.space, Joint) else {"": self.space}
        arrays = raw if isinstance(raw, dict) else {"": raw}
        for (name, space), part in zip(spaces.items(), self._parts, strict=True):
            if not isinstance(space, Binary | Spin) or arrays[name].dtype.kind not in "if":
                continue
            codes = self._codes.setdefault(id(part), set())
            codes |= {value for value in (-1, 0) if (arrays[name] == value).any()}
            if len(codes) > 1:
                raise ValueError(
                    f"{self._name} must hold 0 and 1, or -1 and 1, but {part.name} holds -1, 0 and"
                    " 1 in different rows"
                )
