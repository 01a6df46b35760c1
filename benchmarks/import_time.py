"""What `import energax` costs over importing jax, equinox and optax.

    python benchmarks/import_time.py

Fresh interpreters, one after another: each imports jax, equinox and optax, and then energax, with a
look at the clock between, so that both are timed on the same machine in the same state. Then
`-X importtime` says where the time goes.
Results go to the terminal and to `benchmarks/results/import_time.json`.
"""

import statistics
import subprocess
import sys
from typing import Any

from measuring import (
    CONSOLE,
    Bar,
    judge,
    parser,
    save,
    spread,
    use_cores,
    versions,
    warn_if_busy,
)
from rich.table import Table

BASE = "import jax, equinox, optax"
BAR = 0.5
N_SLOWEST = 15
THREADS = 2

_CLOCK = f"""
import time
start = time.perf_counter()
{BASE}
middle = time.perf_counter()
import energax
print(middle - start, time.perf_counter() - middle)
"""


def seconds() -> tuple[float, float]:
    """How long the base and then energax take in a fresh interpreter, its own start not counted."""
    command = [sys.executable, "-c", _CLOCK]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    base, ours = map(float, printed.split())
    return base, ours


def breakdown() -> list[dict[str, Any]]:
    """Where the seconds under `import energax` go, the most first.

    A package that one of energax's modules imports counts with all that it imports in turn; a
    module of energax counts alone.
    """
    command = [sys.executable, "-X", "importtime", "-c", f"{BASE}; import energax"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stderr.splitlines()
    parts: list[dict[str, Any]] = []
    importers: list[tuple[int, str]] = []
    # A module's line comes after those of the modules it imported, which are indented deeper:
    # read backwards, importers come before what they import.
    for line in reversed(lines):
        own, cumulative, name = line.removeprefix("import time:").split("|", 2)
        if not own.strip().isdigit():
            continue
        depth, name = len(name) - len(name.lstrip()), name.strip()
        while importers and importers[-1][0] >= depth:
            importers.pop()
        importer = importers[-1][1] if importers else ""
        importers.append((depth, name))
        if _is_ours(name):
            parts.append({"module": name, "seconds": int(own) / 1e6, "asked_by": importer})
        elif _is_ours(importer):
            parts.append({"module": name, "seconds": int(cumulative) / 1e6, "asked_by": importer})
    return sorted(parts, key=lambda part: -part["seconds"])


def _is_ours(name: str) -> bool:
    return name.split(".")[0] == "energax"


def main() -> None:
    options = parser(__doc__, "import_time")
    options.add_argument("--rounds", type=int, help="interpreters (11; quick: 2)")
    arguments = options.parse_args()
    rounds = arguments.rounds or (2 if arguments.quick else 11)

    use_cores(THREADS)
    busy = warn_if_busy()
    seconds()  # the first finds nothing in the disk's cache and may have to write bytecode
    base, ours = zip(*(seconds() for _ in range(rounds)), strict=True)
    CONSOLE.print(f"{BASE}: {spread(base)} s", highlight=False)
    CONSOLE.print(f"import energax on top of it: {spread(ours)} s", highlight=False)

    parts = breakdown()
    table = Table(title="Slowest imports under energax (slowed by the accounting itself)")
    table.add_column("package, with all it imports, or module of energax, alone")
    table.add_column("ms", justify="right")
    table.add_column("asked for by")
    for part in parts[:N_SLOWEST]:
        table.add_row(part["module"], f"{1000 * part['seconds']:.1f}", part["asked_by"])
    rest = [part["seconds"] for part in parts[N_SLOWEST:]]
    table.add_row(f"{len(rest)} others", f"{1000 * sum(rest):.1f}", "")
    CONSOLE.print(table)

    bar = Bar("seconds of importing energax itself", statistics.median(ours), BAR)
    save(
        arguments,
        "import_time",
        {
            "versions": versions("energax", "jax", "equinox", "optax", "scipy", "rich"),
            "busy_before": busy,
            "threads": THREADS,
            "rounds": rounds,
            "base_seconds": base,
            "energax_seconds": ours,
            "breakdown": parts,
            "bars": judge([bar]),
        },
    )


if __name__ == "__main__":
    main()
