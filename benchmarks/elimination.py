"""Variable elimination: beside dwave-samplers, against Kaufman's formula, and its cost.

    python benchmarks/elimination.py
    python benchmarks/elimination.py --skip-peers

Three jobs. `race`: log Z, then marginals, of Ising models on 100 random graphs, ten of each width
from 6 to 15 as min-fill finds it, couplings and fields drawn from N(0, 1); beside dwave-samplers'
tree decomposition. Graphs are 3- and 4-regular or have 1 to 1.8 edges a node at random. Each side's
first pass over the graphs stands beside the later ones: what is compiled is in it. `tori`: log Z of
L x L tori at three temperatures, L to 12, against the formula (B. Kaufman, "Crystal statistics. II.
Partition function evaluated by spinor analysis", 1949), each L in a process of its own, for its
memory. `cost`: open strips of 100 rows and growing width. `orders`: how large a table the shipped
order leads to on the graphs of the race, and how long it takes to find, beside opt_einsum's.

Results: `benchmarks/results/elimination.json`.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import opt_einsum
from environments import HERE
from measuring import (
    CONSOLE,
    Bar,
    judge,
    parser,
    peak_mebibytes,
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

import energax as ex
from energax.exact import elimination_plan, log_partition_eliminated

THREADS = 2
BETAS = {"0.3": 0.3, "beta_c": float(np.log1p(np.sqrt(2)) / 2), "0.6": 0.6}
SIDES = {
    "energax": ("energax_elimination.py", HERE),
    "dwave-samplers": ("dwave_elimination.py", "dwave"),
}
TASKS = ("log Z", "marginals", "build")

NOTES = (
    "dwave-samplers finds log Z on the way to a sample and cannot leave that out: it draws one a"
    " graph. With marginals it finds those of the edges too, which energax leaves out.",
    "build: making the models. energax colours each graph for sampling and checks it, which"
    " dwave-samplers has no need of.",
)


def random_graph(generator: np.random.Generator) -> nx.Graph:
    """A random graph of one of three kinds."""
    kind, seed = generator.integers(3), int(generator.integers(2**31))
    n = 2 * int(generator.integers(10, 60))
    if kind == 2:
        return nx.gnm_random_graph(n, int(n * generator.uniform(1.0, 1.8)), seed=seed)
    return nx.random_regular_graph(3 + int(kind), n, seed=seed)


def write_models(path: Path, widths: range, each: int) -> list[int]:
    """A file of Ising models, as many of each width; the widths, in order."""
    generator, graphs = np.random.default_rng(1), graphs_of(widths, each)
    ordered = [(widths[i // each], graph) for i, graph in enumerate(graphs)]
    arrays: dict[str, np.ndarray] = {}
    for i, (_, graph) in enumerate(ordered):
        arrays[f"edges_{i}"] = np.array(graph.edges)
        arrays[f"couplings_{i}"] = generator.normal(size=graph.size()).astype(np.float32)
        arrays[f"field_{i}"] = generator.normal(size=len(graph)).astype(np.float32)
    np.savez(path, n=len(ordered), **arrays)
    return [width for width, _ in ordered]


def race(names: list[str], quick: bool, rounds: int) -> dict[str, Any]:
    """All graphs, each side in turn."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = folder / "models.npz"
        widths = write_models(path, range(3, 6) if quick else range(6, 16), 2 if quick else 10)
        settings = {"models": str(path), "steps": 1, "threads": THREADS}
        peers = {
            name: stack.enter_context(Peer(*SIDES[name], {**settings, "warm_up": []}))
            for name in names
        }
        first = {
            name: {task: peer.result(task, 1) for task in TASKS} for name, peer in peers.items()
        }
        seconds = {
            task: take_turns({n: peer.block(task, 1) for n, peer in peers.items()}, rounds)
            for task in TASKS
        }
        told = {name: peer.versions for name, peer in peers.items()}
    columns: dict[str, dict[str, Any]] = {}
    for task in TASKS:
        columns[f"{task}, first, ms"] = {n: 1000 * f[task]["seconds"] for n, f in first.items()}
        columns[f"{task}, ms"] = {
            n: str(spread([1000 * t for t in times])) for n, times in seconds[task].items()
        }
    side_by_side(f"Ising models on {len(widths)} random graphs", columns)
    answers = {
        name: {"log_z": f["log Z"]["log_z"], "up": f["marginals"]["up"]}
        for name, f in first.items()
    }
    ours = answers["energax"]
    apart = {
        name: {
            "log_z": float(np.abs(theirs["log_z"] / ours["log_z"] - 1).max()),
            "marginals": float(np.abs(theirs["up"] - ours["up"]).max()),
        }
        for name, theirs in answers.items()
        if name != "energax"
    }
    for name, found in apart.items():
        CONSOLE.print(
            f"{name} and energax: log Z within {found['log_z']:.1e} (relative), marginals within"
            f" {found['marginals']:.1e}"
        )
    return {
        "versions": told,
        "widths": widths,
        "seconds": seconds,
        "first_seconds": {n: {t: f[t]["seconds"] for t in TASKS} for n, f in first.items()},
        "apart": apart,
    }


