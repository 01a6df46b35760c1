"""The loop: compiled chunks, and between them the guard, the bar, the checkpoint."""

import dataclasses
import itertools
import math
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import optax

from energax.objectives import AbstractObjective
from energax.sampling._progress import Bar
from energax.spaces import State
from energax.training._checkpoint import write_checkpoint
from energax.training._checks import Checks
from energax.training._feed import AbstractFeed
from energax.training._guard import (
    OF_ONE_STEP,
    START,
    Finding,
    Limits,
    Memory,
    beginning,
    broken,
    judged,
    patience,
)
from energax.training._logs import Logs
from energax.training._progress import Progress, Row, advice
from energax.training._step import Chunk, Order, Recipe, TrainingState, run_chunk

Status = Literal["finished", "interrupted", "diverged"]

_SOON = 2
"""Steps after which a failure is the rate's: one to go too far, one to see it."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run is to do."""

    objective: AbstractObjective
    optimizer: optax.GradientTransformation
    recipe: Recipe
    feed: AbstractFeed
    n_rows: int
    total: int
    log_every: int
    retries: int
    checks: Checks
    path: Path | None
    """Of the checkpoint."""
    checkpoint_seconds: float
    run: dict[str, str]
    """What a checkpoint must say of itself."""
    show: bool
    logs: Logs

    @property
    def per_epoch(self) -> int:
        """Steps an epoch."""
        return self.n_rows // self.recipe.rows_a_step


class Ended(NamedTuple):
    """How a run ended."""

    progress: Progress
    status: Status
    message: str


def run(plan: Plan, progress: Progress) -> Ended:
    """Train to the end, or until the user or the guard stops it."""
    began = time.monotonic()
    first_step, elapsed = progress.done, _seconds(progress.history)
    saved_at, saved = began, progress if progress.history else None
    order = plan.feed.order
    probation = patience(plan.log_every) + 1  # a strike comes within it
    status: Status = "finished"
    message = f"{plan.total} steps"

    def save() -> None:
        nonlocal saved_at, saved
        if plan.path is not None and saved is not progress:
            write_checkpoint(plan.path, progress, plan.run)
            saved_at, saved = time.monotonic(), progress

    with plan.logs, Bar(plan.total, first_step, show=plan.show) as bar:
        plan.logs.start(progress)
        try:
            while progress.done < plan.total:
                done = progress.done
                n_steps = min(plan.log_every - done % plan.log_every, plan.total - done)
                rows, ordered = plan.feed.rows(done, n_steps), order
                chunk = _chunk(plan, progress.state, rows, order, n_steps)
                order, then = chunk.order, done + n_steps
                if then < plan.total:
                    plan.feed.read_ahead(then, min(plan.log_every, plan.total - then))
                memory, finding = _judgement(plan, progress, chunk, rows, ordered, n_steps)
                if finding is not None:
                    again = sum(alarm["again"] for alarm in progress.alarms) < plan.retries
                    can_calm = _can_calm(plan, progress)
                    progress = progress.back(finding, chunk.state, again=again, can_calm=can_calm)
                    plan.logs.follow(progress)
                    bar.update(progress.done, {}, 0.0)
                    if not again:
                        plan.logs.start(progress)  # the rows of slower tries lead elsewhere
                        status, message = "diverged", _diagnosis(progress)
                        break
                    continue
                measures = _measures(plan, chunk)
                row: Row = {"step": done + n_steps, "epoch": (done + n_steps) / plan.per_epoch}
                row |= {"seconds": elapsed + time.monotonic() - began, **measures}
                row |= plan.checks.measures(chunk.state.energy)
                if plan.checks.likelihood_due(done, done + n_steps):
                    bar.say("finding log Z")
                    paused = time.monotonic()
                    row |= plan.checks.likelihood(chunk.state.energy, done + n_steps)
                    began += time.monotonic() - paused  # which is no time of training
                progress.history.append(row)
                progress = progress.after(chunk.state, memory, probation)
                plan.logs.follow(progress)
                rate = (progress.done - first_step) / max(time.monotonic() - began, 1e-9)
                bar.update(progress.done, row, rate)
                if time.monotonic() - saved_at >= plan.checkpoint_seconds:
                    save()
        except KeyboardInterrupt:
            status, message = "interrupted", _interrupted(plan, progress)
            if progress.history and progress.history[-1]["step"] > progress.done:
                progress.history.pop()  # Ctrl-C came between the row and its state
            plan.logs.start(progress)  # a row may have been told in part
        except (ValueError, TypeError, LookupError):  # a row that cannot be read or learnt from
            if progress.done > first_step:
                save()
            raise
        save()
    return Ended(progress, status, message)


