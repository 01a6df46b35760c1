"""A search that only climbs is no sampler: both walk on one double well, against the exact answer.

    python examples/climbing_is_not_sampling.py --out docs/explanation/figures

The climber and Metropolis make the same proposals. Metropolis sometimes goes to a less likely
state; the climber never does. Writes `climbing_is_not_sampling.json` and `.png`.
"""

import argparse
import json
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

import energax as ex
from energax.diagnostics import mean_and_error
from energax.kernels import AbstractKernelState, Info

LOW, HIGH = -4.0, 4.0  # beyond these E exceeds 800: exp(-E) is zero in float32


class DoubleWell(ex.AbstractEnergy):
    """E(x) = 4 (x^2 - 1)^2 + x / 2: the left well is the deeper one."""

    space: ex.Real = ex.Real()

    def energy(self, x: Float[Array, ""]) -> Float[Array, ""]:
        return 4 * (x**2 - 1) ** 2 + x / 2


class ClimberState(AbstractKernelState):
    """x and its energy."""

    x: Array
    energy: Array


class Climber(ex.AbstractKernel):
    """Perturb x to y; go there if it is likelier, and otherwise stay. A search, not a sampler."""

    step_size: float = 0.7

    is_exact: ClassVar[bool] = False

    def init(self, energy: ex.AbstractEnergy, x: Array, key: Array) -> ClimberState:
        return ClimberState(x, energy.energy(x))

    def step(
        self, energy: ex.AbstractEnergy, state: ClimberState, key: Array
    ) -> tuple[ClimberState, Info]:
        y = state.x + self.step_size * jax.random.normal(key, state.x.shape)
        proposed = energy.energy(y)
        better = proposed < state.energy
        new = ClimberState(jnp.where(better, y, state.x), jnp.where(better, proposed, state.energy))
        return new, Info(better.astype(proposed.dtype), new.energy)

    def refresh(self, energy: ex.AbstractEnergy, state: ClimberState) -> ClimberState:
        return ClimberState(state.x, energy.energy(state.x))


KERNELS = {"Metropolis": ex.RandomWalkMetropolis(0.7), "climber": Climber(0.7)}


def exact_answers(energy: ex.AbstractEnergy, edges: np.ndarray) -> dict[str, Any]:
    """The share of the left well, the moments, and the probability of each bin, by quadrature."""
    whole = float(ex.log_partition_on_grid(energy, n_points=20_000, low=LOW, high=HIGH))
    left = float(ex.log_partition_on_grid(energy, n_points=10_000, low=LOW, high=0.0))
    width = (HIGH - LOW) / 20_000
    x = np.linspace(LOW + width / 2, HIGH - width / 2, 20_000)
    values = np.asarray(jax.vmap(energy.energy)(jnp.asarray(x, jnp.float32)), np.float64)
    p = np.exp(-values - whole) * width
    mean, of_energy = float(p @ x), float(p @ values)
    bins = np.histogram(x, edges, weights=p)[0]
    return {
        "left": float(np.exp(left - whole)),
        "spread": float(np.sqrt(p @ (x - mean) ** 2)),
        "energy": of_energy,
        "bins": bins,
    }


def run(n_chains: int, n_steps: int, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The numbers, and what the figure needs beside them."""
    energy = DoubleWell()
    edges = np.linspace(-2.0, 2.0, 81)
    truth = exact_answers(energy, edges)
    numbers: dict[str, Any] = {
        "script": "examples/climbing_is_not_sampling.py",
        "chains": n_chains,
        "steps": n_steps,
        "seed": seed,
        "exact": {name: truth[name] for name in ("left", "spread", "energy")},
    }
    pictures: dict[str, Any] = {"edges": edges, "exact": truth["bins"]}
    for (name, kernel), key in zip(
        KERNELS.items(), jax.random.split(ex.key(seed), len(KERNELS)), strict=True
    ):
        # One draw a step from the very start: the axis of draws is time.
        draws = ex.sample(
            energy, n_chains * n_steps, key=key, kernel=kernel, chains=n_chains, warmup=0
        )
        x = np.asarray(draws.x)
        kept, kept_energy = x[:, n_steps // 2 :], np.asarray(draws.energy)[:, n_steps // 2 :]
        left, left_error = mean_and_error((kept < 0).astype(float))
        counts = np.histogram(kept, edges)[0] / kept.size
        numbers[name] = {
            "left": float(left),
            "left_error": float(left_error),
            "spread": float(kept.std()),
            "energy": float(kept_energy.mean()),
            "total_variation": float(0.5 * np.abs(counts - truth["bins"]).sum()),
        }
        pictures[name] = {"bins": counts, "left": (x < 0).mean(0)}
    return numbers, pictures


def table(numbers: dict[str, Any]) -> str:
    """The numbers as a Markdown table."""
    exact, metropolis, climber = (numbers[k] for k in ("exact", "Metropolis", "climber"))
    lines = [
        "| | exact | Metropolis | climber |",
        "| --- | --- | --- | --- |",
        f"| share of the left well | {exact['left']:.3f} | {metropolis['left']:.3f} ±"
        f" {metropolis['left_error']:.3f} | {climber['left']:.3f} |",
        f"| standard deviation of x | {exact['spread']:.3f} | {metropolis['spread']:.3f} |"
        f" {climber['spread']:.3f} |",
        f"| mean energy | {exact['energy']:.3f} | {metropolis['energy']:.3f} |"
        f" {climber['energy']:.3f} |",
        f"| total variation from exact | 0 | {metropolis['total_variation']:.3f} |"
        f" {climber['total_variation']:.3f} |",
        "",
        f"{numbers['chains']:,} chains of {numbers['steps']:,} steps each, the second half kept;"
        f" ± is one standard error. From `{numbers['script']}`, seed {numbers['seed']}.",
    ]
    return "\n".join(lines)


def draw(numbers: dict[str, Any], pictures: dict[str, Any]) -> Figure:
    """Where the draws lie, and the left well's share over time."""
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(1, 1, 1.15))
    edges = pictures["edges"]
    width = edges[1] - edges[0]
    colours = {"Metropolis": "#0072B2", "climber": "#D55E00"}
    for ax, (name, colour) in zip(axes[:2], colours.items(), strict=True):
        ax.stairs(pictures[name]["bins"] / width, edges, fill=True, color=colour, alpha=0.55)
        middle = (edges[1:] + edges[:-1]) / 2
        ax.plot(middle, pictures["exact"] / width, color="black", linewidth=1.3)
        ax.set(title=name[0].upper() + name[1:], xlabel="x", ylabel="density")
    axes[0].plot([], [], color="black", linewidth=1.3, label="exact")
    axes[0].legend(frameon=False)
    ax = axes[2]
    steps = np.arange(1, numbers["steps"] + 1)
    for name, colour in colours.items():
        ax.plot(steps, pictures[name]["left"], color=colour, label=name)
    ax.axhline(numbers["exact"]["left"], color="black", linewidth=1.3, label="exact")
    ax.set(title="Share of chains in the left well", xlabel="step", xscale="log", ylim=(0.4, 1.01))
    ax.legend(frameon=False, loc="upper left")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chains", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(), help="the folder to write into")
    arguments = parser.parse_args()
    numbers, pictures = run(arguments.chains, arguments.steps, arguments.seed)
    path = arguments.out / "climbing_is_not_sampling"
    path.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
    draw(numbers, pictures).savefig(path.with_suffix(".png"), dpi=110)
    print(table(numbers))


if __name__ == "__main__":
    main()
