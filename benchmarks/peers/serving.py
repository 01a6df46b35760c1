"""The worker's side of a peer: it is told what to run and replies with seconds.

The first line read from standard input holds the settings; every further one asks for a task and
a number of steps. Requests and replies are JSON, one a line. What a peer prints goes to standard
error. `benchmarks/peer.py` is the other side.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np

WARM_UP_STEPS = 10

Tasks = dict[str, Callable[[int], None]]


def serve(make_tasks: Callable[[dict, np.ndarray], Tasks], *packages: str) -> None:
    """Answer requests until standard input ends.

    `make_tasks` is given the settings and the rows of 0 and 1 (uint8), and returns functions of
    a number of steps; `packages` are those whose versions are told.
    """
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def reply(**content) -> None:
        replies.write(json.dumps(content) + "\n")

    settings = json.loads(sys.stdin.readline())
    tasks = make_tasks(settings, np.load(settings["rows"]))
    for task in tasks.values():
        task(WARM_UP_STEPS)
    versions = {name: version(name) for name in packages}
    reply(tasks=sorted(tasks), versions=versions | blas_kernels())
    for line in sys.stdin:
        request = json.loads(line)
        task = tasks[request["task"]]
        start = time.perf_counter()
        task(request["steps"])
        reply(seconds=time.perf_counter() - start)


def blas_kernels() -> dict[str, str]:
    """The processor that each loaded linear-algebra library takes this one for."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return {}
    found = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return {library["internal_api"]: library.get("architecture", "unknown") for library in found}


def batches(rows, settings: dict):
    """Batches without end, each the rows at the next stretch of one random order."""
    n, size = len(rows), settings["batch_size"]
    order = np.random.default_rng(0).permutation(n)
    while True:
        for start in range(0, n - size + 1, size):
            yield rows[order[start : start + size]]
