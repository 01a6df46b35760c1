"""Which sampler for which energy: effective samples a second of each kernel on several energies.

    python benchmarks/ess_per_second.py
    python benchmarks/ess_per_second.py --only "Funnel in 10-D"

32 chains of each kernel warm up (the tunable ones tune themselves), and then run for about as long
as each other; compiling and warm-up are not in the seconds. 500 draws are kept of each chain, as
far apart as the time allows, but not so far that they would be independent: a kernel that mixes
within a few steps has several runs of 500 draws instead, whose effective samples are added up.
Effective samples and R-hat are the worst over the statistics named with each energy: its
coordinates and E itself, or what a physicist would look at. A kernel that is not exact is marked:
its effective samples are of another distribution. Where R-hat is above 1.05 the chains have not
met, and the number of effective samples says nothing.

`Gibbs`, which evaluates E once an entry, runs on the network only: lattices and RBMs know their
conditionals, and `BlockGibbs` draws from these.

Results: `benchmarks/results/ess_per_second.json`, and the table as Markdown on the terminal.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from measuring import CONSOLE, parser, save, use_cores, versions, warn_if_busy
from peers.targets import gaussian, precision

import energax as ex
from energax import kernels
from energax.diagnostics import convergence
from energax.sampling import run_chains

THREADS = 2
N_CHAINS = 32
MIXED = 1.05
CORRELATED = 0.25
"""Draws are kept no farther apart than that one counts as about this share of an effective one."""

CONTINUOUS = {
    "RandomWalkMetropolis": {},
    "UnadjustedLangevin": {"step_size": 0.01},
    "MALA": {},
    "HMC": {},
    "NUTS": {},
}

LATTICE = {
    "RandomWalkMetropolis": {},
    "BlockGibbs": {},
    "PackedGibbs": {},
    "SwendsenWang": {},
    "Wolff": {},
}

BITS = {
    "RandomWalkMetropolis": {},
    "GibbsWithGradients": {},
    "DiscreteLangevin": {},
}


@dataclass(frozen=True)
class Case:
    """An energy, the kernels that run on it, and what is looked at."""

    energy: ex.AbstractEnergy
    kernels: dict[str, dict[str, Any]]
    statistics: Callable[[Any], Any]
    """Of one state: an array of numbers."""
    looked_at: str


def _network() -> ex.AbstractEnergy:
    network = eqx.nn.MLP(64, "scalar", 64, 2, activation=jax.nn.silu, key=ex.key(0))
    # As it is initialised hardly anything depends on x.
    steep = eqx.tree_at(lambda n: n.layers[-1].weight, network, replace_fn=lambda w: 30 * w)
    return ex.NeuralEnergy(steep, ex.Binary(64))


def cases(quick: bool) -> dict[str, Case]:
    """All of them by name."""
    side, sizes = (8, (32, 16)) if quick else (32, (784, 500))
    inverse = jnp.asarray(precision(100, 100.0), jnp.float32)

    def magnetisation(x):
        return jnp.abs(jnp.mean(x))[None]

    def ising(beta: float) -> Case:
        model = ex.Ising((side, side), coupling=beta)
        return Case(model, LATTICE, magnetisation, "E, size of the magnetisation")

    def every(x):
        return x

    def mean(x):
        return jnp.mean(x)[None]

    rbm = ex.RBM.init(ex.key(0), n_visible=sizes[0], n_hidden=sizes[1], scale=0.1)
    on_rbm, on_network = {"BlockGibbs": {}, **BITS}, {"Gibbs": {}, **BITS}
    at = f"Ising {side} x {side}"
    return {
        "Double well in 2-D": Case(ex.DoubleWell(shape=2), CONTINUOUS, every, "E, x"),
        "Banana": Case(ex.Banana(), CONTINUOUS, every, "E, x"),
        "Funnel in 10-D": Case(ex.Funnel(10), CONTINUOUS, lambda x: x[:1], "E, v"),
        "Gaussian in 100-D, condition 100": Case(
            ex.NeuralEnergy(lambda x: -gaussian(x, inverse), ex.Real(100)),
            CONTINUOUS,
            every,
            "E, x",
        ),
        f"{at}, beta = 0.3": ising(0.3),
        f"{at}, beta = 0.4407 (critical)": ising(float(np.log1p(np.sqrt(2)) / 2)),
        f"RBM {sizes[0]} x {sizes[1]}": Case(rbm, on_rbm, mean, "E, mean x"),
        "Network on 64 bits": Case(_network(), on_network, mean, "E, mean x"),
    }


def measure(case: Case, kernel: ex.AbstractKernel, quick: bool, seconds: float) -> dict[str, Any]:
    """One kernel on one energy."""
    n_draws, warmup = (100, 50) if quick else (500, 1000)
    kernel.check(case.energy)

    def run(kernel, x, key, warmup, thin):
        start = time.perf_counter()
        found = run_chains(
            case.energy,
            kernel,
            x,
            key,
            n_draws=n_draws,
            warmup=jnp.asarray(warmup, jnp.int32),
            thin=jnp.asarray(thin, jnp.int32),
            collect=case.statistics,
        )
        jax.block_until_ready(found)
        return found, time.perf_counter() - start

    x = jax.vmap(case.energy.space.draw)(jax.random.split(ex.key(0), N_CHAINS))
    found, first = run(kernel, x, ex.key(1), warmup, 1)
    once = first
    # Twice, as a kernel that has been tuned may be compiled anew.
    for i in (2, 3):
        found, once = run(found.kernel, found.states.x, ex.key(i), 0, 1)
    share = worst(found)["ess"] / (n_draws * N_CHAINS)
    thin = max(1, min(int(seconds / once), int(CORRELATED / share)))
    n_runs = min(50, max(1, int(seconds / (once * thin))))
    # The chains go on for half as many steps as will be looked at.
    found, _ = run(found.kernel, found.states.x, ex.key(4), n_draws * thin * n_runs // 2, 1)
    taken, checked = 0.0, []
    for i in range(n_runs):
        found, more = run(found.kernel, found.states.x, ex.key(5 + i), 0, thin)
        taken += more
        checked.append(worst(found))
    ess = sum(c["ess"] for c in checked)
    return {
        "exact": bool(kernel.is_exact),
        "ess": ess,
        "rhat": float(np.median([c["rhat"] for c in checked])),
        "seconds": taken,
        "ess_per_second": ess / taken,
        "us_per_step": 1e6 * taken / (n_draws * thin * n_runs * N_CHAINS),
        "steps_per_draw": thin,
        "runs": n_runs,
        "acceptance": float(np.mean(found.acceptance)),
        "first_run_seconds": first,
    }


def worst(found: Any) -> dict[str, float]:
    """The fewest effective samples and the largest R-hat of a run."""
    seen = np.concatenate([found.energy[..., None], found.kept], -1).astype(np.float64)
    checked = convergence(seen)
    return {"ess": float(np.min(checked.ess_bulk)), "rhat": float(np.max(checked.rhat))}


def two_digits(value: float) -> str:
    """A number to two significant digits, in full."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


