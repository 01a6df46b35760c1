"""What the commands share: options, reading rows, checking outputs, printing."""

import json
import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer
from rich.console import Console

import energax as ex
from energax.energies import AbstractEnergy
from energax.io import Dataset, binarise, read, read_metadata
from energax.spaces import Binary, Joint

console = Console(stderr=True, highlight=False)
"""Where progress goes."""

_results = Console(highlight=False)


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
    typer.Option(help="Where grey values become 1, as a share of full scale [default: 0.5]."),
]
Level = Annotated[float, typer.Option(help="Coverage of intervals.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output if it exists.")]


def read_rows(path: Path, array: str | None = None, test_array: str | None = None) -> Dataset:
    """The rows in a file."""
    return read(path, array=array, test_array=test_array)


def binary_rows(rows: np.ndarray, threshold: float | None) -> np.ndarray:
    """Rows of zeros and ones, one flat row each."""
    flat = rows.reshape(len(rows), -1)
    return np.asarray(binarise(flat, threshold=threshold))


def rows_for(energy: AbstractEnergy, rows: np.ndarray, threshold: float | None) -> Any:
    """Rows as states of a model's space; grey values are binarised for a binary one."""
    if isinstance(energy.space, Joint):
        raise ValueError(f"a file of rows cannot be read as states of {energy.space}")
    size = math.prod(jax.tree.leaves(energy.space.structure)[0].shape)
    if rows[0].size != size:
        raise ValueError(
            f"the model takes rows of {size} entries, the data have {rows[0].size} (shape"
            f" {rows.shape[1:]})"
        )
    if isinstance(energy.space, Binary):
        rows = binary_rows(rows, threshold)
    elif threshold is not None:
        raise ValueError(f"--threshold is for binary models; this one is over {energy.space}")
    return energy.space.convert(rows)


def load_model(path: Path) -> tuple[AbstractEnergy, dict[str, Any]]:
    """A model and what was stored beside it."""
    model = ex.load(path)
    if not isinstance(model, AbstractEnergy):
        raise ValueError(f"{path} holds a {type(model).__name__}, not a model")
    return model, read_metadata(path)


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
    if not hasattr(os, "sysconf"):
        return
    needed, there = 4 * n_numbers, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise ValueError(f"{what} would take {needed >> 30} GiB, the machine has {there >> 30}")


def n_entries(energy: AbstractEnergy) -> int:
    """How many numbers a state of a model holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(energy.space.structure))


def check_seed(seed: int) -> None:
    """Raise `ValueError` for a seed out of range."""
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"--seed must fit in 64 bits, got {seed}")


def write_aside(path: Path, write: Any) -> None:
    """Call `write(temporary path)` and rename the result: no half-written file is left."""
    aside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(aside)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def show_json(record: dict[str, Any]) -> None:
    """One JSON object on standard output; infinities as null."""
    json.dump(_plain(record), sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def log_z_record(z: ex.LogPartition) -> dict[str, Any]:
    """`LogPartition` for JSON, without its weights."""
    scalars = {k: v for k, v in z.diagnostics.items() if np.ndim(v) == 0}
    return {
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


def likelihood_record(likelihood: ex.LogLikelihood) -> dict[str, Any]:
    """`LogLikelihood` for JSON."""
    return dict(vars(likelihood))
