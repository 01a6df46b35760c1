"""Cold start: from starting Python to the first draws, for energax and its peers.

    python benchmarks/cold_start.py

Each program is started afresh for its job, does it once, and ends: importing, building the model
and the sampler, compiling and a first short run. Programs take turns; a number is the median over
the turns. Nothing is kept between runs but what the operating system has in memory: JAX's cache of
compiled programs is off. Results: `benchmarks/results/cold_start.json`.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import gibbs_with_gradients
import hmc
import ising
import langevin
import numpy as np
import rbm
from environments import HERE
from measuring import (
    CONSOLE,
    judge,
    parser,
    save,
    side_by_side,
    spread,
    use_cores,
    versions,
    warn_if_busy,
)
from peer import Peer

THREADS = 2

JOBS = (
    "Ising 64 x 64, 32 chains, 10 sweeps",
    "Ising, 3-regular, 10,000 spins, 32 chains, 10 sweeps",
    "Langevin in 2-D, 1,024 chains, 10 steps",
    "MALA in 100-D, 16 chains, 10 draws",
    "HMC in 100-D, 16 chains, 10 draws",
    "NUTS in 100-D, 16 chains, 10 draws",
    "Block Gibbs, RBM 784 x 500, 100 chains, 10 steps",
    "Gibbs with gradients, 100 chains, 10 steps",
)


def starts(folder: Path) -> dict[str, dict[str, tuple[str, str, dict[str, Any]]]]:
    """Of each job and program: its worker, environment and settings."""
    short = {"threads": THREADS, "steps": 10}
    spins = ising.torus(folder, 64, 32, n_steps=5)
    regular, _ = ising.regular(folder, 10_000, 32)
    points, bits = folder / "points.npy", folder / "bits.npy"
    generator = np.random.default_rng(0)
    np.save(points, generator.normal(size=(1024, 2)).astype(np.float32))
    np.save(bits, (generator.random((100, 784)) < 0.5).astype(np.float32))
    sweeps = {**short, "n_chains": 32, "warm_up": ["sweep"]}
    langevin_settings = {**short, "start": str(points), "step_size": langevin.STEP_SIZE}
    hmc_settings = {**hmc.settings_for(folder, quick=True), **short}
    rows = folder / "rows.npy"
    np.save(rows, rbm.load_rows(rbm.BATCH))
    rbm_settings = {**rbm.settings_for(rows), **short, "warm_up": ["gibbs"]}

    def hamiltonian(task: str, *names: str) -> dict[str, tuple[str, str, dict[str, Any]]]:
        return {n: (*hmc.WORKERS[n][:2], {**hmc_settings, "warm_up": [task]}) for n in names}

    found: tuple[dict[str, tuple[str, str, dict[str, Any]]], ...] = (
        {
            name: (side.script, side.environment, {**spins, **sweeps, **side.settings})
            for name, side in ising.SIDES.items()
            if name != "plain JAX"
        },
        {
            name: (side.script, side.environment, {**regular, **sweeps, **side.settings})
            for name, side in ising.SIDES.items()
            if name in ("energax, BlockGibbs", "thrml", "hamon")
        },
        {
            name: (script, environment, {**langevin_settings, "warm_up": ["run"]})
            for name, (script, environment) in langevin.WORKERS.items()
        },
        hamiltonian("MALA", "energax", "blackjax", "ebmkit"),
        hamiltonian("HMC", *hmc.WORKERS),
        hamiltonian("NUTS", "energax", "blackjax", "numpyro", "ebmkit"),
        {
            name: (*worker, rbm_settings)
            for name, worker in {
                "energax": ("energax_rbm.py", HERE),
                **{name: rbm.PEERS[name] for name in ("PyTorch", "rbms", "ebmkit")},
            }.items()
        },
        {
            name: (script, environment, {**short, "start": str(bits)})
            for name, (script, environment) in gibbs_with_gradients.WORKERS.items()
        },
    )
    return dict(zip(JOBS, found, strict=True))


def main() -> None:
    options = parser(__doc__, "cold_start")
    options.add_argument("--only", nargs="+", choices=JOBS, default=JOBS, metavar="JOB")
    options.add_argument("--rounds", type=int, help="starts of each program (3; quick: 1)")
    options.add_argument("--skip-peers", action="store_true", help="energax only")
    arguments = options.parse_args()
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    use_cores(THREADS)
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    busy = warn_if_busy()
    results: dict[str, dict[str, dict[str, list[float]]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for job, programs in starts(Path(folder)).items():
            if job not in arguments.only:
                continue
            if arguments.skip_peers:
                programs = {n: p for n, p in programs.items() if p[1] == HERE}
            results[job] = {name: {} for name in programs}
            for turn in range(rounds):
                for name in list(programs)[:: 1 if turn % 2 else -1]:
                    with Peer(*programs[name]) as peer:
                        for part, seconds in peer.cold_start.items():
                            results[job][name].setdefault(part, []).append(seconds)
            medians = {
                name: {part: spread(times).median for part, times in parts.items()}
                for name, parts in results[job].items()
            }
            rest = {n: m["total"] - m["build"] - m["first run"] for n, m in medians.items()}
            side_by_side(
                job,
                {
                    "all, s: median (range)": {
                        n: str(spread(parts["total"])) for n, parts in results[job].items()
                    },
                    "Python, import": rest,
                    "build": {n: m["build"] for n, m in medians.items()},
                    "compile, first run": {n: m["first run"] for n, m in medians.items()},
                },
            )
    CONSOLE.print("build and first run are told by the worker; the rest is import.", style="dim")
    save(
        arguments,
        "cold_start",
        {
            "versions": versions("energax", "jax", "jaxlib", "numpy"),
            "busy_before": busy,
            "threads": THREADS,
            "rounds": rounds,
            "seconds": results,
            "bars": judge([]),
        },
    )


if __name__ == "__main__":
    main()
