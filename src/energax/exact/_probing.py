"""Where a density is high: points all over its space, and searches from the best of them."""

import itertools

import numpy as np

from energax.exact._coordinates import Coordinates, LogDensity

_REACH = 12.0
"""Points lie up to sinh(12) = 80,000 from the origin or from a finite end, evenly in asinh."""
_STARTS = 32
_STEPS = 80
_FALL = 0.5
"""Nats by which log p falls over one scale; a normal density's standard deviation."""


def spread_out(n: int, dimensions: int) -> np.ndarray:
    """`n` points that fill the cube from -1 to 1 evenly, shape (n, dimensions).

    Source: M. Roberts, "The unreasonable effectiveness of quasirandom sequences" (2018).
    """
    ratio = 1.5
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (dimensions + 1))
    steps = ratio ** -np.arange(1.0, dimensions + 1)
    return 2 * ((0.5 + np.arange(1, n + 1)[:, None] * steps) % 1) - 1


def everywhere(u: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Points of a space for coordinates between -1 and 1: at all distances where it has no end."""
    x = np.empty_like(u)
    for j in range(u.shape[1]):
        below, above = np.isfinite(low[j]), np.isfinite(high[j])
        if below and above:
            x[:, j] = low[j] + (high[j] - low[j]) * (1 + u[:, j]) / 2
        elif below or above:
            away = np.sinh(_REACH * (1 + u[:, j]) / 2)
            x[:, j] = low[j] + away if below else high[j] - away
        else:
            x[:, j] = np.sinh(_REACH * u[:, j])
    return x


def climbed(log_p: LogDensity, u: np.ndarray, x: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Tops near the best of some points, shape (tops, dimensions), the highest first.

    From the best point in each of the best parts of the space, a step up along an axis is taken
    and doubled while there is one, and halved where there is none: no gradient is asked for.
    """
    part = np.zeros(len(u), int)
    for j in range(u.shape[1]):
        part = 8 * part + np.clip((4 * (u[:, j] + 1)).astype(int), 0, 7)
    order = np.argsort(-level, kind="stable")
    _, first = np.unique(part[order], return_index=True)
    best = order[np.sort(first)[:_STARTS]]
    at, top = x[best].copy(), level[best].copy()
    step = 0.1 * (1 + np.abs(at))
    dimensions = at.shape[1]
    moves = np.concatenate([np.eye(dimensions), -np.eye(dimensions)])
    rows = np.arange(len(at))
    for _ in range(_STEPS):
        tried = at[:, None] + moves * step[:, None]
        found = log_p(tried.reshape(-1, dimensions)).reshape(len(at), -1)
        chosen = np.argmax(found, 1)
        up = found[rows, chosen] > top
        axis = chosen % dimensions
        at[up], top[up] = tried[rows, chosen][up], found[rows, chosen][up]
        step[rows[up], axis[up]] *= 2
        step[~up] /= 2
    return at[np.argsort(-top, kind="stable")]


def scales(log_p: LogDensity, tops: np.ndarray) -> np.ndarray:
    """How far from each top log p has fallen by half a nat, down and up each axis.

    Shape (tops, dimensions, 2); infinite where it never does.
    """
    n, dimensions = tops.shape
    steps = 2.0 ** np.arange(-40, 21)
    found = np.empty((n, dimensions, 2))
    level = log_p(tops)
    for j, side in itertools.product(range(dimensions), (0, 1)):
        sign = 2 * side - 1
        tried = np.repeat(tops[:, None], len(steps), 1)
        reach = steps * np.maximum(np.abs(tops[:, j : j + 1]), 1e-6)
        tried[:, :, j] += sign * reach
        fallen = log_p(tried.reshape(-1, dimensions)).reshape(n, -1) < level[:, None] - _FALL
        found[:, j, side] = np.where(
            fallen.any(1), reach[np.arange(n), np.argmax(fallen, 1)], np.inf
        )
    return found


def found_mass(log_p: LogDensity, n: int) -> tuple[Coordinates, np.ndarray, np.ndarray]:
    """Coordinates that suit a density, and points, shape (points, dimensions), with their log p.

    The points are `n` that are spread over the space, and those on and around each top.
    """
    low, high = log_p.low, log_p.high
    u = spread_out(n // 2, len(low))
    x = everywhere(u, low, high)
    level = log_p(x)
    tops = climbed(log_p, u, x, level)
    width = scales(log_p, tops)
    heights = log_p(tops)
    width = np.where(np.isfinite(width), width, np.nan)
    counted = heights >= heights[0] - 20
    scale = np.ones(len(low))
    for j in range(len(low)):
        known = width[counted, j]
        known = known[np.isfinite(known)]
        if known.size:
            scale[j] = known.max()
    coordinates = Coordinates(low, high, tops[0], scale)
    around = [tops]
    for times in (1.0, 3.0):
        for sides in itertools.product((-1, 0, 1), repeat=len(low)):
            down, up = np.nan_to_num(width[:, :, 0]), np.nan_to_num(width[:, :, 1])
            away = np.where(np.array(sides) < 0, -down, np.where(np.array(sides) > 0, up, 0.0))
            around.append(tops + times * away)
    near = np.concatenate(around)
    even, _ = coordinates.points(spread_out(n - n // 2, len(low)))
    more = np.concatenate([near, even])
    return coordinates, np.concatenate([x, more]), np.concatenate([level, log_p(more)])
