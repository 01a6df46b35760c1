"""A counter-based generator made of 32-bit multiply-xorshift rounds.

A draw is a pure function of a 64-bit key and a 32-bit counter, so XLA inlines it into the loop
that uses it and never writes the random bits to memory. Three rounds turn the counter into bits;
the counter is added back at the end (the Davies-Meyer construction), so the stream is a random
function, in which values repeat as often as they should, and not a permutation, in which they
never do.

Multiplicative constants of the rounds: C. Wellons, "Hash function prospector" (2018, 2023 update),
the three-round `triple32` function, found by search for the least avalanche bias. Constants
of the key schedule: the fractional parts of the golden ratio and of the square roots of 3, 5 and
7 in 32-bit fixed point.
"""

import math
import operator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.random import define_prng_impl
from jaxtyping import Array, Key, UInt32

GENERATOR_VERSION = 1
"""Raised when the bits a key gives change; saved beside every saved key."""

_GOLDEN, _ROOT3, _ROOT5, _ROOT7 = 0x9E3779B9, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A
_ROUND1, _ROUND2, _ROUND3 = 0xED5AD4BB, 0xAC4C1B51, 0x31848BAB

_SEED, _SPLIT, _FOLD = 0, 1, 2  # what a block is for: no two purposes share an input


_as_one_program = partial(jax.jit, inline=True)
"""Outside of a compiled function every operation would be a program of its own."""


def _u32(value: int) -> Array:
    return lax.full((), value, jnp.uint32)


def _xorshift(x: Array, by: int) -> Array:
    return x ^ lax.shift_right_logical(x, lax.full_like(x, by))


def _times(x: Array, by: int) -> Array:
    return x * lax.full_like(x, by)


def _rotate(x: Array, by: int) -> Array:
    left = lax.shift_left(x, lax.full_like(x, by))
    return left | lax.shift_right_logical(x, lax.full_like(x, 32 - by))


def _words(low: Array, high: Array, counter: Array) -> Array:
    """32 random bits for each counter, under the key (low, high)."""
    # Steps of the golden ratio rather than of one: on a CPU, XLA then keeps the counters of a
    # loop in a table, where it would otherwise build each vector of a plain iota lane by lane.
    stepped = _times(counter, _GOLDEN)
    third = _times(_rotate(low, 16) ^ high, _GOLDEN)
    x = stepped + (low ^ third)
    x = _times(_xorshift(x, 17), _ROUND1) ^ high
    x = _times(_xorshift(x, 11), _ROUND2) + third
    x = _times(_xorshift(x, 15), _ROUND3)
    return _xorshift(x, 14) + stepped


def _block(low: Array, high: Array, left: Array, right: Array) -> tuple[Array, Array]:
    """A keyed bijection of 64 bits (a Feistel network): distinct inputs give distinct keys."""
    for constant, word in ((_GOLDEN, low), (_ROOT3, high), (_ROOT5, low), (_ROOT7, high)):
        x = right + (word ^ lax.full_like(word, constant))
        x = _times(_xorshift(x, 17), _ROUND1)
        x = _times(_xorshift(x, 11), _ROUND2)
        left, right = right, left ^ _xorshift(x, 15)
    return left, right


def _counter(shape: tuple[int, ...]) -> Array:
    return lax.reshape(lax.iota(jnp.uint32, math.prod(shape)), shape)


@_as_one_program
def _seeded(low: Array, high: Array) -> UInt32[Array, "2"]:
    return jnp.stack(_block(_u32(_SEED), _u32(0), low, high))


@_as_one_program
def _seed(seed: Array) -> UInt32[Array, "2"]:
    # 64-bit seeds arrive whole under x64 and as 32 bits, sign-extended, otherwise.
    if jnp.issubdtype(seed.dtype, jnp.unsignedinteger):
        wide = seed.astype(jnp.uint64) if seed.dtype.itemsize == 8 else seed.astype(jnp.uint32)
        half = lax.shift_right_logical(wide, lax.full_like(wide, 31))
        high = lax.shift_right_logical(half, lax.full_like(half, 1))
        words = (wide & lax.full_like(wide, 0xFFFFFFFF)).astype(jnp.uint32), high
        return _seeded(words[0], words[1].astype(jnp.uint32))
    bits = seed.astype(jnp.int64) if seed.dtype.itemsize == 8 else seed.astype(jnp.int32)
    half = lax.shift_right_arithmetic(bits, jnp.asarray(31, bits.dtype))
    high = lax.shift_right_arithmetic(half, jnp.asarray(1, bits.dtype))
    low = (bits & jnp.asarray(0xFFFFFFFF, bits.dtype)) if bits.dtype.itemsize == 8 else bits
    return _seeded(low.astype(jnp.uint32), high.astype(jnp.uint32))


