"""`energax logz`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import energax as ex
from energax.cli._common import (
    Json,
    Level,
    ModelFile,
    Overwrite,
    Seed,
    base_of,
    check_annealing,
    check_at_least,
    check_memory,
    check_not_input,
    check_output,
    check_seed,
    load_model,
    log_z_record,
    say,
    show_json,
    waiting,
)
from energax.energies import AbstractEnergy, AbstractTractable
from energax.io._aside import written_aside
from energax.partition import exact_method
from energax.plots import annealing_path
from energax.plots._style import new_figure


class Method(StrEnum):
    """How to find log Z."""

    auto = "auto"
    closed_form = "closed-form"
    elimination = "elimination"
    enumeration = "enumeration"
    quadrature = "quadrature"
    bracket = "bracket"
    annealing = "annealing"
    smc = "smc"
    mbar = "mbar"
    bridge = "bridge"
    thermodynamic = "thermodynamic"

    @property
    def in_python(self) -> Any:
        """What `ex.log_partition` calls it."""
        return _LONG_NAMES.get(self, self.value)

    @property
    def is_exact(self) -> bool:
        """Whether it estimates nothing."""
        return self in (Method.closed_form, Method.elimination, Method.enumeration)

    @property
    def is_annealed(self) -> bool:
        """Whether it goes from a base to the model."""
        return not self.is_exact and self is not Method.quadrature


_LONG_NAMES = {
    Method.closed_form: "closed form",
    Method.thermodynamic: "thermodynamic integration",
}

_REPLICAS = (Method.mbar, Method.bridge, Method.thermodynamic)
"""Methods whose chains are ladders of replicas, and whose temperatures are their rungs."""

_RUNS = 20
"""Of sequential Monte Carlo, each with as many chains."""

_DRAWN = (Method.bracket, Method.annealing)
"""Methods that walk a path that can be drawn."""


def logz(
    model: ModelFile,
    method: Annotated[
        Method,
        typer.Option(
            help="auto: exact where that takes seconds, else bracket (quadrature of one or two"
            " real entries). bracket: annealed up and down and checked by replica exchange."
            " closed-form, elimination, enumeration: exact. quadrature: of a few real entries. The"
            " rest: one estimate; annealing is the cheapest."
        ),
    ] = Method.auto,
    chains: Annotated[
        int | None,
        typer.Option(
            help="Annealed chains, in each direction; of smc, particles; of mbar, bridge and"
            " thermodynamic, independent ladders of replicas (default: the method's own).",
            show_default=False,
        ),
    ] = None,
    temperatures: Annotated[
        int | None,
        typer.Option(
            help="Temperatures from base to model; of mbar, bridge and thermodynamic, replicas of a"
            " ladder (default: as many as a bracket needs, 5000 of annealing, else the method's"
            " own).",
            show_default=False,
        ),
    ] = None,
    figure: Annotated[
        Path | None,
        typer.Option(
            help="A .png, .svg or .pdf file: the path of bracket or annealing as a picture.",
            show_default=False,
        ),
    ] = None,
    level: Level = 0.95,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Find log Z, with its interval, what it rests on, what it cost, and whether to trust it.

    A bracket of a large model takes minutes. Annealing starts from the base rates of the training
    data where the model's file has them.
    """
    check_seed(seed)
    energy, metadata = load_model(model)
    exact = exact_method(energy) if method is Method.auto else None
    # What auto gives way to where log Z is not found exactly.
    how = Method.bracket if method is Method.auto else method
    options = _options(energy, how, chains, temperatures)
    if figure is not None:
        _check_figure(figure, model, how, exact, overwrite=overwrite)
    base = base_of(energy, metadata) if how.is_annealed else None
    with waiting("log Z" if exact else f"log Z by {how}"):
        if exact:
            z = ex.log_partition(energy, key=ex.key(seed), level=level)
        else:
            z = ex.log_partition(
                energy,
                key=ex.key(seed),
                # Unasked, quadrature comes before the bracket; it has no path to draw.
                method=None if method is Method.auto and figure is None else how.in_python,
                base=base,
                level=level,
                **options,
            )
    if figure is not None:
        drawn = annealing_path(z)
        with written_aside(figure) as file:
            drawn.savefig(file, format=figure.suffix[1:].lower())
    if as_json:
        show_json(log_z_record(z) | ({} if figure is None else {"figure": figure}))
        return
    say(z.table, style=None if z.trusted else "yellow")
    if figure is not None:
        say(f"written to {figure}")


def find_log_z(
    energy: AbstractEnergy,
    base: AbstractTractable | None,
    chains: int,
    temperatures: int,
    level: float,
    seed: int,
) -> ex.LogPartition:
    """log Z as scores need it: exactly if that takes seconds, else annealed, which is cheapest."""
    check_annealing(energy, chains, temperatures)
    key = ex.key(seed)
    if exact_method(energy) is not None:
        return ex.log_partition(energy, key=key, level=level)
    return ex.log_partition(
        energy,
        key=key,
        method="annealing",
        base=base,
        level=level,
        n_chains=chains,
        n_temperatures=temperatures,
    )


def _options(
    energy: AbstractEnergy, how: Method, chains: int | None, temperatures: int | None
) -> dict[str, int]:
    """What the method calls chains and temperatures.

    **Raises:** `ValueError` for those it does not take, or cannot.
    """
    options = {"chains": chains, "temperatures": temperatures}
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if not how.is_annealed:
            raise ValueError(f"--{name} is for estimates with chains: {how} has none")
        if how is Method.smc and name == "temperatures":
            raise ValueError(
                "--temperatures is not for smc, which chooses its own: leave it out, or take"
                " --method annealing"
            )
    check_at_least(2, **given)
    if how in _REPLICAS:
        n_ladders, n_rungs = given.get("chains", 25), given.get("temperatures", 16)
        # Every one of 40 draws of a rung is weighed on every other.
        check_memory(40 * n_ladders * n_rungs**2, f"{n_ladders} ladders of {n_rungs} replicas")
        names = {"chains": "n_ladders", "temperatures": "n_replicas"}
    else:
        check_annealing(energy, given.get("chains", 2), given.get("temperatures", 2))
        names = {"chains": "n_chains", "temperatures": "n_temperatures"}
    if how is Method.smc and (n := given.get("chains", _RUNS)) % _RUNS:
        raise ValueError(f"--chains must be a multiple of {_RUNS} for smc, got {n}")
    if how is Method.annealing:
        given = {"temperatures": 5000} | given
    return {names[name]: value for name, value in given.items()}


def _check_figure(
    figure: Path, model: Path, how: Method, exact: str | None, *, overwrite: bool
) -> None:
    """Refuse, before any work, a picture that cannot be drawn or written."""
    check_output(figure, overwrite=overwrite, suffixes=(".pdf", ".png", ".svg"))
    check_not_input(figure, model)
    if exact is not None:
        raise ValueError(
            f"--figure draws the path of an estimate: this log Z is exact, by {exact}; add"
            " --method bracket"
        )
    if how not in _DRAWN:
        raise ValueError(f"--figure is for bracket and annealing: {how} has no such path")
    new_figure(1.0, 1.0)  # says so if matplotlib is missing
