"""MALA, HMC and NUTS beside peers: seconds per effective sample, and the funnel at equal time.

    python benchmarks/hmc.py
    python benchmarks/hmc.py --skip-peers

The Gaussian has 100 dimensions, condition number 100, and axes in line with no coordinate; 16
chains start at exact draws of it. `MALA`, `HMC`, `NUTS`: the same step size, unit mass and number
of leapfrog steps in all packages, no warm-up: how fast the same algorithm is run. `tuned`: each
package's own warm-up as it comes, its time included, from states twice too wide.

Effective samples are counted by energax's estimator on every package's draws: of each coordinate
and its square (rank-normalised bulk ESS), and over these 200 the harmonic mean, which is the mean
of their autocorrelation times; the least stands beside it.

On Neal's funnel in ten dimensions each package's NUTS, after its own warm-up, draws for the same
number of seconds; the error is the Wasserstein distance of all draws of v from N(0, 3^2).

Each program, energax too, is a process of its own (see environments.py) that waits while another
is timed; all take turns. Compiling is not in the numbers. Results: `benchmarks/results/hmc.json`.
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
from peers.targets import precision
from scipy.stats import norm

from energax.diagnostics import convergence

THREADS = 2
DIMENSION, CONDITION, N_CHAINS = 100, 100.0, 16
STEP_SIZE, MALA_STEP_SIZE, N_LEAPFROG = 0.09, 0.003, 16
"""Acceptance is about 0.8 in HMC and 0.85 in MALA."""

WORKERS = {
    "energax": ("energax_hmc.py", HERE, 1.0),
    "blackjax": ("blackjax_hmc.py", "blackjax", 1.0),
    "numpyro": ("numpyro_hmc.py", "numpyro", 1.0),
    "torchebm": ("torchebm_hmc.py", "torchebm", 0.1),
    "ebmkit": ("ebmkit_hmc.py", "ebmkit", 0.05),
}
"""Each package's worker, its environment, and the share of the draws that it is timed on."""

TASKS = ("MALA", "HMC", "NUTS", "tuned MALA", "tuned HMC", "tuned NUTS")

NOTES = (
    "energax runs blackjax's moves on its energies, with the fast keys of `ex.key`; blackjax and"
    " numpyro use JAX's usual keys. energax's HMC without jitter of the step size, as the others'.",
    "tuned: energax pools its chains in warm-up; blackjax (`window_adaptation`) and numpyro adapt"
    " each chain for itself; ebmkit's NUTS tunes the step size, its AdaptiveMALA the mass as well.",
    "torchebm has HMC only and nothing that tunes it; on the funnel its HMC has the Gaussian's"
    " step size. blackjax has no warm-up for MALA, numpyro no MALA.",
    "torchebm and ebmkit draw fewer (eager PyTorch is slow); what they take is divided by what they"
    " drew.",
)


def effective(x: np.ndarray) -> dict[str, float]:
    """Effective samples a draw of x, axes (chain, draw, coordinate): harmonic mean and least."""
    x = x.astype(np.float64)
    found = np.concatenate([convergence(x).ess_bulk, convergence(x**2).ess_bulk])
    share = found / (x.shape[0] * x.shape[1])
    return {"mean": float(1 / np.mean(1 / share)), "least": float(share.min())}


def distance(v: np.ndarray) -> float:
    """The Wasserstein distance of draws from N(0, 3^2)."""
    drawn = np.sort(v.ravel().astype(np.float64))
    exact = norm.ppf((np.arange(drawn.size) + 0.5) / drawn.size, scale=3)
    return float(np.mean(np.abs(drawn - exact)))


def settings_for(folder: Path, quick: bool) -> dict[str, Any]:
    """What every worker is given."""
    generator = np.random.default_rng(1)
    inverse = precision(DIMENSION, CONDITION)
    white = generator.normal(size=(DIMENSION, N_CHAINS))
    arrays = {
        "inverse": inverse,
        "start": np.linalg.solve(np.linalg.cholesky(inverse).T, white).T,
        "wide_start": generator.normal(size=(N_CHAINS, 10)),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array.astype(np.float32))
    return {
        **{name: str(folder / f"{name}.npy") for name in arrays},
        "step_size": STEP_SIZE,
        "mala_step_size": MALA_STEP_SIZE,
        "n_leapfrog": N_LEAPFROG,
        "warmup": 20 if quick else 500,
        "funnel_draws": 20 if quick else 100,
        "not_warmed": ["funnel"],
        "threads": THREADS,
    }


