"""The README's two commands on MNIST, run as a user runs them: how long, and how good the model.

    ENERGAX_DATA=folder python benchmarks/main_job.py
    ENERGAX_DATA=folder python benchmarks/main_job.py --work runs/mnist    # can be stopped

The folder holds `mnist_binarised.npz`: `train_bits` (60,000 rows) and `test_bits` (10,000), each
row's 784 pixels packed in 98 bytes. `energax fit` and `energax report` run in a folder of work, and
seconds are those of the whole processes: importing, reading, compiling, writing. The report is then
made once more, untimed, with `--json`, where its numbers are read. With `--work` an interrupted run
goes on from its checkpoint; the seconds of training that stand in the checkpoint are added to those
of this sitting. Results, with what both commands printed, go to `benchmarks/results/main_job.json`.
"""

import argparse
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import CONSOLE, Bar, judge, parser, save, use_cores, versions, warn_if_busy

from energax.io import read_metadata

THREADS = 2
DATA, MODEL = "mnist_binarised.npz", "mnist_binarised-rbm.energax"
CHECKPOINT, PAGE = f"{MODEL}.checkpoint", "mnist_binarised-rbm-report.html"
FIT = f"energax fit {DATA} --model rbm --hidden 500 --epochs 60"
REPORT = f"energax report {MODEL} {DATA}"
QUICK_FIT = f"energax fit {DATA} --model rbm --hidden 50 --epochs 3"
QUICK_REPORT = f"{REPORT} --temperatures 200 --sample-steps 50"
QUICK_ROWS = 2_000
BAR_NATS, BAR_SECONDS = -90.0, 600.0


def put_data(source: Path, folder: Path, quick: bool) -> None:
    """The data beside the model to be, as a user would have them; the first rows only if quick."""
    if not quick:
        shutil.copyfile(source, folder / DATA)
        return
    with np.load(source) as file:
        np.savez(folder / DATA, **{name: file[name][:QUICK_ROWS] for name in file})


def run(command: str, folder: Path) -> tuple[float, str]:
    """Wall seconds of a command and what it printed; its progress goes to the terminal."""
    program, *arguments = shlex.split(command)
    path = Path(sys.executable).with_name(program)
    CONSOLE.print(f"$ {command}", highlight=False, soft_wrap=True)
    start = time.perf_counter()
    process = subprocess.Popen([path, *arguments], cwd=folder, stdout=subprocess.PIPE, text=True)
    try:
        printed = process.communicate()[0]
    except KeyboardInterrupt:
        process.wait()  # it was interrupted too, and writes its checkpoint before it ends
        raise
    seconds = time.perf_counter() - start
    if process.returncode:
        print(printed)
        sys.exit(f"{command}: ended with status {process.returncode}")
    return seconds, printed


def trained_before(folder: Path) -> dict[str, Any]:
    """The steps and seconds of training that an earlier sitting left behind."""
    checkpoint = folder / CHECKPOINT
    history = read_metadata(checkpoint)["history"] if checkpoint.exists() else []
    return {
        "step": history[-1]["step"] if history else 0,
        "seconds": history[-1]["seconds"] if history else 0.0,
    }


def do_job(source: Path, folder: Path, quick: bool) -> dict[str, Any]:
    """Both commands, and the numbers of the report."""
    put_data(source, folder, quick)
    before = trained_before(folder)
    if before["step"]:
        print(f"going on from step {before['step']}, after {before['seconds']:.0f} s of training")
    fit, report = (QUICK_FIT, QUICK_REPORT) if quick else (FIT, REPORT)
    fit_seconds, fit_text = run(fit, folder)
    print(fit_text, end="")
    again = " --overwrite" if (folder / PAGE).exists() else ""
    report_seconds, report_text = run(report + again, folder)
    print(report_text, end="")
    numbers = json.loads(run(f"{report} --json --overwrite", folder)[1])
    said = f"test log-likelihood {_number(numbers['test']['mean']):.3f} nats"
    if said not in report_text:
        raise RuntimeError(f"the second report says {said!r}, which the first did not")
    return {
        "trained_before": before,
        "seconds": {"fit": before["seconds"] + fit_seconds, "report": report_seconds},
        "commands": [fit, report],
        "printed": [fit_text, report_text],
        "log_partition": numbers["log_partition"],
        "train": numbers["train"],
        "test": numbers["test"],
        "baseline_test": numbers["baseline_test"],
    }


def _number(value: float | None) -> float:
    """What `--json` says; it writes what is not finite as null."""
    return math.nan if value is None else value


def bars(found: dict[str, Any]) -> list[Bar]:
    """What is asked of energax."""
    test = found["test"]
    nats, seconds = _number(test["mean"]), sum(found["seconds"].values())
    return [
        Bar("test log-likelihood, nats", nats, BAR_NATS, at_most=False),
        Bar("log Z is trusted (1: yes)", int(test["trusted"]), 1, at_most=False),
        Bar("seconds of training and scoring", seconds, BAR_SECONDS),
    ]


def data_file() -> Path:
    """Where the rows are, or the end of the program."""
    folder = os.environ.get("ENERGAX_DATA")
    if not folder:
        sys.exit(f"set ENERGAX_DATA to a folder with {DATA}")
    path = Path(folder) / DATA
    if not path.exists():
        sys.exit(f"there is no {path}")
    return path


def job_in(arguments: argparse.Namespace) -> dict[str, Any]:
    """The job in the folder of work; a quick one keeps to a folder of its own."""
    source = data_file()
    if arguments.work is None:
        with tempfile.TemporaryDirectory() as folder:
            return do_job(source, Path(folder), arguments.quick)
    folder = arguments.work / "quick" if arguments.quick else arguments.work
    folder.mkdir(parents=True, exist_ok=True)
    return do_job(source, folder, arguments.quick)


def main() -> None:
    options = parser(__doc__, "main_job")
    options.add_argument(
        "--work", type=Path, help="folder of work, kept (default: a temporary one, removed)"
    )
    arguments = options.parse_args()
    use_cores(THREADS)
    busy = warn_if_busy()
    found = job_in(arguments)
    fit, report = found["seconds"].values()
    CONSOLE.print(f"energax fit: {fit:.1f} s, energax report: {report:.1f} s", highlight=False)
    save(
        arguments,
        "main_job",
        {
            "versions": versions("energax", "jax", "jaxlib"),
            "busy_before": busy,
            "threads": THREADS,
            **found,
            "bars": [] if arguments.quick else judge(bars(found)),
        },
    )


if __name__ == "__main__":
    main()
