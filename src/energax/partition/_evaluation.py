"""How good a trained model is: likelihoods, a baseline, energies, samples."""

import time
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Key

from energax.diagnostics import check_level
from energax.energies import AbstractEnergy
from energax.partition._bases import base_rates
from energax.partition._estimate import LogPartition
from energax.partition._held_out import LogLikelihood, energies_of, log_likelihood
from energax.partition._log_partition import exact_method, log_partition
from energax.random import as_count, as_key
from energax.sampling import Draws, sample
from energax.spaces import State

_DRAWS_A_CHAIN = 50
"""With fewer, R-hat over many coordinates exceeds its limit even for independent draws."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured of a model on training and test rows."""

    log_partition: LogPartition
    """log Z as it was estimated, by annealing or as a bracket."""
    exact_log_partition: LogPartition | None
    """log Z in closed form or by enumeration, to hold the estimate against; `None` where neither is
    affordable."""
    train: LogLikelihood
    """Mean log-likelihood of the training rows looked at."""
    test: LogLikelihood
    """Mean log-likelihood of the test rows."""
    baseline: str
    """What the baseline is."""
    baseline_test: LogLikelihood
    """The baseline's mean log-likelihood of the same test rows."""
    energies: dict[str, np.ndarray]
    """E of each `train`, `test` and `noise` row; noise is the space's base draws."""
    samples: Draws
    """Draws of the model."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each part took."""

    @property
    def hardest(self) -> np.ndarray:
        """Test rows from the least likely on: their numbers."""
        return np.argsort(-self.energies["test"], kind="stable")

    @property
    def easiest(self) -> np.ndarray:
        """Test rows from the likeliest on: their numbers."""
        return self.hardest[::-1]


def evaluate(
    energy: AbstractEnergy,
    train: State,
    test: State,
    *,
    key: Key[Array, ""],
    method: Literal["annealing", "bracket"] = "annealing",
    n_chains: int = 100,
    n_temperatures: int | None = None,
    n_samples: int = 100,
    sample_steps: int = 1000,
    most_rows: int = 10_000,
    level: float = 0.95,
) -> Evaluation:
    """Score a model on training and test rows.

    log Z is estimated from the baseline fitted to the training rows, and found exactly as well
    where that takes seconds, so that the two can be compared.

    **Arguments:**

    - `train`, `test`: rows of the model's space.
    - `method`: of the estimate. Annealing goes up alone and takes seconds; a bracket goes down as
      well, asks replica exchange for a second opinion, and takes some ten times as long.
    - `n_chains`, `n_temperatures`: of annealing; 5,000 temperatures if `None`, and of a bracket as
      many as it needs.
    - `n_samples`, `sample_steps`: chains to show, and the steps each takes from a base draw.
    - `most_rows`: of more training rows than this, so many are scored, evenly spread.

    **Raises:** `ValueError` if rows are not states of the model's space, or a number is out of
    range.
    """
    key = as_key(key)
    check_level(level)
    n_chains = as_count(n_chains, "n_chains", least=2)
    if method not in ("annealing", "bracket"):
        raise ValueError(f'method must be "annealing" or "bracket", got {method!r}')
    if n_temperatures is None and method == "annealing":
        n_temperatures = 5000
    if n_temperatures is not None:
        n_temperatures = as_count(n_temperatures, "n_temperatures", least=2)
    n_samples, most_rows = as_count(n_samples, "n_samples"), as_count(most_rows, "most_rows")
    sample_steps = as_count(sample_steps, "sample_steps")
    space = energy.space
    train = space.convert(jax.tree.map(np.asarray, train), name="training rows")
    test = space.convert(jax.tree.map(np.asarray, test), name="test rows")
    key_z, key_exact, key_sample, key_start, key_noise = jax.random.split(key, 5)
    seconds: dict[str, float] = {}

    def timed(name: str, work: Any) -> Any:
        began = time.monotonic()
        result = work()
        seconds[name] = time.monotonic() - began
        return result

    baseline, described = base_rates(space, train)
    log_z = timed(
        method,
        lambda: log_partition(
            energy,
            key=key_z,
            method=method,
            base=baseline,
            level=level,
            n_chains=n_chains,
            n_temperatures=n_temperatures,
        ),
    )
    how = exact_method(energy)
    exact = None
    if how is not None:
        exact = timed(how, lambda: log_partition(energy, key=key_exact, method=how, level=level))
    # Evenly spread, since rows may come sorted.
    n_rows = len(jax.tree.leaves(train)[0])
    spread = np.linspace(0, n_rows - 1, min(n_rows, most_rows)).astype(int)
    seen = jax.tree.map(lambda leaf: leaf[spread], train)
    samples = timed(
        "samples",
        lambda: sample(
            energy,
            _DRAWS_A_CHAIN * n_samples,
            key=key_sample,
            chains=n_samples,
            warmup=sample_steps,
            thin=max(1, sample_steps // 20),
            start=jax.vmap(space.draw)(jax.random.split(key_start, n_samples)),
        ),
    )
    if samples.stopped:
        raise KeyboardInterrupt  # half an evaluation is none
    noise = jax.vmap(space.draw)(jax.random.split(key_noise, 1000))
    rows = {"train": seen, "test": test, "noise": noise}
    known = LogPartition(0.0, 0.0, 0.0, 0.0, True, "normalised", True)
    best = exact or log_z
    return Evaluation(
        log_partition=log_z,
        exact_log_partition=exact,
        train=log_likelihood(energy, seen, best),
        test=log_likelihood(energy, test, best),
        baseline=described,
        baseline_test=log_likelihood(baseline, test, known),
        energies={name: energies_of(energy, part) for name, part in rows.items()},
        samples=samples,
        seconds=seconds,
    )
