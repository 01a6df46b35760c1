"""MALA, HMC and NUTS beside peers: seconds per effective sample, and the funnel at equal time.

    python benchmarks/hmc.py
    python benchmarks/hmc.py --skip-peers

The Gaussian has 100 dimensions, condition number 100, and axes in line with no coordinate; 16
chains start at exact draws of it. `MALA`, `HMC`, `NUTS`: the same step size, unit mass and number
of leapfrog steps in all packages, no warm-up: how fast the same algorithm is run. `tuned`: each
package's own warm-up as it comes, its time included, from states twice too wide.

Effective samples are counted in one more run, of the same length in all packages: 40,000 draws a
chain of MALA, 1,000 of HMC and NUTS, at least 50 autocorrelation times of what mixes slowest at
the given settings. energax's estimator takes every package's draws: of each coordinate and its
square (rank-normalised bulk ESS), and over these 200 the harmonic mean, which is the mean of their
autocorrelation times; the least stands beside it. The mean of x . P x / 100, P the inverse
covariance, is 1 for who draws from the Gaussian.

On Neal's funnel in ten dimensions each package's NUTS (torchebm: HMC) draws for the same number
of seconds, in turn, round after round. In each round the chains start anew, from states that are
the same for all, and warm up anew, which is not in the seconds. The error is the Wasserstein
distance of a round's draws of v from N(0, 3^2). A ratio of errors is one of means over the rounds,
with a bootstrap interval.

The curve times MALA, HMC and NUTS with other numbers of chains.

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
from peers.targets import gaussian, precision
from scipy.stats import norm

from energax.diagnostics import convergence

THREADS = 2
SLOW_FUNNEL = 4
"""ebmkit, of which a warm-up takes seconds, has its turn on the funnel in every fourth round."""

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
"""Each package's worker, its environment, and the share of the draws that it is timed on where
nothing warms up; where something does, all are timed on all draws."""

TASKS = ("MALA", "HMC", "NUTS", "tuned MALA", "tuned HMC", "tuned NUTS")

N_LONG, THINNED = 40, 20
"""How many times the draws of HMC and NUTS effective samples of MALA are counted on, and which
draws of MALA are looked at: one of these many, far less than its autocorrelation time."""

CURVE = {1: 1.0, 128: 0.2}
"""Other numbers of chains, and the share of the draws that they are timed on."""

NOTES = (
    "energax runs blackjax's moves on its energies, with the fast keys of `ex.key`; blackjax and"
    " numpyro use JAX's usual keys. energax's HMC without jitter of the step size, as the others'.",
    "tuned: energax pools its chains in warm-up; blackjax (`window_adaptation`) and numpyro adapt"
    " each chain for itself; ebmkit's NUTS tunes the step size, its AdaptiveMALA the mass as well.",
    "torchebm has HMC only and nothing that tunes it; on the funnel its HMC has the Gaussian's"
    " step size. blackjax has no warm-up for MALA, numpyro no MALA.",
    "torchebm and ebmkit are timed on fewer draws where nothing warms up (eager PyTorch is slow);"
    " what they take is divided by what they drew.",
    "funnel: an error falls with the square root of the time, so that a sampler of the same"
    " algorithm has a tenth of another's error only if it is a hundred times as fast. The limit of"
    " a tenth stands as it was asked for. Its draws of v are far fewer effective ones: the errors"
    " of single rounds differ by a third and more, which the intervals show.",
)


def effective(x: np.ndarray, thin: int) -> dict[str, float]:
    """Effective samples a draw of x, axes (chain, draw, coordinate): harmonic mean and least.

    Counted on every `thin`-th draw. And the mean of x . P x over the dimension.
    """
    n_draws = x.shape[0] * x.shape[1]
    x = x[:, ::thin].astype(np.float64)
    share = np.concatenate([convergence(x).ess_bulk, convergence(x**2).ess_bulk]) / n_draws
    return {
        "mean": float(1 / np.mean(1 / share)),
        "least": float(share.min()),
        "square": float(2 * np.mean(gaussian(x, precision(x.shape[2], CONDITION))) / x.shape[2]),
        "draws_of_each_chain": n_draws // x.shape[0],
    }


def distance(v: np.ndarray) -> float:
    """The Wasserstein distance of draws from N(0, 3^2)."""
    drawn = np.sort(v.ravel().astype(np.float64))
    exact = norm.ppf((np.arange(drawn.size) + 0.5) / drawn.size, scale=3)
    return float(np.mean(np.abs(drawn - exact)))


def settings_for(folder: Path, quick: bool, n_chains: int = N_CHAINS) -> dict[str, Any]:
    """What every worker is given."""
    generator = np.random.default_rng(1)
    inverse = precision(DIMENSION, CONDITION)
    white = generator.normal(size=(DIMENSION, n_chains))
    arrays = {
        "inverse": inverse,
        "start": np.linalg.solve(np.linalg.cholesky(inverse).T, white).T,
        "wide_starts": generator.normal(size=(100, n_chains, 10)),
    }
    files = {name: folder / f"{name}-{n_chains}.npy" for name in arrays}
    for name, array in arrays.items():
        np.save(files[name], array.astype(np.float32))
    return {
        **{name: str(file) for name, file in files.items()},
        "step_size": STEP_SIZE,
        "mala_step_size": MALA_STEP_SIZE,
        "n_leapfrog": N_LEAPFROG,
        "warmup": 20 if quick else 500,
        "funnel_draws": 5 if quick else 25,
        "not_warmed": ["funnel"],
        "threads": THREADS,
    }


def on_gaussian(
    peers: dict[str, Peer], n_draws: int, rounds: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each task and package: seconds a draw of one chain, turn by turn, and effective shares."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for task in TASKS:
        able = {name: peer for name, peer in peers.items() if task in peer.tasks}
        tuned = "tuned" in task
        draws = {n: n_draws if tuned else timed_draws(n, n_draws) for n in able}
        # What eager PyTorch takes many seconds for is timed once, while effective samples are
        # counted.
        once = {"ebmkit"} if task == "tuned NUTS" else set()
        seconds = take_turns(
            {n: peer.block(task, draws[n]) for n, peer in able.items() if n not in once},
            2 if tuned and rounds > 2 else rounds,
        )
        n_long, thin = (N_LONG * n_draws, THINNED) if "MALA" in task else (n_draws, 1)
        found[task] = {}
        for name, peer in able.items():
            result = peer.result(task, n_long)
            times = seconds.get(name, [result["seconds"] / n_long])
            found[task][name] = {
                "seconds_per_draw": [t / N_CHAINS for t in times],
                "draws_timed": draws[name],
                "effective": effective(result["x"], thin),
            }
    return found


def timed_draws(name: str, n_draws: int) -> int:
    """How many draws of each chain a package is timed on where nothing warms up."""
    return max(8, round(WORKERS[name][2] * n_draws))


def on_funnel(peers: dict[str, Peer], budget: float, rounds: int) -> dict[str, dict[str, Any]]:
    """Each package's errors after `budget` seconds of drawing, round by round, and the seconds."""
    found: dict[str, dict[str, Any]] = {}
    for name, peer in peers.items():
        peer.result("funnel", 1)  # compiles
        found[name] = {"distance": [], "seconds": [], "draws": []}
    for turn in range(rounds):
        for name in list(peers) if turn % 2 else list(peers)[::-1]:
            if name == "ebmkit" and turn % SLOW_FUNNEL:
                continue
            result = peers[name].result("funnel", round(1000 * budget))
            found[name]["distance"].append(distance(result["v"]))
            found[name]["seconds"].append(result["taken"])
            found[name]["draws"].append(int(result["v"].size))
    return found