def on_gaussian(
    peers: dict[str, Peer], draws: dict[str, int], rounds: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each task and package: seconds a draw of one chain, turn by turn, and effective shares."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for task in TASKS:
        able = {name: peer for name, peer in peers.items() if task in peer.tasks}
        # What eager PyTorch takes for minutes is timed once, while counting effective samples.
        slow = {n for n in able if n == "ebmkit" and ("tuned" in task or "NUTS" in task)}
        seconds = take_turns(
            {n: peer.block(task, draws[n]) for n, peer in able.items() if n not in slow},
            2 if "tuned" in task and rounds > 2 else rounds,
        )
        found[task] = {}
        for name, peer in able.items():
            result = peer.result(task, draws[name])
            times = seconds.get(name, [result["seconds"] / draws[name]])
            found[task][name] = {
                "seconds_per_draw": [t / N_CHAINS for t in times],
                "effective": effective(result["x"]),
            }
    return found


def on_funnel(peers: dict[str, Peer], budget: float, rounds: int) -> dict[str, list[float]]:
    """Each package's errors, round by round, after `budget` seconds of drawing."""
    errors: dict[str, list[float]] = {}
    for name, peer in peers.items():
        peer.result("funnel", 1)  # warms up first, and compiles
        seconds = peer.result("funnel", 2)["seconds"] / 2
        count = max(1, round(budget / seconds))
        errors[name] = [distance(peer.result("funnel", count)["v"]) for _ in range(rounds)]
    return errors


def cost(found: dict[str, Any], name: str) -> float:
    """Seconds per effective sample."""
    return spread(found[name]["seconds_per_draw"]).median / found[name]["effective"]["mean"]


def bars(gaussian: dict[str, Any], funnel: dict[str, list[float]]) -> list[Bar]:
    """What is asked of energax."""
    limits = {"blackjax": 1.05, "numpyro": 1.05, "ebmkit": 0.1, "torchebm": 0.1}
    found = []
    for task in ("MALA", "HMC", "NUTS"):
        ours = gaussian[task]["energax"]["seconds_per_draw"]
        for name, limit in limits.items():
            if name not in gaussian[task]:
                continue
            theirs = gaussian[task][name]["seconds_per_draw"]
            same = len(ours) == len(theirs)
            value = ratios(ours, theirs).median if same else spread(ours).median / theirs[0]
            found.append(Bar(f"{task}, time of the same draws over {name}'s", value, limit))
            value = cost(gaussian[task], "energax") / cost(gaussian[task], name)
            found.append(Bar(f"{task}, time per effective sample over {name}'s", value, limit))
    for name in ("blackjax", "numpyro", "ebmkit"):
        if name in funnel:
            value = spread(funnel["energax"]).median / spread(funnel[name]).median
            found.append(Bar(f"funnel, error at equal time over {name}'s", value, 1.05))
    return found


def main() -> None:
    options = parser(__doc__, "hmc")
    options.add_argument("--rounds", type=int, help="timed turns of each program (7; quick: 2)")
    options.add_argument("--draws", type=int, help="draws of each chain (1000; quick: 40)")
    options.add_argument("--only", nargs="+", choices=sorted(WORKERS), help="these packages only")
    options.add_argument("--skip-peers", action="store_true", help="energax only")
    arguments = options.parse_args()
    rounds = arguments.rounds or (2 if arguments.quick else 7)
    n_draws = arguments.draws or (40 if arguments.quick else 1000)
    use_cores(THREADS)
    busy = warn_if_busy()
    names = ["energax"] if arguments.skip_peers else arguments.only or list(WORKERS)
    draws = {name: max(8, round(WORKERS[name][2] * n_draws)) for name in names}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = settings_for(folder, arguments.quick)
        peers = {}
        for name in names:
            script, environment, _ = WORKERS[name]
            # Eager PyTorch has nothing to compile.
            warm_up = {"warm_up": ["HMC"]} if name in ("ebmkit", "torchebm") else {}
            given = {**settings, "steps": draws[name], **warm_up}
            peers[name] = stack.enter_context(Peer(script, environment, given))
        gaussian = on_gaussian(peers, draws, rounds)
        funnel = on_funnel(peers, 0.1 if arguments.quick else 1.0, rounds)
        cold = {name: peer.cold_start for name, peer in peers.items()}
        peer_versions = {name: peer.versions for name, peer in peers.items()}
    for task, found in gaussian.items():
        side_by_side(
            f"{task}: Gaussian in {DIMENSION} dimensions, {N_CHAINS} chains",
            {
                "us a draw: median (range)": {
                    n: str(spread([1e6 * t for t in f["seconds_per_draw"]]))
                    for n, f in found.items()
                },
                "effective a draw": {n: f["effective"]["mean"] for n, f in found.items()},
                "the least": {n: f["effective"]["least"] for n, f in found.items()},
                "us an effective sample": {n: 1e6 * cost(found, n) for n in found},
            },
        )
    side_by_side(
        "Neal's funnel, equal time: distance of v from N(0, 9)",
        {"median (range)": {name: str(spread(e)) for name, e in funnel.items()}},
    )
    CONSOLE.print("\n".join(NOTES), style="dim", markup=False)
    save(
        arguments,
        "hmc",
        {
            "versions": versions("energax", "blackjax", "jax", "jaxlib", "numpy"),
            "peer_versions": peer_versions,
            "busy_before": busy,
            "threads": THREADS,
            "dimension": DIMENSION,
            "condition": CONDITION,
            "chains": N_CHAINS,
            "step_size": STEP_SIZE,
            "mala_step_size": MALA_STEP_SIZE,
            "leapfrog_steps": N_LEAPFROG,
            "warmup": settings["warmup"],
            "draws": draws,
            "rounds": rounds,
            "notes": NOTES,
            "gaussian": gaussian,
            "funnel_distance": funnel,
            "cold_start_seconds": cold,
            "bars": judge(bars(gaussian, funnel)),
        },
    )


if __name__ == "__main__":
    main()
