"""The guard: what a chunk of steps says of the run's health, and what is lowered when it fails."""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

from energax.spaces import AbstractSpace, Joint
from energax.training._step import Chunk, is_limited

Cause = Literal["not finite", "exploded", "chains left", "stuck", "collapsed", "drifted", "loss"]

_CHUNKS, _STEPS = 3, 20
"""Chunks in a row, and steps in all, that must look ill in one way before the run has failed."""

_ENOUGH = 10
"""Steps a last chunk must have for its word to count alone."""

_NEVER_MOVE, _NEVER_ACCEPT = 0.995, 0.005
"""Shares of dead chains and of accepted moves from which chains are stuck."""

_COLLAPSED, _LEFT = 1e-3, 1e3
"""How far the variance of chains may fall and rise against that of the data, beyond the start's."""

_ONE_ENERGY = 0.01
"""How far the spread of the chains' energies may fall against that of the data's."""

_NATS_AN_ENTRY = 8.0
"""Of a real entry, in place of the log of a number of states: log 3000, a value known to so many
parts."""

_SLACK = 1.25
"""By how much the spread of a few chains may exceed the bound of all states by chance."""

_LOSS, _ERRORS, _NAT = 0.1, 4, 1.0
"""By how much of itself a loss may exceed the start's, by how many errors of the difference, and by
how much in any case: most are in nats."""

START = 10
"""Steps, of a run that does not move, over which the start's loss is measured; of a stream no more
than a chunk has, and without two of them no loss is judged."""

_WORSE = 0.5
"""By how much of log N the data may rise above the lowest chain, in a model that begins there."""

_LOWER = 0.1
"""What the learning rate or the step size is multiplied by."""

ADVICE: dict[Cause, str] = {
    "not finite": "Try a smaller learning rate, clip=, or weight decay",
    "exploded": "Try a smaller learning rate, clip=, or weight decay",
    "chains left": "Try a smaller step size of the kernel, one that refuses moves such as ex.MALA,"
    " or a smaller learning rate",
    "stuck": "Try a smaller step size of the kernel, or another kernel",
    "collapsed": "Try a smaller learning rate, more noise in the kernel, or more of its steps",
    "drifted": "Try a smaller learning rate, more steps of the kernel or more chains, and rows"
    " scaled to the size of the space's base draws",
    "loss": "Try a smaller learning rate",
}

_OF_CHAINS = ("chains left", "stuck")

OF_ONE_STEP: tuple[Cause, ...] = ("not finite", "exploded")
"""What is met at the step that brings it, and not chunks later."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One way in which a chunk looks ill."""

    cause: Cause
    met: str
    """What was met, as the rest of a sentence."""
    step: int


@dataclasses.dataclass(frozen=True)
class Memory:
    """What the guard remembers from chunk to chunk; JSON holds it."""

    strikes: dict[str, int] = dataclasses.field(default_factory=dict)
    """For how many chunks in a row each cause was seen."""
    clean: int = 0
    """Chunks without a strike since the state on trial."""
    failures: int = 0
    """Failures since a state was last found healthy."""
    first: dict[str, float] = dataclasses.field(default_factory=dict)
    """Measures at the first step, of the chains after the first chunk, and the loss of the start
    over several batches, with its error."""


class Limits(NamedTuple):
    """What chains that follow the model cannot exceed, in nats: of few states by theorems.

    With q the data and p the model, mean E(data) - mean E(model) = KL(q || p) + H(q) - H(p), and
    of N states H(p) is at most log N: a gap below -log N no chains of p have, and one above log N
    is that of a model worse than a uniform one; so is mean E(data) - E(x) of any state x, as
    log Z >= -E(x). The variance of E under p, that of log p, is at
    most 1 + log(N - 1)^2 / 4 (D. Reeb and M. Wolf, "Tight bound on relative entropy by entropy
    difference", 2015, lemma 15). Of real entries there is no such bound: 8 nats an entry stand for
    log N, and the spread is that of so many entries on their own.
    """

    gap: float
    spread: float

    @classmethod
    def of(cls, space: AbstractSpace) -> "Limits":
        """Those of the states of a space."""
        if space.cardinality is not None:
            gap = math.log(max(space.cardinality, 2))
            return cls(gap, math.sqrt(1 + gap**2 / 4))
        if isinstance(space, Joint):
            parts = [cls.of(part) for part in space.parts.values()]
            return cls(sum(p.gap for p in parts), math.hypot(*(p.spread for p in parts)))
        structure: Any = space.structure
        n = max(structure.size, 1)
        return cls(_NATS_AN_ENTRY * n, _NATS_AN_ENTRY * math.sqrt(n))


def broken(chunk: Chunk, n_steps: int, done: int, energy_limit: float) -> Finding:
    """What ended a chunk that is not healthy, from the measures of the step it refused."""
    step = min(int(chunk.state.step) + 1, done + n_steps)
    last = {**chunk.watch.named(chunk.watch.last), "parameters": float(chunk.norm)}
    bad = sorted(name for name, value in last.items() if not math.isfinite(value))
    if bad:
        cause: Cause = "not finite"
        met = f"{', '.join(bad)} stopped being finite"
    else:
        name = max(filter(is_limited, last), key=lambda name: abs(last[name]))
        bad, cause = [name], "exploded"
        met = f"{name} reached {last[name]:.3g}, beyond the limit of {energy_limit:.3g}"
    at_data, of_chains = (last.get(f"energy_{name}", math.nan) for name in ("data", "model"))
    if (
        "energy_model" in last
        and abs(at_data) <= energy_limit
        and not abs(of_chains) <= energy_limit
    ):
        cause = "chains left"
        met += f" while energy_data is {at_data:.3g}: the chains went where it is so"
    return Finding(cause, met, step)


