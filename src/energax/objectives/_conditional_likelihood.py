"""Conditional likelihood: some parts of a joint state given the others."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Key

from energax.energies import AbstractEnergy, ConditionedParts
from energax.exact import all_states, log_partition_enumerated
from energax.objectives._base import AbstractObjective, Step, value_and_gradient
from energax.spaces import Joint, State

_FEW = 1 << 12
"""States of the predicted parts that are held together, so that the likeliest is known too."""

_MOST = 1 << 32


class ConditionalLikelihood(AbstractObjective):
    """The mean over rows of minus the log-probability of some parts of a `Joint` given the others:

    loss = mean over (x, y) of - log p(y | x) = mean of E(x, y) + log sum_y' exp(-E(x, y'))

    The sum over the predicted parts is exact, by listing their states, block by block where there
    are many; of the others, continuous or not, no Z is needed. What the energy says of x alone
    has no gradient: `JointClassifier` learns that too.

    The measure `accuracy` is the share of rows whose y is the likeliest given x (of at most 4,096
    states of the predicted parts).

    **Arguments:**

    - `predicted`: the name of the part that is predicted, or a list of names.

    ```python
    import energax as ex
    import numpy as np

    joint = ex.RBM.init(ex.key(0), n_visible=6, n_hidden=2).joint
    rows = {"hidden": np.eye(2), "visible": np.eye(6)[:2]}
    run = ex.fit(joint, rows, ex.ConditionalLikelihood("hidden"), key=ex.key(1), steps=5)
    ```

    Source: J. Lafferty, A. McCallum and F. Pereira, "Conditional random fields" (2001).
    """

    predicted: tuple[str, ...]

    def __init__(self, predicted: str | Sequence[str] = "label"):
        self.predicted = as_names(predicted, "predicted")

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        check_predicted(energy, self.predicted)
        return AbstractObjective.prepare(self, energy, data)

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> None:
        check_predicted(energy, self.predicted)

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        def loss(energy: AbstractEnergy) -> tuple[Array, dict[str, Array]]:
            rows = jax.vmap(lambda x: _of_row(energy, self.predicted, x))(batch)
            means = jax.tree.map(jnp.mean, rows)
            return means["loss"], means

        (_, measures), gradient = value_and_gradient(energy, loss, has_aux=True)
        return Step(gradient, None, measures)


def _of_row(energy: AbstractEnergy, predicted: tuple[str, ...], x: State) -> dict[str, Array]:
    """-log p(y | x) of one row, and whether its y is the likeliest."""
    y = {name: x[name] for name in predicted}
    seen = {name: part for name, part in x.items() if name not in y}
    given: Any = ConditionedParts(energy, seen) if seen else energy
    n = given.space.cardinality
    if n is None or n > _FEW:
        return {"loss": given.energy(y) + log_partition_enumerated(given)}
    states = all_states(given.space)
    densities = jax.vmap(given.log_density)(states)
    alike = jax.tree.map(lambda a, b: jnp.all((a == b[None]).reshape(n, -1), 1), states, y)
    own = jnp.all(jnp.stack(jax.tree.leaves(alike)), 0)
    hit = own[jnp.argmax(densities)].astype(densities.dtype)
    return {"loss": given.energy(y) + logsumexp(densities), "accuracy": hit}


def as_names(names: Any, argument: str) -> tuple[str, ...]:
    """Names of parts, sorted, or a `ValueError`."""
    made = (names,) if isinstance(names, str) else names
    if not isinstance(made, Sequence) or not made or not all(isinstance(n, str) for n in made):
        raise ValueError(
            f"{argument} must be the name of a part, or a list of names, got {names!r}"
        )
    return tuple(sorted(set(made)))


def check_predicted(energy: AbstractEnergy, predicted: tuple[str, ...]) -> None:
    """Raise `ValueError` unless these are discrete parts of the energy's space, few enough."""
    space = energy.space
    if not isinstance(space, Joint):
        raise ValueError(f"parts can be predicted only in a Joint space, got {space}")
    missing = [name for name in predicted if name not in space.parts]
    if missing:
        raise ValueError(f"predicted must name some of {sorted(space.parts)}, got {missing[0]!r}")
    part = Joint({name: space.parts[name] for name in predicted})
    n = part.cardinality if part.is_discrete else None
    if n is None or n > _MOST:
        raise ValueError(
            f"the states of the predicted parts are listed: {list(predicted)} must be discrete, of"
            f" at most 2^32 states, got {part}"
        )
