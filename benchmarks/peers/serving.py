"""The worker's side of a peer: it is told what to run and replies with seconds.

The first line read from standard input holds the settings; every further one asks for a task and
a number of steps. Requests and replies are JSON, one a line. What a task returns is told with its
seconds; arrays go through files. What a peer prints goes to standard error. `benchmarks/peer.py`
is the other side.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

WARM_UP_STEPS = 10

Tasks = dict[str, Callable[[int], Any]]


def serve(make_tasks: Callable[[dict], Tasks], *packages: str) -> None:
    """Answer requests until standard input ends.

    `make_tasks` is given the settings and returns functions of a number of steps, which may
    return a dictionary of numbers and arrays; `packages` are those whose versions are told, with
    the one that the settings may name as their "package". Each task is run once first, but for
    those that `settings["not_warmed"]` names; or those alone that `settings["warm_up"]` names.
    They are run for `settings["steps"]` steps if that is given: what is compiled for one number of
    steps is then compiled.
    """
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def reply(**content) -> None:
        replies.write(json.dumps(content) + "\n")

    settings = json.loads(sys.stdin.readline())
    start = time.perf_counter()
    tasks = make_tasks(settings)
    made, first = time.perf_counter() - start, {}
    cold = settings.get("not_warmed", ())
    for name in settings.get("warm_up", [name for name in tasks if name not in cold]):
        start = time.perf_counter()
        tasks[name](settings.get("steps", WARM_UP_STEPS))
        first[name] = time.perf_counter() - start
    told = (*packages, settings["package"]) if "package" in settings else packages
    versions = {name: version(name) for name in told}
    reply(tasks=sorted(tasks), versions=versions | blas_kernels(), made=made, first=first)
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            request = json.loads(line)
            task = tasks[request["task"]]
            start = time.perf_counter()
            result = task(request["steps"])
            seconds = time.perf_counter() - start
            reply(seconds=seconds, result=_told(result or {}, folder))


def _told(result: dict[str, Any], folder: str) -> dict[str, Any]:
    """Numbers as they are; of each array the file it is written to, over the one before."""
    told = {}
    for name, value in result.items():
        if isinstance(value, (int, float, str)):
            told[name] = value
        else:
            told[name] = os.path.join(folder, f"{name}.npy")
            np.save(told[name], np.asarray(value))
    return told


def draw_for(milliseconds: int, draw: Callable[[], Any]) -> dict[str, Any]:
    """Call `draw` until the time is over: what it gave, joined along axis 1, and seconds taken."""
    seen, start = [], time.perf_counter()
    while (taken := time.perf_counter() - start) < milliseconds / 1000:
        seen.append(np.asarray(draw()))
    return {"v": np.concatenate(seen, 1), "taken": taken}


def load_rows(settings: dict) -> np.ndarray:
    """The rows of 0 and 1 (uint8) that the settings name."""
    return np.load(settings["rows"])


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
    order = np.random.default_rng(settings.get("seed", 0)).permutation(n)
    while True:
        for start in range(0, n - size + 1, size):
            yield rows[order[start : start + size]]
