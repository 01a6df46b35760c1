"""Several objectives at once, weighed."""

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.energies._parameters import as_list
from energax.objectives._base import AbstractObjective, Step, positive_number
from energax.spaces import State


class CombinedObjective(AbstractObjective):
    """A weighted sum of objectives, all on the same rows:

    loss = sum_i weight_i loss_i

    What one is blind to another may see: denoising score matching fits the shape of each mode at
    little cost and cannot weigh modes that lie far apart; chains can, and move badly before the
    shapes are right.

    Measures are those of each objective; a name that an earlier one has taken gets the number of
    its objective, as `loss_2`. `weighted_loss` is the sum, if each of them tells what it minimises:
    chains do not.

    **Arguments:**

    - `objectives`: one or more that learn from rows.
    - `weights`: a positive number for each; 1 if `None`.

    **Raises:** `ValueError` for an objective that does not learn from rows, another number of
    weights, or one that is not positive.

    ```python
    import energax as ex
    import jax.numpy as jnp
    import numpy as np

    rows = np.random.default_rng(0).normal([1.0, -1.0], 0.3, (200, 2))
    chains = ex.ReplayBuffer(size=200, n_chains=50, n_steps=10, data_noise=0.1)
    both = ex.CombinedObjective([chains, ex.DenoisingScoreMatching(0.1)], [1.0, 0.5])
    run = ex.fit(ex.Gaussian(jnp.zeros(2)), rows, both, key=ex.key(0), steps=50)
    ```
    """

    minimised: ClassVar[str] = "weighted_loss"

    objectives: tuple[AbstractObjective, ...]
    weights: tuple[float, ...]

    def __init__(
        self, objectives: Sequence[AbstractObjective], weights: Sequence[float] | None = None
    ):
        expected = "objectives must be a sequence of objectives"
        self.objectives = tuple(as_list(objectives, AbstractObjective, expected))
        if not self.objectives:
            raise ValueError("objectives must have at least one, got none")
        for each in self.objectives:
            if not isinstance(each, AbstractObjective) or not each.learns_from_rows:
                raise ValueError(
                    f"objectives must be objectives that learn from rows, got {type(each).__name__}"
                )
        if weights is None:
            weights = [1.0] * len(self.objectives)
        weights = as_list(weights, float, "weights must be a sequence of numbers")
        if len(weights) != len(self.objectives):
            raise ValueError(
                f"weights must have one entry an objective ({len(self.objectives)}), got"
                f" {len(weights)}"
            )
        self.weights = tuple(positive_number(w, "weights") for w in weights)

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        rows = [each.prepare(energy, data) for each in self.objectives]
        return rows[0]

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> Any:
        keys = jax.random.split(key, len(self.objectives))
        return tuple(
            each.init(energy, rows, key=k) for each, k in zip(self.objectives, keys, strict=True)
        )

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        keys = jax.random.split(key, len(self.objectives))
        steps = [
            each.gradient(energy, batch, s, key=k)
            for each, s, k in zip(self.objectives, state, keys, strict=True)
        ]

        def total(*gradients: Array) -> Any:
            return sum(w * g for w, g in zip(self.weights, gradients, strict=True))

        measures: dict[str, Array] = {}
        for i, step in enumerate(steps, 1):
            for name, value in step.measures.items():
                measures[f"{name}_{i}" if name in measures else name] = value
        losses = [
            step.measures[each.minimised]
            for each, step in zip(self.objectives, steps, strict=True)
            if each.minimised in step.measures
        ]
        if len(losses) == len(steps):
            measures["weighted_loss"] = total(*losses)
        gradient = jax.tree.map(total, *(step.gradient for step in steps))
        found = (step.chain_energies for step in steps)
        energies = next((each for each in found if each is not None), None)
        return Step(gradient, tuple(step.state for step in steps), measures, energies)

    def calmed(self, energy: AbstractEnergy, factor: Float[Array, ""]) -> AbstractObjective:
        calm = tuple(each.calmed(energy, factor) for each in self.objectives)
        if all(a is b for a, b in zip(calm, self.objectives, strict=True)):
            return self
        return CombinedObjective(calm, self.weights)

    def chains(self, state: Any) -> State | None:
        found = (each.chains(s) for each, s in zip(self.objectives, state, strict=True))
        return next((chains for chains in found if chains is not None), None)

    def complaint(self, measures: dict[str, float]) -> str:
        words = []
        for i, each in enumerate(self.objectives, 1):
            own = {n.removesuffix(f"_{i}"): v for n, v in measures.items() if n.endswith(f"_{i}")}
            words.append(each.complaint({**measures, **own}))
        return "; ".join(dict.fromkeys(word for word in words if word))
