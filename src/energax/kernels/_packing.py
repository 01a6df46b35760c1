"""Spins of many chains in the bits of words, and the words next to each other.

Each bit of a word belongs to a lattice of its own: to another chain or, where chains are few, to
another strip of the same chain's lattice, cut along the first axis. All 32 are updated by the same
operations; only across the ends of strips do bits move from one to the next.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from energax.energies.graphs import Lattice
from energax.energies.graphs._checkerboard import join, split
from energax.spaces import float_dtype

N_BITS = 32


class Packing(eqx.Module):
    """How `n_chains` lattices lie in words.

    Bit c * n_strips + s of a word is strip s of its chain c.
    """

    lattice: Lattice
    n_chains: int = eqx.field(static=True)
    n_strips: int = eqx.field(static=True)

    def __init__(self, lattice: Lattice, n_chains: int):
        self.lattice, self.n_chains = lattice, n_chains
        # Strips begin with the same colour, so they have an even number of rows. As few as
        # leave the fewest bits empty.
        strips = [2**i for i in range(6) if lattice.shape[0] % 2 ** (i + 1) == 0]
        self.n_strips = min(strips, key=lambda n: -(-n_chains * n // N_BITS) / n)

    @property
    def n_words(self) -> int:
        """How many words hold one site of all chains."""
        return -(-self.n_chains * self.n_strips // N_BITS)

    @property
    def strip(self) -> Lattice:
        """What one bit holds."""
        n, *rest = self.lattice.shape
        return Lattice((n // self.n_strips, *rest), (False, *self.lattice.periodic[1:]))

    def pack(self, x: Float[Array, "chains ..."]) -> tuple[Array, Array]:
        """Words of each colour, shape (words, rows / 2, *rest)."""
        n_empty = self.n_words * N_BITS // self.n_strips - self.n_chains
        ones = jnp.pad(x > 0, ((0, n_empty), *[(0, 0)] * (x.ndim - 1)))
        bits = ones.reshape(self.n_words, N_BITS, *self.strip.shape).astype(jnp.uint32)
        words = jnp.sum(bits << self._place, 1, jnp.uint32)
        return jax.vmap(lambda w: split(self.strip, w))(words)

    def unpack(self, colours: tuple[Array, Array]) -> Float[Array, "chains ..."]:
        """The spins of all chains."""
        words = jax.vmap(lambda a, b: join(self.strip, a, b))(*colours)
        bits = ((words[:, None] >> self._place) & 1).reshape(-1, *self.lattice.shape)
        return 2 * bits[: self.n_chains].astype(float_dtype()) - 1

    def neighbours(self, other: UInt32[Array, "..."], colour: int) -> list[Array]:
        """The words next to each site of a colour, from those of the other; 0 past an open end."""
        # Slices of one padded array in memory: see the same of a single lattice.
        padded = jax.lax.optimization_barrier(self._padded(other))
        middle = (slice(None), *[slice(1, -1)] * (other.ndim - 1))

        def beside(axis: int, ahead: bool) -> Array:
            cut = slice(2, None) if ahead else slice(0, -2)
            return padded[(*middle[:axis], cut, *middle[axis + 1 :])]

        found = [
            padded[middle],
            jnp.where(self._is_upper(colour), beside(1, False), beside(1, True)),
        ]
        for axis in range(2, other.ndim):
            found += [beside(axis, True), beside(axis, False)]
        return found

    def missing(self, colour: int) -> list[Array]:
        """Words with a 1 where a site has no neighbour, for each way past an open end."""
        n, *rest = self.strip.shape
        shape = (n // 2, *rest)
        strip = np.arange(N_BITS) % self.n_strips
        found = []
        for axis, wraps in enumerate(self.lattice.periodic):
            if wraps:
                continue
            at = jnp.arange(shape[axis]).reshape(
                1, *[-1 if a == axis else 1 for a in range(len(shape))]
            )
            within = strip if axis == 0 else np.zeros_like(strip)
            last = self.n_strips - 1 if axis == 0 else 0
            before = jnp.where(at == 0, _word(within == 0), 0).astype(jnp.uint32)
            after = jnp.where(at == shape[axis] - 1, _word(within == last), 0).astype(jnp.uint32)
            if axis == 0:
                found.append(jnp.where(self._is_upper(colour), before, after))
            else:
                found += [after, before]
        return [jnp.broadcast_to(word, (self.n_words, *shape)) for word in found]

    @property
    def _place(self) -> np.ndarray:
        place = np.arange(N_BITS, dtype=np.uint32)
        return place.reshape(1, N_BITS, *[1] * len(self.strip.shape))

    def _padded(self, words: Array) -> Array:
        for axis, wraps in enumerate(self.lattice.periodic, 1):
            first, last = (
                jax.lax.slice_in_dim(words, i, i + 1, axis=axis) for i in (0, words.shape[axis] - 1)
            )
            if axis == 1:
                first, last = self._rotated(first, 1, wraps), self._rotated(last, -1, wraps)
            elif not wraps:
                first, last = jnp.zeros_like(first), jnp.zeros_like(last)
            words = jnp.concatenate([last, words, first], axis)
        return words

    def _rotated(self, words: Array, by: int, wraps: bool) -> Array:
        """For every strip the bit of the next one (by = 1) or of the one before (by = -1)."""
        strip, back = np.arange(N_BITS) % self.n_strips, self.n_strips - 1
        if by == 1:
            end = _word(strip == back)
            inside, around = words >> 1, words << back
        else:
            end = _word(strip == 0)
            inside, around = words << 1, words >> back
        return (inside & ~end) | (around & end if wraps else jnp.zeros_like(words))

    def _is_upper(self, colour: int) -> np.ndarray:
        """In which columns a site of this colour is the upper one of its pair."""
        _, *rest = self.strip.shape
        total = np.zeros((1, 1, *rest), int)
        for axis, n in enumerate(rest, 2):
            total = total + np.arange(n).reshape(
                [-1 if a == axis else 1 for a in range(total.ndim)]
            )
        return total % 2 == colour


def _word(bits: np.ndarray) -> np.uint32:
    """The word with these bits."""
    return np.uint32((bits.astype(np.uint64) << np.arange(N_BITS, dtype=np.uint64)).sum())