def error_ratio(above: list[float], below: list[float]) -> tuple[float, float, float]:
    """The ratio of two mean errors, and a 95% bootstrap interval: rounds are drawn again."""
    generator = np.random.default_rng(0)
    means = [
        np.asarray(e)[generator.integers(len(e), size=(10_000, len(e)))].mean(1)
        for e in (above, below)
    ]
    low, high = np.quantile(means[0] / means[1], [0.025, 0.975])
    return float(np.mean(above) / np.mean(below)), float(low), float(high)


def on_curve(folder: Path, n_draws: int, quick: bool, names: list[str]) -> dict[str, Any]:
    """Seconds a draw of one chain for other numbers of chains: of each number, task and package."""
    found: dict[str, Any] = {}
    for n_chains, share in CURVE.items():
        draws, tasks = max(8, round(share * n_draws)), ["MALA", "HMC", "NUTS"]
        settings = settings_for(folder, quick, n_chains)
        with contextlib.ExitStack() as stack:
            peers = {
                name: stack.enter_context(
                    Peer(*WORKERS[name][:2], {**settings, "steps": draws, "warm_up": tasks})
                )
                for name in ("energax", "blackjax")
                if name in names
            }
            for task in tasks:
                blocks = {name: peer.block(task, draws) for name, peer in peers.items()}
                seconds = take_turns(blocks, 2 if quick else 5)
                found.setdefault(task, {})[n_chains] = {
                    name: [t / n_chains for t in times] for name, times in seconds.items()
                }
    return found


