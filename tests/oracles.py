"""Exact answers by the shortest possible code, written apart from what they check."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from energax.spaces import Binary, Categorical, Joint, Spin
from scipy.special import logsumexp
from scipy.stats import chi2


def states(space) -> list:
    """Every state of a small discrete space, by itertools."""
    if isinstance(space, Joint):
        parts = [states(part) for part in space.parts.values()]
        return [dict(zip(space.parts, combo, strict=True)) for combo in itertools.product(*parts)]
    values = {Binary: (0.0, 1.0), Spin: (-1.0, 1.0)}.get(type(space))
    if isinstance(space, Categorical):
        values = tuple(range(space.n_states))
    assert values is not None, space
    size = int(np.prod(space.shape, dtype=int))
    dtype = space.structure.dtype
    return [
        jnp.asarray(np.array(combo).reshape(space.shape), dtype)
        for combo in itertools.product(values, repeat=size)
    ]


def stacked(space):
    """`states`, stacked on a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states(space))


def energies(energy) -> np.ndarray:
    """E of every state in the order of `states`, in float64."""
    return np.asarray(jax.vmap(energy.energy)(stacked(energy.space)), np.float64)


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
