"""`energax logz`."""

from enum import StrEnum
from typing import Annotated

import typer

import energax as ex
from energax.cli._common import (
    Json,
    Level,
    ModelFile,
    Seed,
    base_of,
    check_annealing,
    check_seed,
    load_model,
    log_z_record,
    say,
    show_json,
)
from energax.energies import AbstractEnergy, AbstractTractable
from energax.partition import exact_method


class Method(StrEnum):
    """How to find log Z."""

    auto = "auto"
    elimination = "elimination"
    enumeration = "enumeration"
    annealing = "annealing"


def logz(
    model: ModelFile,
    method: Annotated[Method, typer.Option(help="auto: exact where affordable.")] = Method.auto,
    chains: Annotated[int, typer.Option(help="Annealed chains.")] = 100,
    temperatures: Annotated[int, typer.Option(help="Temperatures from base to model.")] = 5000,
    level: Level = 0.95,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Find log Z, with its interval and whether to trust it."""
    check_seed(seed)
    energy, metadata = load_model(model)
    z = find_log_z(energy, base_of(energy, metadata), chains, temperatures, level, seed, method)
    if as_json:
        show_json(log_z_record(z))
    else:
        style = None if z.trusted else "yellow"
        say(z.summary, style=style)


def find_log_z(
    energy: AbstractEnergy,
    base: AbstractTractable | None,
    chains: int,
    temperatures: int,
    level: float,
    seed: int,
    method: Method = Method.auto,
) -> ex.LogPartition:
    """log Z as the commands find it: exactly if that takes seconds, else annealed."""
    check_annealing(energy, chains, temperatures)
    key = ex.key(seed)
    if method is Method.auto and exact_method(energy) is not None:
        return ex.log_partition(energy, key=key, level=level)
    if method is Method.elimination or method is Method.enumeration:
        return ex.log_partition(energy, key=key, method=method.value, level=level)
    return ex.log_partition(
        energy,
        key=key,
        method="annealing",
        base=base,
        level=level,
        n_chains=chains,
        n_temperatures=temperatures,
    )
