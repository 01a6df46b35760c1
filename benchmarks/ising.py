"""Single-spin dynamics of Ising models beside peers: spin updates a nanosecond, and time to build.

    python benchmarks/ising.py
    python benchmarks/ising.py --only torus
    python benchmarks/ising.py --skip-peers

Four jobs. `torus`: 64 x 64, periodic, at the critical temperature, 32 chains with randomness of
their own. `curve`: the same for other numbers of chains. `large`: one chain of 1024 x 1024.
`regular`: a random 3-regular graph of 10,000 spins, couplings drawn from N(0, 1), 32 chains, and
the time to build it. A sweep is an update of each spin of each chain; a rate is spins times
sweeps over seconds.

All sides start from the same states. Those of a torus are in equilibrium, drawn by a
Swendsen-Wang sampler written here with NumPy and SciPy alone; with more than 32 chains, some
share a start. Those of the 3-regular graph are random spins, which the sweeps of the timed runs
bring to equilibrium: at its temperature they forget their start within tens of sweeps. What each
side then finds for the mean of s_i s_j over edges stands beside the exact value, so that none is
fast by being wrong; chains that share a start count as one in its standard error.

Of the time to build, `first` is what a process takes that has just imported the package and made
one array, and so with what is compiled on the way; `again` is what it takes from then on.

Each program, energax too, is a process of its own (see environments.py) that waits while another
is timed; all take turns. Compiling is not in the rates. Results: `benchmarks/results/ising.json`.
"""

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
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
from scipy import sparse
from scipy.sparse.csgraph import connected_components

THREADS = 2
BETA_C = float(np.log1p(np.sqrt(2)) / 2)

EXACT = {64: 0.71196919491651, 32: 0.71682923307312, 16: 0.72653242640674}
"""The mean of s_i s_j over neighbours of the L x L torus at `BETA_C`, by Kaufman's formula."""


@dataclass(frozen=True)
class Side:
    """A program that takes part."""

    script: str
    environment: str
    settings: dict[str, str]
    updates: float
    """Spin updates in each timing, for a few tenths of a second."""


SIDES = {
    "energax, packed": Side("energax_ising.py", HERE, {"kernel": "PackedGibbs"}, 5e8),
    "energax, BlockGibbs": Side("energax_ising.py", HERE, {"kernel": "BlockGibbs"}, 2e8),
    "thrml": Side("thrml_ising.py", "thrml", {"package": "thrml"}, 5e7),
    "hamon": Side("thrml_ising.py", "hamon", {"package": "hamon"}, 5e7),
    "mcising": Side("mcising_ising.py", "mcising", {}, 1e8),
    "peapods": Side("peapods_ising.py", "peapods", {}, 5e7),
    "plain JAX": Side("jax_ising.py", "blackjax", {}, 2e7),
}

OURS = ("energax, packed", "energax, BlockGibbs")

NOTES = (
    "energax, thrml, hamon, plain JAX: Gibbs updates, one colour after the other. mcising, peapods:"
    " sequential Metropolis updates, a table of acceptance probabilities.",
    "thrml, hamon: compiled here as one program for all chains and sweeps. On the 3-regular graph"
    " they are given a colouring, which is not in their time to build; energax finds its own.",
    "mcising: one simulation a chain, on two threads. peapods: replicas side by side in threads of"
    " its own; it measures at each sweep after a warm-up, so 99% of a timed run is warm-up.",
    "peapods cannot be given first states: it warms up from random spins.",
)


def equilibrium(n_chains: int, side: int, beta: float, n_steps: int) -> np.ndarray:
    """States of the torus (chain, side, side) by Swendsen-Wang updates from all spins up."""
    generator = np.random.default_rng(0)
    site = np.arange(n_chains * side * side).reshape(n_chains, side, side)
    i = np.tile(site.ravel(), 2)
    j = np.concatenate([np.roll(site, -1, axis).ravel() for axis in (1, 2)])
    spins = np.ones(site.size, np.int8)
    for _ in range(n_steps):
        bond = (spins[i] == spins[j]) & (generator.random(i.size) < -np.expm1(-2 * beta))
        graph = sparse.coo_array((bond[bond], (i[bond], j[bond])), (site.size, site.size))
        n_clusters, cluster = connected_components(graph, directed=False)
        spins = generator.choice(np.array([-1, 1], np.int8), n_clusters)[cluster]
    return spins.reshape(site.shape)


def torus(folder: Path, side: int, n_chains: int, n_steps: int) -> dict[str, Any]:
    """What the workers need of the L x L torus at the critical temperature."""
    site = np.arange(side * side).reshape(side, side)
    edges = [np.stack([site, np.roll(site, -1, axis)], -1).reshape(-1, 2) for axis in (0, 1)]
    return _written(
        folder / f"torus-{side}.npz",
        BETA_C,
        start=equilibrium(n_chains, side, BETA_C, n_steps),
        edges=np.concatenate(edges),
        couplings=np.ones(2 * side * side, np.float32),
        colours=np.add(*np.indices((side, side))).ravel() % 2,
    )


