"""Counting and coin tossing in words whose 32 bits belong to 32 separate chains.

Words are `uint32`. An operation on a word acts on all its bits alike, so that sums are held with
their digits in separate words, and a random decision is the carry of a sum of binary fractions.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

N_OWN_DIGITS = 16
"""Binary digits of a random fraction that every bit of a word draws for itself."""


def count(columns: Sequence[Sequence[Array]]) -> list[Array]:
    """Digits, lowest first, of the sums of bits, where those of `columns[i]` count 2^i each.

    Three digits of a column become one, and one carried to the next column (a full adder).
    """
    waiting = [list(column) for column in columns]
    digits = []
    while waiting:
        column, carried = waiting.pop(0), waiting[0] if waiting else []
        while len(column) > 1:
            a, b, *column = column
            odd = a ^ b
            if column:
                c, *column = column
                column.append(odd ^ c)
                carried.append((a & b) | (odd & c))
            else:
                column.append(odd)
                carried.append(a & b)
        digits.append(column[0])
        if carried and not waiting:
            waiting.append(carried)
    return digits


def equal(digits: Sequence[Array], number: int) -> Array:
    """Words with a 1 where the digits are those of `number`."""
    mask = ~jnp.zeros_like(digits[0])
    for i, digit in enumerate(digits):
        mask = mask & (digit if number >> i & 1 else ~digit)
    return mask


def toss(
    key: Key[Array, ""], masks: Sequence[Array], probability: Float[Array, " masks"]
) -> UInt32[Array, "..."]:
    """Words with a bit 1 with `probability[i]` where `masks[i]` has a 1 (each bit in one mask).

    Probabilities of at most 1/2. A bit is right to 2^-48, whatever the other bits do. Two bits of
    a word are independent but for once in 2^32, see `below`.
    """
    keys = jax.random.split(key, N_OWN_DIGITS + 1)
    # The barrier keeps the digits in one array. XLA would move them out of a loop over steps one
    # by one, and compile as many programs.
    keys, digits = jax.lax.optimization_barrier((keys, as_digits(probability)))
    words = [jax.random.bits(each, masks[0].shape, jnp.uint32) for each in keys]
    return below(words, masks, digits)


def as_digits(probability: Float[Array, " masks"]) -> UInt32[Array, "words masks"]:
    """The binary digits of probabilities below 1.

    First the upper 16, lowest first, each as a word of ones or zeros; then the lower 32 as one
    number.
    """
    scaled = probability * 2.0**N_OWN_DIGITS
    whole = jnp.floor(scaled)
    rest = ((scaled - whole) * 2.0**32).astype(jnp.uint32)
    place = jnp.arange(N_OWN_DIGITS, dtype=jnp.uint32)[:, None]
    upper = 0 - ((whole.astype(jnp.uint32)[None] >> place) & 1)
    return jnp.concatenate([upper, rest[None]])


def below(
    words: Sequence[UInt32[Array, "..."]],
    masks: Sequence[UInt32[Array, "..."]],
    digits: UInt32[Array, "words masks"],
) -> UInt32[Array, "..."]:
    """For every bit whether a random fraction of 48 binary digits is below that of its mask.

    The fraction's upper digits, lowest first, are the bit's own in `words`. The lower 32 are the
    number that the last word is, the same for all its bits: they matter to those alone whose
    upper digits equal the probability's, once in 2^16. To be below is to carry, when the
    (flipped) digits are added to the probability's from the lowest up.
    """
    *own, shared = words
    *upper, rest = digits
    carry = jnp.zeros_like(shared)
    for mask, each in zip(masks, rest, strict=True):
        carry = carry | jnp.where(shared < each, mask, carry)
    for word, row in zip(own, upper, strict=True):
        digit = functools.reduce(jnp.bitwise_or, map(jnp.bitwise_and, masks, row))
        carry = (word & carry) | (digit & (word | carry))
    return carry
