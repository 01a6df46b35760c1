"""Bars and stripes: how near to the best likelihood does each kind of chain train a machine?

    python benchmarks/bars_and_stripes.py             # all seeds
    python benchmarks/bars_and_stripes.py --resume    # go on from the runs in the results file

The images are 4 x 4 pixels of full rows or of full columns, each of the 2 x 16 equally likely: 30
distinct ones, of which all-on and all-off come from both sides and weigh twice. Nothing has a mean
log-likelihood above -(28 log 32 + 4 log 16) / 32 = -3.3791 nats. A machine with 16 hidden units is
trained by CD-1, persistent CD, tempered persistent CD and unbiased CD: the same start, the same
number of gradient steps on all 32 rows, the same optimiser. For each objective the best learning
rate of a few, centred or not, is found on a seed of its own, which is no seed of the results;
unbiased CD, where that would take an hour, has that of tempered persistent CD. All likelihoods are
exact, by listing the states. Writes the results and, beside them, a figure.
"""

import functools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import (
    CONSOLE,
    RESULTS,
    Bar,
    judge,
    parser,
    save,
    side_by_side,
    use_cores,
    versions,
    warn_if_busy,
)

import energax as ex
from energax.energies import trainable
from energax.exact import log_partition_enumerated
from energax.plots._style import BLUE, FAINT, GREEN, INK, ORANGE, VERMILLION, dress, legend, panels
from energax.training._step import Order, Recipe, TrainingState, pack, run_chunk

SIDE, N_HIDDEN = 4, 16
CHAINS = 100
CLIP = 1.0
"""Longer gradients are shortened to this: a pair that meets late makes a very long one."""
RATES = (0.03, 0.1, 0.3, 1.0)
SEEDS, TUNING_SEED = (1, 2, 3), 0
WITHIN = 0.05
"""Nats that unbiased CD may stay below the ceiling."""

LADDER = ex.ReplicaExchange(
    ex.BlockGibbs(), n_replicas=6, base=ex.Bernoulli(np.zeros(SIDE**2, np.float32))
)
OBJECTIVES = {
    "CD-1": lambda centred: ex.ContrastiveDivergence(centred=centred),
    "PCD-1": lambda centred: ex.PersistentContrastiveDivergence(n_chains=CHAINS, centred=centred),
    "tempered PCD-1": lambda centred: ex.TemperedContrastiveDivergence(
        n_chains=CHAINS, kernel=LADDER, centred=centred
    ),
    "unbiased CD": lambda centred: ex.UnbiasedContrastiveDivergence(
        n_pairs=CHAINS, k=10, m=1000, centred=centred
    ),
}
LIKE = {"unbiased CD": "tempered PCD-1"}
"""Whose settings are taken over."""
COLOURS = dict(zip(OBJECTIVES, (ORANGE, VERMILLION, GREEN, BLUE), strict=True))


def images(side: int = SIDE) -> np.ndarray:
    """Every choice of full rows, then every choice of full columns: all-on and all-off twice."""
    chosen = (np.arange(2**side)[:, None] >> np.arange(side)) & 1
    return np.concatenate([np.repeat(chosen, side, 1), np.tile(chosen, (1, side))]).astype(np.uint8)


ROWS = images()
CEILING = -(28 * np.log(32) + 4 * np.log(16)) / 32


@eqx.filter_jit
def log_likelihood(rbm: ex.RBM) -> jax.Array:
    """The mean over the rows, in nats, with log Z by listing the states of one layer."""
    return -jnp.mean(jax.vmap(rbm.energy)(jnp.asarray(ROWS, jnp.float32))) - (
        log_partition_enumerated(rbm)
    )


@functools.cache
def optimiser(rate: float, n_steps: int) -> optax.GradientTransformation:
    """SGD, its rate falling to 0 along a cosine."""
    return optax.chain(
        optax.clip_by_global_norm(CLIP), optax.sgd(optax.cosine_decay_schedule(rate, n_steps))
    )


def trained(
    name: str, rate: float, centred: bool, seed: int, n_steps: int, n_looks: int
) -> dict[str, Any]:
    """One run: exact log-likelihoods and seconds of training at every look."""
    objective, steps = OBJECTIVES[name](centred), optimiser(rate, n_steps)
    keys = jax.random.split(ex.key(seed), 4)
    rbm = ex.RBM.init(keys[0], n_visible=SIDE**2, n_hidden=N_HIDDEN, scale=0.1)
    rows = objective.prepare(rbm, ROWS)
    state = TrainingState(
        rbm,
        steps.init(eqx.filter(rbm, trainable(rbm))),
        objective.init(rbm, rows, key=keys[1]),
        keys[2],
        jnp.zeros((), jnp.int32),
        scale=jnp.ones(()),
        calm=jnp.ones(()),
        average=None,
    )

    def chunk(state: TrainingState, n: int) -> Any:
        return jax.block_until_ready(
            run_chunk(
                state,
                objective,
                steps,
                Recipe(len(ROWS)),
                pack(rbm.space, rows),
                pack(rbm.space, rows),
                Order.unknown(len(ROWS)),
                keys[3],
                jnp.asarray(n),
                jnp.asarray(jnp.inf),
            )
        )

    chunk(state, 0)  # compiles
    found: dict[str, Any] = {"rate": rate, "centred": centred, "seed": seed}
    found |= {"step": [], "seconds": [], "nats": []}
    elapsed = 0.0
    for look in range(1, n_looks + 1):
        until = n_steps * look // n_looks
        clock = time.perf_counter()
        done = chunk(state, until - int(state.step))
        elapsed += time.perf_counter() - clock
        found["step"].append(until)
        found["seconds"].append(elapsed)
        if not bool(done.healthy):
            found["nats"].append(float("nan"))
            break
        state = done.state
        found["nats"].append(float(log_likelihood(state.energy)))
        found["last_measures"] = done.watch.means()
    return found


