"""Gibbs with gradients on a network of 784 binary inputs, beside ebmkit: milliseconds a step.

    python benchmarks/gibbs_with_gradients.py

The energy is an MLP, 784-256-256-1 with SiLU, of the same weights on both sides; 100 chains. A
step proposes one flip in every chain by the gradient, and is tested by Metropolis. The energies
that the chains have come to after all runs stand beside each other. Both are timed with other
numbers of chains as well.

Each program, energax too, is a process of its own (see environments.py) that waits while another
is timed; both take turns. Results: `benchmarks/results/gibbs_with_gradients.json`.
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
N_CHAINS = 100
CURVE = (10, 1000)
"""Other numbers of chains."""

WORKERS = {"energax": ("energax_bits.py", HERE), "ebmkit": ("ebmkit_bits.py", "ebmkit")}

NOTES = (
    "energax computes one gradient a step, at the proposal, and keeps that of the state; ebmkit"
    " computes both anew.",
)


def settings_for(folder: Path, n_chains: int, n_steps: int) -> dict[str, Any]:
    """What every worker is given."""
    start = folder / f"start-{n_chains}.npy"
    bits = np.random.default_rng(0).random((n_chains, 784)) < 0.5
    np.save(start, bits.astype(np.float32))
    return {"start": str(start), "steps": n_steps, "threads": THREADS}


def on_curve(
    folder: Path, workers: dict[str, tuple[str, str]], n_steps: int, rounds: int
) -> dict[int, dict[str, list[float]]]:
    """Seconds of a step of all chains, for other numbers of them."""
    found = {}
    for n_chains in CURVE:
        steps = n_steps if n_chains < N_CHAINS else max(1, n_steps // 5)
        settings = settings_for(folder, n_chains, steps)
        with contextlib.ExitStack() as stack:
            peers = {
                name: stack.enter_context(Peer(script, environment, settings))
                for name, (script, environment) in workers.items()
            }
            blocks = {name: peer.block("run", steps) for name, peer in peers.items()}
            found[n_chains] = take_turns(blocks, rounds)
    return found


def main() -> None:
    options = parser(__doc__, "gibbs_with_gradients")
    options.add_argument("--rounds", type=int, help="timed turns of each program (11; quick: 2)")
    options.add_argument("--skip-peers", action="store_true", help="energax only")
    arguments = options.parse_args()
    rounds = arguments.rounds or (2 if arguments.quick else 11)
    n_steps = 10 if arguments.quick else 200
    use_cores(THREADS)
    busy = warn_if_busy()
    workers = {"energax": WORKERS["energax"]} if arguments.skip_peers else WORKERS
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = settings_for(folder, N_CHAINS, n_steps)
        peers = {
            name: stack.enter_context(Peer(script, environment, settings))
            for name, (script, environment) in workers.items()
        }
        seconds = take_turns(
            {name: peer.block("run", n_steps) for name, peer in peers.items()}, rounds
        )
        energies = {name: peer.result("run", n_steps)["energy"] for name, peer in peers.items()}
        cold = {name: peer.cold_start for name, peer in peers.items()}
        peer_versions = {name: peer.versions for name, peer in peers.items()}
    with tempfile.TemporaryDirectory() as place:
        curve = on_curve(Path(place), workers, n_steps, min(rounds, 5))
    curve[N_CHAINS] = seconds
    side_by_side(
        f"Gibbs with gradients, network of 784 bits, {N_CHAINS} chains",
        {
            "ms a step: median (range)": {
                name: str(spread([1000 * t for t in times])) for name, times in seconds.items()
            },
            f"energy after {n_steps * (rounds + 3)} steps": {
                name: f"{e.mean():.2f} ± {e.std() / len(e) ** 0.5:.2f}"
                for name, e in energies.items()
            },
            "first run, s": {name: c["total"] for name, c in cold.items()},
        },
    )
    side_by_side(
        "ms a step of all chains: median (range)",
        {
            name: {str(n): str(spread([1000 * t for t in curve[n][name]])) for n in sorted(curve)}
            for name in seconds
        },
        first="chains",
    )
    CONSOLE.print("\n".join(NOTES), style="dim", markup=False)
    bars = []
    if "ebmkit" in seconds:
        value = ratios(seconds["ebmkit"], seconds["energax"]).median
        bars.append(Bar("ebmkit's time over energax's", value, 5.0, at_most=False))
    save(
        arguments,
        "gibbs_with_gradients",
        {
            "versions": versions("energax", "jax", "jaxlib", "numpy"),
            "peer_versions": peer_versions,
            "busy_before": busy,
            "threads": THREADS,
            "chains": N_CHAINS,
            "steps": n_steps,
            "rounds": rounds,
            "notes": NOTES,
            "seconds_per_step": seconds,
            "curve_seconds_per_step": {n: curve[n] for n in CURVE},
            "energy": {name: e.tolist() for name, e in energies.items()},
            "cold_start_seconds": cold,
            "bars": judge(bars),
        },
    )


if __name__ == "__main__":
    main()
