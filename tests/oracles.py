"""Exact answers by the shortest possible code, written apart from what they check."""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import chi2, norm

import energax as ex
from energax.spaces import Binary, Categorical, Joint, Spin


def _listed(space) -> list:
    if isinstance(space, Joint):
        parts = [_listed(part) for part in space.parts.values()]
        return [dict(zip(space.parts, combo, strict=True)) for combo in itertools.product(*parts)]
    values = {Binary: (0.0, 1.0), Spin: (-1.0, 1.0)}.get(type(space))
    if isinstance(space, Categorical):
        values = tuple(range(space.n_states))
    assert values is not None, space
    size = int(np.prod(space.shape, dtype=int))
    dtype = space.structure.dtype
    return [
        np.array(combo, dtype).reshape(space.shape)
        for combo in itertools.product(values, repeat=size)
    ]


def states(space) -> list:
    """Every state of a small discrete space, by itertools."""
    return [jax.tree.map(jnp.asarray, state) for state in _listed(space)]


def stacked(space):
    """`states`, stacked on a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *_listed(space))


def energies(energy) -> np.ndarray:
    """E of every state in the order of `states`, in float64."""
    rows = stacked(energy.space)
    return np.asarray(jax.jit(lambda rows: jax.vmap(energy.energy)(rows))(rows), np.float64)


def log_z(energy) -> float:
    """log Z by summing over `states`."""
    return float(logsumexp(-energies(energy)))


def probabilities(energy) -> np.ndarray:
    """p of every state in the order of `states`."""
    e = energies(energy)
    return np.exp(-e - logsumexp(-e))


def index_of(space, x) -> np.ndarray:
    """Where each row of `x` (leading axis) stands in the order of `states`."""
    flat = {
        name: np.asarray(leaf).reshape(len(leaf), -1)
        for name, leaf in (x.items() if isinstance(x, dict) else [("x", x)])
    }
    table = stacked(space)
    known = table if isinstance(table, dict) else {"x": table}
    rows = np.concatenate(
        [np.asarray(known[n]).reshape(len(known[n]), -1).astype(float) for n in flat], 1
    )
    seen = np.concatenate([flat[n].astype(float) for n in flat], 1)
    lookup = {row.tobytes(): i for i, row in enumerate(rows)}
    return np.array([lookup[row.tobytes()] for row in seen])


def chi_squared_p(counts: np.ndarray, p: np.ndarray) -> float:
    """The p-value of counts against probabilities; cells expecting under 5 are pooled."""
    expected = p * counts.sum()
    rare = expected < 5
    if rare.any() and (~rare).any():
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
        keep = expected > 0
        counts, expected = counts[keep], expected[keep]
    return float(chi2.sf(((counts - expected) ** 2 / expected).sum(), len(counts) - 1))


ALARM = 1e-5
"""The chance that one statistical check fails although everything is right."""


def assert_drawn_from(counts: np.ndarray, p: np.ndarray) -> None:
    """Counts of draws agree with probabilities (chi-squared), none of them where p = 0."""
    counts, p = np.asarray(counts), np.asarray(p)
    assert counts[p == 0].sum() == 0
    assert chi_squared_p(counts[p > 0], p[p > 0] / p.sum()) > ALARM


def assert_mean(values: np.ndarray, expected: np.ndarray | float) -> None:
    """Independent rows have this mean, entry by entry (two-sided, with a Bonferroni share)."""
    values = np.asarray(values, np.float64)
    error = values.std(0, ddof=1) / np.sqrt(len(values))
    z = np.abs(values.mean(0) - expected) / error
    assert z.max() < norm.isf(ALARM / 2 / z.size)


@contextlib.contextmanager
def as_users_run():
    """Without the run-time type checker of the tests, so that energax's own errors are met."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@contextlib.contextmanager
def refused(*words: str):
    """A `ValueError` whose message holds each of these words: what was expected, what came."""
    with as_users_run(), pytest.raises(ValueError, match=r"\w") as caught:
        yield
    for word in words:
        assert word in str(caught.value), (word, str(caught.value))


def draws(model, n: int, seed: int = 0):
    """`n` draws of a space or a tractable energy in one compiled program."""
    return jax.jit(lambda keys: jax.vmap(model.draw)(keys))(jax.random.split(ex.key(seed), n))
