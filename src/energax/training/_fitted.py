"""The record of a training run."""

from dataclasses import dataclass, field
from typing import Any, Literal

from energax.energies import AbstractEnergy


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained energy and how it came about."""

    energy: AbstractEnergy
    """The energy after the last healthy step."""
    history: list[dict[str, float | int]] = field(repr=False)
    """One row every `log_every` steps: step, epoch, seconds, and the objective's measures."""
    status: Literal["finished", "interrupted", "diverged"]
    """`interrupted`: stopped by Ctrl-C, can be resumed. `diverged`: stopped by the guard."""
    message: str
    """What happened, with advice if something went wrong."""
    step: int
    """Steps taken."""
    state: Any = field(default=None, repr=False)
    """All that training carries: optimiser, chains, key. A checkpoint holds it too."""
    alarms: list[dict[str, Any]] = field(default_factory=list, repr=False)
    """What the guard met, in order: `step`, `cause`, `met` (in words), `back_to` (the step it went
    back to), `again` (whether it tried again; then `learning_rate_factor` and `step_size_factor`
    are what both were multiplied by from there on), and `text`, the whole of it in words."""
    ema: AbstractEnergy | None = field(default=None, repr=False)
    """The energy with the moving average of its parameters; `None` if none was asked for."""

    @property
    def ok(self) -> bool:
        """Whether training ran to its end."""
        return self.status == "finished"
