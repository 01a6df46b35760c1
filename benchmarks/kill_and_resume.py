"""Training killed again and again, against the same training left alone.

    python benchmarks/kill_and_resume.py

A process trains an RBM with a checkpoint after every chunk of steps, so that many kills fall into
the middle of writing one. It is killed with SIGKILL at a random moment after it has written its
first checkpoint, started again, and so on; the last one is left to finish. Then every array that
training carries (parameters, optimiser, chains, running means, key) is compared, bit by bit, with
that of an undisturbed run. What was found, kill by kill, is written to
`benchmarks/results/kill_and_resume.json`. The exit status is 1 if anything differs.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from measuring import Bar, judge, parser, save, use_cores, versions

import energax as ex
from energax.io import read_metadata

THREADS = 2


def train(checkpoint: Path | None, steps: int) -> ex.Fitted:
    """PCD on random rows, with momentum, centring and persistent chains."""
    rows = np.random.default_rng(0).random((1000, 64)) < 0.4
    return ex.fit(
        ex.RBM.init(ex.key(0), n_visible=64, n_hidden=32),
        rows,
        ex.PersistentContrastiveDivergence(n_steps=2, n_chains=50, centred=True),
        key=ex.key(1),
        learning_rate=0.02,
        momentum=0.5,
        steps=steps,
        batch_size=20,
        log_every=10,
        checkpoint=checkpoint,
        checkpoint_seconds=0.0,
    )


def start(checkpoint: Path, steps: int) -> subprocess.Popen[bytes]:
    """This script again, as the process that trains."""
    command = [sys.executable, __file__, "--train", str(checkpoint), "--steps", str(steps)]
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(checkpoint.parent.parent / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(command, env={**os.environ, **cache})


def kill_once(checkpoint: Path, steps: int, delay: float) -> dict[str, Any] | None:
    """Train until a checkpoint was written and `delay` seconds more, then kill.

    What the kill left, or `None` if the run had finished before it.
    """
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    others = set(checkpoint.parent.iterdir())
    process = start(checkpoint, steps)
    while process.poll() is None:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
            break
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    status = process.wait()
    if status == 0:
        return None
    if status != -signal.SIGKILL:
        raise RuntimeError(f"training ended with status {status}; what it said stands above")
    left = set(checkpoint.parent.iterdir()) - others - {checkpoint}
    return {
        "seconds_after_first_checkpoint": delay,
        "checkpoint_at_step": read_metadata(checkpoint)["history"][-1]["step"],
        "fell": "while writing a checkpoint" if left else "between two checkpoints",
        "left_half_written": sorted(path.name for path in left),
    }


def arrays(run: ex.Fitted) -> dict[str, np.ndarray]:
    """Every array that training carries, by name, keys as their data."""
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(run.state)[0]:
        if eqx.is_array(leaf):
            typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            data = jax.random.key_data(leaf) if typed else leaf
            found[jax.tree_util.keystr(path)] = np.asarray(data)
    return found


def equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Whether two arrays are the same in every bit, NaNs and zeros' signs included."""
    if one is None or other is None or one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.tobytes() == other.tobytes()


def without_seconds(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of a history without the one entry that no two runs share."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def disturbed(options: argparse.Namespace) -> tuple[ex.Fitted, list[dict[str, Any]], int]:
    """The run that is killed, its kills, and how many files they left beside the checkpoint."""
    moments = random.Random(options.seed)
    kills = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "run" / "state.ckpt"
        checkpoint.parent.mkdir()
        for _ in range(options.kills):
            kill = kill_once(checkpoint, options.steps, moments.uniform(0, options.longest))
            if kill is None:
                print("the run finished before all kills: give it more --steps")
                break
            kills.append(kill)
            print(
                f"killed {kill['seconds_after_first_checkpoint']:.3f} s after its first checkpoint,"
                f" at step {kill['checkpoint_at_step']}, {kill['fell']}",
                flush=True,
            )
        if start(checkpoint, options.steps).wait():
            raise RuntimeError("the last process failed; what it said stands above")
        leftovers = len(set(checkpoint.parent.iterdir()) - {checkpoint})
        # Reads the checkpoint; no step is left.
        return train(checkpoint, options.steps), kills, leftovers


def main() -> int:
    options = parser(__doc__, "kill_and_resume")
    options.add_argument("--kills", type=int, help="how often (20; quick: 3)")
    options.add_argument("--steps", type=int, help="of training (20,000; quick: 3,000)")
    options.add_argument("--longest", type=float, help="seconds to a kill, at most (0.5; 0.1)")
    options.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    options.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = options.parse_args()
    arguments.kills = arguments.kills or (3 if arguments.quick else 20)
    arguments.steps = arguments.steps or (3_000 if arguments.quick else 20_000)
    arguments.longest = arguments.longest or (0.1 if arguments.quick else 0.5)
    use_cores(THREADS)
    if arguments.train is not None:
        train(arguments.train, arguments.steps)
        return 0

    ended, kills, leftovers = disturbed(arguments)
    undisturbed = train(None, arguments.steps)
    mine, theirs = arrays(ended), arrays(undisturbed)
    same = {name: equal(mine.get(name), theirs.get(name)) for name in theirs | mine}
    same["history"] = without_seconds(ended.history) == without_seconds(undisturbed.history)
    same["step"] = ended.step == undisturbed.step
    while_writing = sum(bool(kill["left_half_written"]) for kill in kills)
    print(f"{len(kills)} kills over {ended.step} steps, {while_writing} of them while writing;")
    print(f"{leftovers} half-written files are still there at the end")
    for name, identical in same.items():
        about = f"{theirs[name].dtype} {theirs[name].shape}" if name in theirs else ""
        print(f"  {'identical' if identical else 'DIFFERS'}  {name}  {about}")
    differ = list(same.values()).count(False)
    bars = [
        Bar("things that differ from the undisturbed run", differ, 0),
        Bar("half-written files at the end", leftovers, 0),
        Bar("kills before the run finished", len(kills), arguments.kills, at_most=False),
    ]
    save(
        arguments,
        "kill_and_resume",
        {
            "versions": versions("energax", "jax", "jaxlib"),
            "threads": THREADS,
            "steps": ended.step,
            "seed": arguments.seed,
            "kills": kills,
            "kills_while_writing": while_writing,
            "leftovers": leftovers,
            "identical": same,
            "bits_equal": differ == 0,
            "bars": judge(bars),
        },
    )
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
