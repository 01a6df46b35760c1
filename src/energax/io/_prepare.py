"""Preparing rows of data: zeros and ones, scales, random parts. numpy in, numpy out."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np
from jaxtyping import Array, Key
from numpy.typing import ArrayLike

from energax.io._checks import as_number, as_numbers
from energax.random import as_key

_SUM_TOLERANCE = 1e-9  # of fractions written in decimals

_LUMA = np.array([0.299, 0.587, 0.114])


@dataclasses.dataclass(frozen=True, eq=False)
class Scaling:
    """An affine map of each column, and its inverse:

    y = low (1 - r) + high r, with r = (x - centre) / spread
    """

    centre: np.ndarray
    """Shape of one row: what becomes `low`."""

    spread: np.ndarray
    """Shape of one row, positive: `centre + spread` becomes `high`."""

    low: float = 0.0
    high: float = 1.0

    def apply(self, rows: ArrayLike) -> np.ndarray:
        """The scaled rows, as floats. Rows have shape (n, *shape)."""
        return _in_blocks(self._checked(rows), self._apply)

    def invert(self, rows: ArrayLike) -> np.ndarray:
        """The rows these came from, as floats."""
        return _in_blocks(self._checked(rows), self._invert)

    def _apply(self, x: np.ndarray) -> np.ndarray:
        r = (x - self.centre) / self.spread
        y = self.low * (1 - r) + self.high * r
        # Rounding must not carry what lies within the reference out of [low, high].
        return np.where((r >= 0) & (r <= 1), np.clip(y, self.low, self.high), y)

    def _invert(self, y: np.ndarray) -> np.ndarray:
        return self.centre + self.spread * ((y - self.low) / (self.high - self.low))

    def _checked(self, rows: ArrayLike) -> np.ndarray:
        array = as_numbers(rows, "rows")
        if array.shape[1:] != self.centre.shape:
            raise ValueError(
                f"rows must have shape (n, {', '.join(map(str, self.centre.shape))}), the columns"
                f" the scaling was made from, got {array.shape}"
            )
        return array


def scale(
    rows: ArrayLike,
    *,
    low: float | int = 0.0,
    high: float | int = 1.0,
    reference: ArrayLike | None = None,
) -> tuple[np.ndarray, Scaling]:
    """Rows with each column moved and stretched to run from `low` to `high`.

    A constant column becomes `low`. Entries outside the range of `reference` land outside.

    **Arguments:**

    - `rows`: shape (n, *shape).
    - `low`, `high`: the ends, `low < high`.
    - `reference`: the rows whose least and greatest entries set the scale, shape (m, *shape);
      `rows` themselves if `None`.

    **Returns:** the scaled rows (float32 from float32 and small integers, else float64) and the
    `Scaling`, to apply to other rows and to invert.

    **Raises:** `ValueError` if rows are not finite numbers or the shapes differ.

    ```python
    import numpy as np
    from energax import io

    rows = np.array([[0.0, 10.0], [5.0, 30.0]])
    scaled, scaling = io.scale(rows, low=-1.0)
    scaling.invert(scaled)
    ```
    """
    low, high = as_number(low, "low"), as_number(high, "high")
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")
    least, greatest, _ = _extent(rows if reference is None else reference, reference is not None)
    with np.errstate(over="ignore"):  # an overflow is reported by the next check
        spread = np.where(greatest > least, greatest - least, np.maximum(1.0, np.abs(least)))
    if not np.isfinite(spread).all():
        raise ValueError("a column's range is beyond what floats hold: rescale it first")
    scaling = Scaling(least, spread, low, high)
    return scaling.apply(rows), scaling


def standardise(
    rows: ArrayLike, *, reference: ArrayLike | None = None
) -> tuple[np.ndarray, Scaling]:
    """Rows with each column's mean taken off and its standard deviation divided out.

    A constant column becomes 0.

    **Arguments:**

    - `rows`: shape (n, *shape).
    - `reference`: the rows whose mean and standard deviation count, shape (m, *shape); `rows`
      themselves if `None`.

    **Returns:** the standardised rows and the `Scaling`, as `scale` does.

    **Raises:** `ValueError` if rows are not finite numbers or the shapes differ.

    ```python
    import numpy as np
    from energax import io

    train, test = np.arange(6.0).reshape(3, 2), np.ones((1, 2))
    standardised, scaling = io.standardise(train)
    scaling.apply(test)
    ```
    """
    least, greatest, array = _extent(
        rows if reference is None else reference, reference is not None
    )
    constant = greatest == least
    centre = np.where(constant, least, array.mean(axis=0, dtype=np.float64))
    deviation = array.std(axis=0, dtype=np.float64)
    scaling = Scaling(centre, np.where(constant | (deviation == 0), 1.0, deviation))
    return scaling.apply(rows), scaling


def binarise(
    rows: ArrayLike,
    *,
    threshold: float | int | None = None,
    key: Key[Array, ""] | None = None,
    low: float | int | None = None,
    high: float | int | None = None,
) -> np.ndarray:
    """Rows as zeros and ones: cut at a threshold, or drawn with the entries as probabilities.

    Entries are first scaled to [0, 1]: from `low` and `high` if given; else integers of 8 and 16
    bits from the range of their dtype (0 to 255 for uint8; signed ones count from 0 if none is
    negative), and floats must lie in [0, 1] already. Rows that hold two values already, {0, 1},
    {-1, 1} or booleans, are taken as they are, the larger as 1, unless `low` and `high` are given.

    **Arguments:**

    - `rows`: shape (n, *shape).
    - `threshold`: in (0, 1); an entry above it becomes 1. 0.5 if neither it nor a key is given.
    - `key`: draws each entry with its scaled value as the probability of a 1 instead.
    - `low`, `high`: what stands for 0 and for 1.

    **Returns:** zeros and ones as uint8, shape (n, *shape).

    **Raises:** `ValueError` if both `threshold` and `key` are given, an entry lies outside, or a
    cut without `low` and `high` makes all entries alike: the scale is then not the data's.

    ```python
    import energax as ex
    import numpy as np
    from energax import io

    pixels = np.array([[0, 100, 255]], np.uint8)
    io.binarise(pixels)  # [[0, 0, 1]]
    io.binarise(pixels, key=ex.key(0))
    ```
    """
    if threshold is not None and key is not None:
        raise ValueError("give a threshold (a fixed cut) or a key (random draws), not both")
    if (low is None) != (high is None):
        raise ValueError("give both low and high, or neither")
    if threshold is not None:
        threshold = as_number(threshold, "threshold")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold must lie between 0 and 1, got {threshold}")
    if key is not None:
        key = as_key(key)
    array = as_numbers(rows, "rows")
    if low is None and is_two_valued(array):
        return (array == 1).astype(np.uint8)
    ends = scale_of(array, low, high)
    share = _as_shares(array, *ends)
    if key is None:
        bits = (share > (0.5 if threshold is None else threshold)).astype(np.uint8)
        if low is None:
            check_not_alike(bits, array, *ends)
        return bits
    return np.asarray(jax.random.bernoulli(key, share.astype(np.float32))).astype(np.uint8)


def to_grey(rows: ArrayLike) -> np.ndarray:
    """Images in colour as images in grey: 0.299 red + 0.587 green + 0.114 blue.

    **Arguments:**

    - `rows`: shape (n, height, width, 3), or 4 with an opaque alpha channel.

    **Returns:** shape (n, height, width), the dtype as it was, integers rounded.

    **Raises:** `ValueError` for rows of another shape, and for images that are not opaque.

    **Reference:** Recommendation ITU-R BT.601, section 2.5.1.

    ```python
    import numpy as np
    from energax import io

    io.to_grey(np.full((2, 8, 8, 3), 200, np.uint8)).shape  # (2, 8, 8)
    ```
    """
    array = as_numbers(rows, "rows")
    if array.ndim != 4 or array.shape[-1] not in (3, 4):
        raise ValueError(
            f"images in colour have shape (n, height, width, 3 or 4), got {array.shape}"
        )
    if array.shape[-1] == 4:
        alpha = array[..., 3]
        opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1
        if (alpha != opaque).any():
            raise ValueError(
                "images are transparent in places: put them on a background first, as pillow's"
                " Image.alpha_composite does"
            )
    grey = np.empty(array.shape[:3], array.dtype)
    for start in range(0, len(array), 1024):  # no copy of all of them as floats
        mixed = array[start : start + 1024, ..., :3] @ _LUMA
        grey[start : start + 1024] = np.rint(mixed) if array.dtype.kind in "uib" else mixed
    return grey


def split(
    rows: ArrayLike,
    fractions: Sequence[float | int],
    *,
    key: Key[Array, ""],
    labels: ArrayLike | None = None,
) -> tuple[np.ndarray, ...] | tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Random parts of the rows that share none, of the sizes asked for.

    **Arguments:**

    - `rows`: shape (n, *shape).
    - `fractions`: each part's share of the rows, positive. If they sum to 1 every row is used.
    - `key`: decides which row goes where.
    - `labels`: shape (n,), to be divided alongside.

    **Returns:** a part for each fraction; with `labels`, a pair (rows, labels) for each. The
    part k has the rows from `round(n s_k)` to `round(n s_(k+1))` of a random order, s_k the sum of
    the fractions before it.

    **Raises:** `ValueError` if fractions sum to more than 1 or one is too small for a row.

    ```python
    import energax as ex
    import numpy as np
    from energax import io

    train, test = io.split(np.arange(10), [0.8, 0.2], key=ex.key(0))
    ```
    """
    array = np.asarray(rows)
    if array.ndim == 0 or len(array) == 0:
        raise ValueError(f"rows must have at least one row, got shape {array.shape}")
    if isinstance(fractions, str) or not isinstance(fractions, Iterable):
        raise ValueError(f"fractions must be a list such as [0.8, 0.2], got {fractions!r}")
    shares = [as_number(value, "a fraction") for value in fractions]
    total = sum(shares)
    if not shares or min(shares) <= 0 or total > 1 + _SUM_TOLERANCE:
        raise ValueError(f"fractions must be positive and sum to at most 1, got {shares}")
    n = len(array)
    edges = [0, *(round(float(n * sum(shares[: k + 1]))) for k in range(len(shares)))]
    for share, (start, stop) in zip(shares, itertools.pairwise(edges), strict=True):
        if start == stop:
            raise ValueError(f"a fraction of {share} of {n} rows leaves none: enlarge it")
    order = np.asarray(jax.random.permutation(as_key(key), n))
    chosen = [order[start:stop] for start, stop in itertools.pairwise(edges)]
    if labels is None:
        return tuple(array[index] for index in chosen)
    marks = np.asarray(labels)
    if marks.shape[:1] != (n,):
        raise ValueError(f"labels must hold one for each of the {n} rows, got shape {marks.shape}")
    return tuple((array[index], marks[index]) for index in chosen)


