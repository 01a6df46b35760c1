"""A peer: a worker process in an environment of its own, timed on request.

energax runs as such a worker too where a script says so, in the environment "energax", which is
this Python's own.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from environments import HERE, python_of

_SCRIPTS = Path(__file__).parent / "peers"

_KEPT_FROM_PEERS = ("PYTHONPATH", "VIRTUAL_ENV", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""Variables a peer must not inherit: another Python's paths, and orders to OpenBLAS to use an older
processor's kernels than this one's."""


class Peer:
    """A running worker. To be used in a `with` statement, which ends it.

    **Arguments:**

    - `script`: its file in `benchmarks/peers`.
    - `environment`: a name in `environments.REQUIREMENTS`, or `environments.HERE`.
    - `settings`: what its tasks are made from; warmed up when this returns.
    """

    def __init__(self, script: str, environment: str, settings: dict[str, Any]):
        self._name = script
        kept = () if environment == HERE else _KEPT_FROM_PEERS
        variables = {k: v for k, v in os.environ.items() if k not in kept}
        python = str(python_of(environment))
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [python, str(_SCRIPTS / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=variables,
        )
        hello = self._ask(settings)
        self.tasks: list[str] = hello["tasks"]
        self.versions: dict[str, str] = hello["versions"]
        self.cold_start = {
            "total": time.perf_counter() - start,
            "build": hello["made"],
            "first run": sum(hello["first"].values()),
        }
        """Seconds from starting Python to the end of the first run of every task, those that the
        model and sampler took to build, and those of the first runs, which compile."""

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def block(self, task: str, n_steps: int) -> Callable[[], float]:
        """A block for `take_turns`: the seconds one of `n_steps` steps of `task` takes."""
        return lambda: self._ask({"task": task, "steps": n_steps})["seconds"] / n_steps

    def result(self, task: str, n_steps: int) -> dict[str, Any]:
        """What `n_steps` steps of `task` return, arrays included, with its "seconds"."""
        answer = self._ask({"task": task, "steps": n_steps})
        found = {
            name: np.load(value) if isinstance(value, str) and value.endswith(".npy") else value
            for name, value in answer["result"].items()
        }
        return {"seconds": answer["seconds"], **found}

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer {self._name} ended; what it said stands above")
        return json.loads(line)