def cost(found: dict[str, Any], name: str) -> float:
    """Seconds per effective sample."""
    return spread(found[name]["seconds_per_draw"]).median / found[name]["effective"]["mean"]


def bars(normal: dict[str, Any], funnel: dict[str, Any]) -> list[Bar]:
    """What is asked of energax."""
    limits = {"blackjax": 1.05, "numpyro": 1.05, "ebmkit": 0.1, "torchebm": 0.1}
    found = []
    for task in ("MALA", "HMC", "NUTS"):
        ours = normal[task]["energax"]["seconds_per_draw"]
        for name, limit in limits.items():
            if name not in normal[task]:
                continue
            theirs = normal[task][name]["seconds_per_draw"]
            same = len(ours) == len(theirs)
            value = ratios(ours, theirs).median if same else spread(ours).median / theirs[0]
            found.append(Bar(f"{task}, time of the same draws over {name}'s", value, limit))
            value = cost(normal[task], "energax") / cost(normal[task], name)
            found.append(Bar(f"{task}, time per effective sample over {name}'s", value, limit))
    for name, limit in limits.items():
        if name in funnel:
            value, low, high = error_ratio(funnel["energax"]["distance"], funnel[name]["distance"])
            label = f"funnel, error at equal time over {name}'s (95%: {low:.2f} to {high:.2f})"
            found.append(Bar(label, value, limit))
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
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = settings_for(folder, arguments.quick)
        peers = {}
        for name in names:
            script, environment, _ = WORKERS[name]
            # Eager PyTorch has nothing to compile.
            eager = name in ("ebmkit", "torchebm")
            warm_up = {"warm_up": ["HMC"], "steps": 10} if eager else {}
            given = {**settings, "steps": n_draws, **warm_up}
            peers[name] = stack.enter_context(Peer(script, environment, given))
        normal = on_gaussian(peers, n_draws, rounds)
        budget, funnel_rounds = (0.1, 3) if arguments.quick else (0.5, 20)
        funnel = on_funnel(peers, budget, funnel_rounds)
        cold = {name: peer.cold_start for name, peer in peers.items()}
        peer_versions = {name: peer.versions for name, peer in peers.items()}
    with tempfile.TemporaryDirectory() as place:
        curve = on_curve(Path(place), n_draws, arguments.quick, names)
    for task, found in normal.items():
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
                "mean of x.Px/100": {n: f["effective"]["square"] for n, f in found.items()},
            },
        )
    side_by_side(
        f"Neal's funnel, {budget:g} s of drawing: distance of v from N(0, 9)",
        {
            "median (range)": {name: str(spread(f["distance"])) for name, f in funnel.items()},
            "mean": {name: np.mean(f["distance"]) for name, f in funnel.items()},
            "seconds taken": {name: str(spread(f["seconds"])) for name, f in funnel.items()},
            "draws": {name: str(int(np.median(f["draws"]))) for name, f in funnel.items()},
            "rounds": {name: str(len(f["draws"])) for name, f in funnel.items()},
        },
    )
    for task, of_chains in curve.items():
        of_chains[N_CHAINS] = {
            name: normal[task][name]["seconds_per_draw"] for name in of_chains[min(of_chains)]
        }
        side_by_side(
            f"{task}: us a draw of one chain, median (range)",
            {
                name: {
                    str(n): str(spread([1e6 * t for t in of_chains[n][name]]))
                    for n in sorted(of_chains)
                }
                for name in of_chains[N_CHAINS]
            },
            first="chains",
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
            "draws": n_draws,
            "rounds": rounds,
            "notes": NOTES,
            "gaussian": normal,
            "funnel_seconds_asked": budget,
            "funnel": funnel,
            "curve_seconds_per_draw": curve,
            "cold_start_seconds": cold,
            "bars": judge(bars(normal, funnel)),
        },
    )


if __name__ == "__main__":
    main()
