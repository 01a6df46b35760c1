"""What the commands share: options, reading rows, checking outputs, printing."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer
from rich.console import Console

import energax as ex
from energax.cli._rows import Reading
from energax.energies import AbstractEnergy
from energax.io import read_metadata
from energax.io._plain import plain
from energax.spaces import Joint

console = Console(stderr=True, highlight=False)
"""Where progress goes."""

_results = Console(highlight=False)


@contextmanager
def waiting(what: str, *, show: bool = True) -> Iterator[None]:
    """A sign of life and the time gone by, on a terminal, while a block is at work."""
    if not (show and console.is_terminal):
        yield
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn(what), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(what, total=None)
        yield


def say(text: Any, style: str | None = None) -> None:
    """A result, on standard output, its lines as they are."""
    _results.print(text, style=style, markup=False, soft_wrap=True)


DataFile = Annotated[
    Path,
    typer.Argument(
        help="Rows: .npy, .npz, .csv, .parquet, IDX, or a folder of images.", show_default=False
    ),
]
ModelFile = Annotated[
    Path, typer.Argument(help="A model saved by `energax fit` or `ex.save`.", show_default=False)
]
Seed = Annotated[int, typer.Option(help="The seed of everything random.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no summary.")]
ArrayName = Annotated[
    str | None, typer.Option("--array", help="Which array of an .npz, where it holds several.")
]
TestArrayName = Annotated[
    str | None, typer.Option("--test-array", help="Which array of an .npz holds the test rows.")
]
Threshold = Annotated[
    float | None,
    typer.Option(help="Where grey values become 1, as a share of full scale (default: 0.5)."),
]
Low = Annotated[float | None, typer.Option(help="The grey value that stands for 0 (default: 0).")]
High = Annotated[
    float | None,
    typer.Option(help="The grey value that stands for 1 (default: the largest of its type)."),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(help="The column of a table, by name or number, or the array, that is labels."),
]
UnpackBits = Annotated[
    bool | None,
    typer.Option(
        "--unpack-bits/--no-unpack-bits",
        help="Whether bytes hold eight bits each (default: if the array's name ends in bits).",
        show_default=False,
    ),
]
Level = Annotated[float, typer.Option(help="Coverage of intervals.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]


def rows_for(energy: AbstractEnergy, rows: np.ndarray, reading: Reading) -> Any:
    """Rows as states of a model that is not over zeros and ones."""
    if isinstance(energy.space, Joint):
        raise ValueError(f"a file of rows cannot be read as states of {energy.space}")
    check_width(energy, rows)
    for name in ("threshold", "low", "high"):
        if getattr(reading, name) is not None:
            raise ValueError(f"--{name} is for binary models; this one is over {energy.space}")
    return energy.space.convert(rows)


def check_width(energy: AbstractEnergy, rows: np.ndarray) -> None:
    """Raise `ValueError` for rows that have not as many entries as the model takes."""
    if rows[0].size != n_entries(energy):
        raise ValueError(
            f"the model takes rows of {n_entries(energy)} entries, the data have {rows[0].size}"
            f" (shape {rows.shape[1:]})"
        )


def load_model(path: Path) -> tuple[AbstractEnergy, dict[str, Any]]:
    """A model and what was stored beside it."""
    model = ex.load(path)
    if not isinstance(model, AbstractEnergy):
        raise ValueError(f"{path} holds a {type(model).__name__}, not a model")
    return model, read_metadata(path)


_WRITTEN = {
    "settings": dict,
    "rows": dict,
    "calls": list,
    "history": list,
    "alarms": list,
    "status": str,
    "message": str,
    "fit_seconds": int | float,
}
"""What `energax fit` stores beside a model, as far as a command uses it."""

_SETTINGS = {
    "data": str,
    "array": str | None,
    "test_array": str | None,
    "label_column": str | None,
    "unpack_bits": bool | None,
    "threshold": int | float | None,
    "low": int | float | None,
    "high": int | float | None,
    "test_fraction": int | float,
    "seed": int,
}
"""Those settings that say how rows were read and split."""


def check_settings(metadata: dict[str, Any], model: Path) -> dict[str, Any]:
    """The settings a model was trained with, none if it does not say.

    **Raises:** `ValueError` for a record of training that `energax fit` would not have written.
    """

    def check(record: dict[str, Any], kinds: dict[str, Any]) -> None:
        for name, kind in kinds.items():
            if name in record and not isinstance(record[name], kind):
                raise ValueError(f"{model}: its {name!r} is not as energax fit writes it")

    check(metadata, _WRITTEN)
    settings = metadata.get("settings", {})
    check(settings, _SETTINGS)
    for call in metadata.get("calls", []):
        check({"calls": call}, {"calls": dict})
        whole = {"epochs": None, "steps": None, "status": None} | call
        check(whole, {"epochs": int | float | None, "steps": int, "status": str})
    for row in metadata.get("history", []):
        check({"history": row}, {"history": dict})
        check(row, dict.fromkeys(row, int | float))
    for alarm in metadata.get("alarms", []):
        check({"alarms": alarm}, {"alarms": dict})
        check({"cause": None, "text": None} | alarm, {"cause": str, "text": str})
    return settings


def base_of(energy: AbstractEnergy, metadata: dict[str, Any]) -> ex.Bernoulli | None:
    """The base rates of the training data, where the model's file has them."""
    logits = metadata.get("base_logits")
    if logits is None:
        return None
    base = ex.Bernoulli(np.asarray(logits))
    if str(base.space) != str(energy.space):
        raise ValueError(f"the file's base rates are over {base.space}, not over {energy.space}")
    return base


