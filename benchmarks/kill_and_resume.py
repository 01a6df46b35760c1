"""Training killed again and again, against the same training left alone.

    python benchmarks/kill_and_resume.py --kills 20

A process trains an RBM with a checkpoint after every chunk of steps, so that many kills fall into
the middle of writing one. It is killed with SIGKILL at a random moment after it has written its
first checkpoint, started again, and so on; the last one is left to finish. Then every array that
training carries (parameters, optimiser, chains, running means, key) is compared, bit by bit, with
that of an undisturbed run. The exit status is 0 if nothing differs.
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

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import energax as ex


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
        "JAX_COMPILATION_CACHE_DIR": str(checkpoint.parent / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(command, env={**os.environ, **cache})


def kill_once(checkpoint: Path, steps: int, delay: float) -> bool:
    """Train until a checkpoint was written and `delay` seconds more. False if it had finished."""
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    process = start(checkpoint, steps)
    while process.poll() is None:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
            break
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    return process.wait() == -signal.SIGKILL


def arrays(run: ex.Fitted) -> dict[str, np.ndarray]:
    """Every array that training carries, by name, keys as their data."""
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(run.state)[0]:
        if eqx.is_array(leaf):
            typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            data = jax.random.key_data(leaf) if typed else leaf
            found[jax.tree_util.keystr(path)] = np.asarray(data)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--longest", type=float, default=0.5, help="seconds to a kill, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train is not None:
        train(options.train, options.steps)
        return 0

    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "run" / "state.ckpt"
        checkpoint.parent.mkdir()
        kills = half_written = 0
        for _ in range(options.kills):
            files = set(checkpoint.parent.iterdir())
            if not kill_once(checkpoint, options.steps, moments.uniform(0, options.longest)):
                print("the run finished before all kills: give it more --steps")
                break
            kills += 1
            left = set(checkpoint.parent.iterdir()) - files - {checkpoint}
            half_written += any(path.is_file() for path in left)
        if start(checkpoint, options.steps).wait():
            print("the last process failed")
            return 1
        ended = train(checkpoint, options.steps)  # reads the checkpoint; no step is left
    undisturbed = train(None, options.steps)
    mine, theirs = arrays(ended), arrays(undisturbed)
    differ = [name for name in theirs if mine[name].tobytes() != theirs[name].tobytes()]
    rows = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in run.history]
        for run in (ended, undisturbed)
    ]
    print(f"{kills} kills over {ended.step} steps, {half_written} of them while writing")
    for name, array in theirs.items():
        said = "DIFFERS" if name in differ else "identical"
        print(f"  {said}  {name}  {array.dtype} {array.shape}")
    print(f"  {'identical' if rows[0] == rows[1] else 'DIFFERS'}  history, {len(rows[1])} rows")
    good = not differ and rows[0] == rows[1] and ended.step == undisturbed.step
    print("bit-identical to the undisturbed run" if good else "NOT the undisturbed run")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
