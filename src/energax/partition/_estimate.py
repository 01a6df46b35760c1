"""The record of what is known of log Z."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ParamSpec

_P = ParamSpec("_P")


@dataclass(frozen=True)
class LogPartition:
    """log Z in nats, the interval it lies in, how it was found, and whether to trust it."""

    value: float
    """The estimate, or the exact value."""
    lower: float
    """Lower end of the interval at `level`; may be `-inf`."""
    upper: float
    """Upper end of the interval at `level`; may be `inf`."""
    std_error: float
    """Standard error, 0 if exact; of quadrature its estimated error, in which no chance is."""
    exact: bool
    """Whether nothing was estimated; rounding apart, value = lower = upper."""
    method: str
    """How it was found."""
    trusted: bool
    """Whether the estimate passed its own checks. `reason` says why not."""
    reason: str = ""
    """A sentence of advice where `trusted` is false."""
    level: float = 0.95
    """The interval's nominal coverage."""
    diagnostics: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What the method measured: chains, temperatures, log weights, their effective number, ...;
    `seconds` by the clock, programs compiled on the way included, and, of chains, `n_steps`, each
    the move of one chain or replica."""

    @property
    def summary(self) -> str:
        """One line: the value, its interval, the method, and whether to trust it."""
        if self.exact:
            return f"log Z = {self.value:.4f} (exact, {self.method})"
        line = (
            f"log Z = {self.value:.3f} [{self.lower:.3f}, {self.upper:.3f}] at"
            f" {100 * self.level:g}% ({self.method})"
        )
        return line if self.trusted else f"{line}; NOT TRUSTED: {self.reason}"

    @property
    def parts(self) -> dict[str, "LogPartition"]:
        """The estimates that a bracket is made of, by name; empty for other methods."""
        return {
            name: self.diagnostics[name]
            for name in ("forward", "reverse", "mbar")
            if name in self.diagnostics
        }

    @property
    def cost(self) -> str:
        """What was spent: seconds, and what the method counts, such as steps of chains; empty if
        it was not recorded."""
        facts = self.diagnostics
        found = [_seconds(facts["seconds"])] if "seconds" in facts else []
        for name, what in _SPENT.items():
            if name in facts:
                found.append(f"{facts[name]:,} {what}")
        return ", ".join(found)

    @property
    def table(self) -> str:
        """Several lines: `summary`, what a bracket is made of, and what was spent.

        ```python
        import energax as ex

        print(ex.log_partition(ex.Ising(6, 0.4), key=ex.key(0), method="bracket").table)
        ```
        """
        rows = [
            (_PARTS[name], f"{z.value:.3f} [{z.lower:.3f}, {z.upper:.3f}]")
            for name, z in self.parts.items()
        ]
        if self.cost:
            rows.append(("cost", self.cost))
        return "\n".join([self.summary, *(f"  {name:<17} {text}" for name, text in rows)])


_PARTS = {"forward": "annealed up", "reverse": "annealed down", "mbar": "replica exchange"}
"""What parts are called."""

_SPENT = {
    "n_steps": "steps of chains",
    "n_states": "states listed",
    "n_operations": "operations",
    "n_evaluations": "evaluations of E",
}
"""What methods count, and its unit."""


def _seconds(value: float) -> str:
    return f"{value:,.1f} s" if value >= 1 else f"{max(value, 0.001):.1g} s"


def timed(estimate: Callable[_P, LogPartition]) -> Callable[_P, LogPartition]:
    """The estimator, with what it took among the diagnostics of its record."""

    @functools.wraps(estimate)
    def and_timed(*args: _P.args, **options: _P.kwargs) -> LogPartition:
        began = time.monotonic()
        found = estimate(*args, **options)
        found.diagnostics["seconds"] = time.monotonic() - began
        return found

    return and_timed
