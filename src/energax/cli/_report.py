"""`energax report`."""

import datetime
import itertools
import os
import platform
import shlex
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import jax
import typer

import energax as ex
from energax.cli._common import (
    ArrayName,
    DataFile,
    High,
    Json,
    LabelColumn,
    Low,
    ModelFile,
    Overwrite,
    Quiet,
    Seed,
    TestArrayName,
    Threshold,
    UnpackBits,
    check_annealing,
    check_at_least,
    check_output,
    check_seed,
    check_settings,
    likelihood_record,
    load_model,
    log_z_record,
    say,
    show_json,
    waiting,
)
from energax.cli._rows import Reading, split_rows
from energax.report import Report, write_report
from energax.report._write import check_extra
from energax.spaces import Binary

_DOUBT = ", so test rows may have been trained on"


class Method(StrEnum):
    """How a report estimates log Z."""

    annealing = "annealing"
    bracket = "bracket"


def report(
    model: ModelFile,
    data: DataFile,
    out: Annotated[
        Path | None, typer.Option(help="An .html file (default: MODEL-report.html).")
    ] = None,
    array: ArrayName = None,
    test_array: TestArrayName = None,
    label_column: LabelColumn = None,
    unpack_bits: UnpackBits = None,
    threshold: Threshold = None,
    low: Low = None,
    high: High = None,
    method: Annotated[
        Method,
        typer.Option(
            help="How log Z is estimated. bracket: annealed down from the model as well as up, and"
            " checked by replica exchange; some ten times as long."
        ),
    ] = Method.annealing,
    chains: Annotated[int, typer.Option(help="Annealed chains for log Z.")] = 100,
    temperatures: Annotated[
        int | None,
        typer.Option(
            help="Temperatures for log Z (default: 5000; of a bracket, as many as it needs).",
            show_default=False,
        ),
    ] = None,
    sample_steps: Annotated[int, typer.Option(help="Steps of each chain to a sample.")] = 1000,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a model on its data and write one self-contained page.

    Rows are read and split as `energax fit` did: the test rows were not trained on. If DATA are
    not the rows that `fit` used, the page says so before all else.
    """
    check_seed(seed)
    check_extra()
    path = Path(f"{model.stem}-report.html") if out is None else out
    check_output(path, overwrite=overwrite, suffixes=(".html",))
    result, problem = make_report(
        model,
        data,
        path,
        Reading(array, test_array, label_column, unpack_bits, threshold, low, high),
        method=method,
        chains=chains,
        temperatures=temperatures,
        sample_steps=sample_steps,
        seed=seed,
        quiet=quiet or as_json,
    )
    if as_json:
        show_json(
            {
                "report": path,
                "rows_problem": f"{problem}{_DOUBT}" if problem else None,
                "log_partition": log_z_record(result.log_partition),
                "train": likelihood_record(result.train),
                "test": likelihood_record(result.test),
                "baseline_test": likelihood_record(result.baseline_test),
            }
        )


def make_report(
    model: Path,
    data: Path,
    path: Path,
    given: Reading,
    *,
    chains: int,
    sample_steps: int,
    seed: int,
    quiet: bool,
    method: Method = Method.annealing,
    temperatures: int | None = None,
) -> tuple[ex.Evaluation, str]:
    """Evaluate a saved model and write its page; also what is wrong with its rows, if anything."""
    check_at_least(1, sample_steps=sample_steps)
    energy, metadata = load_model(model)
    if not isinstance(energy.space, Binary):
        raise ValueError(f"reports are of models over zeros and ones; this is over {energy.space}")
    check_annealing(energy, chains, 2 if temperatures is None else temperatures)
    settings = check_settings(metadata, model)
    split = split_rows(
        data,
        given.or_as_trained(settings, data),
        test_fraction=settings.get("test_fraction", 0.1),
        seed=settings.get("seed", 0),
    )
    train, test = split.train, split.test
    if train.shape[1:] != energy.space.structure.shape:
        raise ValueError(
            f"the model takes rows of shape {energy.space.structure.shape}, the data have"
            f" {train.shape[1:]}"
        )
    problem = _rows_problem(metadata.get("rows"), split.hashes)
    # The same rows may be called otherwise from here.
    data_of_fit = settings.get("data") if problem or "data" not in settings else str(data)
    began = time.monotonic()
    with waiting("evaluating", show=not quiet):
        evaluation = ex.evaluate(
            energy,
            train,
            test,
            key=ex.key(seed),
            method=method.value,
            n_chains=chains,
            n_temperatures=temperatures,
            sample_steps=sample_steps,
        )
    evaluation.seconds["all of it"] = time.monotonic() - began
    sizes = {
        "energy": type(energy).__name__,
        "space": str(energy.space),
        "parameters": f"{sum(x.size for x in jax.tree.leaves(energy)):,}",
    }
    write_report(
        Report(
            title=f"{type(energy).__name__} on {Path(os.path.abspath(data)).name}",
            description=split.description,
            model=sizes,
            settings={k: str(v) for k, v in settings.items()},
            history=metadata.get("history", []),
            fit_status=metadata.get("status", "unknown"),
            fit_message=metadata.get("message", ""),
            fit_alarms=metadata.get("alarms", []),
            fit_seconds=metadata.get("fit_seconds", float("nan")),
            evaluation=evaluation,
            energy=energy,
            train_rows=train,
            test_rows=test,
            test_numbers=split.test_numbers,
            test_source=split.test_source,
            rows_problem=problem,
            image_shape=split.image_shape,
            environment=_environment(seed),
            sample_steps=sample_steps,
            commands=[
                *_fit_commands(model, data_of_fit, settings, metadata.get("calls", [])),
                _report_command(
                    model,
                    data,
                    given,
                    {
                        "method": method.value,
                        "chains": chains,
                        "temperatures": temperatures,
                        "sample_steps": sample_steps,
                    },
                    seed,
                ),
            ],
        ),
        path,
    )
    if not quiet:
        if problem:
            say(f"warning: {problem}{_DOUBT}", style="yellow")
        z, test_score = evaluation.log_partition, evaluation.test
        found = "bracket: " if z.parts else "annealed:"
        say(f"{found} {z.summary}")
        if evaluation.exact_log_partition is not None:
            say(f"exact:    {evaluation.exact_log_partition.summary}")
        say(
            f"test log-likelihood {test_score.mean:.3f} nats"
            f" [{test_score.lower:.3f}, {test_score.upper:.3f}];"
            f" baseline {evaluation.baseline_test.mean:.3f} ({evaluation.baseline})",
        )
        say(f"report {path}", style="bold green")
    return evaluation, problem


def _rows_problem(trained: dict[str, Any] | None, found: dict[str, str]) -> str:
    """Why the rows are not known to be those that `energax fit` used; empty if they are."""
    if trained is None:
        return "the model's file does not say which rows it was trained on"
    # Of rows that were streamed, only those for testing are known.
    known = [name for name in found if name in trained or "test" not in trained]
    differ = [name for name in known if trained.get(name) != found[name]]
    which = {"train": "training"}
    named = " and ".join(which.get(name, name) for name in differ)
    return f"the {named} rows are not those that fit used" if differ else ""


def _environment(seed: int) -> dict[str, str]:
    return {
        "energax": ex.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {jax.default_backend()}",
        "seed of the report": str(seed),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _fit_commands(
    model: Path, data: str | None, settings: dict[str, Any], calls: list[Any]
) -> list[str]:
    """The command lines that make the model again, with a remark where none would."""
    if data is None:
        return []
    words = ["energax", "fit", data, "--out", str(model)]
    for name, value in settings.items():
        if name not in ("data", "epochs") and value is not None:
            words += _option(name, value)
    # The learning rate falls to the end of its call's epochs: calls of other epochs, other rates.
    turns = [(a, b) for a, b in itertools.pairwise(calls) if a["epochs"] != b["epochs"]]
    rejoined = [call["epochs"] for _, call in turns]
    every = [*([calls[0]["epochs"]] if turns else []), *rejoined]
    if all(call["status"] == "finished" and None not in every for call, _ in turns):
        every = every or [settings.get("epochs")]
        return [shlex.join(words + ([] if e is None else _option("epochs", e))) for e in every]
    epochs = settings.get("epochs")
    listed = ", then ".join("a number not recorded" if e is None else f"{e:g}" for e in every)
    return [
        f"# Training was cut off and went on, perhaps with other --epochs: {listed}.",
        "# If they differed, this command makes a model that is near, not the same.",
        shlex.join(words + ([] if epochs is None else _option("epochs", epochs))),
    ]


def _report_command(
    model: Path,
    data: Path,
    given: Reading,
    options: dict[str, Any],
    seed: int,
) -> str:
    """The command line that makes the page again."""
    words = ["energax", "report", str(model), str(data)]
    chosen = {name: value for name, value in options.items() if value is not None}
    for name, value in {**chosen, **given.given}.items():
        words += _option(name, value)
    return shlex.join([*words, "--seed", str(seed)])


def _option(name: str, value: Any) -> list[str]:
    option = "--" + name.replace("_", "-")
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-")]
    return [option, str(value)]
