"""Strictness for every test: no silent broadcasting of ranks, no silent promotion of dtypes."""

import jax
import jaxtyping
import pytest


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


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