def beginning(chunk: Chunk, still: Chunk | None, minimised: str | None) -> dict[str, float]:
    """What is remembered of a run's start: `Memory.first`.

    Of the first chunk, and of steps from the same start that did not move, for the loss: that of
    one batch may be a lucky one.
    """
    first = chunk.watch.named(chunk.watch.first)
    if chunk.chain_spread is not None:
        first["chain_spread"] = float(chunk.chain_spread)
    if still is not None and minimised is not None and int(still.watch.n) > 1:
        first["loss at the start"] = still.watch.means()[minimised]
        first["its error"] = still.watch.error(minimised)
    return first


def suspicions(
    chunk: Chunk, memory: Memory, limits: Limits, minimised: str | None
) -> list[Finding]:
    """What looks ill in a chunk whose numbers are all finite."""
    step, found = int(chunk.state.step), []
    means, sizes = chunk.watch.means(), chunk.watch.sizes()

    def see(cause: Cause, met: str) -> None:
        found.append(Finding(cause, met, step))

    dead, accepted = means.get("dead_chains", 0.0), means.get("acceptance", 1.0)
    if dead >= _NEVER_MOVE or accepted <= _NEVER_ACCEPT:
        see("stuck", f"{100 * dead:.3g}% of chains do not move (acceptance {accepted:.2g})")
    spread = None if chunk.chain_spread is None else float(chunk.chain_spread)
    first_spread = memory.first.get("chain_spread", 1.0)
    if spread is not None and spread < _COLLAPSED * min(1.0, first_spread):
        see("collapsed", f"the chains' variance fell to {spread:.2g} of the data's")
    elif spread is not None and not spread <= _LEFT * max(1.0, first_spread):
        see("chains left", f"the chains' variance grew to {spread:.3g} times the data's")
    data, model = means.get("spread_data", 0.0), means.get("spread_model", 0.0)
    if model < _ONE_ENERGY * data:
        see("collapsed", f"the chains' energies spread {model:.2g}, the data's {data:.2g}")
    gap, size = means.get("energy_gap", 0.0), sizes.get("energy_gap", 0.0)
    above = means.get("energy_data", 0.0) - means.get("energy_lowest", math.inf)
    # A model that is worse than a uniform one to begin with may be better after a while.
    first_above = memory.first.get("energy_data", 0.0) - memory.first.get("energy_lowest", 0.0)
    if size > max(limits.gap, abs(memory.first.get("energy_gap", 0.0))):
        where = "above" if gap < 0 else "below"
        see(
            "drifted",
            f"the chains' energy lies {abs(gap):.3g} nats {where} the data's (root mean square"
            f" {size:.3g}), more than the {limits.gap:.3g} of chains that follow the model",
        )
    elif model > _SLACK * limits.spread:
        see(
            "drifted",
            f"the chains' energies spread by {model:.3g} nats, more than the {limits.spread:.3g} of"
            " draws of any such model",
        )
    elif above > max(limits.gap, first_above + _WORSE * limits.gap):
        see(
            "drifted",
            f"the data's energy lies {above:.3g} nats above that of the lowest chain: it is less"
            f" likely than under a uniform model (at {limits.gap:.3g})",
        )
    first = memory.first.get("loss at the start")
    if minimised is not None and first is not None:
        loss = means[minimised]
        error = math.hypot(chunk.watch.error(minimised), memory.first["its error"])
        if loss > first + max(_LOSS * abs(first), _ERRORS * error, _NAT):
            see("loss", f"the mean loss is {loss:.3g}, at the start it was {first:.3g}")
    return found


def patience(log_every: int) -> int:
    """Chunks that must look ill in a row."""
    return max(_CHUNKS, math.ceil(_STEPS / log_every))


def judged(
    chunk: Chunk,
    memory: Memory,
    limits: Limits,
    *,
    minimised: str | None,
    log_every: int,
    is_last: bool,
) -> tuple[Memory, Finding | None]:
    """The memory after a chunk of finite numbers, and the finding that fails the run, if any.

    The last chunk's word counts alone: a run must not end in a state that looks ill.
    """
    alone = is_last and int(chunk.watch.n) >= _ENOUGH
    needed = 1 if alone else patience(log_every)
    found = suspicions(chunk, memory, limits, minimised)
    strikes = {finding.cause: memory.strikes.get(finding.cause, 0) + 1 for finding in found}
    clean = 0 if found else memory.clean + 1
    memory = dataclasses.replace(memory, strikes=strikes, clean=clean)
    failing = [finding for finding in found if strikes[finding.cause] >= needed]
    return memory, failing[0] if failing else None


def lowered(
    finding: Finding, scale: float, calm: float, can_calm: bool, blame_rate: bool
) -> tuple[float, float]:
    """The learning rate's factor and the step size's for another try.

    Chains that left or are stuck take shorter steps, where they have a step size. The learning
    rate falls in any other case, and where it is to blame as well.
    """
    if finding.cause in _OF_CHAINS and can_calm:
        return (_LOWER * scale if blame_rate else scale), _LOWER * calm
    return _LOWER * scale, calm
