"""In which order variables are eliminated, and what that costs."""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import reverse_cuthill_mckee

_MOST_FILLED = 50_000
"""Variables up to which the fill is looked at, which takes a few seconds then."""


@dataclass(frozen=True)
class Plan:
    """An order of elimination, and what it costs; made before anything is computed.

    **Fields:**

    - `order`: variables, flat, in the order in which they are eliminated; observed ones and those
      of one state are not in it.
    - `width`: how many other variables the largest table has beside the one that is eliminated:
      1 for a tree, about `n` for an open `n` x `m` lattice, `2 n` if it is a torus.
    - `n_operations`: entries of all tables together, which is about what log Z costs in additions.
    - `bytes`: the largest tables that are held at one time, in double precision.
    - `bytes_kept`: all messages together, which marginals, draws and modes go back over.
    """

    order: tuple[int, ...]
    width: int
    n_operations: int
    bytes: int
    bytes_kept: int

    @property
    def summary(self) -> str:
        """One line of words."""
        return (
            f"{len(self.order)} variables, width {self.width}, {self.n_operations:.3g} operations,"
            f" {in_bytes(self.bytes)} for log Z, {in_bytes(self.bytes_kept)} more for marginals"
        )


def in_bytes(n: int) -> str:
    """A number of bytes for people."""
    units = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = min(max(n.bit_length() - 1, 0) // 10, len(units) - 1)
    return f"{n} bytes" if power == 0 else f"{n / 1024**power:.5g} {units[power]}"


def made_plan(
    sizes: np.ndarray,
    scopes: Sequence[np.ndarray],
    shape: tuple[int, ...],
    most_operations: float = math.inf,
) -> Plan | None:
    """The cheapest of a few orders; `None` if all take more than `most_operations`.

    **Arguments:**

    - `sizes`: how many states each variable has; those of 1 are left out.
    - `scopes`: variables of groups of tables, each of shape (tables, arity).
    - `shape`: that of the variables, which are numbered in C order.

    Candidates are min-fill (of the variables whose neighbours need fewest edges to be all joined,
    the next), and site by site along each axis of a lattice, the longest first. Min-fill stands
    here by hand because the paths of contraction libraries are made for fewer, larger tensors: on
    random graphs opt_einsum's lead to larger tables and take longer to find
    (benchmarks/elimination.py).

    Source: R. Dechter, "Bucket elimination: a unifying framework for reasoning" (1999).
    """
    free = np.flatnonzero(sizes > 1)
    pairs = _pairs(scopes, sizes > 1)
    if _is_surely_wider(pairs, math.log2(most_operations)):
        return None
    best, limit = None, most_operations
    for order in _candidates(sizes, pairs, free, shape, limit):
        plan = None if order is None else _cost(order, sizes, pairs, limit)
        if plan is not None and (best is None or _is_better(plan, best)):
            best, limit = plan, min(most_operations, 2.0 * plan.n_operations)
    return best


def _is_better(a: Plan, b: Plan) -> bool:
    """Whether it takes fewer operations; not many more will do if its tables are smaller."""
    if a.width == b.width:
        return a.n_operations < b.n_operations
    narrow, wide = (a, b) if a.width < b.width else (b, a)
    return (narrow is a) == (narrow.n_operations <= 2 * wide.n_operations)


def _is_surely_wider(pairs: np.ndarray, most: float) -> bool:
    """Whether some table has more than `most` variables, whatever the order.

    Where all variables of a part of the graph have `most` neighbours there, the first of them to be
    eliminated has as many.
    """
    while len(pairs) and most < math.inf:
        poor = np.bincount(pairs.reshape(-1)) < most
        kept = ~poor[pairs].any(1)
        if kept.all():
            return True
        pairs = pairs[kept]
    return False


def _pairs(scopes: Sequence[np.ndarray], free: np.ndarray) -> np.ndarray:
    """Pairs of free variables that stand in one table, each once, shape (pairs, 2)."""
    found = [
        scope[:, [a, b]]
        for scope in scopes
        for a in range(scope.shape[1])
        for b in range(a + 1, scope.shape[1])
    ]
    if not found:
        return np.zeros((0, 2), np.int64)
    pairs = np.sort(np.concatenate(found).astype(np.int64), axis=1)
    pairs = pairs[free[pairs].all(1)]
    code = np.unique(pairs[:, 0] * len(free) + pairs[:, 1])
    return np.stack(np.divmod(code, len(free)), 1)


def _candidates(
    sizes: np.ndarray, pairs: np.ndarray, free: np.ndarray, shape: tuple[int, ...], limit: float
) -> Iterator[list[int] | None]:
    if len(free) <= _MOST_FILLED:
        yield _min_fill(sizes, pairs, free, limit)
    else:
        graph = coo_array((np.ones(len(pairs), bool), pairs.T), (len(sizes),) * 2).tocsr()
        order = reverse_cuthill_mckee((graph + graph.T).tocsr(), symmetric_mode=True)
        yield order[sizes[order] > 1].tolist()
    if len(shape) > 1 or len(free) > _MOST_FILLED:
        sites = np.arange(len(sizes)).reshape(shape)
        for axis in np.argsort(shape)[::-1]:
            order = np.moveaxis(sites, axis, 0).reshape(-1)
            yield order[sizes[order] > 1].tolist()


def _min_fill(
    sizes: np.ndarray, pairs: np.ndarray, free: np.ndarray, limit: float
) -> list[int] | None:
    log_sizes = np.log2(sizes).tolist()
    joined: list[set[int]] = [set() for _ in log_sizes]
    for a, b in pairs.tolist():
        joined[a].add(b)
        joined[b].add(a)
    # Twice the number of pairs of neighbours that are joined, and that are not.
    there = [sum([len(joined[u] & around) for u in around]) for around in joined]
    score = {v: len(joined[v]) * (len(joined[v]) - 1) - there[v] for v in free.tolist()}
    queue = [(fill, len(joined[v]), v) for v, fill in score.items()]
    heapq.heapify(queue)
    order, spent, widest = [], 0.0, 0
    while len(score) > widest + 1:  # whatever is left is no larger than what has been
        fill, degree, v = heapq.heappop(queue)
        if score.get(v) != fill or len(joined[v]) != degree:
            continue
        del score[v]
        order.append(v)
        around = joined[v]
        widest = max(widest, degree)
        spent += 2.0 ** (log_sizes[v] + sum([log_sizes[u] for u in around]))
        if spent > limit:
            return None
        for u in around:
            there[u] -= 2 * (len(joined[u] & around) if fill else degree - 1)
            joined[u].discard(v)
        changed = set(around)
        if fill:
            waiting = list(around)
            for a in waiting:
                for b in around - joined[a]:
                    if a < b:
                        both = joined[a] & joined[b]
                        for u in both:
                            there[u] += 2
                        there[a] += 2 * len(both)
                        there[b] += 2 * len(both)
                        joined[a].add(b)
                        joined[b].add(a)
                        changed |= both
        for u in changed:
            degree = len(joined[u])
            score[u] = new = degree * (degree - 1) - there[u]
            heapq.heappush(queue, (new, degree, u))
    return order + sorted(score)


def _cost(order: list[int], sizes: np.ndarray, pairs: np.ndarray, limit: float) -> Plan | None:
    """What an order costs; `None` if more than `limit` operations."""
    place = np.full(len(sizes), -1)
    place[np.array(order, int)] = np.arange(len(order))
    ends = np.sort(place[pairs], axis=1)
    ends = ends[np.argsort(ends[:, 0], kind="stable")]
    start = np.searchsorted(ends[:, 0], np.arange(len(order) + 1)).tolist()
    joined = ends[:, 1].tolist()
    states = sizes[np.array(order, int)].tolist()
    alike = states[0] if len(set(states)) == 1 else 0
    width = operations = held = most = kept = 0
    waiting: dict[int, set[int]] = {}
    message = [0] * len(order)
    """Entries of the messages that wait for a variable."""
    for p in range(len(order)):
        around = waiting.pop(p, None) or set()
        around.update(joined[start[p] : start[p + 1]])
        width = max(width, len(around))
        entries = alike ** len(around) if alike else math.prod([states[q] for q in around])
        operations += entries * states[p]
        if operations > limit:
            return None
        # The table and the message, and one of its layers while they are added up.
        most = max(most, held + entries * (states[p] + 1))
        held += entries - message[p]
        kept += entries
        if around:
            after = min(around)
            message[after] += entries
            around.discard(after)
            if after in waiting:
                waiting[after] |= around
            else:
                waiting[after] = around
        else:
            held -= entries
    return Plan(tuple(order), width, operations, 8 * most, 8 * kept)
