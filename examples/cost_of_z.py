"""What brute force costs: time and memory of log Z, by listing states and on a grid.

    python examples/cost_of_z.py --out docs/explanation/figures

Every measurement is a process of its own: the time is the fastest of the repeats, compiling
apart; the memory is what the process grew by while it compiled and computed. Each sum is done
twice, with every state held at once and block by block as `energax.exact` does it. The cost of a
state is then fitted on all but the largest size, and tried on that one before anything is
extrapolated. Writes `cost_of_z.json` and `cost_of_z.png`.
"""

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float
from matplotlib.figure import Figure

import energax as ex
from energax.exact import all_states, log_partition_enumerated

YEAR = 365.25 * 24 * 3600
AGE_OF_THE_UNIVERSE = 13.8e9 * YEAR  # Planck Collaboration (2018), table 2
END = 4.0  # the grid's; beyond it a coordinate's density is below exp(-225)
SLOW_ENOUGH = 0.02  # seconds: below this, calling costs as much as computing


class Connected(ex.AbstractEnergy):
    """E(x) = -(x . W x) / 2 over n bits, every pair of which is coupled."""

    couplings: Float[Array, "n n"]

    @property
    def space(self) -> ex.Binary:
        return ex.Binary(self.couplings.shape[0])

    def energy(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        return -0.5 * x @ (self.couplings @ x)


class Chain(ex.AbstractEnergy):
    """Double wells side by side: E(x) = sum_i (x_i^2 - 1)^2 + sum_i (x_i - x_(i+1))^2 / 2."""

    n: int = eqx.field(static=True)

    @property
    def space(self) -> ex.Real:
        return ex.Real(self.n)

    def energy(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        return jnp.sum((x**2 - 1) ** 2) + 0.5 * jnp.sum((x[1:] - x[:-1]) ** 2)


@eqx.filter_jit
def _log_sum(energy: ex.AbstractEnergy, states: Array) -> Array:
    return logsumexp(-jax.vmap(energy.energy)(states))


@eqx.filter_jit
def _listed(energy: ex.AbstractEnergy) -> Array:
    return log_partition_enumerated(energy)


def _held_states(energy: ex.AbstractEnergy) -> Array:
    return _log_sum(energy, all_states(energy.space))


def _held_grid(energy: Chain, points: int) -> Array:
    width = 2 * END / points
    axis = -END + width * (jnp.arange(points) + 0.5)
    grid = jnp.stack(jnp.meshgrid(*[axis] * energy.n, indexing="ij"), -1).reshape(-1, energy.n)
    return _log_sum(energy, grid) + energy.n * math.log(width)


def _task(kind: str, size: int, points: int) -> Callable[[], Array]:
    if kind.startswith("listing"):
        couplings = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), jnp.float32)
        bits = Connected((couplings + couplings.T) / math.sqrt(8 * size))
        return lambda: _held_states(bits) if kind.endswith("held") else _listed(bits)
    chain = Chain(size)
    if kind.endswith("held"):
        return lambda: _held_grid(chain, points)
    return lambda: ex.log_partition_on_grid(chain, n_points=points, low=-END, high=END)


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def measure(kind: str, size: int, points: int, repeats: int) -> dict[str, Any]:
    """One measurement, in this process: a smaller problem first, so that JAX is at its size."""
    _task(kind, 1, points)().block_until_ready()
    before = _peak_bytes()
    task = _task(kind, size, points)
    seconds, value, spent = [], math.nan, 0.0
    for repeat in range(repeats + 1):
        began = time.perf_counter()
        value = float(task().block_until_ready())
        if repeat:  # the first also compiles
            seconds.append(time.perf_counter() - began)
            spent += seconds[-1]
        if spent > 20 and seconds:
            break
    return {
        "kind": kind,
        "size": size,
        "states": float(points**size if kind.startswith("grid") else 2**size),
        "seconds": min(seconds),
        "bytes": _peak_bytes() - before,
        "log_z": value,
    }


