"""A classifier that is also a model of what it classifies."""

from collections.abc import Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy, Marginal
from energax.objectives._base import AbstractObjective, Step, positive_number
from energax.objectives._conditional_likelihood import (
    ConditionalLikelihood,
    as_names,
    check_predicted,
)
from energax.objectives._persistent import PersistentContrastiveDivergence
from energax.spaces import Joint, State


class JointClassifier(AbstractObjective):
    """The conditional likelihood of some parts and, beside it, a generative loss of the others:

    loss = mean over (x, y) of - log p(y | x) - weight * log p(x)

    The first term is exact, as in `ConditionalLikelihood`. The second is left to another objective
    on the marginal energy E(x) = -log sum_y exp(-E(x, y)), by default persistent chains on x (the
    source has a `ReplayBuffer`). With weight 1 the two are the joint likelihood, -log p(x, y), with
    chains on x alone.

    Measures: `conditional_loss`, `conditional_accuracy`, those of the generative objective, and
    `weighted_loss`: the sum if that objective tells what it minimises, and the first term alone
    if it does not, as no objective with chains does.

    **Arguments:**

    - `predicted`: y: the name of a discrete part of a `Joint`, or a list of names.
    - `generative`: what trains the marginal energy on the rows' x.
    - `weight`: of the generative term, positive.

    **Raises:** `ValueError` for an objective that does not learn from rows, or a weight that is
    not positive.

    ```python
    import energax as ex
    import numpy as np

    joint = ex.RBM.init(ex.key(0), n_visible=6, n_hidden=2).joint
    rows = {"hidden": np.eye(2), "visible": np.eye(6)[:2]}
    run = ex.fit(joint, rows, ex.JointClassifier("hidden"), key=ex.key(1), steps=5)
    print(sorted(run.history[0]))
    ```

    Source: W. Grathwohl, K. Wang, J. Jacobsen, D. Duvenaud, M. Norouzi and K. Swersky, "Your
    classifier is secretly an energy based model and you should treat it like one" (2020),
    equation 9.
    """

    minimised: ClassVar[str] = "weighted_loss"

    predicted: tuple[str, ...]
    generative: AbstractObjective
    weight: float

    def __init__(
        self,
        predicted: str | Sequence[str],
        generative: AbstractObjective | None = None,
        weight: float = 1.0,
    ):
        self.predicted = as_names(predicted, "predicted")
        self.generative = PersistentContrastiveDivergence() if generative is None else generative
        if not isinstance(self.generative, AbstractObjective):
            got = type(generative).__name__
            raise ValueError(f"generative must be an objective, got {got}")
        if not self.generative.learns_from_rows:
            got = type(generative).__name__
            raise ValueError(f"generative must learn from rows, got {got}")
        self.weight = positive_number(weight, "weight")

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        check_predicted(energy, self.predicted)
        if isinstance(energy.space, Joint) and len(energy.space.parts) == len(self.predicted):
            raise ValueError("every part is predicted: nothing is left for the generative term")
        rows = AbstractObjective.prepare(self, energy, data)
        self.generative.prepare(self._marginal(energy), self._seen(rows))
        return rows

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> Any:
        return self.generative.init(self._marginal(energy), self._seen(rows), key=key)

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        conditional = ConditionalLikelihood(self.predicted)
        first = conditional.gradient(energy, batch, None, key=key)
        marginal, x = self._marginal(energy), self._seen(batch)
        second = self.generative.gradient(marginal, x, state, key=key)
        # A gradient in the marginal's parameters, which are those of the energy inside.
        gradient = jax.tree.map(
            lambda a, b: a + self.weight * b, first.gradient, second.gradient.inner
        )
        loss = first.measures["loss"]
        measures = {**second.measures, "conditional_loss": loss, "weighted_loss": loss}
        minimised = self.generative.minimised
        if minimised in second.measures:
            measures["weighted_loss"] += self.weight * second.measures[minimised]
        if "accuracy" in first.measures:
            measures["conditional_accuracy"] = first.measures["accuracy"]
        return Step(gradient, second.state, measures, second.chain_energies)

    def calmed(self, energy: AbstractEnergy, factor: Float[Array, ""]) -> AbstractObjective:
        calmer = self.generative.calmed(self._marginal(energy), factor)
        if calmer is self.generative:
            return self
        return eqx.tree_at(lambda o: o.generative, self, calmer)

    def chains(self, state: Any) -> State | None:
        return self.generative.chains(state)

    def complaint(self, measures: dict[str, float]) -> str:
        return self.generative.complaint(measures)

    def _marginal(self, energy: AbstractEnergy) -> Marginal:
        return Marginal(energy, self.predicted)

    def _seen(self, rows: State) -> State:
        return {name: part for name, part in rows.items() if name not in self.predicted}