def markdown(results: dict[str, dict[str, dict[str, Any]]], looked_at: dict[str, str]) -> str:
    """The table."""
    heads = "| energy | kernel | ESS a second | R-hat | us a step of one chain |"
    lines = [heads, "| --- | --- | ---: | ---: | ---: |"]
    for case, found in results.items():
        for i, (kernel, f) in enumerate(found.items()):
            name = f"{case} ({looked_at[case]})" if i == 0 else ""
            rate = two_digits(f["ess_per_second"]) if f["rhat"] < MIXED else "not mixed"
            shown = f"`{kernel}`" + ("" if f["exact"] else " (inexact)")
            step = two_digits(f["us_per_step"])
            lines.append(f"| {name} | {shown} | {rate} | {f['rhat']:.2f} | {step} |")
    return "\n".join(lines)


def main() -> None:
    options = parser(__doc__, "ess_per_second")
    options.add_argument("--seconds", type=float, help="of each kernel's run (1; quick: 0.05)")
    options.add_argument("--only", nargs="+", help="these energies only")
    arguments = options.parse_args()
    seconds = arguments.seconds or (0.05 if arguments.quick else 1.0)
    use_cores(THREADS)
    busy = warn_if_busy()
    results: dict[str, dict[str, dict[str, Any]]] = {}
    looked_at = {}
    for name, case in cases(arguments.quick).items():
        if arguments.only and name not in arguments.only:
            continue
        looked_at[name] = case.looked_at
        results[name] = {}
        for kernel, settings in case.kernels.items():
            made = getattr(kernels, kernel)(**settings)
            results[name][kernel] = measure(case, made, arguments.quick, seconds)
            rate = results[name][kernel]["ess_per_second"]
            CONSOLE.print(f"{name}, {kernel}: {rate:.3g} a second", highlight=False)
    print(markdown(results, looked_at))
    save(
        arguments,
        "ess_per_second",
        {
            "versions": versions("energax", "blackjax", "jax", "jaxlib", "numpy"),
            "busy_before": busy,
            "threads": THREADS,
            "chains": N_CHAINS,
            "looked_at": looked_at,
            "results": results,
        },
    )


if __name__ == "__main__":
    main()