def best_settings(name: str, n_steps: int, n_looks: int, rates: Sequence[float]) -> dict[str, Any]:
    """The rate and centring that end highest on the tuning seed, and all runs there."""
    runs = [
        trained(name, rate, centred, TUNING_SEED, n_steps, n_looks)
        for rate in rates
        for centred in (False, True)
    ]
    best = max(runs, key=lambda run: float(np.nan_to_num(run["nats"][-1], nan=-np.inf)))
    return {"rate": best["rate"], "centred": best["centred"], "tuning": runs}


def figure(runs: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Nats below the ceiling against steps and against seconds, all seeds."""
    picture, axes = panels(2, 7.5, 2.9)
    for ax, against in zip(axes, ("step", "seconds"), strict=True):
        for name, found in runs.items():
            for i, run in enumerate(found):
                ax.plot(
                    run[against],
                    CEILING - np.asarray(run["nats"]),
                    color=COLOURS[name],
                    linewidth=1.2,
                    label=name if i == 0 else None,
                )
        ax.axhline(WITHIN, color=FAINT, linewidth=0.9, linestyle=(0, (4, 2)))
        ax.set_yscale("log")
        if against == "seconds":
            ax.set_xscale("log")
        dress(
            ax,
            x="gradient steps" if against == "step" else "seconds of training",
            y="nats below the ceiling",
            title=f"{SIDE} x {SIDE} bars and stripes" if against == "step" else "the same by time",
        )
        ax.minorticks_off()
    axes[0].annotate(
        f"{WITHIN:g}", (0.01, WITHIN), (0, 2), xycoords=("axes fraction", "data"),
        textcoords="offset points", fontsize=7, color=INK,
    )  # fmt: skip
    legend(axes[1], loc="lower left", bbox_to_anchor=(0.0, 0.2))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path)
    print(f"wrote {path}")


def shortfall(found: Sequence[dict[str, Any]]) -> list[float]:
    """Nats below the ceiling at the end of each run."""
    return [CEILING - run["nats"][-1] for run in found]


def main() -> None:
    options = parser(__doc__, "bars_and_stripes")
    options.add_argument("--steps", type=int, help="gradient steps (4,000; quick: 40)")
    options.add_argument("--resume", action="store_true", help="keep runs already in the results")
    options.add_argument("--figure", type=Path, help="file of the figure (default: by the results)")
    arguments = options.parse_args()
    use_cores(2)
    busy = warn_if_busy()
    n_steps = arguments.steps or (40 if arguments.quick else 4000)
    n_looks = 4 if arguments.quick else 40
    seeds, rates = (SEEDS[:1], RATES[-1:]) if arguments.quick else (SEEDS, RATES)
    path = arguments.output or RESULTS / "bars_and_stripes.json"
    known: dict[str, Any] = {}
    if arguments.resume and path.exists():
        before = json.loads(path.read_text())
        known = before["objectives"] if before["steps"] == n_steps else {}
    found: dict[str, Any] = {}

    def write(bars: list[Bar]) -> None:
        summary = {
            "versions": versions("energax", "jax", "jaxlib", "numpy", "optax", "equinox"),
            "busy_before": busy,
            "steps": n_steps,
            "chains": CHAINS,
            "clip": CLIP,
            "ceiling_nats": CEILING,
            "objectives": found,
            "bars": judge(bars) if bars else [],
        }
        save(arguments, "bars_and_stripes", summary)

    for name in OBJECTIVES:
        found[name] = known.get(name, {"runs": []})
        if "rate" not in found[name]:
            like = LIKE.get(name)
            settings = found[like] if like else best_settings(name, n_steps, n_looks, rates)
            found[name] |= {key: settings[key] for key in settings if key != "runs"}
            if like:
                found[name].pop("tuning")
            write([])
    for seed in seeds:  # all objectives with each, so that a run that is stopped compares them
        for name, one in found.items():
            if seed not in {run["seed"] for run in one["runs"]}:
                one["runs"].append(
                    trained(name, one["rate"], one["centred"], seed, n_steps, n_looks)
                )
                write([])
    runs = {name: one["runs"] for name, one in found.items()}
    side_by_side(
        f"{SIDE} x {SIDE} bars and stripes, {N_HIDDEN} hidden units, {n_steps} gradient steps",
        {
            "rate": {name: found[name]["rate"] for name in runs},
            "centred": {name: "yes" if found[name]["centred"] else "no" for name in runs},
            "nats below the ceiling: median": {
                name: float(np.median(shortfall(r))) for name, r in runs.items()
            },
            "worst seed": {name: max(shortfall(r)) for name, r in runs.items()},
            "seconds": {
                name: float(np.median([run["seconds"][-1] for run in r]))
                for name, r in runs.items()
            },
        },
        first="objective",
    )
    CONSOLE.print(f"the ceiling: {CEILING:.4f} nats a row", highlight=False)
    write(
        [
            Bar(
                "unbiased CD, nats below the ceiling (median)",
                float(np.median(shortfall(runs["unbiased CD"]))),
                WITHIN,
            )
        ]
    )
    if arguments.figure or not arguments.quick:
        figure(runs, arguments.figure or path.with_suffix(".png"))


if __name__ == "__main__":
    main()