@partial(_as_one_program, static_argnums=1)
def _split(key: UInt32[Array, "2"], shape: tuple[int, ...]) -> Array:
    index = _counter(shape)
    left, right = _block(key[0], key[1], index, lax.full_like(index, _SPLIT))
    return jnp.stack([left, right], axis=-1)


@_as_one_program
def _fold_in(key: UInt32[Array, "2"], data: int | Array) -> UInt32[Array, "2"]:
    index = jnp.asarray(data).astype(jnp.uint32)
    left, right = _block(key[0], key[1], index, lax.full_like(index, _FOLD))
    return jnp.stack([left, right])


@partial(_as_one_program, static_argnums=(1, 2))
def _random_bits(key: UInt32[Array, "2"], bit_width: int, shape: tuple[int, ...]) -> Array:
    if math.prod(shape) > 2**32:  # more than a counter holds: a key for each leading index
        if shape[0] > 2**32 or len(shape) == 1:
            raise ValueError(f"at most 2^32 words a key and axis can be drawn, asked for {shape}")
        keys = _split(key, shape[:1])
        return jax.vmap(lambda k: _random_bits(k, bit_width, shape[1:]))(keys)
    counter = _counter(shape)
    words = _words(key[0], key[1], counter)
    if bit_width == 32:
        return words
    if bit_width in (8, 16):
        top = lax.shift_right_logical(words, lax.full_like(words, 32 - bit_width))
        return top.astype(jnp.uint8 if bit_width == 8 else jnp.uint16)
    if bit_width == 64:
        others = _words(key[1] ^ _u32(_ROOT5), key[0] ^ _u32(_ROOT7), counter)
        wide = words.astype(jnp.uint64)
        return lax.shift_left(wide, lax.full_like(wide, 32)) | others.astype(jnp.uint64)
    raise ValueError(f"bit_width must be 8, 16, 32 or 64, got {bit_width}")


GENERATOR = define_prng_impl(
    key_shape=(2,),
    seed=_seed,
    split=_split,
    random_bits=_random_bits,
    fold_in=_fold_in,
    name="energax",
    tag="ex",
)
"""The implementation, for `jax.random.key(seed, impl=energax.random.GENERATOR)`."""


def key(seed: int | Array) -> Key[Array, ""]:
    """A random key from a seed, on energax's own generator.

    The key works with the functions of `jax.random` and under every JAX transformation; the one
    exception is `jax.random.poisson`, which JAX ties to its own generator: use
    `energax.random.poisson`. Draws are several times faster than with JAX's default generator,
    because their few operations fuse into the code that uses the bits. It is a statistical
    generator, not a cryptographic one.

    **Arguments:**

    - `seed`: an integer of up to 64 bits, signed. Different seeds give different keys.

    **Returns:** a typed key, shape `()`.

    **Raises:** `ValueError` if `seed` is not an integer or does not fit in 64 bits.

    ```python
    import energax as ex
    import jax

    key = ex.key(0)
    x = jax.random.normal(key, (3,))
    ```
    """
    if isinstance(seed, jax.Array):
        if not jnp.issubdtype(seed.dtype, jnp.integer):
            raise ValueError(f"seed must be an integer, got an array of {seed.dtype}")
        if seed.shape != ():
            raise ValueError(f"seed must be one integer, got an array of shape {seed.shape}")
        return jax.random.key(seed, impl=GENERATOR)
    try:
        number = operator.index(seed)
    except TypeError:
        raise ValueError(f"seed must be an integer, got {type(seed).__name__}") from None
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"seed must fit in a signed 64-bit integer, got {number}")
    low, high = np.uint32(number & 0xFFFFFFFF), np.uint32((number >> 32) & 0xFFFFFFFF)
    return jax.random.wrap_key_data(_seeded(low, high), impl=GENERATOR)