def _extent(rows: ArrayLike, is_reference: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The least and the greatest entry of each column, as float64, and the rows as an array."""
    array = as_numbers(rows, "reference" if is_reference else "rows")
    return array.min(axis=0).astype(np.float64), array.max(axis=0).astype(np.float64), array


def _in_blocks(
    rows: np.ndarray, function: Callable[[np.ndarray], np.ndarray], size: int = 1024
) -> np.ndarray:
    """`function` of the rows in float64, without a copy of all of them in float64 at once."""
    result = np.empty(rows.shape, _float_like(rows))
    for start in range(0, len(rows), size):
        result[start : start + size] = function(rows[start : start + size].astype(np.float64))
    return result


def _float_like(array: np.ndarray) -> np.dtype:
    """float32 where it holds every value of the array's dtype, else float64."""
    return np.result_type(array.dtype if array.dtype.kind in "buif" else np.float32, np.float32)


def is_two_valued(array: np.ndarray) -> bool:
    """Whether all entries are 0 or 1, or all -1 or 1."""
    one = array == 1
    return bool((one | (array == 0)).all() or (one | (array == -1)).all())


def check_not_alike(bits: np.ndarray, rows: np.ndarray, low: float | int, high: float | int):
    """Raise `ValueError` if all the bits that were cut from `rows` are alike."""
    if bits.min() != bits.max():
        return
    least, greatest, bit = rows.min(), rows.max(), int(bits.flat[0])
    start = low if bit == 0 and least >= low >= 0 else least
    raise ValueError(
        f"rows have entries from {least:g} to {greatest:g}, which all come out as {bit} on a scale"
        f" from {low:g} to {high:g}: say what stands for 0 and for 1, such as low={start:g} and"
        f" high={greatest:g} (--low {start:g} --high {greatest:g})"
    )


def scale_of(
    array: np.ndarray, low: float | int | None, high: float | int | None
) -> tuple[float, float]:
    """What stands for 0 and for 1."""
    if low is not None and high is not None:
        low, high = as_number(low, "low"), as_number(high, "high")
        if not low < high:
            raise ValueError(f"low must be below high, got {low} and {high}")
        return low, high
    if array.dtype.kind not in "ui":
        return 0.0, 1.0
    if array.dtype.itemsize > 2:
        raise ValueError(
            f"rows of {array.dtype}, here from {array.min()} to {array.max()}, have no range of"
            f" their own: say which entries stand for 0 and 1 by low and high (--low, --high)"
        )
    limits = np.iinfo(array.dtype)
    return float(limits.min) if array.min() < 0 else 0.0, float(limits.max)


def _as_shares(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """The entries scaled to [0, 1]."""
    values = array.astype(_float_like(array))
    outside = (values < low) | (values > high)
    if outside.any():
        row = int(np.argwhere(outside)[0][0])
        raise ValueError(
            f"rows must lie between {low:g} and {high:g}, but {int(outside.sum())} entries do not,"
            f" the first in row {row}: give low and high (--low, --high)"
        )
    return (values - low) / (high - low)
