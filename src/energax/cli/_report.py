"""`energax report`."""

import datetime
import platform
import shlex
import time
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer

import energax as ex
from energax.cli._common import (
    ArrayName,
    DataFile,
    Json,
    ModelFile,
    Overwrite,
    Quiet,
    Seed,
    TestArrayName,
    check_at_least,
    check_memory,
    check_output,
    check_seed,
    likelihood_record,
    load_model,
    log_z_record,
    n_entries,
    say,
    show_json,
)
from energax.cli._fit import training_rows
from energax.plots import guess_image_shape
from energax.report import Report, write_report
from energax.spaces import Binary

_WRITTEN = {
    "settings": dict,
    "history": list,
    "status": str,
    "message": str,
    "fit_seconds": int | float,
}
"""What `energax fit` stores beside a model, as far as a report shows it."""

_SETTINGS = {
    "array": str | None,
    "test_array": str | None,
    "threshold": int | float | None,
    "test_fraction": int | float,
    "seed": int,
}
"""Those settings that say how the rows were split."""


def report(
    model: ModelFile,
    data: DataFile,
    out: Annotated[
        Path | None, typer.Option(help="An .html file [default: MODEL-report.html].")
    ] = None,
    array: ArrayName = None,
    test_array: TestArrayName = None,
    chains: Annotated[int, typer.Option(help="Annealed chains for log Z.")] = 100,
    temperatures: Annotated[int, typer.Option(help="Temperatures for log Z.")] = 5000,
    sample_steps: Annotated[int, typer.Option(help="Steps of each chain to a sample.")] = 1000,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a model on its data and write one self-contained page.

    Rows are split as `energax fit` split them: the test rows were not trained on.
    """
    check_seed(seed)
    path = Path(f"{model.stem}-report.html") if out is None else out
    check_output(path, overwrite=overwrite, suffixes=(".html",))
    result = make_report(
        model,
        data,
        path,
        array=array,
        test_array=test_array,
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
    *,
    array: str | None,
    test_array: str | None,
    chains: int,
    temperatures: int,
    sample_steps: int,
    seed: int,
    quiet: bool,
) -> ex.Evaluation:
    """Evaluate a saved model and write its page."""
    check_at_least(2, chains=chains, temperatures=temperatures)
    check_at_least(1, sample_steps=sample_steps)
    energy, metadata = load_model(model)
    if not isinstance(energy.space, Binary):
        raise ValueError(f"reports are of models over zeros and ones; this is over {energy.space}")
    check_memory(chains * n_entries(energy), f"{chains} chains")
    _check_metadata(metadata, model)
    settings: dict[str, Any] = metadata.get("settings", {})
    train, test, described = training_rows(
        data,
        array=settings.get("array") if array is None else array,
        test_array=settings.get("test_array") if test_array is None else test_array,
        threshold=settings.get("threshold"),
        test_fraction=settings.get("test_fraction", 0.1),
        seed=settings.get("seed", 0),
    )
    if train.shape[1:] != energy.space.structure.shape:
        raise ValueError(
            f"the model takes rows of shape {energy.space.structure.shape}, the data have"
            f" {train.shape[1:]}"
        )
    began = time.monotonic()
    evaluation = ex.evaluate(
        energy,
        train,
        test,
        key=ex.key(seed),
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
            title=f"{type(energy).__name__} on {data.name}",
            description=described,
            model=sizes,
            settings={k: str(v) for k, v in settings.items()},
            history=metadata.get("history", []),
            fit_status=metadata.get("status", "unknown"),
            fit_message=metadata.get("message", ""),
            fit_seconds=metadata.get("fit_seconds", float("nan")),
            evaluation=evaluation,
            energy=energy,
            train_rows=np.asarray(train),
            test_rows=np.asarray(test),
            image_shape=guess_image_shape(train.shape[1:]),
            environment=_environment(seed),
            sample_steps=sample_steps,
            commands=_commands(model, data, settings, chains, temperatures, sample_steps, seed),
        ),
        path,
    )
    if not quiet:
        z, test_score = evaluation.log_partition, evaluation.test
        say(f"annealed: {z.summary}")
        if evaluation.exact_log_partition is not None:
            say(f"exact:    {evaluation.exact_log_partition.summary}")
        say(
            f"test log-likelihood {test_score.mean:.3f} nats"
            f" [{test_score.lower:.3f}, {test_score.upper:.3f}];"
            f" baseline {evaluation.baseline_test.mean:.3f} ({evaluation.baseline})",
        )
        say(f"report {path}", style="bold green")
    return evaluation


def _check_metadata(metadata: dict[str, Any], model: Path) -> None:
    """Raise `ValueError` for a record of training that `energax fit` would not have written."""

    def check(record: dict[str, Any], kinds: dict[str, Any]) -> None:
        for name, kind in kinds.items():
            if name in record and not isinstance(record[name], kind):
                raise ValueError(f"{model}: its {name!r} is not as energax fit writes it")

    check(metadata, _WRITTEN)
    check(metadata.get("settings", {}), _SETTINGS)
    for row in metadata.get("history", []):
        check({"history": row}, {"history": dict})
        check(row, dict.fromkeys(row, int | float))


def _environment(seed: int) -> dict[str, str]:
    return {
        "energax": ex.__version__,
        "jax": jax.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {jax.default_backend()}",
        "seed of the report": str(seed),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _commands(
    model: Path,
    data: Path,
    settings: dict[str, Any],
    chains: int,
    temperatures: int,
    sample_steps: int,
    seed: int,
) -> list[str]:
    """The command lines that make the report's numbers again."""
    words = ["energax", "fit", str(data), "--out", str(model)]
    for name, value in settings.items():
        if name == "data" or value is None:
            continue
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words.append(option if value else option.replace("--", "--no-"))
        else:
            words += [option, str(value)]
    again = ["energax", "report", str(model), str(data), "--chains", str(chains)]
    again += ["--temperatures", str(temperatures), "--sample-steps", str(sample_steps)]
    return [shlex.join(words), shlex.join([*again, "--seed", str(seed)])]
