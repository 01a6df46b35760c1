"""What the benchmarks share: turns, ratios, bars, tables, and results on disk."""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
CONSOLE = Console(width=110)

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


_INSTRUCTIONS = ("sse4_2", "avx", "avx2", "fma", "avx512f", "amx_tile", "asimd", "sve")
"""Instruction sets that decide how fast products of matrices are."""

_BUSY = 0.05
"""The share of the machine's time in others' hands from which numbers are not worth keeping."""


@dataclass(frozen=True)
class Spread:
    """A median and how far the single rounds lie from it."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"


@dataclass(frozen=True)
class Bar:
    """A number that is to stay below (or above) a limit."""

    name: str
    value: float
    limit: float
    at_most: bool = True

    @property
    def passed(self) -> bool:
        """Whether the number keeps to the limit; NaN does not."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def __str__(self) -> str:
        verdict = "[green]pass[/green]" if self.passed else "[red]FAIL[/red]"
        sign = "<=" if self.at_most else ">="
        return f"{verdict}  {self.name}: {self.value:.3g} (bar: {sign} {self.limit:g})"


def judge(bars: Sequence[Bar]) -> list[dict[str, Any]]:
    """Print each bar with its verdict, and return them as they stand in the results."""
    for bar in bars:
        CONSOLE.print(str(bar), highlight=False)
    return [{**vars(bar), "passed": bar.passed} for bar in bars]


def parser(description: str | None, name: str) -> argparse.ArgumentParser:
    """A parser with the options every benchmark has: `--quick` and `--output`."""
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument(
        "--quick", action="store_true", help="tiny sizes, to see that it runs; writes no file"
    )
    options.add_argument(
        "--output", type=Path, help=f"file of results (default: results/{name}.json)"
    )
    return options


def use_cores(n: int) -> None:
    """Keep this process and those it starts to `n` cores and as many threads.

    To be called before JAX makes its first array, which is when its thread pool is made.
    """
    for name in _THREADS:
        os.environ[name] = str(n)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:n])


def per_step(function: Callable[[], Any], n_steps: int) -> Callable[[], float]:
    """A block for `take_turns`: the seconds one of the `n_steps` steps of `function` takes."""

    def block() -> float:
        start = time.perf_counter()
        jax.block_until_ready(function())
        return (time.perf_counter() - start) / n_steps

    return block


def take_turns(
    blocks: dict[str, Callable[[], float]], rounds: int, *, pause: float = 0.05
) -> dict[str, list[float]]:
    """What each block returned in each of `rounds` rounds, all blocks in turn in every round.

    Every other round goes backwards, so that a machine growing slower favours nobody. A first
    round that is thrown away warms caches and thread pools. In the `pause` after a block its
    idle threads stop spinning.
    """
    values: dict[str, list[float]] = {name: [] for name in blocks}
    for turn in range(rounds + 1):
        for name in list(blocks) if turn % 2 else list(blocks)[::-1]:
            value = blocks[name]()
            if turn:
                values[name].append(value)
            time.sleep(pause)
    return values


def spread(values: Sequence[float]) -> Spread:
    """The median, the least and the most of some numbers."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(above: Sequence[float], below: Sequence[float]) -> Spread:
    """above / below, round by round: what slows a whole round cancels."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def side_by_side(
    title: str, columns: dict[str, dict[str, Any]], *, first: str = "program", digits: int = 3
) -> None:
    """A table with one row a program: each column maps programs to a number or a text.

    Numbers are shown with `digits` significant digits; a program that a column lacks has a blank.
    """
    table = Table(title=title)
    table.add_column(first)
    for name in columns:
        table.add_column(name, justify="right")
    for program in dict.fromkeys(name for column in columns.values() for name in column):
        values = (column.get(program, "") for column in columns.values())
        shown = [v if isinstance(v, str) else f"{float(v):.{digits}g}" for v in values]
        table.add_row(program, *shown)
    CONSOLE.print(table)


def warn_if_busy() -> float | None:
    """The share of the machine's time that others take now, with a warning if it is much.

    Linux only: `None` elsewhere.
    """
    counters = Path("/proc/stat")
    if not counters.exists():
        return None

    def ticks() -> list[int]:
        return [int(word) for word in counters.read_text().splitlines()[0].split()[1:9]]

    before = ticks()
    time.sleep(2)
    passed = [b - a for a, b in zip(before, ticks(), strict=True)]
    share = 1 - (passed[3] + passed[4]) / max(sum(passed), 1)  # all but idle and waiting for disk
    if share > _BUSY:
        CONSOLE.print(
            f"[yellow]other programs take {share:.0%} of this machine: the numbers below are not"
            " worth keeping[/yellow]",
            highlight=False,
        )
    return share


def peak_mebibytes() -> float:
    """The most memory this process has held so far, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # On Linux getrusage's figure starts from that of the process that started this one.
        lines = status.read_text().splitlines()
        return next(int(s.split()[1]) for s in lines if s.startswith("VmHWM:")) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def versions(*packages: str) -> dict[str, str]:
    """The installed version of each package."""
    return {name: importlib.metadata.version(name) for name in packages}


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    model, flags = platform.processor(), set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()]
        said = {name.strip(): value.strip() for name, _, value in lines}
        model = said.get("model name", model)
        flags = set(said.get("flags", said.get("Features", "")).split())
    return {
        "processor": model,
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "device": str(jax.devices()[0]),
    }


def save(arguments: argparse.Namespace, name: str, summary: dict[str, Any]) -> None:
    """Write results with date and machine: aside first, so that a file is old or new, never half.

    A quick run is written only where `--output` says.
    """
    if arguments.quick and arguments.output is None:
        return
    path = arguments.output or RESULTS / f"{name}.json"
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps({"date": date, "machine": machine(), **summary}, indent=1) + "\n")
    aside.replace(path)
    print(f"wrote {path}")
