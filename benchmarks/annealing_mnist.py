"""log Z of trained RBMs on MNIST: standard errors, brackets, and memory.

    ENERGAX_DATA=folder python benchmarks/annealing_mnist.py

The folder holds `mnist_binarised.npz`, as for `main_job.py`. Machines of 784 visible and 16 or 500
hidden units are trained by `energax fit` (20 and 60 epochs, some ten minutes), once: they are kept
in the folder that --models names. Then

- the large machine is annealed with 100 chains over 14,500 temperatures from base rates, with five
  keys: how large is the standard error, which few weights decide and which differs from key to
  key; how long does a temperature take;
- it is bracketed with 1,000 chains each way: how wide is the bracket;
- the small machine is bracketed too, by 32 replicas, as its modes lie far apart: does the bracket
  hold the exact log Z;
- 10,000 chains of a machine as large are annealed in a process of its own: how much memory does
  that take beside what 10 chains take, in units of the chains themselves.

How a temperature compares with rbms, NumPy and the bare matrix products is in `rbm.py`. Results go
to the terminal and to `benchmarks/results/annealing_mnist.json`.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from environments import folder
from measuring import (
    CONSOLE,
    Bar,
    judge,
    parser,
    peak_mebibytes,
    save,
    use_cores,
    versions,
    warn_if_busy,
)

THREADS = 2
DATA = "mnist_binarised.npz"
EPOCHS = {16: 20, 500: 60}
N_TEMPERATURES = 14_500
MANY_CHAINS = 10_000


def base_rates(path: Path) -> Any:
    """Independent pixels with the rates of the training rows."""
    import energax as ex

    with np.load(path) as file:
        rows = np.unpackbits(file["train_bits"], axis=1)
    return ex.Bernoulli.from_data(rows.astype(np.float32))


def trained(models: Path, data: Path, n_hidden: int) -> Any:
    """The machine, trained if it is not there."""
    import energax as ex

    path = models / f"rbm-784x{n_hidden}.energax"
    if not path.exists():
        models.mkdir(parents=True, exist_ok=True)
        program = Path(sys.executable).with_name("energax")
        command = [program, "fit", data, "--hidden", n_hidden, "--epochs", EPOCHS[n_hidden]]
        command = [*map(str, command), "--out", str(path)]
        CONSOLE.print(f"$ {' '.join(command)}", highlight=False, soft_wrap=True)
        subprocess.run(command, check=True)
    return ex.load(path)


def memory(n_chains: int) -> dict[str, float]:
    """Peak memory of annealing so many chains, in a process of its own."""
    command = [sys.executable, __file__, "--memory", str(n_chains)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def anneal_for_memory(n_chains: int) -> None:
    """What that process does: it prints its peak, and the chains' own size, in MiB."""
    import jax.numpy as jnp

    import energax as ex
    from energax.kernels import start_chains
    from energax.partition import anneal

    rbm = ex.RBM.init(ex.key(0), n_visible=784, n_hidden=500, scale=0.05)
    path = ex.path(ex.Bernoulli(jnp.zeros(784)), rbm)
    betas = jnp.linspace(0.0, 1.0, 21)
    anneal(path, ex.BlockGibbs(), betas, ex.key(0), n_chains=n_chains).x.block_until_ready()
    peak = peak_mebibytes()
    import jax

    states = jax.eval_shape(
        lambda x: start_chains(path, ex.BlockGibbs(), x, ex.key(0)),
        jax.ShapeDtypeStruct((n_chains, 784), jnp.float32),
    )
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(states))
    print(json.dumps({"peak": peak, "chains": size / 2**20}))


def record(z: Any, seconds: float) -> dict[str, Any]:
    """An estimate for the results."""
    names = ("value", "lower", "upper", "std_error", "trusted", "reason", "method")
    return {name: getattr(z, name) for name in names} | {"seconds": seconds}