def kaufman(length: int, beta: float) -> float:
    """log Z of the torus, by the formula for an m x n lattice with m = n."""
    gamma = [
        2 * beta + np.log(np.tanh(beta))
        if q == 0
        else np.arccosh(np.cosh(2 * beta) / np.tanh(2 * beta) - np.cos(np.pi * q / length))
        for q in range(2 * length)
    ]
    half = length / 2 * np.array(gamma)
    odd, even = half[1::2], half[::2]
    scale = np.abs(half).sum()  # taken out of all four products
    shares = [
        sign * np.exp(np.log(np.abs(f(g)) + 1e-300).sum() - scale / 2)
        for g in (odd, even)
        for f in (lambda g: 2 * np.cosh(g), lambda g: 2 * np.sinh(g))
        for sign in [np.prod(np.sign(f(g)))]
    ]
    bulk = length**2 / 2 * np.log(2 * np.sinh(2 * beta))
    return float(bulk - np.log(2) + scale / 2 + np.log(np.sum(shares)))


def torus(length: int) -> dict[str, Any]:
    """One size at each temperature, in this process."""
    rows = {}
    for name, beta in BETAS.items():
        model = ex.Ising((length, length)) ** beta
        beta = float(model.coupling)  # what is held
        before, start = peak_mebibytes(), time.perf_counter()
        value = log_partition_eliminated(model)
        seconds = time.perf_counter() - start
        rows[name] = {
            "log_partition": value,
            "seconds": seconds,
            "error": abs(value / kaufman(length, beta) - 1),
            "mebibytes": peak_mebibytes() - before,
        }
    plan = elimination_plan(ex.Ising((length, length)))
    return {"width": plan.width, "operations": plan.n_operations, "betas": rows}


def tori(lengths: list[int]) -> dict[str, Any]:
    """Each size in a process of its own."""
    found = {}
    for length in lengths:
        command = [sys.executable, __file__, "--torus", str(length)]
        found[str(length)] = json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        )
    columns: dict[str, dict[str, Any]] = {
        "width": {n: str(f["width"]) for n, f in found.items()},
        "operations": {n: f["operations"] for n, f in found.items()},
    }
    shown = {"seconds": "s", "mebibytes": "extra MiB", "error": "relative error"}
    for key, name in shown.items():
        columns[name] = {n: max(b[key] for b in f["betas"].values()) for n, f in found.items()}
    side_by_side("log Z of L x L tori, the worst of three temperatures", columns, first="L")
    return found


def cost(widths: list[int], rounds: int) -> list[dict[str, Any]]:
    """Open strips of 100 rows."""
    generator, rows = np.random.default_rng(1), []
    for width in widths:
        lattice = ex.Lattice((100, width), periodic=False)
        strip = ex.Ising(lattice, generator.normal(size=(2, 100, width)))
        plan, seconds = elimination_plan(strip), []
        for _ in range(rounds):
            start = time.perf_counter()
            log_partition_eliminated(strip)
            seconds.append(time.perf_counter() - start)
        rows.append({"width": plan.width, "operations": plan.n_operations, "seconds": seconds})
    columns: dict[str, dict[str, Any]] = {
        "operations": {str(r["width"]): r["operations"] for r in rows},
        "s": {str(r["width"]): spread(r["seconds"]).median for r in rows},
        "ns an operation": {
            str(r["width"]): 1e9 * spread(r["seconds"]).median / r["operations"] for r in rows
        },
    }
    side_by_side("log Z of open strips, 100 rows", columns, first="width")
    return rows


def graphs_of(widths: range, each: int) -> list[nx.Graph]:
    """As many graphs of each width."""
    generator = np.random.default_rng(0)
    found: dict[int, list[nx.Graph]] = {width: [] for width in widths}
    while any(len(graphs) < each for graphs in found.values()):
        graph = random_graph(generator)
        plan = elimination_plan(ex.Ising(ex.Graph(list(graph.edges), len(graph))))
        if len(found.get(plan.width, [0] * each)) < each:
            found[plan.width].append(graph)
    return [graph for graphs in found.values() for graph in graphs]


