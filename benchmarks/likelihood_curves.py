"""Held-out likelihood against seconds of training: RBMs by persistent chains, beside peers.

    python benchmarks/likelihood_curves.py
    python benchmarks/likelihood_curves.py --judge    # tables and bars of the results there are

energax, a PyTorch loop, scikit-learn and rbms each train a machine of 784 visible units, with 16
hidden ones and with 500, on the same rows, batches of 100 and PCD-1, from small random weights and
visible biases at the data's base rates. They take turns, one stretch of updates after another, each
in a worker process and environment of its own; only the updates are timed (energax's in one call of
`fit` from the start to each look). Each machine is then measured by the same script: log Z of 16
hidden units exactly, of 500 by annealed importance sampling with its interval, over four times as
many temperatures where that is not to be trusted, and the mean log-likelihood of 2,000 held-out
rows. Machines of 16 hidden units differ by a nat from run to run, so that each program trains
several from different random numbers, and means are shown.

energax, PyTorch and scikit-learn do the same arithmetic and share a learning rate; rbms divides
each gradient by its norm, so it is run at three rates and shown at the one that ends best.
Compiling is not among energax's seconds: it is told beside them.

Rows are MNIST's, binarised: ENERGAX_DATA names a folder with `mnist_binarised.npz`. Numbers go to
`benchmarks/results/likelihood_curves.json`, the curves to a picture beside it.
"""

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from environments import HERE
from measuring import (
    CONSOLE,
    RESULTS,
    Bar,
    judge,
    parser,
    save,
    use_cores,
    versions,
    warn_if_busy,
)
from peer import Peer
from rich.table import Table

import energax as ex

THREADS = 2
BATCH = 100
HIDDEN = (16, 500)
AT = (20, 50, 150, 300, 600, 1200, 2400, 4800, 9600)
"""Updates after which each machine is looked at; an epoch has 600."""
MORE = 19200
"""Updates of energax's last look: it is done with those of the others in less of their time."""
RATES = {16: 0.02, 500: 0.005}
"""Learning rates, by hidden units. At 0.02 log Z of the larger machine is seldom to be trusted."""
PROGRAMS = {
    "energax": ("energax_learning.py", HERE, None),
    "PyTorch": ("torch_rbm.py", "torch", None),
    "scikit-learn": ("sklearn_rbm.py", "scikit-learn", None),
    "rbms, rate 0.01": ("rbms_rbm.py", "rbms", 0.01),
    "rbms, rate 0.03": ("rbms_rbm.py", "rbms", 0.03),
    "rbms, rate 0.1": ("rbms_rbm.py", "rbms", 0.1),
}
"""Each program's worker, environment and learning rate; `None`: that of `RATES`."""
ANNEALING = ((5000, 200), (20_000, 200))
"""Temperatures and chains, and those for a log Z that was not to be trusted."""
SEEDS = {16: 5, 500: 1}
"""Runs of each program, by hidden units."""
TOLERANCE = 0.5
"""Nats by which curves of the same arithmetic differ by their random numbers."""


def rows_of(part: str) -> np.ndarray:
    """Rows of zeros and ones."""
    with np.load(Path(os.environ["ENERGAX_DATA"]) / "mnist_binarised.npz") as file:
        return np.unpackbits(file[f"{part}_bits"], axis=1)[:, :784]


def likelihood(
    found: dict[str, Any], base: ex.Bernoulli, held_out: np.ndarray, quick: bool
) -> dict[str, Any]:
    """The mean log-likelihood of held-out rows, with the interval that log Z leaves it."""
    weights, visible, hidden = (
        jnp.asarray(found[name], jnp.float32) for name in ("weights", "visible", "hidden")
    )
    rbm = ex.RBM(weights, visible, hidden)
    if weights.shape[1] <= 16:
        z = ex.log_partition(rbm, key=ex.key(0))
    else:
        for n_temperatures, n_chains in ((100, 20),) if quick else ANNEALING:
            z = ex.log_partition(
                rbm,
                key=ex.key(0),
                method="annealing",
                base=base,
                n_temperatures=n_temperatures,
                n_chains=n_chains,
            )
            if z.trusted:
                break
    mean = -float(jnp.mean(jax.vmap(rbm.energy)(jnp.asarray(held_out, jnp.float32))))
    return {
        "value": mean - z.value,
        "lower": mean - z.upper,
        "upper": mean - z.lower,
        "trusted": z.trusted,
    }


