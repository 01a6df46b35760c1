"""An epoch of persistent-Langevin training, beside torchebm and ebmkit.

    python benchmarks/deep_training.py
    python benchmarks/deep_training.py --skip-peers

Two energies: a network of two hidden layers in the plane, and residual convolutions over images of
28 x 28. An update takes 64 rows, walks 64 chains from a buffer of 10,000 states by 20 steps of
Langevin dynamics and descends the difference of mean energies by Adam. energax is timed as it
ships, `ex.fit` with `ex.ReplayBuffer`, all that the call does included; the convolutions stand
beside XLA's own in the same training. An epoch is 60,000 rows, 937 updates: in the plane a turn is
as long, on images it is 200 updates (of XLA's own convolutions 10), and an epoch's time is that of
an update times 937.

Each program is a process of its own (see environments.py) that waits while another is timed; all
take turns. Results: `benchmarks/results/deep_training.json`.
"""

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from environments import HERE
from measuring import (
    CONSOLE,
    Bar,
    judge,
    parser,
    ratios,
    save,
    side_by_side,
    spread,
    take_turns,
    use_cores,
    versions,
    warn_if_busy,
)
from peer import Peer

THREADS = 2
EPOCH = 60_000 // 64
"""Updates."""

WORKERS = {
    "energax": ("energax_training.py", HERE),
    "torchebm": ("torchebm_training.py", "torchebm"),
    "ebmkit": ("ebmkit_training.py", "ebmkit"),
}

CASES: dict[str, dict[str, Any]] = {
    "dense": {"network": "dense", "width": 128, "step_size": 0.01, "noise_scale": 0.1},
    "residual": {
        "network": "residual",
        "channels": (16, 32),
        "step_size": 0.01,
        "noise_scale": 0.01,
    },
}

STEPS = {"dense": EPOCH, "residual": 200}
"""Updates a turn: enough that the look `fit` takes at all rows before it starts counts little."""

BARS = {("dense", "torchebm"): 5.0, ("dense", "ebmkit"): 5.0}
"""A peer's time over energax's, at least; 1 where none stands."""

NOTES = (
    "torchebm draws chains from its buffer with the rows it came upon last overwritten first;"
    " ebmkit and energax put them back where they were. torchebm's and ebmkit's gradients are"
    " PyTorch's, eager, as they come.",
    "energax's update includes the guard and what is written in the history.",
)


def settings_for(folder: Path, case: str) -> dict[str, Any]:
    """What every worker is given."""
    shape = (6400, 2) if case == "dense" else (6400, 28, 28)
    path = folder / f"{case}.npy"
    np.save(path, np.random.default_rng(0).random(shape, np.float32))
    return {
        **CASES[case],
        "rows": str(path),
        "n_steps": 20,
        "batch_size": 64,
        "size": 10_000,
        "fresh": 0.05,
        "learning_rate": 1e-4,
        "threads": THREADS,
        "not_warmed": ["native"],  # slow, and the first round is thrown away
    }


def main() -> None:
    options = parser(__doc__, "deep_training")
    options.add_argument("--rounds", type=int, help="timed turns of each program (7; quick: 2)")
    options.add_argument("--skip-peers", action="store_true", help="energax only")
    arguments = options.parse_args()
    rounds = arguments.rounds or (2 if arguments.quick else 7)
    use_cores(THREADS)
    busy = warn_if_busy()
    workers = {"energax": WORKERS["energax"]} if arguments.skip_peers else WORKERS
    seconds: dict[str, dict[str, list[float]]] = {}
    cold: dict[str, dict[str, Any]] = {}
    peer_versions: dict[str, Any] = {}
    for case in CASES:
        n_steps = 2 if arguments.quick else STEPS[case]
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            settings = settings_for(folder, case) | {"steps": n_steps}
            peers = {
                name: stack.enter_context(Peer(script, environment, settings))
                for name, (script, environment) in workers.items()
            }
            blocks = {name: peer.block("run", n_steps) for name, peer in peers.items()}
            if "native" in peers["energax"].tasks:
                fewer = max(1, n_steps // 20)
                blocks["XLA's convolutions"] = peers["energax"].block("native", fewer)
            seconds[case] = take_turns(blocks, rounds)
            cold[case] = {name: peer.cold_start for name, peer in peers.items()}
            peer_versions |= {name: peer.versions for name, peer in peers.items()}
        side_by_side(
            f"persistent-Langevin training, {case} network, batch of 64, 20 steps",
            {
                "ms an update: median (range)": {
                    name: str(spread([1000 * t for t in times]))
                    for name, times in seconds[case].items()
                },
                "s an epoch": {
                    name: EPOCH * spread(times).median for name, times in seconds[case].items()
                },
                "over energax": {
                    name: str(ratios(times, seconds[case]["energax"]))
                    for name, times in seconds[case].items()
                },
                "first run, s": {name: c["total"] for name, c in cold[case].items()},
            },
        )
    CONSOLE.print("\n".join(NOTES), style="dim", markup=False)
    bars = [
        Bar(
            f"{name}'s epoch over energax's, {case} network",
            ratios(seconds[case][name], seconds[case]["energax"]).median,
            BARS.get((case, name), 1.0),
            at_most=False,
        )
        for case in seconds
        for name in WORKERS
        if name != "energax" and name in seconds[case]
    ]
    save(
        arguments,
        "deep_training",
        {
            "versions": versions("energax", "jax", "jaxlib", "optax", "numpy"),
            "peer_versions": peer_versions,
            "busy_before": busy,
            "threads": THREADS,
            "cases": CASES,
            "rounds": rounds,
            "notes": NOTES,
            "seconds_per_update": seconds,
            "cold_start_seconds": cold,
            "bars": judge(bars),
        },
    )


if __name__ == "__main__":
    main()