def timed(work: Any) -> tuple[Any, float]:
    clock = time.perf_counter()
    return work(), time.perf_counter() - clock


def main() -> None:
    options = parser(__doc__, "annealing_mnist")
    options.add_argument("--models", type=Path, help="where trained machines are kept")
    options.add_argument("--memory", type=int, help="a process of its own: chains to anneal")
    arguments = options.parse_args()
    use_cores(THREADS)
    if arguments.memory:
        anneal_for_memory(arguments.memory)
        return
    if not os.environ.get("ENERGAX_DATA"):
        sys.exit(f"ENERGAX_DATA must name a folder with {DATA}")
    busy = warn_if_busy()
    import energax as ex

    data = Path(os.environ["ENERGAX_DATA"]).resolve() / DATA
    models = arguments.models or folder() / "models"
    base = base_rates(data)
    small, large = (trained(models, data, n) for n in (16, 500))
    n_temperatures = 200 if arguments.quick else N_TEMPERATURES
    n_chains = 100 if arguments.quick else 1000

    def bracket(model: Any, n_replicas: int | None = None) -> tuple[Any, float]:
        return timed(
            lambda: ex.log_partition(
                model,
                key=ex.key(2),
                method="bracket",
                base=base,
                n_chains=n_chains,
                n_temperatures=n_temperatures,
                n_replicas=n_replicas,
            )
        )

    def annealed(seed: int) -> tuple[Any, float]:
        return timed(
            lambda: ex.log_partition(
                large,
                key=ex.key(seed),
                method="annealing",
                base=base,
                n_temperatures=n_temperatures,
            )
        )

    ups = [annealed(seed) for seed in range(1, 2 if arguments.quick else 6)]
    for up, seconds in ups:
        CONSOLE.print(f"100 chains: {up.summary}, {seconds:.0f} s", highlight=False)
    error = float(np.median([up.std_error for up, _ in ups]))
    wide, wide_seconds = bracket(large)
    CONSOLE.print(f"{n_chains} chains: {wide.summary}, {wide_seconds:.0f} s", highlight=False)
    exact = ex.log_partition(small, key=ex.key(0)).value
    held, held_seconds = bracket(small, 32)
    CONSOLE.print(f"784 x 16: {held.summary}; exact {exact:.4f}", highlight=False)
    few, many = memory(10), memory(MANY_CHAINS)
    times = (many["peak"] - few["peak"]) / many["chains"]
    CONSOLE.print(f"{MANY_CHAINS} chains: {many['chains']:.0f} MiB, at most {times:.1f} times held")

    parts = {name: wide.diagnostics[name] for name in ("forward", "reverse", "mbar")}
    summary = {
        "versions": versions("energax", "jax", "numpy"),
        "busy_before": busy,
        "threads": THREADS,
        "n_temperatures": n_temperatures,
        "annealed": [record(up, seconds) for up, seconds in ups],
        "seconds_a_temperature": min(seconds for _, seconds in ups) / n_temperatures,
        "bracket": record(wide, wide_seconds),
        "bracket_parts": {name: record(z, float("nan")) for name, z in parts.items()},
        "small": record(held, held_seconds) | {"exact": exact},
        "memory_mebibytes": {"10 chains": few, f"{MANY_CHAINS} chains": many},
        "bars": judge(
            [
                Bar("standard error with 100 chains, nats, median", error, 0.15),
                Bar("width of the bracket, nats", wide.upper - wide.lower, 0.5),
                Bar(
                    "784 x 16: exact log Z less the lower end",
                    exact - held.lower,
                    0.0,
                    at_most=False,
                ),
                Bar(
                    "784 x 16: upper end less the exact log Z", held.upper - exact, 0, at_most=False
                ),
                Bar("memory over that of the chains", times, 4.0),
            ]
        ),
    }
    save(arguments, "annealing_mnist", summary)


if __name__ == "__main__":
    main()