def trained(
    n_hidden: int, rows: np.ndarray, programs: dict[str, Any], seed: int, quick: bool
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """Each program's looks at one run (updates, seconds, the machine), and the versions of all."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in programs}
    seconds = dict.fromkeys(programs, 0.0)
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "rows.npy"
        np.save(place, rows)
        settings = {
            "rows": str(place),
            "n_visible": 784,
            "n_hidden": n_hidden,
            "batch_size": BATCH,
            "threads": THREADS,
            "at_base_rates": True,
            "warm_up": [],
            "seed": seed,
        }
        peers = {
            name: stack.enter_context(
                Peer(script, where, settings | {"learning_rate": rate or RATES[n_hidden]})
            )
            for name, (script, where, rate) in programs.items()
        }
        done = 0
        for at in AT[:2] if quick else (*AT, MORE):
            for name, peer in peers.items():
                if at == MORE and name != "energax":
                    continue
                answer = peer.result("pcd1", at - done)
                seconds[name] += answer.get("taken", answer["seconds"])
                machine = peer.result("parameters", 0)
                look = {"updates": at, "seconds": seconds[name]}
                if "first" in answer:
                    look["first run, compiled"] = answer["first"]
                found[name].append(look | {k: machine[k] for k in ("weights", "visible", "hidden")})
            done = at
        return found, {name: peer.versions for name, peer in peers.items()}


def curves(
    n_hidden: int, rows: np.ndarray, held_out: np.ndarray, programs: dict[str, Any], quick: bool
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, float], dict[str, Any]]:
    """Each program's looks (updates, seconds, likelihood), means over its runs at its best rate,
    where each rate ended, and the versions of all."""
    base = ex.Bernoulli.from_data(rows)
    runs, told = [], {}
    for seed in range(1 if quick else SEEDS[n_hidden]):
        run, told = trained(n_hidden, rows, programs, seed, quick)
        runs.append(run)

    def measured(name: str, which: slice) -> list[dict[str, Any]]:
        for run in runs:
            for look in run[name][which]:
                machine = {k: look.pop(k) for k in ("weights", "visible", "hidden")}
                look |= likelihood(machine, base, held_out, quick)
        return [mean_of(looks) for looks in zip(*(run[name][which] for run in runs), strict=True)]

    found = {}
    for name in programs:
        found[name] = measured(name, slice(-1, None))
        CONSOLE.print(f"{n_hidden} hidden, {name}: {found[name][-1]['value']:.2f}", highlight=False)
    ends = {name: looks[-1]["value"] for name, looks in found.items()}
    best = best_of_rates(found)
    for name, looks in found.items():
        if any(looks is shown for shown in best.values()):
            looks[:0] = measured(name, slice(-1))
    return best, ends, told


def mean_of(looks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Looks at several runs after as many updates, as one."""
    found = {key: float(np.mean([look[key] for look in looks])) for key in looks[0]}
    found |= {"updates": looks[0]["updates"], "trusted": all(look["trusted"] for look in looks)}
    return found | {"values": [look["value"] for look in looks]}


def behind(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    """The most nats by which our curve lies below theirs, at the times of their looks.

    Between looks our curve is a line in the logarithm of the seconds; times after our last look are
    held against that one, and times before our first, a few hundredths of a second, left out. So
    are looks whose log Z is not to be trusted, ours and theirs.
    """
    ours, theirs = ([look for look in looks if look["trusted"]] for looks in (ours, theirs))
    at = np.log([look["seconds"] for look in ours])
    values = np.interp(
        np.log([look["seconds"] for look in theirs]), at, [look["value"] for look in ours]
    )
    reached = [i for i, look in enumerate(theirs) if look["seconds"] >= ours[0]["seconds"]]
    return max((float(theirs[i]["value"] - values[i]) for i in reached), default=-math.inf)


def best_of_rates(found: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Of a program run at several rates, the run that ends best."""
    kept: dict[str, list[dict[str, Any]]] = {}
    for name, looks in found.items():
        program = name.split(",")[0]
        if program not in kept or looks[-1]["value"] > kept[program][-1]["value"]:
            kept[program] = looks
    return kept


def ends_of(look: dict[str, Any]) -> tuple[float, float]:
    """What to shade: the runs' range, or of a single run what its log Z leaves open."""
    values = look.get("values", ())
    if len(values) > 1:
        return min(values), max(values)
    ends = ("lower", "upper") if look["trusted"] else ("value", "value")
    return look[ends[0]], look[ends[1]]


def picture(found: dict[int, dict[str, list[dict[str, Any]]]], path: Path) -> None:
    """Both sizes side by side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(9, 3.6), layout="constrained")
    for axis, (n_hidden, programs) in zip(np.atleast_1d(axes), found.items(), strict=True):
        for name, looks in programs.items():
            x = [look["seconds"] for look in looks]
            axis.plot(x, [look["value"] for look in looks], marker="o", markersize=3, label=name)
            low, high = zip(*(ends_of(look) for look in looks), strict=True)
            axis.fill_between(x, low, high, alpha=0.2)
        axis.set_xscale("log")
        axis.set_xlabel("seconds of training")
        axis.set_title(f"784 x {n_hidden}, PCD-1")
        axis.grid(alpha=0.3)
        axis.legend()
    np.atleast_1d(axes)[0].set_ylabel("held-out log-likelihood, nats an image")
    figure.savefig(path, dpi=120)


def report(n_hidden: int, found: dict[str, list[dict[str, Any]]]) -> None:
    table = Table(title=f"784 x {n_hidden}: held-out nats an image (seconds); ?: log Z not trusted")
    table.add_column("updates")
    for name in found:
        table.add_column(name, justify="right")
    for i, look in enumerate(found["energax"]):
        cells = [
            f"{rows[i]['value']:.2f}{'' if rows[i]['trusted'] else '?'} ({rows[i]['seconds']:.2f})"
            if i < len(rows)
            else ""
            for rows in found.values()
        ]
        table.add_row(str(look["updates"]), *cells)
    CONSOLE.print(table)


def judged(shown: dict[int, dict[str, list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """The tables, and what is asked of the curves."""
    bars = []
    for n_hidden, found in shown.items():
        report(n_hidden, found)
        bars += [
            Bar(
                f"784 x {n_hidden}: most nats behind {name} at its seconds",
                behind(found["energax"], looks),
                TOLERANCE,
            )
            for name, looks in found.items()
            if name != "energax"
        ]
    return judge(bars)


def main() -> None:
    options = parser(__doc__, "likelihood_curves")
    options.add_argument("--skip-peers", action="store_true", help="energax only")
    options.add_argument(
        "--judge", action="store_true", help="tables, picture and bars of the results there are"
    )
    arguments = options.parse_args()
    if arguments.judge:
        path = RESULTS / "likelihood_curves.json"
        results = json.loads(path.read_text())
        shown = {int(n): found for n, found in results["curves"].items()}
        results["bars"] = judged(shown)
        picture(shown, RESULTS / "likelihood_curves.png")
        aside = path.with_suffix(".tmp")
        aside.write_text(json.dumps(results, indent=1) + "\n")
        aside.replace(path)
        return
    use_cores(THREADS)
    busy = warn_if_busy()
    rows, held_out = rows_of("train"), rows_of("test")[:2000]
    programs = {
        name: program
        for name, program in PROGRAMS.items()
        if name == "energax" or not arguments.skip_peers
    }
    shown, ends, told = {}, {}, {}
    for n_hidden in HIDDEN:
        shown[n_hidden], ends[n_hidden], told = curves(
            n_hidden, rows, held_out, programs, arguments.quick
        )
    verdicts = judged(shown)
    if not arguments.quick:
        picture(shown, RESULTS / "likelihood_curves.png")
    save(
        arguments,
        "likelihood_curves",
        {
            "versions": versions("energax", "jax", "jaxlib", "optax", "numpy"),
            "peer_versions": told,
            "busy_before": busy,
            "threads": THREADS,
            "curves": shown,
            "ends": ends,
            "bars": verdicts,
        },
    )


if __name__ == "__main__":
    main()
