"""`energax fit`."""

import math
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import optax
import typer

import energax as ex
from energax.cli._common import (
    ArrayName,
    DataFile,
    High,
    Json,
    LabelColumn,
    Low,
    Overwrite,
    Quiet,
    Seed,
    TestArrayName,
    Threshold,
    UnpackBits,
    check_at_least,
    check_memory,
    check_not_input,
    check_output,
    check_seed,
    console,
    say,
    show_json,
    stem_of,
)
from energax.cli._rows import Reading, split_rows
from energax.cli._streamed import split_stream
from energax.io import read_metadata
from energax.partition import AFFORDABLE

_MOST_STEPS = 2**31 - 1
"""Steps are counted in 32 bits."""

_MOST_GIBBS_STEPS = 10**6
"""More take hours a gradient, which cannot be interrupted."""


class Model(StrEnum):
    """Models the command line trains."""

    rbm = "rbm"


class Objective(StrEnum):
    """Objectives by their short names."""

    pcd = "pcd"
    cd = "cd"
    ml = "ml"


def fit(
    data: DataFile,
    model: Annotated[Model, typer.Option(help="What to train.")] = Model.rbm,
    hidden: Annotated[int, typer.Option(help="Hidden units.")] = 500,
    objective: Annotated[
        Objective,
        typer.Option(
            help="pcd: persistent contrastive divergence; cd: chains from the data; ml: exact"
            " likelihood (at most some 20 hidden or visible units)."
        ),
    ] = Objective.pcd,
    gibbs_steps: Annotated[int, typer.Option(help="Gibbs steps a gradient (pcd and cd).")] = 5,
    chains: Annotated[int, typer.Option(help="Persistent chains (pcd).")] = 100,
    epochs: Annotated[float, typer.Option(help="Passes over the training rows.")] = 50.0,
    batch_size: Annotated[int, typer.Option(help="Rows a gradient.")] = 100,
    learning_rate: Annotated[
        float, typer.Option(help="At the start; falls in a line to a hundredth.")
    ] = 0.05,
    momentum: Annotated[float, typer.Option(help="Of SGD, in [0, 1).")] = 0.0,
    weight_decay: Annotated[float, typer.Option(help="Shrinks weights each step.")] = 0.0,
    clip: Annotated[
        float | None, typer.Option(help="The largest norm of a gradient; none if left out.")
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(help="Save the parameters' moving average: what it keeps a step (0.999)."),
    ] = None,
    retries: Annotated[
        int, typer.Option(help="How often a run that fails may go back and try again, slower.")
    ] = 3,
    log: Annotated[
        Path | None,
        typer.Option(
            help="Write the history while it is made: a .jsonl file, or a folder for TensorBoard."
        ),
    ] = None,
    likelihood_every: Annotated[
        int | None,
        typer.Option(
            help="Steps after which the test rows' log-likelihood is found, on the way; where log Z"
            " is not exact it takes minutes each time."
        ),
    ] = None,
    centred: Annotated[
        bool, typer.Option(help="Take gradients about the units' means (pcd and cd).")
    ] = True,
    test_fraction: Annotated[
        float, typer.Option(help="Rows set aside where the data name no test rows.")
    ] = 0.1,
    threshold: Threshold = None,
    low: Low = None,
    high: High = None,
    array: ArrayName = None,
    test_array: TestArrayName = None,
    label_column: LabelColumn = None,
    unpack_bits: UnpackBits = None,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Leave the training rows in their file, .npy or .parquet, larger than memory.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The model's file (default: DATA-rbm.energax).")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the checkpoint beside --out, if there is one.")
    ] = True,
    overwrite: Overwrite = False,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Train a model on rows of data and save it.

    A checkpoint is kept beside the model: stopped by Ctrl-C, a crash or a power cut, the same
    command goes on where it was, and `--epochs` can be raised afterwards.
    """
    check_seed(seed)
    path = Path(f"{stem_of(data)}-{model.value}.energax") if out is None else out
    checkpoint = Path(f"{path}.checkpoint")
    check_output(path, overwrite=overwrite or (resume and checkpoint.exists()))
    check_not_input(path, data)
    check_at_least(1, hidden=hidden, gibbs_steps=gibbs_steps, chains=chains, batch_size=batch_size)
    if likelihood_every is not None:
        check_at_least(1, likelihood_every=likelihood_every)
    if gibbs_steps > _MOST_GIBBS_STEPS:
        raise ValueError(f"--gibbs-steps must be at most {_MOST_GIBBS_STEPS}, got {gibbs_steps}")
    check_epochs(epochs)
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"--learning-rate must be a positive number, got {learning_rate}")
    goal = _objective(objective, gibbs_steps, chains, centred)
    reading = Reading(array, test_array, label_column, unpack_bits, threshold, low, high)
    splitting = split_stream if stream else split_rows
    split = splitting(data, reading, test_fraction=test_fraction, seed=seed)
    rows, test = split.train, split.test
    steps = n_steps(epochs, len(rows), batch_size)
    n_visible = test.shape[1]
    check_memory(hidden * n_visible, f"{hidden} hidden units")
    check_memory(chains * (hidden + n_visible), f"{chains} chains")
    fewest, most = min(hidden, n_visible), AFFORDABLE.bit_length() - 1
    if objective is Objective.ml and fewest > most:
        raise ValueError(
            f"--objective ml lists the states of the smaller layer, which has {fewest} units:"
            f" at most {most} can be listed at every step; use pcd"
        )
    base = ex.Bernoulli.from_data(split.some)
    key_init, key_fit = jax.random.split(ex.key(seed))
    start = ex.RBM.init(key_init, n_visible=n_visible, n_hidden=hidden, base=base)
    earlier = _earlier_calls(path, checkpoint) if resume and checkpoint.exists() else []
    began = time.monotonic()
    run = ex.fit(
        start,
        rows,
        goal,
        key=key_fit,
        learning_rate=optax.linear_schedule(learning_rate, 0.01 * learning_rate, steps),
        momentum=momentum,
        weight_decay=weight_decay,
        clip=clip,
        ema=ema,
        retries=retries,
        steps=steps,
        batch_size=batch_size,
        validation=test,
        log=log,
        likelihood_every=likelihood_every,
        checkpoint=checkpoint,
        resume=resume,
        progress=not quiet and console.is_terminal,
    )
    seconds = run.history[-1]["seconds"] if run.history else time.monotonic() - began
    settings: dict[str, Any] = {
        "data": str(data),
        "model": model.value,
        "hidden": hidden,
        "objective": objective.value,
        "gibbs_steps": gibbs_steps,
        "chains": chains,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "clip": clip,
        "ema": ema,
        "retries": retries,
        "likelihood_every": likelihood_every,
        "centred": centred,
        "test_fraction": test_fraction,
        **vars(reading),
        **({"stream": True} if stream else {}),
        "seed": seed,
    }
    ex.save(
        run.energy if run.ema is None else run.ema,
        path,
        metadata={
            "settings": settings,
            "history": run.history,
            "status": run.status,
            "message": run.message,
            "alarms": run.alarms,
            "fit_seconds": seconds,
            "calls": _with_this_call(earlier, epochs, run),
            "data": split.description,
            "rows": split.hashes,
            "base_logits": np.asarray(base.logits, float).round(6).tolist(),
        },
    )
    result = {
        "model": path,
        "checkpoint": checkpoint,
        "status": run.status,
        "message": run.message,
        "alarms": run.alarms,
        "steps": run.step,
        "seconds": seconds,
        "last": run.history[-1] if run.history else {},
    }
    if as_json:
        show_json(result)
    elif not quiet:
        say(f"{split.description}; {len(rows)} training and {len(test)} test rows")
        colour = "green" if run.ok else "red"
        for alarm in run.alarms:
            say(f"alarm: {alarm['text']}", style="yellow")
        say(f"{run.status}: {run.message} ({seconds:.0f} s)", style=colour)
        say(f"model {path}, checkpoint {checkpoint}")
    return {"finished": 0, "diverged": 1, "interrupted": 130}[run.status]


def check_epochs(epochs: float) -> None:
    """Raise `ValueError` for a number of epochs that is not positive."""
    if not 0 < epochs < math.inf:
        raise ValueError(f"--epochs must be a positive number, got {epochs}")


def n_steps(epochs: float, n_rows: int, batch_size: int) -> int:
    """How many gradients so many epochs are; `ValueError` for more than 32 bits count."""
    check_epochs(epochs)
    steps = epochs * (n_rows // min(batch_size, n_rows))
    if steps > _MOST_STEPS:
        raise ValueError(f"--epochs {epochs:g} is {steps:g} steps: at most {_MOST_STEPS} are taken")
    return max(1, round(steps))


def _earlier_calls(path: Path, checkpoint: Path) -> list[dict[str, Any]]:
    """The calls that took the steps in a checkpoint, as far as a model beside it tells."""
    history = read_metadata(checkpoint).get("history")
    try:
        steps = history[-1]["step"] if history else 0
    except (TypeError, KeyError):  # it is of something else, as `ex.fit` will say
        return []
    try:
        known = read_metadata(path).get("calls", []) if path.exists() else []
        calls = [call for call in known if call["steps"] <= steps]
    except (ValueError, TypeError, KeyError):  # the model is damaged, and about to be replaced
        calls = []
    if steps > (calls[-1]["steps"] if calls else 0):  # a call that was killed saved no model
        calls.append({"epochs": None, "steps": steps, "status": "killed"})
    return calls


def _with_this_call(
    earlier: list[dict[str, Any]], epochs: float, run: ex.Fitted
) -> list[dict[str, Any]]:
    if earlier and earlier[-1]["steps"] == run.step:  # it had no step left to take
        return earlier
    return [*earlier, {"epochs": epochs, "steps": run.step, "status": run.status}]


def _objective(
    name: Objective, gibbs_steps: int, chains: int, centred: bool
) -> ex.AbstractObjective:
    if name is Objective.ml:
        return ex.MaximumLikelihood()
    if name is Objective.cd:
        return ex.ContrastiveDivergence(n_steps=gibbs_steps, centred=centred)
    return ex.PersistentContrastiveDivergence(n_steps=gibbs_steps, n_chains=chains, centred=centred)
