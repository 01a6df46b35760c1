"""Objectives side by side on densities in the plane: held-out log-likelihood and time.

    python benchmarks/toy_densities.py

Eight Gaussians, two spirals, a checkerboard, rings and a pinwheel, each with an exact sampler. One
network under a wide Gaussian that is not trained learns each of them by every objective, from the
same rows and the same start, with the same optimiser, batches and number of steps: what differs is
the objective alone, and none has been tuned to a density. log Z is by a grid, in the plane exact to
what the table shows; that by a grid half as fine stands beside it in the results. Where
the density itself is known, so is the best that can be reached. Results go to the terminal and to
`benchmarks/results/toy_densities.json`.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from measuring import CONSOLE, parser, save, use_cores, versions, warn_if_busy
from rich.table import Table

import energax as ex
from energax.objectives import Step, value_and_gradient

THREADS = 2
REACH = 10.0
"""The grid's ends: the wide Gaussian has no mass beyond."""
FINE, COARSE = 800, 400
"""Points a side of the grids of the table."""
SPREAD = 2.5
"""The standard deviation of the wide Gaussian."""


# --- densities ---------------------------------------------------------------------------------

Draw = Callable[[np.random.Generator, int], np.ndarray]


def eight_gaussians(generator: np.random.Generator, n: int) -> np.ndarray:
    """On a circle of radius 3, each of standard deviation 0.3."""
    angle = 2 * np.pi * generator.integers(0, 8, n) / 8
    middle = 3 * np.stack([np.cos(angle), np.sin(angle)], 1)
    return middle + 0.3 * generator.normal(size=(n, 2))


