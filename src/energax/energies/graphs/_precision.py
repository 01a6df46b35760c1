"""Sparse symmetric positive definite matrices: their order, their factor, their eigenvalues.

Numbered by the reverse Cuthill-McKee order a sparse matrix is a narrow band, and cut into blocks
as wide as the band only a block's own rows and those of the next one meet: the factor takes one
pass of small dense operations.

Source: H. Rue and L. Held, "Gaussian Markov random fields" (2005), section 2.4.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, reverse_cuthill_mckee
from scipy.sparse.linalg import ArpackNoConvergence, eigsh

from energax.energies.graphs._lattice import Lattice

_SMALL = 256
"""Up to so many nodes the matrix is one block."""

_MOST_NUMBERS = 2**28
"""Factors of more numbers are not made."""

_LOST = 0.05
"""How far rounding may move log det, in nats."""

_WELL_CONDITIONED = 32
"""And so far, in units of the precision, for each entry: then the sum itself rounds as much."""

_PROBES = 8

_MOST_BAND = 2**24
"""Wider bands are not factored only to be checked."""


def narrow_order(edges: np.ndarray, n_nodes: int) -> tuple[np.ndarray, int]:
    """The position of each node in a band, and the width of a block."""
    if n_nodes <= _SMALL:
        return np.arange(n_nodes, dtype=np.int32), n_nodes
    ones = np.ones(2 * len(edges), np.int8)
    rows, columns = np.concatenate([edges, edges[:, ::-1]]).T
    matrix = coo_array((ones, (rows, columns)), shape=(n_nodes, n_nodes)).tocsr()
    order = reverse_cuthill_mckee(matrix, symmetric_mode=True)
    position = np.empty(n_nodes, np.int32)
    position[order] = np.arange(n_nodes)
    width = band_width(edges, position)
    return position, n_nodes if 3 * width > n_nodes else max(width, 16)


def band_width(edges: np.ndarray, position: np.ndarray) -> int:
    """The furthest that two neighbours are apart."""
    ends = position[edges].astype(np.int64)
    return int(np.abs(ends[:, 0] - ends[:, 1]).max(initial=0))


def check_band(edges: np.ndarray, position: np.ndarray, width: int, n: int) -> None:
    """Raise `ValueError` unless blocks of this width hold the band."""
    if position.shape != (n,) or not np.array_equal(np.sort(position), np.arange(n)):
        raise ValueError("position must hold every place once")
    least = 1 if width >= n else max(band_width(edges, position), 1)
    if not least <= width <= max(n, 16):
        raise ValueError(f"blocks of width {width} do not hold the band")


class Factor(NamedTuple):
    """The lower Cholesky factor of a block tridiagonal matrix, in blocks."""

    diagonal: Array
    """L, shape (blocks, width, width)."""
    below: Array
    """The blocks under them: of row k the one in column k - 1; the first is zero."""


def factor(edges: Array, position: Array, width: int, off: Array, diagonal: Array) -> Factor:
    """The Cholesky factor of the matrix with these entries; NaN if it is not positive definite.

    **Raises:** `ValueError` if the factor would be too large to hold.
    """
    n_blocks = _number_of_blocks(diagonal.shape[0], width)
    ends = position[edges]
    low, high = jnp.min(ends, 1), jnp.max(ends, 1)
    row, column = high // width, low // width
    i, j = high % width, low % width
    own = jnp.zeros((n_blocks, width, width), off.dtype)
    # Rows that fill up the last block are those of the identity.
    padded = jnp.ones((n_blocks * width,), diagonal.dtype).at[position].set(diagonal)
    at = jnp.arange(n_blocks * width)
    own = own.at[at // width, at % width, at % width].set(padded)
    inside = jnp.where(row == column, off, 0.0)
    own = own.at[row, i, j].add(inside).at[row, j, i].add(inside)
    under = jnp.zeros((n_blocks, width, width), off.dtype)
    under = under.at[row, i, j].add(jnp.where(row == column, 0.0, off))

    def step(before, blocks):
        own, under = blocks
        below = solve_triangular(before, under.T, lower=True).T
        new = jnp.linalg.cholesky(own - below @ below.T, symmetrize_input=False)
        return new, (new, below)

    if n_blocks == 1:
        return Factor(jnp.linalg.cholesky(own, symmetrize_input=False), under)
    first = jnp.linalg.cholesky(own[0], symmetrize_input=False)
    _, (rest, below) = lax.scan(step, first, (own[1:], under[1:]))
    return Factor(jnp.concatenate([first[None], rest]), jnp.concatenate([under[:1], below]))


def _number_of_blocks(n: int, width: int) -> int:
    n_blocks = -(-n // width)
    if 2 * n_blocks * width**2 > _MOST_NUMBERS:
        raise ValueError(
            f"the precision's factor would hold {2 * n_blocks * width**2:.2g} numbers, more than"
            f" {_MOST_NUMBERS:.2g}: sample with a kernel such as ex.BlockGibbs(), and let"
            ' log_partition anneal, method="annealing"'
        )
    return n_blocks


def known_factor(
    edges: np.ndarray, position: np.ndarray, width: int, off: np.ndarray, diagonal: np.ndarray
) -> Factor:
    """`factor` of numbers that are known, in double precision: of numpy arrays.

    **Raises:** `ValueError` if the factor would be too large to hold.
    """
    n = len(diagonal)
    n_blocks = _number_of_blocks(n, width)
    own, under = np.zeros((2, n_blocks, width, width))
    rest = np.arange(n, n_blocks * width)  # rows that fill up the last block
    own[rest // width, rest % width, rest % width] = 1
    lower = _known_band(edges, position, off, diagonal)
    for apart, values in enumerate(lower):
        column = np.arange(n - apart)
        row = column + apart
        values = values[: n - apart]
        same = row // width == column // width
        i, j, k = row % width, column % width, row // width
        own[k[same], i[same], j[same]] = values[same]
        under[k[~same], i[~same], j[~same]] = values[~same]
    return Factor(own, under)  # type: ignore[arg-type]


def known_solution(
    edges: np.ndarray,
    position: np.ndarray,
    width: int,
    off: np.ndarray,
    diagonal: np.ndarray,
    right: np.ndarray,
) -> tuple[np.ndarray, float]:
    """Q^-1 b and log det Q of numbers that are known, in double precision.

    **Raises:** `ValueError` if the factor would be too large to hold.
    """
    _number_of_blocks(len(diagonal), width)
    lower = _known_band(edges, position, off, diagonal)
    ordered = np.empty_like(right)
    ordered[position] = right
    solved = cho_solve_banded((lower, True), ordered, check_finite=False)
    return solved[position], 2 * float(np.log(lower[0]).sum())


def _known_band(
    edges: np.ndarray, position: np.ndarray, off: np.ndarray, diagonal: np.ndarray
) -> np.ndarray:
    """The Cholesky factor as scipy's banded solvers take it; NaN if there is none."""
    band = _in_band(edges, position, off, diagonal)
    try:
        return cholesky_banded(band, overwrite_ab=True, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return np.full_like(band, np.nan)


def _in_band(
    edges: np.ndarray, position: np.ndarray, off: np.ndarray, diagonal: np.ndarray
) -> np.ndarray:
    """The lower half of a matrix as scipy's banded solvers take it."""
    band = np.zeros((band_width(edges, position) + 1, len(diagonal)))
    ends = np.sort(position[edges].astype(np.int64), axis=1)
    band[0, position] = diagonal
    band[ends[:, 1] - ends[:, 0], ends[:, 0]] = off
    return band


def without_lost_digits(made: Factor, position: Array, diagonal: Array) -> Factor:
    """The factor, or NaN in it where too many digits were lost on the way.

    Rounding the diagonal q moves log det by up to eps sum_i q_i (Q^-1)_ii to first order, and the
    variance of no direction by a larger share. The sum is found as the mean of |L^-1 sqrt(q) z|^2
    over vectors z of random signs (M. Hutchinson, "A stochastic estimator of the trace of the
    influence matrix for Laplacian smoothing splines", 1989).
    """
    made_here, q = lax.stop_gradient((made, diagonal))
    n, eps = q.shape[0], jnp.finfo(q.dtype).eps
    signs = jax.random.rademacher(jax.random.key(0), (_PROBES, n), q.dtype)
    each = jax.vmap(lambda z: forward(made_here, jnp.sqrt(q) * z, position))(signs)
    error = eps * jnp.sum(jnp.square(each)) / _PROBES
    kept = error <= _LOST + eps * _WELL_CONDITIONED * n
    return jax.tree.map(lambda a: jnp.where(kept, a, jnp.nan), made)


def log_determinant(made: Factor) -> Array:
    """log det of the matrix."""
    return 2 * jnp.sum(jnp.log(jnp.diagonal(made.diagonal, axis1=1, axis2=2)))


def known_log_determinant(made: Factor) -> float:
    """log det of a matrix factored by `known_factor`."""
    return 2 * float(np.log(np.diagonal(np.asarray(made.diagonal), axis1=1, axis2=2)).sum())


def forward(made: Factor, b: Array, position: Array) -> Array:
    """L^-1 b in the band's order, shape (blocks, width), of b in the nodes' order."""
    n_blocks, width, _ = made.diagonal.shape
    ordered = jnp.zeros((n_blocks * width,), b.dtype).at[position].set(b)

    def step(before, blocks):
        own, below, right = blocks
        new = solve_triangular(own, right - below @ before, lower=True)
        return new, new

    rows = ordered.reshape(n_blocks, width)
    start = jnp.zeros((width,), b.dtype)
    return lax.scan(step, start, (made.diagonal, made.below, rows))[1]


def backward(made: Factor, z: Array, position: Array) -> Array:
    """L^-T z in the nodes' order, of z in the band's order, shape (blocks, width)."""
    width = made.diagonal.shape[-1]

    def step(after, blocks):
        own, below, right = blocks  # `below`: the block under this one, of the next row
        new = solve_triangular(own, right - below.T @ after, trans=1, lower=True)
        return new, new

    under = jnp.concatenate([made.below[1:], jnp.zeros((1, width, width), z.dtype)])
    start = jnp.zeros((width,), z.dtype)
    solved = lax.scan(step, start, (made.diagonal, under, z), reverse=True)[1]
    return solved.reshape(-1)[position]


def eigenvalues(lattice: Lattice, coupling: Array, mass: Array) -> Array:
    """Of mass + coupling times the lattice's Laplacian, in the order of `transform`."""
    total = mass
    for each in _along_axes(lattice):
        total = total + coupling * jnp.asarray(each, mass.dtype)
    return total


def known_eigenvalues(lattice: Lattice, coupling: float, mass: float) -> np.ndarray:
    """`eigenvalues` of numbers that are known, in double precision."""
    return mass + coupling * sum(_along_axes(lattice), np.zeros(()))


def lowest_eigenvalue(lattice: Lattice, coupling: float, mass: float) -> float:
    """The lowest of `eigenvalues`."""
    ends = ((coupling * each.min(), coupling * each.max()) for each in _along_axes(lattice))
    return mass + sum(min(pair) for pair in ends)


def _along_axes(lattice: Lattice) -> list[np.ndarray]:
    """Eigenvalues of the Laplacian along each axis, to be broadcast and added."""
    found = []
    for axis, (n, wraps) in enumerate(zip(lattice.shape, lattice.periodic, strict=True)):
        angle = np.pi * np.arange(n) * (2 if wraps else 1) / n
        each = 4 * np.sin(angle / 2) ** 2
        found.append(each.reshape([n if a == axis else 1 for a in range(len(lattice.shape))]))
    return found


def transform(lattice: Lattice, a: Array, *, inverse: bool = False) -> Array:
    """Coordinates along the Laplacian's orthonormal eigenvectors, or back from them.

    Hartley's cosines and sines along a periodic axis, which are their own inverse; cosines along
    an open one.
    """
    for axis, (n, wraps) in enumerate(zip(lattice.shape, lattice.periodic, strict=True)):
        if wraps:
            waves = jnp.fft.fft(a, axis=axis)
            a = (waves.real - waves.imag) / np.sqrt(n).astype(a.dtype)
        elif inverse:
            a = jax.scipy.fft.idct(a, axis=axis, norm="ortho")
        else:
            a = jax.scipy.fft.dct(a, axis=axis, norm="ortho")
    return a


def is_positive_definite(
    edges: np.ndarray, off: np.ndarray, mass: np.ndarray, position: np.ndarray | None
) -> bool:
    """Whether the matrix with these entries and these sums of rows is positive definite.

    Certain where no entry beside the diagonal is positive, and where the band is narrow enough to
    factor; otherwise a matrix that is not may pass, if its lowest eigenvalue is found too slowly.
    """
    n = len(mass)
    if (off <= 0).all() and (mass >= 0).all():
        joined = edges[off < 0]
        ones = np.ones(len(joined), np.int8)
        graph = coo_array((ones, (joined[:, 0], joined[:, 1])), shape=(n, n))
        n_parts, part = connected_components(graph, directed=False)
        return bool((np.bincount(part, mass, n_parts) > 0).all())
    diagonal = mass.astype(float)
    np.subtract.at(diagonal, edges.reshape(-1), np.repeat(off, 2))
    if position is None:
        position, _ = narrow_order(edges, n)
    width = band_width(edges, position)
    if n * (width + 1) <= _MOST_BAND:
        band = _in_band(edges, position, off, diagonal)
        try:
            cholesky_banded(band, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            return False
        return True
    rows = np.concatenate([edges[:, 0], edges[:, 1], np.arange(n)])
    columns = np.concatenate([edges[:, 1], edges[:, 0], np.arange(n)])
    matrix = coo_array((np.concatenate([off, off, diagonal]), (rows, columns)), shape=(n, n))
    settings: Any = {"which": "SA", "v0": np.ones(n), "tol": 1e-4, "return_eigenvectors": False}
    try:
        found = eigsh(matrix.tocsr(), 1, **settings)
    except ArpackNoConvergence as error:
        found = error.eigenvalues
    return bool((np.asarray(found) > 0).all())
