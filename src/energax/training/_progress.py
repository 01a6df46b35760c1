"""Where a run stands: its state, its past, and the states it may have to go back to."""

import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from energax.energies import AbstractEnergy, trainable
from energax.training._guard import ADVICE, Finding, Memory, lowered
from energax.training._step import TrainingState

_KEPT = 2
"""Healthy states kept beside the start."""

_SMALL = 0.5
"""The size of a parameter that is counted as its own where it is smaller."""

Row = dict[str, float | int]


class Progress(NamedTuple):
    """All that a checkpoint holds."""

    state: TrainingState
    history: list[Row]
    alarms: list[dict[str, Any]]
    memory: Memory
    healthy: tuple[TrainingState, ...]
    """States that were still healthy chunks later, oldest first; the start is the first of them."""
    trial: TrainingState
    """The next to be found healthy."""
    kept: list[Row]
    """The history that led to the newest healthy state, while tries go further back than it."""

    @classmethod
    def start(cls, state: TrainingState) -> "Progress":
        """Before the first step."""
        return cls(state, [], [], Memory(), (state,), state, [])

    @property
    def done(self) -> int:
        """Steps taken."""
        return int(self.state.step)

    def after(self, state: TrainingState, memory: Memory, probation: int) -> "Progress":
        """With one more chunk, which has not failed.

        The state on trial is found healthy when `probation` chunks in a row raised no suspicion.
        """
        healthy, trial, kept = self.healthy, self.trial, self.kept
        if memory.clean >= probation:
            memory = dataclasses.replace(memory, clean=0)
            if int(trial.step) > int(healthy[-1].step):
                first, *later = (*healthy, trial)
                healthy = (first, *later[-_KEPT:])
                if memory.failures:
                    kept = _until(self.history, trial)
            if self.alarms and int(trial.step) > self.alarms[-1]["step"]:
                memory = dataclasses.replace(memory, failures=0)
            trial = state
        return self._replace(state=state, memory=memory, healthy=healthy, trial=trial, kept=kept)

    def back(
        self, finding: Finding, failed: TrainingState, *, again: bool, can_calm: bool
    ) -> "Progress":
        """At a healthy state, with an alarm: to try `again` with something lowered, or to stay.

        The first time that is the last state found healthy; until one is found beyond the step of
        the failure, each further try goes back one more, and in the end to the start. A run that is
        not tried again stays with the newest of all healthy states. `failed` is
        the state in which the run failed: if its parameters have gone far from the healthy ones,
        or the same was met before, the learning rate is to blame for what chains do, too.
        """
        healthy, failures = self.healthy, self.memory.failures
        kept = self.kept if failures else _until(self.history, healthy[-1])
        target = healthy[max(0, len(healthy) - 1 - failures)] if again else healthy[-1]
        step = int(target.step)
        alarm: dict[str, Any] = {
            "step": finding.step,
            "cause": finding.cause,
            "met": finding.met,
            "back_to": step,
            "again": again,
        }
        state, memory = target, Memory(first=self.memory.first)
        if again:
            scale, calm = float(self.state.scale), float(self.state.calm)
            causes = [alarm["cause"] for alarm in self.alarms]
            blame = finding.cause in causes or _gone_far(target.energy, failed.energy)
            new_scale, new_calm = lowered(finding, scale, calm, can_calm, blame)
            alarm |= {"learning_rate_factor": new_scale, "step_size_factor": new_calm}
            state = _another_try(target, new_scale, new_calm, len(self.alarms))
            memory = dataclasses.replace(memory, failures=self.memory.failures + 1)
        alarm["text"] = _told(alarm)
        history = _until(self.history, target) if again else kept
        alarms = [*self.alarms, alarm]
        return Progress(state, history, alarms, memory, healthy, state, kept)


def _until(history: list[Row], state: TrainingState) -> list[Row]:
    """The rows of a history up to a state."""
    return [row for row in history if row["step"] <= int(state.step)]


def _another_try(state: TrainingState, scale: float, calm: float, n: int) -> TrainingState:
    """A state from which training goes on otherwise than it did: slower, and by other chance."""
    # Steps are folded in as numbers below 2^31.
    key = jax.random.fold_in(state.key, jnp.uint32(2**31 + n))
    changed = (jnp.asarray(scale, state.scale.dtype), jnp.asarray(calm, state.calm.dtype), key)
    return eqx.tree_at(lambda s: (s.scale, s.calm, s.key), state, changed)


def _gone_far(healthy: AbstractEnergy, failed: AbstractEnergy) -> bool:
    """Whether parameters changed by more than their own size, or are no numbers any more."""
    mask = trainable(healthy)
    a, b = (jax.tree.leaves(eqx.filter(energy, mask)) for energy in (healthy, failed))
    changed = sum(float(jnp.sum((x - y) ** 2)) for x, y in zip(a, b, strict=True))
    own = max(sum(float(jnp.sum(x**2)) for x in a), _SMALL**2 * sum(x.size for x in a))
    return not changed <= own


def _told(alarm: dict[str, Any]) -> str:
    """An alarm as a sentence without its full stop."""
    words = f"at step {alarm['step']} {alarm['met']}"
    if not alarm["again"]:
        return words
    lowered = [
        f"the {name} times {alarm[f'{field}_factor']:g}"
        for name, field in (("learning rate", "learning_rate"), ("step size", "step_size"))
        if alarm[f"{field}_factor"] != 1
    ]
    return f"{words}; it went on from step {alarm['back_to']} with {' and '.join(lowered)}"


def advice(alarm: dict[str, Any]) -> str:
    """What to try against an alarm."""
    return ADVICE[alarm["cause"]]
