"""The record of what is known of log Z."""

from dataclasses import dataclass, field
from typing import Any


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
    """Standard error, 0 if exact."""
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
    """What the method measured: chains, temperatures, log weights, their effective number, ..."""

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
