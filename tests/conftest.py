"""Strictness for every test: no silent broadcasting of ranks, no silent promotion of dtypes.

And room for the compiled programs of all of them.
"""

import gc
import itertools
from pathlib import Path

import jax
import jaxtyping
import pytest

MAPS, MANY = Path("/proc/self/maps"), 25_000
"""A compiled program is some three areas of memory, of which Linux gives a process 65,530. Tests by
the thousand use them up, and the next program to be compiled is then a segmentation fault."""


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


RUN = itertools.count(1)
"""Tests that were run: counting areas takes milliseconds, and is not done after each."""


@pytest.fixture(autouse=True)
def room():
    """Forgets compiled programs between tests, once there are many."""
    yield
    if next(RUN) % 10 == 0 and MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def x64():
    """Double precision for tests of exactness."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def as_users_call():
    """The package without pytest's type checks, so that its own errors are what one sees."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
