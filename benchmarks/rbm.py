"""An RBM of 784 visible and 500 hidden units: training, sampling and annealing beside peers.

    python benchmarks/rbm.py
    python benchmarks/rbm.py --skip-peers

Four things are timed, each as the milliseconds of one step in a batch (or with chains) of 100,
float32: a CD-1 update, a PCD-1 update, a step of block Gibbs (with 10 and 1,000 chains too), and
a temperature of annealed importance sampling. energax's are the programs that ship: the compiled
chunk of `fit`, `run_chains`, which `sample` calls, with `BlockGibbs`, and `anneal`. The floor is
the same kind of compiled loop with nothing in it but the matrix products the step cannot do
without.
Peers run in environments of their own (see environments.py) as worker processes that wait while
another is timed. All take turns, round after round; a ratio is taken within each round.

Rows are MNIST's, binarised, if ENERGAX_DATA names a folder with `mnist_binarised.npz` (packed
`train_bits`), else random ones as dark as MNIST. The table goes to the terminal and to
`benchmarks/results/rbm.json`.
"""

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from measuring import (
    CONSOLE,
    Bar,
    Spread,
    judge,
    parser,
    peak_mebibytes,
    per_step,
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
from rich.table import Table

import energax as ex
from energax.energies import trainable
from energax.partition import anneal
from energax.sampling import run_chains
from energax.training._step import Order, Recipe, TrainingState, pack, run_chunk

THREADS = 2
N_VISIBLE, N_HIDDEN, BATCH = 784, 500, 100

PEERS = {
    "PyTorch": ("torch_rbm.py", "torch"),
    "scikit-learn": ("sklearn_rbm.py", "scikit-learn"),
    "rbms": ("rbms_rbm.py", "rbms"),
    "NumPy": ("numpy_rbm.py", "scikit-learn"),
    "ebmkit": ("ebmkit_rbm.py", "ebmkit"),
}
"""Each peer's worker and the environment it runs in."""

TASKS = {
    "cd1": "CD-1 update",
    "pcd1": "PCD-1 update",
    "gibbs": "block Gibbs step, 100 chains",
    "anneal": "annealing step, 100 chains",
}

PRODUCTS = {"cd1": 5, "pcd1": 6, "gibbs": 2, "anneal": 2}
"""Matrix products in the floor of each task; none of them can be left out of the task."""

COMPARED = {
    "cd1": (("PyTorch", "cd1"), ("scikit-learn", "pcd1"), ("rbms", "cd1")),
    "pcd1": (("PyTorch", "pcd1"), ("scikit-learn", "pcd1"), ("rbms", "pcd1")),
    "gibbs": (("PyTorch", "gibbs"), ("rbms", "gibbs"), ("ebmkit", "gibbs")),
    "anneal": (("PyTorch", "anneal"), ("NumPy", "anneal"), ("rbms", "anneal")),
}
"""For each task the peers it is compared with, and which task of theirs."""

CURVE = (10, 1000)
"""Other numbers of chains for block Gibbs."""

ON_CURVE = ("PyTorch", "rbms")

NOTES = (
    "floor: the products alone, five for CD-1, six for PCD-1, two for a step of block Gibbs or"
    " annealing.",
    "scikit-learn has PCD-1 only, in five products: its chains keep hidden units drawn with the"
    " weights of the update before. It stands in both training tables.",
    "rbms, CD-1: seven products (it computes the hidden units of the data three times) and a"
    " gradient divided by its norm, which cannot be switched off; PCD-1: six products.",
    "rbms, block Gibbs: `sample_state`; ebmkit: `GibbsSampler` on its `RBM`, both as they come.",
    "rbms, annealing: the same estimator with five products a temperature, and the parameters"
    " interpolated anew. Its base has the model's own visible biases; ours has base rates.",
    "PyTorch and NumPy: loops written for this comparison, with as few products as energax.",
)


def load_rows(n: int) -> np.ndarray:
    """`n` rows of 784 zeros and ones (uint8)."""
    folder = os.environ.get("ENERGAX_DATA")
    if folder:
        with np.load(Path(folder) / "mnist_binarised.npz") as file:
            packed = file["train_bits"]
        return np.unpackbits(np.resize(packed, (n, packed.shape[1])), axis=1)
    # A blot in the middle of 28 x 28 pixels, with a share of ones near MNIST's 0.13.
    y, x = np.mgrid[-13.5:14, -13.5:14]
    rate = 0.5 * np.exp(-(x**2 + y**2) / 72)
    uniform = np.random.default_rng(0).random((n, N_VISIBLE), np.float32)
    return (uniform < rate.ravel()).astype(np.uint8)


def compiled(function: Any, *arguments: Any, **settings: Any) -> tuple[Callable[[], Any], float]:
    """A jitted function as a program without arguments, and the seconds compiling it took."""
    start = time.perf_counter()
    program = function.lower(*arguments, **settings).compile()
    seconds = time.perf_counter() - start
    jax.block_until_ready(program(*arguments, **settings))
    return lambda: program(*arguments, **settings), seconds


def training(objective: ex.AbstractObjective, rows: np.ndarray, n_steps: int) -> Any:
    """energax's training: the chunk that `fit` runs, with plain SGD."""
    rbm = ex.RBM.init(ex.key(0), n_visible=N_VISIBLE, n_hidden=N_HIDDEN)
    data = objective.prepare(rbm, rows)
    optimizer = optax.sgd(0.01)
    state = TrainingState(
        rbm,
        optimizer.init(eqx.filter(rbm, trainable(rbm))),
        objective.init(rbm, data, key=ex.key(1)),
        ex.key(2),
        jnp.zeros((), jnp.int32),
        scale=jnp.ones(()),
        calm=jnp.ones(()),
        average=None,
    )
    return compiled(
        run_chunk,
        state,
        objective,
        optimizer,
        Recipe(BATCH),
        pack(rbm.space, data),
        pack(rbm.space, data),
        Order.unknown(len(rows)),
        ex.key(3),
        jnp.asarray(n_steps),
        jnp.asarray(1e9, jnp.float32),
    )


def annealing(rows: np.ndarray, n_steps: int) -> Any:
    """energax's annealing of 100 chains from the rows' base rates to a model."""
    rbm = ex.RBM.init(ex.key(0), n_visible=N_VISIBLE, n_hidden=N_HIDDEN, scale=0.05)
    start = ex.path(ex.Bernoulli.from_data(rows), rbm)
    betas = jnp.linspace(0, 1, n_steps + 1)

    def program() -> jax.Array:
        return anneal(start, ex.BlockGibbs(), betas, ex.key(1), n_chains=BATCH).log_weights

    seconds = []
    for _ in range(2):  # the first run compiles
        clock = time.perf_counter()
        jax.block_until_ready(program())
        seconds.append(time.perf_counter() - clock)
    return program, seconds[0] - seconds[1]


def gibbs(rows: np.ndarray, n_steps: int, n_chains: int = BATCH) -> Any:
    """energax's block Gibbs sampling of chains that start from rows, as `sample` runs it."""
    rbm = ex.RBM.init(ex.key(0), n_visible=N_VISIBLE, n_hidden=N_HIDDEN, scale=0.05)
    x = jnp.asarray(rows[:n_chains], jnp.float32)
    none, steps = jnp.zeros((), jnp.int32), jnp.asarray(n_steps, jnp.int32)
    settings = {"n_draws": 1, "warmup": none, "thin": steps}
    return compiled(run_chains, rbm, ex.BlockGibbs(), x, ex.key(1), **settings)


# The floors. Barriers keep each product whole and in its place; a result's corner goes into the
# weights (or the chains) of the next step, so that no product can be left out or done once only.


def _touch(array: jax.Array, *results: jax.Array) -> jax.Array:
    corner = sum((result[0, 0] for result in results), jnp.zeros(()))
    return array.at[0, 0].add(jnp.clip(corner, -1e-9, 1e-9))


@jax.jit
def five_products(weights: jax.Array, v: jax.Array, n_steps: jax.Array) -> jax.Array:
    """v W, h W^T, v' W, v^T h and v'^T h', over and over."""

    def body(_, weights: jax.Array) -> jax.Array:
        h = lax.optimization_barrier(v @ weights)
        v1 = lax.optimization_barrier(h @ weights.T)
        h1 = lax.optimization_barrier(v1 @ weights)
        return _touch(weights, *lax.optimization_barrier((v.T @ h, v1.T @ h1)))

    return lax.fori_loop(0, n_steps, body, weights)


@jax.jit
def six_products(weights: jax.Array, v: jax.Array, x: jax.Array, n_steps: jax.Array) -> jax.Array:
    """As `five_products`, the chains starting from states of their own."""

    def body(_, weights: jax.Array) -> jax.Array:
        h = lax.optimization_barrier(v @ weights)
        h0 = lax.optimization_barrier(x @ weights)
        v1 = lax.optimization_barrier(h0 @ weights.T)
        h1 = lax.optimization_barrier(v1 @ weights)
        return _touch(weights, *lax.optimization_barrier((v.T @ h, v1.T @ h1)))

    return lax.fori_loop(0, n_steps, body, weights)


@jax.jit
def two_products(weights: jax.Array, v: jax.Array, n_steps: jax.Array) -> jax.Array:
    """v W and h W^T, over and over."""

    def body(_, v: jax.Array) -> jax.Array:
        h = lax.optimization_barrier(v @ weights)
        return _touch(v, lax.optimization_barrier(h @ weights.T))

    return lax.fori_loop(0, n_steps, body, v)


def floor(
    function: Any, task: str, rows: np.ndarray, n_steps: int, n_chains: int = BATCH
) -> Callable[[], Any]:
    """A task's floor as a program, after a look that its products are all still there."""
    n_products = PRODUCTS[task]
    weights = 0.01 * jax.random.normal(ex.key(0), (N_VISIBLE, N_HIDDEN))
    starts = [jnp.asarray(rows[:n_chains], jnp.float32)]
    if n_products == 6:
        starts.append(jnp.asarray(rows[BATCH : 2 * BATCH], jnp.float32))
    arguments = (weights, *starts, jnp.asarray(n_steps))
    found = function.lower(*arguments).compile().as_text().count(" dot(")
    # Where the compiler calls a library there is no "dot" to count.
    if found and found != n_products:
        raise RuntimeError(f"the floor of {n_products} products was compiled to {found}")
    return compiled(function, *arguments)[0]


@contextlib.contextmanager
def running_peers(
    rows: np.ndarray, names: Sequence[str] = tuple(PEERS), n_chains: int = BATCH, **settings: Any
) -> Iterator[dict[str, Peer]]:
    """Peers, started and warmed up."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "rows.npy"
        np.save(place, rows)
        given = {**settings_for(place), "batch_size": n_chains, **settings}
        yield {name: stack.enter_context(Peer(*PEERS[name], given)) for name in names}


def settings_for(rows: Path) -> dict[str, Any]:
    """What every worker is given; `rows` is the file of rows."""
    return {
        "rows": str(rows),
        "n_visible": N_VISIBLE,
        "n_hidden": N_HIDDEN,
        "batch_size": BATCH,
        "threads": THREADS,
    }


def on_curve(
    rows: np.ndarray, n_steps: int, rounds: int, skip_peers: bool
) -> dict[int, dict[str, list[float]]]:
    """Seconds of a step of block Gibbs for other numbers of chains."""
    found = {}
    for n_chains in CURVE:
        steps = n_steps if n_chains < BATCH else max(1, n_steps // 5)
        blocks = {
            "energax": per_step(gibbs(rows, steps, n_chains)[0], steps),
            "floor": per_step(floor(two_products, "gibbs", rows, steps, n_chains), steps),
        }
        names = () if skip_peers else ON_CURVE
        with running_peers(rows, names, n_chains, warm_up=["gibbs"]) as peers:
            blocks |= {name: peer.block("gibbs", steps) for name, peer in peers.items()}
            found[n_chains] = take_turns(blocks, rounds)
    return found


def report(task: str, seconds: dict[str, list[float]]) -> None:
    """One task's table."""
    table = Table(title=TASKS[task])
    table.add_column("program")
    table.add_column("ms a step: median (range)", justify="right")
    table.add_column("energax takes, of this: median (range)", justify="right")
    for name, times in seconds.items():
        each = spread([1000 * t for t in times])
        share = "" if name == "energax" else str(ratios(seconds["energax"], times))
        table.add_row(name, str(each), share)
    CONSOLE.print(table)


def floor_rates(results: dict[str, dict[str, list[float]]]) -> dict[str, Spread]:
    """The GFLOP/s that each floor reaches: how fast products are here, on which ratios depend."""
    flops = 2 * N_VISIBLE * N_HIDDEN * BATCH
    return {
        task: spread([PRODUCTS[task] * flops / t / 1e9 for t in seconds["floor"]])
        for task, seconds in results.items()
    }


def bars(results: dict[str, dict[str, list[float]]]) -> list[Bar]:
    """What is asked of energax."""
    drawn, annealed = results["gibbs"], results["anneal"]
    found = [
        Bar("CD-1 update over its five products", _median(results["cd1"], "energax", "floor"), 1.2),
        Bar(
            "PCD-1 update over its six products", _median(results["pcd1"], "energax", "floor"), 1.2
        ),
        Bar("block Gibbs step over its two products", _median(drawn, "energax", "floor"), 1.25),
        Bar("annealing step over its two products", _median(annealed, "energax", "floor"), 1.4),
    ]
    for task, name in (("cd1", "CD-1"), ("pcd1", "PCD-1")):
        for peer in ("scikit-learn", "PyTorch", "rbms"):
            if peer in results[task]:
                value = _median(results[task], peer, "energax")
                bar = Bar(f"{peer}'s update over energax's {name}", value, 2.0, at_most=False)
                found.append(bar)
    if "rbms" in drawn:
        value = _median(drawn, "rbms", "energax")
        found.append(Bar("rbms's block Gibbs step over energax's", value, 2.5, at_most=False))
    for peer, least in (("rbms", 5.0), ("NumPy", 20.0)):
        if peer in annealed:
            value = _median(annealed, peer, "energax")
            found.append(Bar(f"{peer}'s temperature over energax's", value, least, at_most=False))
    return found


def _median(seconds: dict[str, list[float]], above: str, below: str) -> float:
    return ratios(seconds[above], seconds[below]).median


def main() -> None:
    options = parser(__doc__, "rbm")
    options.add_argument("--rounds", type=int, help="timed turns of each program (11; quick: 3)")
    options.add_argument("--steps", type=int, help="steps in each timing (200; quick: 20)")
    options.add_argument("--skip-peers", action="store_true", help="energax and the floor only")
    arguments = options.parse_args()
    rounds = arguments.rounds or (3 if arguments.quick else 11)
    n_steps = arguments.steps or (20 if arguments.quick else 200)
    use_cores(THREADS)
    busy = warn_if_busy()

    rows = load_rows(max(20_000, n_steps * BATCH))
    memory = {"before the first program": peak_mebibytes()}
    programs, compile_seconds = {}, {}
    for task, make in (
        ("cd1", lambda: training(ex.ContrastiveDivergence(n_steps=1), rows, n_steps)),
        (
            "pcd1",
            lambda: training(ex.PersistentContrastiveDivergence(n_chains=BATCH), rows, n_steps),
        ),
        ("gibbs", lambda: gibbs(rows, n_steps)),
        ("anneal", lambda: annealing(rows, n_steps)),
    ):
        programs[task], compile_seconds[task] = make()
        memory[f"after {TASKS[task]}"] = peak_mebibytes()
    floors = {
        "cd1": floor(five_products, "cd1", rows, n_steps),
        "pcd1": floor(six_products, "pcd1", rows, n_steps),
        "gibbs": floor(two_products, "gibbs", rows, n_steps),
        "anneal": floor(two_products, "anneal", rows, n_steps),
    }

    results, peer_versions = {}, {}
    with contextlib.ExitStack() as stack:
        peers = {} if arguments.skip_peers else stack.enter_context(running_peers(rows))
        for name, peer in peers.items():
            peer_versions[name] = peer.versions
        for task in TASKS:
            blocks = {
                "energax": per_step(programs[task], n_steps),
                "floor": per_step(floors[task], n_steps),
            }
            for name, theirs in COMPARED[task]:
                if name in peers:
                    blocks[name] = peers[name].block(theirs, n_steps)
            results[task] = take_turns(blocks, rounds)
            report(task, results[task])

    curve = on_curve(rows, n_steps, min(rounds, 7), arguments.skip_peers)
    shown = curve | {BATCH: results["gibbs"]}
    side_by_side(
        "block Gibbs, ms a step of all chains: median (range)",
        {
            name: {str(n): str(spread([1000 * t for t in shown[n][name]])) for n in sorted(shown)}
            for name in curve[CURVE[0]]
        },
        first="chains",
    )
    CONSOLE.print("\n".join(NOTES), style="dim", markup=False)
    for task, rate in (rates := floor_rates(results)).items():
        CONSOLE.print(f"the floor of the {TASKS[task]}: {rate} GFLOP/s", highlight=False)
    for task, seconds in compile_seconds.items():
        CONSOLE.print(f"compiling energax's {TASKS[task]}: {seconds:.2f} s", highlight=False)
    for when, size in memory.items():
        CONSOLE.print(f"peak memory {when}: {size:.0f} MiB", highlight=False)
    save(
        arguments,
        "rbm",
        {
            "versions": versions("energax", "jax", "jaxlib", "numpy", "optax", "equinox"),
            "peer_versions": peer_versions,
            "busy_before": busy,
            "threads": THREADS,
            "shape": [N_VISIBLE, N_HIDDEN],
            "batch": BATCH,
            "rows": "MNIST" if os.environ.get("ENERGAX_DATA") else "random",
            "steps": n_steps,
            "rounds": rounds,
            "notes": NOTES,
            "seconds_per_step": results,
            "gibbs_curve_seconds_per_step": curve,
            "energax_over": {
                task: {
                    name: vars(ratios(seconds["energax"], times))
                    for name, times in seconds.items()
                    if name != "energax"
                }
                for task, seconds in results.items()
            },
            "floor_gflop_per_second": {task: vars(rate) for task, rate in rates.items()},
            "compile_seconds": compile_seconds,
            "peak_mebibytes": memory,
            "bars": judge(bars(results)),
        },
    )


if __name__ == "__main__":
    main()
