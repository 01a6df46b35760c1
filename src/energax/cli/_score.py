"""`energax score`."""

import csv
import io
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

import energax as ex
from energax.cli._common import (
    ArrayName,
    DataFile,
    High,
    Json,
    LabelColumn,
    Level,
    Low,
    ModelFile,
    Overwrite,
    Quiet,
    Seed,
    TestArrayName,
    Threshold,
    UnpackBits,
    base_of,
    check_annealing,
    check_not_input,
    check_output,
    check_seed,
    check_settings,
    check_width,
    likelihood_record,
    load_model,
    log_z_record,
    rows_for,
    say,
    show_json,
    stem_of,
)
from energax.cli._logz import find_log_z
from energax.cli._rows import Reading, binary_rows, split_numbers
from energax.io import Dataset
from energax.io._aside import written_aside
from energax.partition import energies_of
from energax.spaces import Binary


class Part(StrEnum):
    """Which rows of a file."""

    train = "train"
    test = "test"
    all = "all"


def score(
    model: ModelFile,
    data: DataFile,
    part: Annotated[
        Part | None,
        typer.Option(
            help="Which rows; without test rows of the file's own, train and test as `fit` split"
            " them (default: the file's own test rows, else all).",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A .csv file (default: DATA-scores.csv).")
    ] = None,
    array: ArrayName = None,
    test_array: TestArrayName = None,
    label_column: LabelColumn = None,
    unpack_bits: UnpackBits = None,
    threshold: Threshold = None,
    low: Low = None,
    high: High = None,
    chains: Annotated[int, typer.Option(help="Annealed chains for log Z.")] = 100,
    temperatures: Annotated[int, typer.Option(help="Temperatures for log Z.")] = 5000,
    level: Level = 0.95,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score rows: each one's energy and log-probability, and their mean with its interval.

    Rows are read and binarised as those the model was trained on, unless options say otherwise.
    """
    check_seed(seed)
    path = Path(f"{stem_of(data)}-scores.csv") if out is None else out
    check_output(path, overwrite=overwrite, suffixes=(".csv",))
    check_not_input(path, data)
    energy, metadata = load_model(model)
    check_annealing(energy, chains, temperatures)
    settings = check_settings(metadata, model)
    given = Reading(array, test_array, label_column, unpack_bits, threshold, low, high)
    reading = given.or_as_trained(settings, data)
    found = reading.read(data)
    scored = _scored(found, part, given, settings, data)
    if isinstance(energy.space, Binary):
        bits = binary_rows(found, reading)
        check_width(energy, bits.rows)
        rows = energy.space.convert(scored.of(bits.rows, bits.test_rows))
    else:
        rows = rows_for(energy, scored.of(found.rows, found.test_rows), given)
    energies = energies_of(energy, rows)
    z = find_log_z(energy, base_of(energy, metadata), chains, temperatures, level, seed)
    likelihood = ex.log_likelihood(energy, rows, z)

    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["part", "row", "energy", "log_prob"])
    for name, number, value in zip(scored.names, scored.numbers, energies, strict=True):
        table.writerow([name, number, f"{value:.6f}", f"{-value - z.value:.6f}"])
    with written_aside(path) as file:
        file.write(text.getvalue().encode())
    if as_json:
        show_json(
            {
                "scores": path,
                "part": scored.part,
                "array": scored.array,
                "log_likelihood": likelihood_record(likelihood),
                "log_partition": log_z_record(z),
            }
        )
    elif not quiet:
        say(z.summary, style=None if z.trusted else "yellow")
        say(f"scored: {scored.words}")
        say(
            f"mean log-likelihood of {likelihood.n_rows} rows: {likelihood.mean:.3f} nats"
            f" [{likelihood.lower:.3f}, {likelihood.upper:.3f}] from log Z,"
            f" +- {likelihood.row_error:.3f} from the rows;"
            f" {likelihood.bits_per_dimension:.4f} bits a dimension",
        )
        say(f"written to {path}")


class _Scored(NamedTuple):
    """Which rows are scored, and under which numbers."""

    part: Part
    array: str | None
    """The array that the rows are numbered in, where the file has several."""
    words: str
    names: list[str]
    """The part that each row is of."""
    numbers: np.ndarray
    """Each row's number in its array."""
    own_test: bool
    """Whether rows of part `test` are the file's own test rows."""

    def of(self, rows: np.ndarray, test_rows: np.ndarray | None) -> np.ndarray:
        """These rows among all."""
        if not self.own_test or test_rows is None:
            return rows[self.numbers]
        n = self.names.count("train")
        return np.concatenate([rows[self.numbers[:n]], test_rows[self.numbers[n:]]])


def _scored(
    found: Dataset, part: Part | None, given: Reading, settings: dict[str, Any], data: Path
) -> _Scored:
    """The rows asked for; unasked the file's own test rows, or else all."""
    n, array = len(found.rows), found.array
    if found.test_rows is not None:
        if part is None:  # who names an array alone means its rows
            alone = given.array is not None and given.test_array is None
            part = Part.train if alone else Part.test
        n_test = 0 if part is Part.train else len(found.test_rows)
        n = 0 if part is Part.test else n
        arrays = [a for a, count in ((array, n), (found.test_array, n_test)) if a and count]
        array = " and ".join(arrays) or None
        words = f"{part} rows, {array}" if array else f"{part} rows"
        names = ["train"] * n + ["test"] * n_test
        numbers = np.concatenate([np.arange(n), np.arange(n_test)])
        return _Scored(part, array, words, names, numbers, True)
    part = Part.all if part is None else part
    numbers = np.arange(n)
    if part is not Part.all:
        if "test_fraction" not in settings:
            raise ValueError(
                f"--part {part} needs a model that says how its rows were split, or a file with"
                f" test rows of its own; {data} names none"
            )
        train, test = split_numbers(data, n, settings["test_fraction"], settings.get("seed", 0))
        numbers = train if part is Part.train else test
    words = f"{part} rows of {array}" if array else f"{part} rows"
    words += "" if part is Part.all else ", as training split them"
    return _Scored(part, array, words, [part.value] * len(numbers), numbers, False)
