"""The guard of `fit`: failures that are provoked, and healthy runs that must raise no alarm.

    python benchmarks/guard.py

Fourteen runs are made to fail, each in a way of its own: by the learning rate, the sampler, the
model or the data. Of each are told what was met, at which step, what was lowered, how the run
ended, and the mean log-likelihood of held-out rows (exact: by listing states, or on a grid) at the
start, in the last checkpoint before the failure, in the best of the states it went back to, and at
the end. Asked: a diagnosis that names the right cause, six of them while every number is still
finite, and no model that ends worse than that checkpoint; nor than the best state it went back to,
which is more than the guard can promise, as it does not know likelihoods.

Then twenty-five healthy runs of different kinds, which must end without an alarm. What was found is
written to `benchmarks/results/guard.json`. The exit status is 1 if a bar is missed.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from measuring import Bar, judge, parser, save, side_by_side, use_cores, versions

import energax as ex
from energax.exact import log_partition_enumerated
from energax.training._progress import Progress

THREADS = 2
FINITE = ("chains left", "stuck", "collapsed", "drifted", "loss", "exploded")
TOLERANCE = 0.05
"""Nats by which a trained model may lie below an earlier one of its run: training is a random
walk."""

BITS = 9


class Network(eqx.Module):
    """Two layers, and a wide bowl that makes every such model normalisable."""

    layers: eqx.nn.MLP
    size: jax.Array
    bowl: float = eqx.field(static=True)

    def __init__(self, seed: int = 0, size: float = 1.0, bowl: float = 0.05):
        self.layers = eqx.nn.MLP(2, "scalar", 32, 2, jax.nn.silu, key=ex.key(seed))
        self.size = jnp.asarray(size, jnp.float32)
        self.bowl = bowl

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.size * self.layers(x) - self.bowl * jnp.sum(x**2)


def bars(n: int, seed: int) -> np.ndarray:
    """Images of 3 x 3 that are full rows or full columns."""
    generator = np.random.default_rng(seed)
    lines = generator.integers(0, 2, (n, 3))
    image = np.repeat(lines[:, :, None], 3, 2)
    return np.where(generator.random(n)[:, None, None] < 0.5, image, image.swapaxes(1, 2)).reshape(
        n, 9
    )


def moons(n: int, seed: int) -> np.ndarray:
    """Two clusters and a bridge in the plane, about as wide as the standard normal."""
    generator = np.random.default_rng(seed)
    side = generator.choice([-1.0, 1.0], n)
    return np.stack([1.2 * side, 0.4 * side], 1) + 0.35 * generator.normal(size=(n, 2))


def rbm(scale: float = 0.05, seed: int = 0) -> ex.RBM:
    return ex.RBM.init(ex.key(seed), n_visible=BITS, n_hidden=8, scale=scale)


def network(**options: Any) -> ex.NeuralEnergy:
    return ex.NeuralEnergy(Network(**options), ex.Real(2))


_listed = eqx.filter_jit(log_partition_enumerated)


@eqx.filter_jit
def _gridded(energy: ex.AbstractEnergy) -> jax.Array:
    """log Z on a grid of the plane; where the energy is no number, p is 0."""
    wide, high = jnp.linspace(-12.0, 52.0, 800), jnp.linspace(-12.0, 12.0, 300)
    points = jnp.stack(jnp.meshgrid(wide, high), -1).reshape(-1, 2)
    values = -jax.lax.map(energy.energy, points, batch_size=4000)
    area = jnp.log(wide[1] - wide[0]) + jnp.log(high[1] - high[0])
    return jax.nn.logsumexp(jnp.where(jnp.isnan(values), -jnp.inf, values)) + area


def likelihood(energy: Any, rows: np.ndarray) -> float:
    """Mean log p of rows, log Z exact; minus infinity where the model is no density."""
    if isinstance(energy, ex.RBM) or energy.space.is_discrete:
        log_z = float(_listed(energy))
    else:
        log_z = float(_gridded(energy))
    energies = jax.vmap(energy.energy)(energy.space.convert(rows))
    value = -float(jnp.mean(energies)) - log_z
    return value if math.isfinite(value) else -math.inf


@dataclasses.dataclass(frozen=True)
class Case:
    """A run, and what the guard may find in it."""

    energy: Any
    rows: Callable[[int, int], np.ndarray]
    objective: Any
    options: dict[str, Any]
    causes: tuple[str, ...] = ()


def pcd(kernel: Any = None, n_steps: int = 2, n_chains: int = 50) -> Any:
    return ex.PersistentContrastiveDivergence(n_steps=n_steps, n_chains=n_chains, kernel=kernel)


def cd(kernel: Any = None, n_steps: int = 2) -> Any:
    return ex.ContrastiveDivergence(n_steps=n_steps, kernel=kernel)


def jumping(step: Any) -> Any:
    """A schedule with a mistake in it: a thousand times the rate from step 1,500 on."""
    return jnp.where(step < 1500, 0.02, 20.0)


class Undefined(eqx.Module):
    """A network times a factor that is no number right of 2.6."""

    inner: Network

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.inner(x) + 0.1 * jnp.log(2.6 - x[0])


class Slope(eqx.Module):
    """A plane: no density, however it lies."""

    slope: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.slope @ x


def far(n: int, seed: int) -> np.ndarray:
    return moons(n, seed) + np.array([40.0, 0.0])


def failures() -> dict[str, Case]:
    """Runs that are made to fail."""
    langevin = ex.UnadjustedLangevin(0.02)
    real = {"steps": 3000, "batch_size": 100, "log_every": 50}
    return {
        "learning rate 100 times too high": Case(
            rbm(),
            bars,
            pcd(),
            {**real, "learning_rate": 20.0, "momentum": 0.0},
            ("drifted", "stuck", "collapsed"),
        ),
        "noise of Langevin switched off": Case(
            network(),
            moons,
            pcd(ex.UnadjustedLangevin(0.02, 1e-6), 5),
            {**real, "learning_rate": 1e-3},
            ("collapsed", "drifted"),
        ),
        "weights of the network times 1,000": Case(
            network(size=1000.0),
            moons,
            pcd(langevin, 5),
            {**real, "learning_rate": 1e-3},
            ("chains left", "exploded", "not finite", "drifted"),
        ),
        "an energy without a bound": Case(
            ex.NeuralEnergy(Slope(jnp.zeros(2)), ex.Real(2)),
            moons,
            pcd(langevin, 5),
            {**real, "learning_rate": 0.5},
            ("drifted", "chains left", "exploded"),
        ),
        "NaN in the data": Case(network(), moons, pcd(langevin, 5), real, ("refused",)),
        "proposals of Metropolis far too wide": Case(
            network(),
            moons,
            pcd(ex.RandomWalkMetropolis(1e4), 5),
            {**real, "learning_rate": 1e-3},
            ("stuck",),
        ),
        "saturated chains": Case(
            ex.RBM(jnp.full((BITS, 8), 8.0), jnp.full(BITS, 30.0), jnp.full(8, 30.0)),
            bars,
            pcd(),
            {**real, "learning_rate": 0.01},
            ("stuck", "collapsed", "drifted"),
        ),
        "steps of Langevin far too long": Case(
            network(bowl=0.5),
            moons,
            pcd(ex.UnadjustedLangevin(5.0), 5),
            {**real, "learning_rate": 1e-3},
            ("chains left", "exploded", "not finite"),
        ),
        "collapse of the gap": Case(
            network(),
            moons,
            pcd(langevin, 1),
            {**real, "learning_rate": 0.3},
            ("drifted", "chains left", "exploded", "collapsed"),
        ),
        "an energy that is NaN in a region": Case(
            ex.NeuralEnergy(Undefined(Network()), ex.Real(2)),
            moons,
            pcd(langevin, 5),
            {**real, "learning_rate": 1e-3},
            ("chains left", "not finite"),
        ),
        "momentum of 0.999": Case(
            rbm(),
            bars,
            pcd(),
            {**real, "learning_rate": 0.05, "momentum": 0.999},
            ("drifted", "stuck", "collapsed"),
        ),
        "a schedule that jumps": Case(
            rbm(),
            bars,
            pcd(),
            {**real, "learning_rate": jumping, "momentum": 0.0},
            ("drifted", "stuck", "collapsed"),
        ),
        "chains that start far away": Case(
            network(bowl=0.0005),
            far,
            pcd(langevin, 5),
            {**real, "learning_rate": 1e-2},
            ("drifted", "chains left", "exploded"),
        ),
        "a loss that rises": Case(
            rbm(),
            bars,
            ex.MaximumLikelihood(),
            {**real, "learning_rate": 30.0, "momentum": 0.9},
            ("loss",),
        ),
    }


def healthy() -> dict[str, Case]:
    """Runs of many kinds that are as they should be."""
    langevin, mala = ex.UnadjustedLangevin(0.02), ex.MALA(0.05)
    real = {"steps": 3000, "batch_size": 100, "log_every": 50}

    def options(rate: float, **more: Any) -> dict[str, Any]:
        return {**real, "learning_rate": rate, **more}

    found = {
        f"RBM, {kind}, rate {rate}": Case(rbm(), bars, objective, options(rate, momentum=0.0))
        for kind, objective in (
            ("CD-1", cd(n_steps=1)),
            ("PCD-2", pcd()),
            ("exact", ex.MaximumLikelihood()),
        )
        for rate in (0.01, 0.05, 0.2)
    }
    found |= {
        f"network, {kind}, rate {rate}": Case(network(), moons, objective, options(rate))
        for kind, objective in (
            ("PCD with Langevin", pcd(langevin, 5)),
            ("PCD with MALA", pcd(mala, 5)),
            ("CD with Langevin", cd(langevin, 10)),
            ("PCD with Metropolis", pcd(None, 10)),
        )
        for rate in (3e-4, 3e-3)
    }
    found["RBM, PCD-1 with Adam"] = Case(rbm(), bars, pcd(n_steps=1), options(3e-3))
    found["RBM, centred PCD"] = Case(
        rbm(),
        bars,
        ex.PersistentContrastiveDivergence(2, 50, centred=True),
        options(0.05, momentum=0.5),
    )
    found["network, Monte Carlo likelihood"] = Case(
        network(), moons, ex.MonteCarloMaximumLikelihood(50, 50, langevin), options(1e-3)
    )
    found["RBM, pseudo-likelihood"] = Case(
        rbm(), bars, ex.PseudoLikelihood(), options(0.2, momentum=0.5)
    )
    found["Ising model, pseudo-likelihood"] = Case(
        ex.Ising((3, 3), 0.0, 0.0),
        lambda n, seed: 2 * bars(n, seed) - 1,
        ex.PseudoLikelihood(),
        options(1e-2),
    )
    found["network, score matching"] = Case(network(), moons, ex.ScoreMatching(), options(1e-3))
    found["network, denoising score matching"] = Case(
        network(), moons, ex.DenoisingScoreMatching(0.2), options(1e-3)
    )
    found["Gaussian, exact"] = Case(
        ex.Gaussian(jnp.zeros(2)), moons, ex.MaximumLikelihood(), options(1e-2)
    )
    return found


@dataclasses.dataclass
class Outcome:
    """What became of a run."""

    status: str
    causes: list[str]
    steps: list[int]
    factors: list[tuple[float, float]]
    seconds: float
    start: float = math.nan
    checkpoint: float = math.nan
    """Of the state that a checkpoint would have held when the guard last stepped in."""
    best: float = math.nan
    """Of the states that it went back to, the start among them."""
    end: float = math.nan
    message: str = ""


def outcome(case: Case, quick: bool, seed: int) -> Outcome:
    """Run a case; every state that the guard goes back to is caught and measured."""
    rows, held_out, key = case.rows(1000, 2 * seed), case.rows(1000, 2 * seed + 1), ex.key(1 + seed)
    options = {**case.options, "steps": 300 if quick else case.options["steps"]}
    began = time.perf_counter()
    if "refused" in case.causes:
        rows = np.where(np.arange(2000).reshape(1000, 2) == 7, np.nan, rows)
        try:
            ex.fit(case.energy, rows, case.objective, key=key, **options)
        except ValueError as error:
            return Outcome(
                "refused", ["refused"], [0], [], time.perf_counter() - began, message=str(error)
            )
        return Outcome("not refused", [], [], [], time.perf_counter() - began)
    before, targets = [case.energy], [case.energy]
    real = Progress.back

    def back(progress: Progress, *given: Any, **more: Any) -> Progress:
        after = real(progress, *given, **more)
        before.append(progress.state.energy)
        targets.append(after.state.energy)
        return after

    Progress.back = back
    try:
        run = ex.fit(case.energy, rows, case.objective, key=key, **options)
    finally:
        Progress.back = real
    seconds = time.perf_counter() - began
    return Outcome(
        run.status,
        [alarm["cause"] for alarm in run.alarms],
        [alarm["step"] for alarm in run.alarms],
        [(a["learning_rate_factor"], a["step_size_factor"]) for a in run.alarms if a["again"]],
        seconds,
        likelihood(case.energy, held_out),
        likelihood(before[-1], held_out),
        max(likelihood(energy, held_out) for energy in targets),
        likelihood(run.energy, held_out),
        run.message,
    )


def worse(runs: dict[str, Outcome], than: str) -> int:
    """How many runs ended with a model below another of their own."""
    return sum(
        run.status != "refused" and not run.end >= getattr(run, than) - TOLERANCE
        for run in runs.values()
    )


def main() -> int:
    options = parser(__doc__, "guard")
    options.add_argument("--only", help="cases whose name holds this")
    options.add_argument("--seed", type=int, default=0, help="of rows and chains (0)")
    arguments = options.parse_args()
    use_cores(THREADS)
    chosen = {
        kind: {n: c for n, c in cases.items() if arguments.only is None or arguments.only in n}
        for kind, cases in (("failing", failures()), ("healthy", healthy()))
    }
    found: dict[str, dict[str, Outcome]] = {kind: {} for kind in chosen}
    for kind, cases in chosen.items():
        for name, case in cases.items():
            found[kind][name] = result = outcome(case, arguments.quick, arguments.seed)
            print(
                f"{kind}: {name}: {result.status}, {result.causes} {result.seconds:.1f} s",
                flush=True,
            )
            if result.causes:
                print(f"    {result.message}", flush=True)
        columns = {
            "status": {n: r.status for n, r in found[kind].items()},
            "first alarm": {
                n: f"{r.causes[0]} at {r.steps[0]}" if r.causes else ""
                for n, r in found[kind].items()
            },
            "start": {n: r.start for n, r in found[kind].items()},
            "checkpoint": {n: r.checkpoint for n, r in found[kind].items()},
            "best": {n: r.best for n, r in found[kind].items()},
            "end": {n: r.end for n, r in found[kind].items()},
        }
        side_by_side(f"{kind} runs: mean log-likelihood of held-out rows", columns, first="run")
    failed, sound = found["failing"], found["healthy"]
    # A failure that the run itself got over needs no alarm.
    wrong = [
        name
        for name, result in failed.items()
        if not (result.causes[:1] and result.causes[0] in chosen["failing"][name].causes)
        and not (not result.causes and result.end > result.start + 1)
    ]
    finite = [n for n, r in failed.items() if r.causes and r.causes[0] in FINITE]
    summary = {
        "versions": versions("energax", "jax", "jaxlib"),
        "threads": THREADS,
        "seed": arguments.seed,
        "failing": {n: dataclasses.asdict(r) for n, r in failed.items()},
        "healthy": {n: dataclasses.asdict(r) for n, r in sound.items()},
        "bars": judge(
            [
                Bar("provoked failures neither got over nor rightly diagnosed", len(wrong), 0),
                Bar("diagnoses while every number was finite", len(finite), 6, at_most=False),
                Bar("models worse than the last checkpoint", worse(failed, "checkpoint"), 0),
                Bar("models worse than the best state gone back to", worse(failed, "best"), 0),
                Bar("alarms in healthy runs", sum(len(r.causes) for r in sound.values()), 0),
                Bar(
                    "healthy runs that did not finish",
                    sum(r.status != "finished" for r in sound.values()),
                    0,
                ),
            ]
        ),
    }
    save(arguments, "guard", summary)
    return 0 if arguments.quick or all(bar["passed"] for bar in summary["bars"]) else 1


if __name__ == "__main__":
    sys.exit(main())