def check_output(path: Path, *, overwrite: bool, suffixes: tuple[str, ...] = ()) -> Path:
    """Refuse, before any work, an output that exists or cannot be written."""
    if suffixes and path.suffix.lower() not in suffixes:
        raise ValueError(f"the output must end in {' or '.join(suffixes)}, got {path.name!r}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file in it")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists: add --overwrite to replace it, or name another --out")
    parent = path.parent
    if not parent.is_dir():
        raise ValueError(f"there is no folder {parent}: make it, or name another --out")
    if not os.access(parent, os.W_OK):
        raise ValueError(f"the folder {parent} cannot be written to")
    return path


def stem_of(path: Path) -> str:
    """What files made from `path` are called: the folder `.` has a name too."""
    return Path(os.path.abspath(path)).stem or "data"


def check_not_input(path: Path, data: Path) -> None:
    """Refuse to write over the data."""
    if path.exists() and data.exists() and path.samefile(data):
        raise ValueError(f"{path} is the data themselves: name another --out")


def check_at_least(least: int, **options: int) -> None:
    """Raise `ValueError`, naming the option, for a number too small or beyond 32 bits."""
    for name, value in options.items():
        if not least <= value < 2**31:
            option = f"-{name}" if len(name) == 1 else f"--{name.replace('_', '-')}"
            what = f"at least {least}" if value < least else "below 2^31"
            raise ValueError(f"{option} must be {what}, got {value}")


def check_memory(n_numbers: int, what: str) -> None:
    """Refuse arrays the machine has no memory for: XLA would end the process without a word."""
    if os.name != "posix":  # elsewhere the system does not say
        return
    needed, there = 4 * n_numbers, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise ValueError(f"{what} would take {needed >> 30} GiB, the machine has {there >> 30}")


def check_annealing(energy: AbstractEnergy, chains: int, temperatures: int) -> None:
    """Raise `ValueError` for numbers of chains or temperatures that are too small or too large."""
    check_at_least(2, chains=chains, temperatures=temperatures)
    check_memory(chains * n_entries(energy), f"{chains} chains")
    # The ladder is made in float64 and then held several times in float32.
    check_memory(10 * temperatures, f"{temperatures} temperatures")


def n_entries(energy: AbstractEnergy) -> int:
    """How many numbers a state of a model holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(energy.space.structure))


def check_seed(seed: int) -> None:
    """Raise `ValueError` for a seed out of range."""
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"--seed must fit in 64 bits, got {seed}")


def show_json(record: dict[str, Any]) -> None:
    """One JSON object on standard output; infinities as null."""
    json.dump(plain(record), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def as_json_text(record: dict[str, Any]) -> str:
    """One JSON object on one line; infinities as null."""
    return json.dumps(plain(record), allow_nan=False)


def log_z_record(z: ex.LogPartition) -> dict[str, Any]:
    """`LogPartition` for JSON, without its weights; with what a bracket is made of."""
    scalars = {
        k: v for k, v in z.diagnostics.items() if isinstance(v, str | int | float | np.generic)
    }
    record = {
        "value": z.value,
        "lower": z.lower,
        "upper": z.upper,
        "std_error": z.std_error,
        "exact": z.exact,
        "method": z.method,
        "trusted": z.trusted,
        "reason": z.reason,
        "level": z.level,
        "diagnostics": scalars,
    }
    parts = {name: log_z_record(part) for name, part in z.parts.items()}
    return record | ({"parts": parts} if parts else {})


def likelihood_record(likelihood: ex.LogLikelihood) -> dict[str, Any]:
    """`LogLikelihood` for JSON."""
    more = ("bits_per_dimension", "bits_interval", "perplexity", "perplexity_interval")
    return vars(likelihood) | {name: getattr(likelihood, name) for name in more}
