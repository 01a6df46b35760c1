"""Sequences of tokens by the weights of their n-grams."""

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from energax.energies._base import AbstractSitewise
from energax.energies._parameters import as_list, finite_array, one_state
from energax.random import as_count
from energax.spaces import Categorical, Numbers, float_dtype

_MULTIPLIER = 0x9E3779B1
"""Of a token's place in what is hashed: 2^32 over the golden ratio, made odd (D. Knuth, "The art of
computer programming", volume 3, section 6.4)."""

_MIX = 0x85EBCA6B
"""Spreads the high bits into the low ones: of the finaliser of MurmurHash3 (A. Appleby, 2011)."""


class NGramEnergy(AbstractSitewise):
    """A weight for each run of one to N tokens, added over the whole sequence:

    E(x) = - sum over n and t of w_n(x_t, ..., x_t+n-1)

    A globally normalised model: no order of the tokens is singled out. It is linear in its weights
    and knows what every change of a token adds, so that pseudo-likelihood costs a few rows of
    weights an entry.

    With a `padding` token sequences of different lengths fit one array. It stands for itself
    before the first place and after the last, so that weights of n-grams that hold it say how
    sequences begin and end; n-grams of padding alone cost nothing.

    **Arguments:**

    - `tables`: w_n for n = 1 to N, a vector each: of `n_states`^n weights, one an n-gram in C
      order, or of any fewer, which then are shared by the n-grams that hash to the same place.
    - `length`: of a sequence.
    - `n_states`: how many tokens there are, with the padding.
    - `padding`: the token that fills sequences up, or `None`.

    **Raises:** `ValueError` for tables that are no vectors or too long, or a padding that is no
    token.

    ```python
    import energax as ex

    words = ["the", "dog", "sees", "a", "cat", ""]  # the last one is padding
    rows = [[0, 1, 2, 3, 4], [3, 4, 2, 0, 1], [0, 4, 2, 5, 5]]
    model = ex.NGramEnergy.init(5, len(words), order=2, padding=5)
    run = ex.fit(model, rows, ex.PseudoLikelihood(), key=ex.key(0), steps=20, batch_size=3)
    ```

    Sources: R. Rosenfeld, S. Chen and X. Zhu, "Whole-sentence exponential language models" (2001);
    shared weights by K. Weinberger et al., "Feature hashing for large scale multitask learning"
    (2009).
    """

    tables: tuple[Float[Array, " weights"], ...]
    length: int = eqx.field(static=True)
    n_states: int = eqx.field(static=True)
    padding: int | None = eqx.field(static=True)

    def __init__(
        self,
        tables: Sequence[Numbers],
        length: int,
        n_states: int,
        *,
        padding: int | None = None,
    ):
        self.length, self.n_states = as_count(length, "length"), as_count(n_states, "n_states")
        self.padding = None
        if padding is not None:
            self.padding = as_count(padding, "padding", least=0, most=self.n_states - 1)
        every = as_list(tables, str, "tables must be a list of vectors")
        self.tables = tuple(finite_array(t, f"tables[{n}]") for n, t in enumerate(every))

    def __check_init__(self):
        if not self.tables:
            raise ValueError("tables must hold at least one vector: the weights of tokens")
        if len(self.tables) > self.length:
            raise ValueError(
                f"a sequence of {self.length} tokens has no {len(self.tables)}-grams: give at most"
                " as many tables"
            )
        for n, table in enumerate(self.tables, 1):
            most = self.n_states**n
            if table.ndim != 1 or not 1 <= table.size <= most:
                raise ValueError(
                    f"tables[{n - 1}] must be a vector of 1 to {most} weights, got shape"
                    f" {table.shape}"
                )

    @classmethod
    def init(
        cls,
        length: int,
        n_states: int,
        *,
        order: int = 3,
        padding: int | None = None,
        n_buckets: int = 1 << 22,
    ) -> "NGramEnergy":
        """A model to start training from: all weights 0, every sequence equally likely.

        **Arguments:**

        - `order`: N, the longest run that has a weight.
        - `n_buckets`: weights a table; n-grams of which there are no more have one each.
        """
        n_states, order = as_count(n_states, "n_states"), as_count(order, "order")
        n_buckets = as_count(n_buckets, "n_buckets")
        sizes = [min(n_states**n, n_buckets) for n in range(1, order + 1)]
        tables = [jnp.zeros((size,), float_dtype()) for size in sizes]
        return cls(tables, length, n_states, padding=padding)

    @property
    def space(self) -> Categorical:
        return Categorical(self.length, self.n_states)

    @property
    def order(self) -> int:
        """The longest run that has a weight."""
        return len(self.tables)

    def energy(self, x: Int[Array, " length"]) -> Float[Array, ""]:
        padded, total = self._padded(x), jnp.zeros((), float_dtype())
        for n, table in enumerate(self.tables, 1):
            # Every run that holds a token, the first one as its last.
            first, many = self.order - n, self.length + n - 1
            run = [padded[first + q : first + q + many] for q in range(n)]
            weights = table[_place(run, self.n_states, table.size)]
            starts = jnp.arange(many) - (n - 1)
            inside = (starts >= 0) & (starts <= self.length - n)
            if self.padding is not None:
                inside = jnp.any(jnp.stack(run) != self.padding, 0)
            total = total - jnp.sum(jnp.where(inside, weights, 0.0)).astype(total.dtype)
        return total

    def site_changes(
        self, x: Int[Array, " length"], site: Int[Array, ""]
    ) -> Float[Array, " states"]:
        padded, k = self._padded(x), self.n_states
        tokens = jnp.arange(k, dtype=padded.dtype)
        energies = jnp.zeros((k,), float_dtype())
        for n, table in enumerate(self.tables, 1):
            for p in range(n):  # the token's place in the run
                at = site + self.order - 1 - p
                run = [padded[at + q] for q in range(n)]
                others = [run[q] for q in range(n) if q != p]
                if table.size == k**n:  # whole rows, and not number by number
                    weights = jnp.moveaxis(table.reshape((k,) * n), p, -1)[tuple(others)]
                else:
                    run[p] = tokens
                    weights = table[_place(run, k, table.size)]
                if self.padding is None:
                    counts = (site >= p) & (site - p <= self.length - n)
                else:
                    alone = [other == self.padding for other in others]
                    counts = tokens != self.padding
                    counts = counts | ~jnp.all(jnp.stack(alone)) if alone else counts
                energies = energies - jnp.where(counts, weights, 0.0).astype(energies.dtype)
        return energies - energies[x[site]]

    @property
    def floats_a_site(self) -> int:
        return self.n_states * self.order * (self.order + 1) // 2

    def _padded(self, x: Int[Array, " length"]) -> Int[Array, " padded"]:
        more, token = self.order - 1, 0 if self.padding is None else self.padding
        return jnp.pad(one_state(x, (self.length,)), (more, more), constant_values=token)


def _place(run: list[Array], n_states: int, size: int) -> Array:
    """Where in a table the weight of a run stands: its number in C order, or a hash of it."""
    n = len(run)
    if size == n_states**n:
        strides = [*accumulate([1, *[n_states] * (n - 1)], mul)][::-1]
        return sum(t * s for t, s in zip(run[1:], strides[1:], strict=True)) + run[0] * strides[0]
    code = jnp.zeros((), jnp.uint32)
    for position, token in enumerate(run):
        stride = np.uint32(pow(_MULTIPLIER, position + 1, 1 << 32))
        code = code + (token.astype(jnp.uint32) + np.uint32(1)) * stride
    code = (code ^ (code >> np.uint32(16))) * np.uint32(_MIX)
    code = code ^ (code >> np.uint32(13))
    return (code % np.uint32(size)).astype(jnp.int32)