def two_spirals(generator: np.random.Generator, n: int) -> np.ndarray:
    """One and a half turns out to a radius of 3, and the same turned by half a turn."""
    angle = 3 * np.pi * np.sqrt(generator.random(n))
    side = np.where(generator.random(n) < 0.5, 1.0, -1.0) * angle / np.pi
    arm = side[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return arm + 0.1 * generator.normal(size=(n, 2))


def checkerboard(generator: np.random.Generator, n: int) -> np.ndarray:
    """Uniform on the eight dark fields of a board of 4 x 4, 6 wide."""
    row = generator.integers(0, 4, n)
    column = 2 * generator.integers(0, 2, n) + row % 2
    return 1.5 * (np.stack([column, row], 1) + generator.random((n, 2))) - 3.0


def rings(generator: np.random.Generator, n: int) -> np.ndarray:
    """Three circles of radius 1, 2 and 3, normal across with standard deviation 0.1."""
    radius = generator.integers(1, 4, n) + 0.1 * generator.normal(size=n)
    angle = 2 * np.pi * generator.random(n)
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def pinwheel(generator: np.random.Generator, n: int) -> np.ndarray:
    """Five normal arms, 0.3 by 0.1 about a radius of 1 and twice as large, bent by e^r."""
    arm = 2 * np.pi * generator.integers(0, 5, n) / 5
    along = 1 + 0.3 * generator.normal(size=n)
    across = 0.1 * generator.normal(size=n)
    angle = arm + 0.25 * np.exp(along)
    turned = [
        along * np.cos(angle) - across * np.sin(angle),
        along * np.sin(angle) + across * np.cos(angle),
    ]
    return 2 * np.stack(turned, 1)


def _log_eight(x: np.ndarray) -> np.ndarray:
    angle = 2 * np.pi * np.arange(8) / 8
    middle = 3 * np.stack([np.cos(angle), np.sin(angle)], 1)
    square = ((x[:, None] - middle) ** 2).sum(-1)
    each = np.exp(-square / (2 * 0.3**2)) / (2 * np.pi * 0.3**2)
    return np.log(each.mean(1))


def _log_rings(x: np.ndarray) -> np.ndarray:
    radius = np.hypot(*x.T)
    across = (radius[:, None] - [1.0, 2.0, 3.0]) / 0.1
    density = np.exp(-0.5 * across**2).mean(1) / (0.1 * np.sqrt(2 * np.pi))
    return np.log(density / (2 * np.pi * radius))


def _log_checkerboard(x: np.ndarray) -> np.ndarray:
    return np.full(len(x), -np.log(8 * 1.5**2))


DENSITIES: dict[str, tuple[Draw, Callable[[np.ndarray], np.ndarray] | None]] = {
    "8 gaussians": (eight_gaussians, _log_eight),
    "2 spirals": (two_spirals, None),
    "checkerboard": (checkerboard, _log_checkerboard),
    "rings": (rings, _log_rings),
    "pinwheel": (pinwheel, None),
}
"""A sampler, and the log-density where it is written down."""


# --- objectives --------------------------------------------------------------------------------


class GridLikelihood(ex.AbstractObjective):
    """The likelihood itself, log Z by a grid at every step: what the others do without."""

    n_points: int = 100

    def init(self, energy: Any, rows: Any, *, key: Any) -> None:
        return None

    def gradient(self, energy: Any, batch: Any, state: Any, *, key: Any) -> Step:
        def loss(energy: Any) -> Any:
            log_z = ex.log_partition_on_grid(energy, n_points=self.n_points, low=-REACH, high=REACH)
            return jnp.mean(jax.vmap(energy.energy)(batch)) + log_z

        value, gradient = value_and_gradient(energy, loss)
        return Step(gradient, None, {"loss": value})


OBJECTIVES: dict[str, Callable[[], ex.AbstractObjective]] = {
    "likelihood, by a grid": lambda: GridLikelihood(),
    "score matching": lambda: ex.ScoreMatching(),
    "sliced score matching": lambda: ex.SlicedScoreMatching(),
    "denoising score matching, 0.1": lambda: ex.DenoisingScoreMatching(0.1),
    "noise-contrastive": lambda: ex.NoiseContrastiveEstimation(),
    "energy discrepancy, 0.5": lambda: ex.EnergyDiscrepancy(0.5),
    "persistent CD, 10 Langevin steps": lambda: ex.PersistentContrastiveDivergence(
        n_steps=10, n_chains=500, kernel=ex.UnadjustedLangevin(0.01)
    ),
}


# --- one case ----------------------------------------------------------------------------------


def start_of(seed: int, width: int) -> ex.AbstractEnergy:
    """An untrained network under the wide Gaussian."""
    network = eqx.nn.MLP(2, "scalar", width, 3, jax.nn.silu, key=ex.key(seed))
    return ex.NeuralEnergy(network, ex.Real(2)) * ex.freeze(ex.Gaussian(np.zeros(2), SPREAD))


def case(
    density: str, objective: str, seed: int, steps: int, n_rows: int, width: int
) -> dict[str, Any]:
    """One density learned by one objective."""
    draw, log_density = DENSITIES[density]
    generator = np.random.default_rng(seed)
    rows, held_out = draw(generator, n_rows), draw(generator, n_rows)
    began = time.perf_counter()
    run = ex.fit(
        start_of(seed, width),
        rows,
        OBJECTIVES[objective](),
        key=ex.key(seed + 1000),
        optimizer=optax.adam(optax.cosine_decay_schedule(2e-3, steps)),
        steps=steps,
        batch_size=500,
        log_every=max(steps // 10, 1),
    )
    seconds = time.perf_counter() - began
    log_z, coarse = (
        float(ex.log_partition_on_grid(run.energy, n_points=n, low=-REACH, high=REACH))
        for n in (FINE, COARSE)
    )
    energies = np.asarray(jax.vmap(run.energy.energy)(jnp.asarray(held_out, jnp.float32)))
    learned = run.history[-1].get("log_partition") if run.history else None
    return {
        "density": density,
        "objective": objective,
        "seed": seed,
        "status": run.status,
        "log_likelihood": -float(energies.mean()) - log_z,
        "log_partition": log_z,
        "log_partition_coarse": coarse,
        "log_partition_learned": learned,
        "best": None if log_density is None else float(log_density(held_out).mean()),
        "seconds": seconds,
    }


def show(cases: list[dict[str, Any]]) -> None:
    """Held-out log-likelihoods, the mean over seeds."""
    densities = list(dict.fromkeys(row["density"] for row in cases))
    table = Table(title="held-out log-likelihood, nats a row: mean over seeds (and the range)")
    for column in ("objective", *densities, "seconds"):
        table.add_column(column, justify="left" if column == "objective" else "right")
    for name in dict.fromkeys(row["objective"] for row in cases):
        shown = []
        for density in densities:
            mine = [r for r in cases if (r["density"], r["objective"]) == (density, name)]
            values = [row["log_likelihood"] for row in mine]
            failed = sum(row["status"] != "finished" for row in mine)
            text = f"{statistics.mean(values):.3f}"
            text += f" ({max(values) - min(values):.3f})" if len(values) > 1 else ""
            shown.append(text + (f" {failed} diverged" if failed else ""))
        seconds = statistics.median(r["seconds"] for r in cases if r["objective"] == name)
        table.add_row(name, *shown, f"{seconds:.1f}")
    best = [
        [r["best"] for r in cases if r["density"] == density and r["best"] is not None]
        for density in densities
    ]
    table.add_row("the density itself", *(f"{statistics.mean(b):.3f}" if b else "" for b in best))
    CONSOLE.print(table)
    off = max(abs(row["log_partition"] - row["log_partition_coarse"]) for row in cases)
    CONSOLE.print(f"log Z on grids of {FINE} and {COARSE} points a side: at most {off:.1e} apart")


def main() -> None:
    options = parser(__doc__, "toy_densities")
    options.add_argument("--seeds", type=int, help="runs of each case (3; quick: 1)")
    options.add_argument("--steps", type=int, help="of training (5,000; quick: 20)")
    arguments = options.parse_args()
    use_cores(THREADS)
    busy = warn_if_busy()
    quick = arguments.quick
    steps = arguments.steps or (20 if quick else 5000)
    densities = list(DENSITIES)[:2] if quick else list(DENSITIES)
    n_rows, width = (1000, 8) if quick else (10_000, 64)
    cases = []
    for seed in range(arguments.seeds or (1 if quick else 3)):
        for density in densities:
            for objective in OBJECTIVES:
                cases.append(case(density, objective, seed, steps, n_rows, width))
    show(cases)
    save(
        arguments,
        "toy_densities",
        {
            "versions": versions("energax", "jax", "jaxlib", "optax"),
            "busy_before": busy,
            "threads": THREADS,
            "steps": steps,
            "rows": n_rows,
            "width": width,
            "grid": [FINE, COARSE],
            "cases": cases,
        },
    )


if __name__ == "__main__":
    main()
