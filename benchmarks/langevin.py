"""Unadjusted Langevin on a double well in two dimensions: 1,024 chains, 1,000 steps, beside peers.

    python benchmarks/langevin.py
    python benchmarks/langevin.py --skip-peers

Every program takes the same steps, x - 0.01 grad E(x) + sqrt(0.02) noise on E(x) = 2 sum_i
(x_i^2 - 1)^2, from the same first states. A number is the milliseconds of a whole run, compiling
not among them. The mean of x_i^2 at the end of the runs stands beside the exact one. Other numbers
of chains are timed for the three programs on JAX.

Each program, energax too, is a process of its own (see environments.py) that waits while another
is timed; all take turns. Results: `benchmarks/results/langevin.json`.
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
STEP_SIZE = 0.01
CURVE = (32, 16384)
"""Other numbers of chains."""

WORKERS = {
    "energax": ("energax_langevin.py", HERE),
    "blackjax": ("blackjax_langevin.py", "blackjax"),
    "torchebm": ("torchebm_langevin.py", "torchebm"),
    "ebmkit": ("ebmkit_langevin.py", "ebmkit"),
}

SIDES = {
    "energax": ("energax", "run"),
    "blackjax": ("blackjax", "run"),
    "plain JAX": ("blackjax", "plain"),
    "torchebm": ("torchebm", "run"),
    "ebmkit": ("ebmkit", "run"),
}
"""Each program's worker and task."""

NOTES = (
    "energax: `run_chains`, which `sample` calls, with the fast keys of `ex.key`.",
    "blackjax: `sgld` with the whole gradient, `vmap` over chains and `scan` over steps, and JAX's"
    " usual keys, as its documentation has it. plain JAX: the same without a package, one draw of"
    " noise a step for all chains.",
    "torchebm, ebmkit: eager PyTorch, gradients by autograd, as they come.",
)


def exact_square() -> float:
    """The mean of x_i^2 under exp(-2 (x^2 - 1)^2), by the trapezium rule."""
    x = np.linspace(-4, 4, 4001)
    weight = np.exp(-2 * (x**2 - 1) ** 2)
    return float((x**2 * weight).sum() / weight.sum())


def settings_for(folder: Path, n_chains: int, n_steps: int) -> dict[str, Any]:
    """What every worker is given."""
    start = folder / f"start-{n_chains}.npy"
    states = np.random.default_rng(0).normal(size=(n_chains, 2)).astype(np.float32)
    np.save(start, states)
    return {
        "start": str(start),
        "step_size": STEP_SIZE,
        "steps": n_steps,
        "threads": THREADS,
    }


def on_curve(
    folder: Path, workers: list[str], n_steps: int, rounds: int
) -> dict[int, dict[str, list[float]]]:
    """Seconds of a run for other numbers of chains: of each number and program."""
    found = {}
    for n_chains in CURVE:
        settings = settings_for(folder, n_chains, n_steps)
        with contextlib.ExitStack() as stack:
            peers = {
                name: stack.enter_context(Peer(*WORKERS[name], settings))
                for name in ("energax", "blackjax")
                if name in workers
            }
            blocks = {
                name: peers[worker].block(task, n_steps)
                for name, (worker, task) in SIDES.items()
                if worker in peers
            }
            seconds = take_turns(blocks, rounds)
        found[n_chains] = {name: [n_steps * t for t in times] for name, times in seconds.items()}
    return found


def bars(seconds: dict[str, list[float]]) -> list[Bar]:
    """What is asked of energax."""
    limits = {"torchebm": 30.0, "blackjax": 2.0}
    return [
        Bar(
            f"{name}'s time over energax's",
            ratios(seconds[name], seconds["energax"]).median,
            limit,
            at_most=False,
        )
        for name, limit in limits.items()
        if name in seconds
    ]


def main() -> None:
    options = parser(__doc__, "langevin")
    options.add_argument("--rounds", type=int, help="timed turns of each program (15; quick: 2)")
    options.add_argument("--skip-peers", action="store_true", help="energax only")
    arguments = options.parse_args()
    rounds = arguments.rounds or (2 if arguments.quick else 15)
    n_chains, n_steps = (64, 50) if arguments.quick else (1024, 1000)
    use_cores(THREADS)
    busy = warn_if_busy()
    workers = {"energax": WORKERS["energax"]} if arguments.skip_peers else WORKERS
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = settings_for(folder, n_chains, n_steps)
        peers = {
            name: stack.enter_context(Peer(script, environment, settings))
            for name, (script, environment) in workers.items()
        }
        sides = {name: (peers[w], task) for name, (w, task) in SIDES.items() if w in peers}
        seconds = take_turns(
            {name: peer.block(task, n_steps) for name, (peer, task) in sides.items()}, rounds
        )
        seconds = {name: [n_steps * t for t in times] for name, times in seconds.items()}
        squares = {
            name: float(np.mean(peer.result(task, n_steps)["x"] ** 2))
            for name, (peer, task) in sides.items()
        }
        cold: dict[str, Any] = {name: peer.cold_start for name, peer in peers.items()}
        peer_versions = {name: peer.versions for name, peer in peers.items()}
    with tempfile.TemporaryDirectory() as place:
        curve = on_curve(Path(place), list(workers), n_steps, min(rounds, 7))
    curve[n_chains] = {name: seconds[name] for name in curve[CURVE[0]]}
    side_by_side(
        f"unadjusted Langevin, double well in 2-D, {n_chains} chains, {n_steps} steps",
        {
            "ms a run: median (range)": {
                name: str(spread([1000 * t for t in times])) for name, times in seconds.items()
            },
            "of it, energax takes": {
                name: str(ratios(seconds["energax"], times)) for name, times in seconds.items()
            },
            f"mean of x^2 (exact {exact_square():.3f})": squares,
            "first run, s": {
                name: cold[worker]["total"]
                for name, (worker, task) in SIDES.items()
                if worker in cold and task == "run" and worker != "blackjax"
            },
        },
    )
    side_by_side(
        f"ms a run of {n_steps} steps: median (range)",
        {
            name: {str(n): str(spread([1000 * t for t in curve[n][name]])) for n in sorted(curve)}
            for name in curve[n_chains]
        },
        first="chains",
    )
    CONSOLE.print("\n".join(NOTES), style="dim", markup=False)
    save(
        arguments,
        "langevin",
        {
            "versions": versions("energax", "jax", "jaxlib", "numpy"),
            "peer_versions": peer_versions,
            "busy_before": busy,
            "threads": THREADS,
            "chains": n_chains,
            "steps": n_steps,
            "step_size": STEP_SIZE,
            "rounds": rounds,
            "notes": NOTES,
            "seconds": seconds,
            "curve_seconds": curve,
            "mean_square": squares,
            "exact_mean_square": exact_square(),
            "cold_start_seconds": cold,
            "bars": judge(bars(seconds)),
        },
    )


if __name__ == "__main__":
    main()