def regular(folder: Path, n_nodes: int, n_chains: int) -> tuple[dict[str, Any], float]:
    """A random 3-regular graph with couplings from N(0, 1) at beta = 0.5, and the exact value.

    On a tree, and so on this graph but for its few short cycles, <s_i s_j> = tanh(beta J_ij) as
    long as the spins do not freeze, which they do below temperature 1.
    """
    beta, generator = 0.5, np.random.default_rng(0)
    graph = nx.random_regular_graph(3, n_nodes, seed=0)
    colours = nx.greedy_color(graph, strategy="largest_first")
    couplings = generator.normal(size=3 * n_nodes // 2).astype(np.float32)
    written = _written(
        folder / "regular.npz",
        beta,
        start=generator.choice(np.array([-1, 1], np.int8), (n_chains, n_nodes)),
        edges=np.array(graph.edges),
        couplings=couplings,
        colours=np.array([colours[i] for i in range(n_nodes)]),
    )
    return written, float(np.mean(couplings * np.tanh(beta * couplings)))


def _written(path: Path, beta: float, **arrays: np.ndarray) -> dict[str, Any]:
    np.savez(path, **arrays)
    start = arrays["start"]
    return {"graph": str(path), "beta": beta, "n_spins": start[0].size, "n_starts": len(start)}


class Race:
    """The sides of one job, running, and what they found."""

    def __init__(
        self, stack: contextlib.ExitStack, names: list[str], job: dict[str, Any], scale: float
    ):
        self.peers: dict[str, Peer] = {}
        self.steps: dict[str, int] = {}
        self.spins = job["n_spins"] * job["n_chains"]
        self.starts = job["n_starts"]
        for name in names:
            side = SIDES[name]
            self.steps[name] = max(1, round(scale * side.updates / self.spins))
            settings = {**job, **side.settings, "steps": self.steps[name], "threads": THREADS}
            settings["warm_up"] = ["sweep"]
            peer = Peer(side.script, side.environment, settings)
            self.peers[name] = stack.enter_context(peer)

    def rates(self, rounds: int) -> dict[str, list[float]]:
        """Spin updates a nanosecond, turn by turn."""
        blocks: dict[str, Callable[[], float]] = {
            name: peer.block("sweep", self.steps[name]) for name, peer in self.peers.items()
        }
        seconds = take_turns(blocks, rounds)
        return {name: [self.spins / t / 1e9 for t in times] for name, times in seconds.items()}

    def correlations(self, rounds: int) -> dict[str, tuple[float, float]]:
        """The mean over edges of J_ij s_i s_j, and its standard error over first states."""
        found = {}
        for name, peer in self.peers.items():
            chains = np.atleast_1d(peer.result("correlation", rounds)["correlation"])
            # Chain i starts from state i modulo the number of states.
            n = min(self.starts, len(chains))
            means = [chains[i::n].mean() for i in range(n)]
            error = np.std(means, ddof=1) / np.sqrt(n) if n > 1 else np.nan
            found[name] = float(np.mean(chains)), float(error)
        return found

    def cold_starts(self) -> dict[str, dict[str, float]]:
        """Seconds to the first sweeps, by side."""
        return {name: peer.cold_start for name, peer in self.peers.items()}


def first_builds(names: list[str], job: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of the first build in a process, one process a turn."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 else names[::-1]:
            side = SIDES[name]
            settings = {**job, **side.settings, "threads": THREADS, "warm_up": []}
            with Peer(side.script, side.environment, settings) as peer:
                seconds[name].append(peer.result("first build", 1)["built"])
    return seconds


def run_job(
    title: str, names: list[str], job: dict[str, Any], exact: float, arguments: Any
) -> dict[str, Any]:
    """One job: rates, correlations and cold starts, printed and returned."""
    scale = 0.02 if arguments.quick else 1.0
    with contextlib.ExitStack() as stack:
        race = Race(stack, names, job, scale)
        rates = race.rates(arguments.rounds)
        correlations = race.correlations(2 if arguments.quick else 10)
        builds = None
        if job.get("builds"):
            again = take_turns({n: p.block("build", 1) for n, p in race.peers.items()}, 5)
            builds = {"first": first_builds(names, job, 2 if arguments.quick else 5)}
            builds["again"] = again
        cold = race.cold_starts()
        found = {"versions": {name: peer.versions for name, peer in race.peers.items()}}
    columns: dict[str, dict[str, Any]] = {
        "updates/ns: median (range)": {n: str(spread(r)) for n, r in rates.items()},
        f"mean of J s s (exact {exact:.4f})": {
            n: f"{v:.4f}" + (f" ± {e:.4f}" if e == e else "") for n, (v, e) in correlations.items()
        },
        "first run, s": {n: c["total"] for n, c in cold.items()},
    }
    for when, seconds in (builds or {}).items():
        columns[f"build, {when}, ms"] = {
            n: str(spread([1000 * t for t in times])) for n, times in seconds.items()
        }
    side_by_side(title, columns)
    for name, (value, error) in correlations.items():
        # Of the whole torus the correlation fluctuates by about 1.7 / sqrt(spins).
        if abs(value - exact) > (5 * error if np.isfinite(error) else 8.5 / race.spins**0.5):
            CONSOLE.print(f"[red]{name} is not at the exact value: its rate counts for nothing[/]")
    return {
        **found,
        "updates_per_nanosecond": rates,
        "correlation": correlations,
        "exact_correlation": exact,
        "cold_start_seconds": cold,
        "build_seconds": builds,
    }


def bars(results: dict[str, Any]) -> list[Bar]:
    """What is asked of energax."""
    found = []
    if "torus" in results:
        rates = results["torus"]["updates_per_nanosecond"]
        best = max(OURS, key=lambda n: spread(rates[n]).median)
        value = spread(rates[best]).median
        found.append(Bar(f"64 x 64, 32 chains, updates/ns ({best})", value, 3.0, at_most=False))
        if "thrml" in rates:
            value = ratios(rates[best], rates["thrml"]).median
            found.append(Bar("64 x 64, 32 chains, over thrml", value, 40.0, at_most=False))
    if "large" in results:
        rates = results["large"]["updates_per_nanosecond"]
        value = max(spread(rates[n]).median for n in OURS)
        found.append(Bar("1024 x 1024, one chain, updates/ns", value, 0.6, at_most=False))
    if "regular" in results and "thrml" in results["regular"]["updates_per_nanosecond"]:
        rates = results["regular"]["updates_per_nanosecond"]
        builds = results["regular"]["build_seconds"]
        ours = "energax, BlockGibbs"
        value = ratios(rates[ours], rates["thrml"]).median
        found.append(Bar("3-regular, 32 chains, over thrml", value, 5.0, at_most=False))
        for when, seconds in builds.items():
            value = ratios(seconds[ours], seconds["thrml"]).median
            found.append(Bar(f"3-regular, time to build ({when}) over thrml's", value, 0.1))
    return found


JOBS = ("torus", "curve", "large", "regular")


def main() -> None:
    options = parser(__doc__, "ising")
    options.add_argument("--rounds", type=int, help="timed turns of each program (9; quick: 2)")
    options.add_argument("--only", nargs="+", choices=JOBS, default=JOBS, metavar="JOB")
    options.add_argument("--skip-peers", action="store_true", help="energax only")
    arguments = options.parse_args()
    arguments.rounds = arguments.rounds or (2 if arguments.quick else 9)
    quick = arguments.quick
    use_cores(THREADS)
    busy = warn_if_busy()

    def sides(*names: str) -> list[str]:
        return [n for n in names if n in OURS or not arguments.skip_peers]

    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        side = 16 if quick else 64
        lattice = torus(folder, side, 32, n_steps=100)
        if "torus" in arguments.only:
            results["torus"] = run_job(
                f"{side} x {side} torus at the critical temperature, 32 chains",
                sides(*SIDES),
                {**lattice, "n_chains": 32},
                EXACT[side],
                arguments,
            )
        if "curve" in arguments.only:
            for n_chains in (1, 64) if quick else (1, 8, 64, 256, 1024):
                results[f"curve, {n_chains}"] = run_job(
                    f"{side} x {side} torus, number of chains: {n_chains}",
                    sides(*OURS, "thrml", "mcising"),
                    {**lattice, "n_chains": n_chains},
                    EXACT[side],
                    arguments,
                )
        if "large" in arguments.only:
            large = 64 if quick else 1024
            # Of a large torus the correlation exceeds the infinite one by 0.311 / L.
            exact = EXACT.get(large, np.sqrt(0.5) + 0.311 / large)
            results["large"] = run_job(
                f"{large} x {large} torus at the critical temperature, one chain",
                sides(*OURS, "mcising", "peapods", "plain JAX"),
                {**torus(folder, large, 1, n_steps=30), "n_chains": 1},
                exact,
                arguments,
            )
        if "regular" in arguments.only:
            job, exact = regular(folder, 1000 if quick else 10_000, 32)
            results["regular"] = run_job(
                "random 3-regular graph, couplings from N(0, 1), beta = 0.5, 32 chains",
                sides("energax, BlockGibbs", "thrml", "hamon"),
                {**job, "n_chains": 32, "builds": True},
                exact,
                arguments,
            )
    CONSOLE.print("\n".join(NOTES), style="dim", markup=False)
    save(
        arguments,
        "ising",
        {
            "versions": versions("energax", "jax", "jaxlib", "numpy"),
            "busy_before": busy,
            "threads": THREADS,
            "rounds": arguments.rounds,
            "notes": NOTES,
            "jobs": results,
            "bars": judge(bars(results)),
        },
    )


if __name__ == "__main__":
    main()
