"""Keys: a fast counter-based generator registered as a JAX PRNG implementation."""

from energax.random._generator import GENERATOR as GENERATOR
from energax.random._generator import GENERATOR_VERSION as GENERATOR_VERSION
from energax.random._generator import key as key