def _judgement(
    plan: Plan, progress: Progress, chunk: Chunk, rows: State, order: Order, n_steps: int
) -> tuple[Memory, Finding | None]:
    """What the guard says of a chunk, and remembers of it. `order` is that before the chunk."""
    done, memory = progress.done, progress.memory
    if not bool(chunk.healthy):
        return memory, broken(chunk, n_steps, done, plan.checks.energy_limit)
    if not plan.objective.learns_from_rows:
        return memory, None
    minimised = plan.objective.minimised
    if minimised not in chunk.watch.names:
        minimised = None
    if not memory.first:
        still = None
        if minimised is not None:
            still = _still(plan, progress.state, rows, order, n_steps)
        memory = dataclasses.replace(memory, first=beginning(chunk, still, minimised))
    return judged(
        chunk,
        memory,
        Limits.of(progress.state.energy.space),
        minimised=minimised,
        log_every=plan.log_every,
        is_last=done + n_steps == plan.total,
    )


def _still(plan: Plan, state: TrainingState, rows: State, order: Order, n_steps: int) -> Chunk:
    """Some steps with updates of size 0: what measures are in a state, but for its own chains."""
    still = eqx.tree_at(lambda s: s.scale, state, jnp.zeros_like(state.scale))
    holds_all = plan.feed.key is not None
    return _chunk(plan, still, rows, order, START if holds_all else min(START, n_steps))


def _chunk(plan: Plan, state: TrainingState, rows: State, order: Order, n_steps: int) -> Chunk:
    return run_chunk(
        state,
        _calmed(plan, state),
        plan.optimizer,
        plan.recipe,
        rows,
        plan.feed.sample,
        order,
        plan.feed.key,
        jnp.asarray(n_steps),
        jnp.asarray(plan.checks.energy_limit, jnp.zeros(()).dtype),
    )


def _calmed(plan: Plan, state: TrainingState) -> AbstractObjective:
    """The objective with the step size that the guard has come to."""
    if float(state.calm) == 1:
        return plan.objective
    return plan.objective.calmed(state.energy, state.calm)


def _can_calm(plan: Plan, progress: Progress) -> bool:
    return plan.objective.calmed(progress.state.energy, jnp.asarray(0.5)) is not plan.objective


def _measures(plan: Plan, chunk: Chunk) -> dict[str, float]:
    """What a row of the history says of a chunk."""
    if not plan.objective.learns_from_rows:
        # A search for one answer: where it is, and not where it was on average.
        return chunk.watch.named(chunk.watch.last)
    measures = chunk.watch.means()
    signal = chunk.watch.signal_to_noise()
    if math.isfinite(signal):
        measures["gradient_signal"] = signal
    if chunk.chain_spread is not None:
        measures["chain_spread"] = float(chunk.chain_spread)
    mixing = {name: float(value) for name, value in chunk.mixing.items()}
    measures |= {name: value for name, value in mixing.items() if math.isfinite(value)}
    return measures


def _seconds(history: list[Row]) -> float:
    return float(history[-1]["seconds"]) if history else 0.0


def _diagnosis(progress: Progress) -> str:
    """Why the guard stopped the run, and what to try."""
    words = f"diverged {progress.alarms[-1]['text']}"
    n = sum(alarm["again"] for alarm in progress.alarms)
    if n:
        words += f", after {n} {'tries' if n > 1 else 'try'} with lower settings"
    words += f". The parameters are those after step {progress.done}."
    if _at_one_step(progress.alarms):
        return (
            f"{words} The same step failed at every rate: look for rows with values far from all"
            " others, or for states that the energy is not made for"
        )
    return f"{words} {advice(progress.alarms[-1])}"


def _at_one_step(alarms: list[dict[str, Any]]) -> bool:
    """Whether one step failed, as soon as it was taken, in each of the last tries.

    Far enough from where these began: with a rate that is much too high the second step fails.
    """
    last = alarms[-1]
    same = list(itertools.takewhile(lambda a: a["step"] == last["step"], reversed(alarms)))
    of_rows = all(a["cause"] in OF_ONE_STEP for a in same)
    return len(same) > 1 and of_rows and all(a["step"] > a["back_to"] + _SOON for a in same)


def _interrupted(plan: Plan, progress: Progress) -> str:
    words = f"stopped by the user after {progress.done} of {plan.total} steps"
    if plan.path is not None:
        words += f"; run again with the same settings to go on from {plan.path}"
    return words
