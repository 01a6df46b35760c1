"""Random orders, of many numbers by a cipher and not by sorting."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, UInt32

from energax.random._checks import as_count

_SORTED = 4096
"""Up to so many numbers are put in order by sorting random ones, uniformly among all orders."""
_ROUNDS = 8
_MULTIPLIERS = 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35
"""The golden ratio's, and the two of MurmurHash3's last steps (A. Appleby, 2011)."""


def permutation(key: Key[Array, ""], n: int) -> Int[Array, " n"]:
    """The numbers from 0 to n - 1 in a random order, of dtype int32.

    Up to 4,096 numbers every order is as likely as any other. More are turned into each other by a
    small cipher with keys drawn from `key` (a Feistel network of eight rounds), where
    `jax.random.permutation` sorts them, twice if they are many (`benchmarks/random_rate.py`). The
    rows of an epoch are read in such an order.

    **Raises:** `ValueError` if n is no positive integer, or above 2^30.

    ```python
    import energax as ex

    order = ex.random.permutation(ex.key(0), 60_000)
    ```

    Source: M. Luby and C. Rackoff, "How to construct pseudorandom permutations from pseudorandom
    functions" (1988); numbers beyond n are left out, as of J. Black and P. Rogaway, "Ciphers with
    arbitrary finite domains" (2002).
    """
    n = as_count(n, "n", most=2**30)
    if n <= _SORTED:
        return jax.random.permutation(key, n).astype(jnp.int32)
    n_bits = (n - 1).bit_length()
    low, high = n_bits // 2, n_bits - n_bits // 2
    numbers = jnp.arange(2**n_bits, dtype=jnp.uint32)
    left, right = numbers >> low, numbers & jnp.uint32(2**low - 1)
    sizes = high, low
    for round_key in jax.random.bits(key, (_ROUNDS,), jnp.uint32):
        # The halves change places, and their sizes with them.
        scrambled = _mixed(right ^ round_key) >> (32 - sizes[0])
        left, right, sizes = right, left ^ scrambled, sizes[::-1]
    found = ((left << sizes[1]) | right).astype(jnp.int32)
    kept = found < n
    beyond = n + jnp.arange(kept.size, dtype=jnp.int32)
    place = jnp.where(kept, jnp.cumsum(kept, dtype=jnp.int32) - 1, beyond)
    order = jnp.zeros(n, jnp.int32)
    return order.at[place].set(found, mode="drop", unique_indices=True)


def _mixed(bits: UInt32[Array, " numbers"]) -> UInt32[Array, " numbers"]:
    """Thirty-two bits of which each depends on all that went in."""
    first, second, third = (jnp.uint32(m) for m in _MULTIPLIERS)
    bits = bits * first
    bits = (bits ^ (bits >> 16)) * second
    bits = (bits ^ (bits >> 13)) * third
    return bits ^ (bits >> 16)
