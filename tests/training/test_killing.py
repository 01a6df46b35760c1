"""A process that trains may be killed at any moment: another goes on where it was."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import training_process
from training_setups import bits, without_seconds

STEPS = 20_000
PATIENCE = 300  # seconds until a process that wrote no checkpoint is given up


def start(checkpoint: Path, *rows: str) -> subprocess.Popen:
    script = str(Path(training_process.__file__))
    return subprocess.Popen(
        [sys.executable, script, str(checkpoint), str(STEPS), *rows],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Each compiles for itself: JAX's cache of programs, where a process was killed beside it,
        # has made the next one wait for ever.
        env={k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"},
    )


def stop(checkpoint: Path, signal_number: int, delay: float, *rows: str) -> tuple[int, str, str]:
    """Train until a new checkpoint is there and `delay` seconds more, then send a signal."""
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    process = start(checkpoint, *rows)
    give_up = time.monotonic() + PATIENCE
    try:
        while not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before:
            if process.poll() is not None or time.monotonic() > give_up:
                break
            time.sleep(0.002)
        time.sleep(delay)
        process.send_signal(signal_number)
        out, errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, out, errors


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [False, True], ids=["memory", "file"])
def test_a_run_killed_three_times_and_stopped_once_ends_in_the_same_bits(streamed, tmp_path):
    checkpoint, rows = tmp_path / "state.ckpt", []
    if streamed:
        np.save(tmp_path / "rows.npy", training_process.ROWS)
        rows = [str(tmp_path / "rows.npy")]
    moments = random.Random(0)
    for signal_number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL, signal.SIGKILL):
        code, out, errors = stop(checkpoint, signal_number, moments.uniform(0, 0.1), *rows)
        if signal_number == signal.SIGINT:
            assert code == 0, errors
            status, step = out.split()
            assert status == "interrupted"
            assert 0 < int(step) < STEPS
        else:
            assert code == -signal.SIGKILL, out + errors  # it had not finished by itself
    finished = start(checkpoint, *rows)
    out, errors = finished.communicate(timeout=PATIENCE)
    assert out == f"finished {STEPS}\n", errors
    ended = training_process.run(str(checkpoint), STEPS, *rows)  # reads it: no step is left to take
    undisturbed = training_process.run(None, STEPS)
    assert bits(ended.state) == bits(undisturbed.state)
    assert without_seconds(ended.history) == without_seconds(undisturbed.history)
