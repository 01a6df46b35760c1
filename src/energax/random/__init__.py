"""Keys: a fast counter-based generator registered as a JAX PRNG implementation."""

from energax.random._checks import LARGEST_COUNT as LARGEST_COUNT
from energax.random._checks import as_count as as_count
from energax.random._checks import as_key as as_key
from energax.random._checks import is_number as is_number
from energax.random._draws import Choices as Choices
from energax.random._draws import bernoulli as bernoulli
from energax.random._draws import categorical as categorical
from energax.random._draws import choices as choices
from energax.random._draws import choose as choose
from energax.random._draws import normal as normal
from energax.random._draws import poisson as poisson
from energax.random._generator import GENERATOR as GENERATOR
from energax.random._generator import GENERATOR_VERSION as GENERATOR_VERSION
from energax.random._generator import key as key
from energax.random._permutation import permutation as permutation
