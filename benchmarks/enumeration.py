"""log Z of an RBM by listing every state of its hidden layer: time, memory, block size.

    python benchmarks/enumeration.py

The machine has 784 visible units and 12 to 20 hidden ones: 2^12 to 2^20 states of 784 units each.
Every case runs in a process of its own, so that its peak memory is its own. The smaller cases are
checked against a plain float64 sum. Then one size is run with blocks of several lengths (how many
states are held at a time); the length that ships is marked. Results go to the terminal and to
`benchmarks/results/enumeration.json`.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from measuring import (
    CONSOLE,
    Bar,
    judge,
    parser,
    peak_mebibytes,
    per_step,
    save,
    take_turns,
    use_cores,
    versions,
    warn_if_busy,
)
from rich.table import Table

import energax as ex
from energax.exact import log_partition_enumerated
from energax.exact._enumeration import _block

THREADS = 2
N_VISIBLE = 784
CHECKED = 14
"""Hidden units up to which the value is compared with a float64 sum."""
SWEPT = 17
"""Hidden units of the machine that is run with several lengths of block."""
BAR_HIDDEN, BAR_SECONDS = 20, 60.0


def machine_of(n_hidden: int) -> ex.RBM:
    """The machine of a case."""
    key_weights, key_visible, key_hidden = jax.random.split(ex.key(0), 3)
    return ex.RBM(
        0.3 * jax.random.normal(key_weights, (N_VISIBLE, n_hidden)),
        jax.random.normal(key_visible, (N_VISIBLE,)),
        jax.random.normal(key_hidden, (n_hidden,)),
    )


def compiled(rbm: ex.RBM, block: int | None) -> Callable[[], jax.Array]:
    """The program that lists the machine's hidden states."""
    program = eqx.filter_jit(log_partition_enumerated).lower(rbm, block=block).compile()
    return lambda: program(rbm, block=block)


def case(n_hidden: int, block: int | None, repeats: int) -> dict[str, Any]:
    """One machine, in this process."""
    rbm = machine_of(n_hidden)
    before = peak_mebibytes()
    start = time.perf_counter()
    program = compiled(rbm, block)
    compile_seconds = time.perf_counter() - start
    timed = per_step(program, 1)
    return {
        "hidden": n_hidden,
        "states": 2**n_hidden,
        "block": block or min(_block(N_VISIBLE + n_hidden), 2**n_hidden),
        "compile_seconds": compile_seconds,
        "seconds": [timed() for _ in range(repeats)],
        "peak_mebibytes_before": before,
        "peak_mebibytes": peak_mebibytes(),
        "log_partition": (value := float(program())),
        "error_nats": abs(value - plain_sum(rbm)) if n_hidden <= CHECKED else None,
    }


def sweep(n_hidden: int, rounds: int) -> tuple[list[dict[str, Any]], int]:
    """One machine with blocks of several lengths, taking turns; and the length that ships."""
    rbm = machine_of(n_hidden)
    shipped = min(_block(N_VISIBLE + n_hidden), 2**n_hidden)
    lengths = sorted({2**power for power in range(7, min(n_hidden, 15))} | {shipped})
    programs = {str(block): per_step(compiled(rbm, block), 1) for block in lengths}
    seconds = take_turns(programs, rounds)
    # Once more in processes of their own, for their memory.
    rows = [alone(n_hidden, block, 1) for block in lengths]
    return [{**row, "seconds": seconds[str(row["block"])]} for row in rows], shipped


def plain_sum(rbm: ex.RBM) -> float:
    """log Z in float64 NumPy, without any of energax's code."""
    W, b, c = (np.asarray(a, np.float64) for a in (rbm.weights, rbm.visible_bias, rbm.hidden_bias))
    total = -np.inf
    for start in range(0, 2**c.size, 1024):
        numbers = np.arange(start, start + 1024)
        h = (numbers[:, None] >> np.arange(c.size)) & 1
        terms = h @ c + np.logaddexp(0, h @ W.T + b).sum(1)
        total = np.logaddexp(total, np.logaddexp.reduce(terms))
    return float(total)


def alone(n_hidden: int, block: int | None, repeats: int) -> dict[str, Any]:
    """`case` in a fresh process."""
    request = json.dumps([n_hidden, block, repeats])
    command = [sys.executable, __file__, "--case", request]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def show(title: str, rows: list[dict[str, Any]], shipped: int | None = None) -> None:
    """A table of cases."""
    table = Table(title=title)
    columns = ("hidden units", "block", "seconds", "ns a state", "compiling s", "extra MiB")
    for column in (*columns, "error, nats"):
        table.add_column(column, justify="right")
    for row in rows:
        seconds = statistics.median(row["seconds"])
        mark = " (ships)" if row["block"] == shipped else ""
        error = row["error_nats"]
        table.add_row(
            str(row["hidden"]),
            f"{row['block']}{mark}",
            f"{seconds:.3f}",
            f"{1e9 * seconds / row['states']:.0f}",
            f"{row['compile_seconds']:.2f}",
            f"{row['peak_mebibytes'] - row['peak_mebibytes_before']:.0f}",
            "" if error is None else f"{error:.1e}",
        )
    CONSOLE.print(table)


def main() -> None:
    options = parser(__doc__, "enumeration")
    options.add_argument("--repeats", type=int, help="timings of each case (7; quick: 2)")
    options.add_argument("--case", help="for its own use: one case, printed as JSON")
    arguments = options.parse_args()
    use_cores(THREADS)
    if arguments.case:
        print(json.dumps(case(*json.loads(arguments.case))))
        return
    repeats = arguments.repeats or (2 if arguments.quick else 7)
    busy = warn_if_busy()

    sizes = range(12, 15) if arguments.quick else range(12, BAR_HIDDEN + 1)
    by_size = [alone(n_hidden, None, repeats) for n_hidden in sizes]
    show(f"log Z of an RBM with {N_VISIBLE} visible units, by enumeration", by_size)

    swept = 13 if arguments.quick else SWEPT
    by_block, shipped = sweep(swept, repeats)
    show(f"the same with {swept} hidden units, by length of block", by_block, shipped)

    found = []
    if by_size[-1]["hidden"] == BAR_HIDDEN:
        seconds = by_size[-1]["compile_seconds"] + statistics.median(by_size[-1]["seconds"])
        name = f"seconds for {BAR_HIDDEN} hidden units, compiling included"
        found.append(Bar(name, seconds, BAR_SECONDS))
    save(
        arguments,
        "enumeration",
        {
            "versions": versions("energax", "jax", "jaxlib"),
            "busy_before": busy,
            "threads": THREADS,
            "visible": N_VISIBLE,
            "by_size": by_size,
            "by_block": by_block,
            "shipped_block": shipped,
            "bars": judge(found),
        },
    )


if __name__ == "__main__":
    main()
