"""All that a report shows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from energax.energies import RBM, AbstractEnergy, unfreeze
from energax.partition import Evaluation, LogPartition


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was trained, on what, how well it went, and how to make it again."""

    title: str
    """The page's heading."""
    description: str
    """The data, in a sentence."""
    model: dict[str, str]
    """The model in a few lines: its kind, sizes, number of parameters."""
    settings: dict[str, str]
    """Every option of training; `seed` is shown beside what it made."""
    history: list[dict[str, Any]]
    """`Fitted.history`; empty if training was not recorded."""
    fit_status: str
    """`Fitted.status`, or `unknown`."""
    fit_message: str
    """`Fitted.message`."""
    fit_alarms: Sequence[dict[str, Any]] = field(default=())
    """`Fitted.alarms`."""
    fit_seconds: float
    """How long training took; NaN if not recorded."""
    evaluation: Evaluation
    """What was measured on the rows below."""
    energy: AbstractEnergy
    """The trained model."""
    train_rows: np.ndarray
    """Training rows, shape (n, ...)."""
    test_rows: np.ndarray
    """Test rows, shape (n, ...), in the order `evaluation` saw them."""
    test_numbers: np.ndarray | None = None
    """Each test row's number in `test_source`; counted as they stand here if `None`."""
    test_source: str = "the test rows"
    """The file or array that test rows are numbered in."""
    rows_problem: str = ""
    """Why the rows may not be those the model was trained with, in a sentence, if they may not."""
    image_shape: tuple[int, int] | None
    """Height and width if a row is an image; `energax.plots.guess_image_shape` may know."""
    environment: dict[str, str]
    """Versions, machine, date; an entry whose name begins with `seed` is the evaluation's."""
    sample_steps: int | None = None
    """Steps of every chain before the samples' first `thin`: the option of `evaluate`."""
    commands: Sequence[str] = field(default=())
    """Command lines that make these numbers again, in order."""

    @property
    def best_log_partition(self) -> LogPartition:
        """The log Z that the likelihoods rest on."""
        return self.evaluation.exact_log_partition or self.evaluation.log_partition

    @property
    def rbm(self) -> RBM | None:
        """The model if it is an RBM, frozen or not."""
        model = unfreeze(self.energy)
        return model if isinstance(model, RBM) else None

    @property
    def shown_samples(self) -> np.ndarray | None:
        """Draws worth showing: each chain's last, or independent draws; `None` for a `Joint`."""
        draws = self.evaluation.samples
        if isinstance(draws.x, dict):
            return None
        return np.asarray(draws.flat if draws.independent else draws.x[:, -1])

    @property
    def n_entries(self) -> int:
        """How many numbers a state holds."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.energy.space.structure))


def check(report: Report) -> None:
    """Raise `ValueError` unless rows and evaluation belong together."""
    n = report.evaluation.energies["test"].size
    if len(report.test_rows) != n:
        raise ValueError(
            f"test_rows must be the {n} rows that were evaluated, got {len(report.test_rows)}"
        )
    if not len(report.train_rows):
        raise ValueError("train_rows must hold at least one row")
    if report.test_numbers is not None and len(report.test_numbers) != n:
        raise ValueError(f"test_numbers must hold {n} numbers, got {len(report.test_numbers)}")