def _apart(kind: str, size: int, points: int, repeats: int) -> dict[str, Any]:
    arguments = ["--measure", kind, str(size), "--points", str(points), "--repeats", str(repeats)]
    done = subprocess.run(
        [sys.executable, __file__, *arguments], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def fitted(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Seconds a state, from every size slow enough to time but the largest, which tests it.

    The growth of the number of states is known; all that is fitted is the cost of one.
    """
    largest = max(rows, key=lambda row: row["size"])
    used = [r for r in rows if r is not largest and r["seconds"] > SLOW_ENOUGH]
    used = used or [r for r in rows if r is not largest] or rows
    rates = np.array([row["seconds"] / row["states"] for row in used])
    rate = float(np.exp(np.log(rates).mean()))
    return {
        "sizes": [row["size"] for row in used],
        "seconds_a_state": rate,
        "lowest": float(rates.min()),
        "highest": float(rates.max()),
        "tried_on": largest["size"],
        "predicted": rate * largest["states"],
        "measured": largest["seconds"],
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements, and what follows from them."""
    limits = {
        "listing, held": range(4, arguments.held_units + 1),
        "listing": range(4, arguments.units + 1),
        "grid, held": range(1, arguments.held_dimensions + 1),
        "grid": range(1, arguments.dimensions + 1),
    }
    rows = []
    for kind, sizes in limits.items():
        for size in sizes:
            if kind.startswith("listing") and size % 2 and size < max(sizes):
                continue
            rows.append(_apart(kind, size, arguments.points, arguments.repeats))
            print(
                f"{kind:14} {size:3}: {rows[-1]['seconds']:9.4f} s,"
                f" {rows[-1]['bytes'] / 1e6:8.1f} MB, log Z = {rows[-1]['log_z']:.4f}",
                file=sys.stderr,
            )
    fits = {kind: fitted([r for r in rows if r["kind"] == kind]) for kind in ("listing", "grid")}
    return {
        "script": "examples/cost_of_z.py",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
        "python": platform.python_version(),
        "jax": jax.__version__,
        "points": arguments.points,
        "repeats": arguments.repeats,
        "rows": rows,
        "fits": fits,
    }


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds > 10 * AGE_OF_THE_UNIVERSE:
        return f"{_rounded(seconds / AGE_OF_THE_UNIVERSE)} ages of the universe"
    for unit, length in (("years", YEAR), ("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{_rounded(seconds / length)} {unit}"
    return f"{seconds:.2g} s" if seconds >= 0.095 else f"{1000 * seconds:.2g} ms"


def _rounded(value: float, digit: Callable[[float], int] = math.floor) -> str:
    """One digit. A time is rounded down: what is extrapolated is a lower bound."""
    power = 10.0 ** math.floor(math.log10(max(value, 1)))
    return f"{digit(value / power) * power:,.0f}" if value < 1e6 else f"10^{_power(value)}"


def _power(value: float) -> int:
    return math.floor(math.log10(value))


def memory(n_bytes: float) -> str:
    """Bytes in words."""
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if n_bytes >= size:
            return f"{_rounded(n_bytes / size, round)} {unit}"
    return f"{max(n_bytes, 0) / 1e6:.0f} MB"


def table(numbers: dict[str, Any]) -> str:
    """What was measured, what was tried, and what would follow, as Markdown."""
    find = {(row["kind"], row["size"]): row for row in numbers["rows"]}
    points = numbers["points"]
    lines = []
    for kind, name, ahead in (
        ("listing", "bits", (32, 40, 50, 64, 100)),
        ("grid", "dimensions", (6, 7, 8, 10, 20)),
    ):
        fit = numbers["fits"][kind]
        sizes = sorted(size for k, size in find if k == kind)
        shown = sizes[-5:] if kind == "grid" else [n for n in sizes if n >= 12 and n % 4 == 0]
        lines += [
            f"| {name} | states | time | memory, block by block | memory, all held |",
            "| --- | --- | --- | --- | --- |",
        ]
        for size in shown or sizes:
            row, held = find[kind, size], find.get((f"{kind}, held", size))
            lines.append(
                f"| {size} | {row['states']:,.0f} | {duration(row['seconds'])} |"
                f" {memory(row['bytes'])} | {memory(held['bytes']) if held else 'not tried'} |"
            )
        for size in ahead:
            states = float(points**size if kind == "grid" else 2**size)
            lines.append(
                f"| {size} | 10^{math.log10(states):.0f} | *at least"
                f" {duration(fit['seconds_a_state'] * states)}* | *as above* |"
                f" *{memory_of_states(states * size)}* |"
            )
        fitted_on = f"fitted at {', '.join(map(str, fit['sizes']))} {name}"
        if len(fit["sizes"]) > 1:
            low, high = 1e9 * fit["lowest"], 1e9 * fit["highest"]
            fitted_on += f", where it lay between {low:.2g} and {high:.2g} ns"
        lines += [
            "",
            f"Slanted rows are extrapolated, at {1e9 * fit['seconds_a_state']:.2g} ns a state"
            f" ({fitted_on}). Tried on {fit['tried_on']} {name}, which the fit had not seen:"
            f" {duration(fit['predicted'])} predicted, {duration(fit['measured'])} measured.",
            "",
        ]
    # At size 1 nothing is left to compile: that is what JAX was brought to its size with.
    compiled = [key for key in find if key[1] > 1]
    kinds = dict.fromkeys(kind for kind, _ in compiled)
    floors = [find[kind, min(n for k, n in compiled if k == kind)]["bytes"] for kind in kinds]
    floors = floors or [0]
    lines.append(
        f"Memory is what the process grew by; {memory(min(floors))} to {memory(max(floors))} of it"
        " is compiling, at any size. Slanted memory is that of the states alone."
    )
    lines.append("")
    lines.append(
        f"Measured on {numbers['machine']}, JAX {numbers['jax']}, float32,"
        f" {points} grid points a dimension. From `{numbers['script']}`."
    )
    return "\n".join(lines)


def memory_of_states(entries: float) -> str:
    """The states alone, four bytes an entry."""
    n_bytes = 4 * entries
    return f"10^{math.log10(n_bytes):.0f} bytes" if n_bytes > 1e15 else memory(n_bytes)


def draw(numbers: dict[str, Any]) -> Figure:
    """Time and memory against size, with the fit and its extrapolation."""
    figure = Figure(figsize=(9.0, 6.2), layout="constrained")
    axes = figure.subplots(2, 2)
    marks = (
        (1.0, "a second"),
        (86400.0, "a day"),
        (YEAR, "a year"),
        (AGE_OF_THE_UNIVERSE, "age of the universe"),
    )
    for (ax_time, ax_memory), kind, label, reach in (
        (axes[0], "listing", "bits", 100),
        (axes[1], "grid", "dimensions", 14),
    ):
        fit = numbers["fits"][kind]
        base = numbers["points"] if kind == "grid" else 2
        sizes = np.linspace(1, reach, 200)
        states = float(base) ** sizes
        for name, colour in (("", "#0072B2"), (", held", "#D55E00")):
            rows = [row for row in numbers["rows"] if row["kind"] == kind + name]
            words = "all held at once" if name else "block by block"
            x = [row["size"] for row in rows]
            ax_time.plot(
                x, [r["seconds"] for r in rows], "o", color=colour, markersize=4, label=words
            )
            seen = [row for row in rows if row["bytes"] > 0]
            ax_memory.plot(
                [row["size"] for row in seen],
                [row["bytes"] for row in seen],
                "o",
                color=colour,
                markersize=4,
                label=words,
            )
        ax_time.plot(
            sizes, fit["seconds_a_state"] * states, color="#0072B2", linewidth=1, label="fit"
        )
        ax_memory.plot(
            sizes, 4 * sizes * states, color="#D55E00", linewidth=1, label="the states' own bytes"
        )
        for value, words in marks:
            ax_time.axhline(value, color="0.8", linewidth=0.8, zorder=0)
            ax_time.annotate(
                words, (reach, value), ha="right", va="bottom", fontsize=8, color="0.45"
            )
        for value, words in ((16e9, "16 GB"), (1e15, "a petabyte")):
            ax_memory.axhline(value, color="0.8", linewidth=0.8, zorder=0)
            ax_memory.annotate(
                words, (reach, value), ha="right", va="bottom", fontsize=8, color="0.45"
            )
        title = "Listing states" if kind == "listing" else f"A grid of {base} points a dimension"
        ax_time.set(
            title=f"{title}: time", xlabel=label, ylabel="seconds", yscale="log", ylim=(1e-5, 1e21)
        )
        ax_memory.set(
            title=f"{title}: memory", xlabel=label, ylabel="bytes", yscale="log", ylim=(1e4, 1e21)
        )
        for ax in (ax_time, ax_memory):
            ax.set_xlim(0, reach)
            ax.spines[["top", "right"]].set_visible(False)
            ax.legend(frameon=False, fontsize=8, loc="upper left")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=int, default=26, help="most bits, block by block")
    parser.add_argument("--held-units", type=int, default=22, help="most bits, all held")
    parser.add_argument("--dimensions", type=int, default=5, help="most dimensions of the grid")
    parser.add_argument("--held-dimensions", type=int, default=4, help="most, all held")
    parser.add_argument("--points", type=int, default=50, help="grid points a dimension")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each")
    parser.add_argument("--out", type=Path, default=Path(), help="the folder to write into")
    parser.add_argument("--measure", nargs=2, metavar=("KIND", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        kind, size = arguments.measure
        print(json.dumps(measure(kind, int(size), arguments.points, arguments.repeats)))
        return
    numbers = run(arguments)
    path = arguments.out / "cost_of_z"
    path.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
    draw(numbers).savefig(path.with_suffix(".png"), dpi=90)
    print(table(numbers))


if __name__ == "__main__":
    main()