def orders(graphs: list[nx.Graph]) -> dict[str, Any]:
    """The largest table of each order, in variables, and the milliseconds to find it."""
    finders: dict[str, Callable[[], Any]] = {
        "opt_einsum, greedy": lambda: opt_einsum.paths.greedy,
        "opt_einsum, 16 random greedy": lambda: opt_einsum.RandomGreedy(max_repeats=16),
    }
    rows: dict[str, Any] = {name: {"largest": [], "ms": []} for name in ("energax", *finders)}
    for graph in graphs:
        model = ex.Ising(ex.Graph(list(graph.edges), len(graph)))
        clock = time.perf_counter()
        plan = elimination_plan(model)
        rows["energax"]["ms"].append(1000 * (time.perf_counter() - clock))
        rows["energax"]["largest"].append(plan.width + 1)
        # A table for each edge; a contraction's largest table joins what it sums over.
        scopes = [frozenset(edge) for edge in graph.edges]
        sizes = dict.fromkeys(range(len(graph)), 2)
        for name, finder in finders.items():
            clock = time.perf_counter()
            path = finder()(scopes, frozenset(), sizes)
            rows[name]["ms"].append(1000 * (time.perf_counter() - clock))
            rows[name]["largest"].append(_largest(scopes, path))
    means = {n: {k: float(np.mean(v)) for k, v in row.items()} for n, row in rows.items()}
    side_by_side(
        f"orders for {len(graphs)} random graphs",
        {k: {n: f"{row[k]:.2f}" for n, row in means.items()} for k in ("largest", "ms")},
    )
    return means


def _largest(scopes: list[frozenset[int]], path: Any) -> int:
    """Variables of the largest table that a path of contractions goes through."""
    left, most = list(scopes), 0
    for places in path:
        parts = [left.pop(i) for i in sorted(places, reverse=True)]
        joined = frozenset().union(*parts)
        most = max(most, len(joined))
        left.append(joined & frozenset().union(*left) if left else frozenset())
    return most


def bars(results: dict[str, Any]) -> list[Bar]:
    """What is asked of energax."""
    found = []
    raced = results["race"]
    if "dwave-samplers" in raced["apart"]:
        apart = raced["apart"]["dwave-samplers"]
        found.append(Bar("log Z beside dwave-samplers, relative difference", apart["log_z"], 1e-10))
        for task in ("log Z", "marginals"):
            seconds = raced["seconds"][task]
            value = ratios(seconds["energax"], seconds["dwave-samplers"]).median
            found.append(Bar(f"{task} of all graphs, seconds over dwave-samplers'", value, 1.0))
        first = raced["first_seconds"]
        value = first["energax"]["log Z"] / first["dwave-samplers"]["log Z"]
        found.append(Bar("the same, the first pass over the graphs (log Z)", value, 1.0))
    rows = [row for size in results["tori"].values() for row in size["betas"].values()]
    error = max(row["error"] for row in rows)
    found.append(Bar("tori against Kaufman's formula, relative error", error, 1e-10))
    if "12" in results["tori"]:
        largest = results["tori"]["12"]["betas"].values()
        found.append(Bar("12 x 12 torus, seconds", max(r["seconds"] for r in largest), 60.0))
        most = max(r["mebibytes"] for r in largest)
        found.append(Bar("12 x 12 torus, extra MiB", most, 2048.0))
    return found


def main() -> None:
    options = parser(__doc__, "elimination")
    options.add_argument("--rounds", type=int, help="timed turns of each side (9; quick: 2)")
    options.add_argument("--skip-peers", action="store_true", help="energax only")
    options.add_argument("--torus", type=int, help="for its own use: one size, printed as JSON")
    arguments = options.parse_args()
    use_cores(THREADS)
    if arguments.torus:
        print(json.dumps(torus(arguments.torus)))
        return
    quick = arguments.quick
    rounds = arguments.rounds or (2 if quick else 9)
    busy = warn_if_busy()
    names = ["energax"] if arguments.skip_peers else list(SIDES)
    results: dict[str, Any] = {
        "race": race(names, quick, rounds),
        "tori": tori([4, 6] if quick else [4, 8, 10, 12]),
        "orders": orders(graphs_of(range(3, 6) if quick else range(6, 16), 2 if quick else 10)),
        "cost": cost([2, 4] if quick else [2, 4, 8, 12, 16, 20], 2 if quick else 3),
    }
    CONSOLE.print("\n".join(NOTES), style="dim", markup=False)
    save(
        arguments,
        "elimination",
        {
            "versions": versions("energax", "jax", "jaxlib", "numpy"),
            "busy_before": busy,
            "threads": THREADS,
            "rounds": rounds,
            "notes": NOTES,
            **results,
            "bars": judge(bars(results)),
        },
    )


if __name__ == "__main__":
    main()
