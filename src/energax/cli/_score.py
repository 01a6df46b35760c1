"""`energax score`."""

import csv
from pathlib import Path
from typing import Annotated

import typer

import energax as ex
from energax.cli._common import (
    ArrayName,
    DataFile,
    Json,
    Level,
    ModelFile,
    Overwrite,
    Quiet,
    Seed,
    Threshold,
    base_of,
    check_not_input,
    check_output,
    check_seed,
    likelihood_record,
    load_model,
    log_z_record,
    read_rows,
    rows_for,
    say,
    show_json,
    write_aside,
)
from energax.cli._logz import find_log_z
from energax.partition import energies_of


def score(
    model: ModelFile,
    data: DataFile,
    out: Annotated[
        Path | None, typer.Option(help="A .csv file [default: DATA-scores.csv].")
    ] = None,
    array: ArrayName = None,
    threshold: Threshold = None,
    chains: Annotated[int, typer.Option(help="Annealed chains for log Z.")] = 100,
    temperatures: Annotated[int, typer.Option(help="Temperatures for log Z.")] = 5000,
    level: Level = 0.95,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score rows: each one's energy and log-probability, and their mean with its interval."""
    check_seed(seed)
    path = Path(f"{data.stem}-scores.csv") if out is None else out
    check_output(path, overwrite=overwrite, suffixes=(".csv",))
    check_not_input(path, data)
    energy, metadata = load_model(model)
    found = read_rows(data, array)
    rows = rows_for(energy, found.rows, threshold)
    energies = energies_of(energy, rows)
    z = find_log_z(energy, base_of(energy, metadata), chains, temperatures, level, seed)
    likelihood = ex.log_likelihood(energy, rows, z)

    def write(aside: Path) -> None:
        with open(aside, "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["row", "energy", "log_prob"])
            for i, value in enumerate(energies):
                table.writerow([i, f"{value:.6f}", f"{-value - z.value:.6f}"])

    write_aside(path, write)
    if as_json:
        show_json(
            {
                "scores": path,
                "log_likelihood": likelihood_record(likelihood),
                "log_partition": log_z_record(z),
            }
        )
    elif not quiet:
        say(z.summary, style=None if z.trusted else "yellow")
        say(
            f"mean log-likelihood of {likelihood.n_rows} rows: {likelihood.mean:.3f} nats"
            f" [{likelihood.lower:.3f}, {likelihood.upper:.3f}] from log Z,"
            f" +- {likelihood.row_error:.3f} from the rows;"
            f" {likelihood.bits_per_dimension:.4f} bits a dimension",
        )
        say(f"written to {path}")
