"""Conditional likelihood: some of a state given the rest of it."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Key

from energax.energies import AbstractEnergy, ConditionedParts, condition
from energax.exact import (
    all_states,
    elimination_plan,
    log_partition_eliminated,
    log_partition_enumerated,
)
from energax.exact._elimination import MEMORY
from energax.exact._log_tables import log_tables
from energax.objectives._base import AbstractObjective, Step, value_and_gradient
from energax.spaces import Joint, State

_FEW = 1 << 12
"""States of the predicted parts that are held together, so that the likeliest is known too."""

_MOST = 1 << 32


class ConditionalLikelihood(AbstractObjective):
    """The mean over rows of minus the log-probability of some of a state given the rest of it:

    loss = mean over (x, y) of - log p(y | x) = mean of E(x, y) + log sum_y' exp(-E(x, y'))

    The sum over y is exact. Of parts of a `Joint`, predicted by name, it lists the states, block by
    block where there are many; of a factor graph, an `Ising` or a `Potts` model some entries of
    which are observed, it eliminates the others: a conditional random field, of any length if it
    is narrow. Of the rest, continuous or not, no Z is needed. What the energy says of x alone has
    no gradient: `JointClassifier` learns that too.

    The measure `accuracy` is the share of rows whose y is the likeliest given x (of at most 4,096
    states of the predicted parts).

    **Arguments:**

    - `predicted`: the name of the part of a `Joint` that is predicted, or a list of names.
    - `observed`: instead of names, which entries of an array are given, as a boolean array.

    **Raises:** `ValueError` unless one of the two is given.

    ```python
    import energax as ex
    import numpy as np

    joint = ex.RBM.init(ex.key(0), n_visible=6, n_hidden=2).joint
    rows = {"hidden": np.eye(2), "visible": np.eye(6)[:2]}
    run = ex.fit(joint, rows, ex.ConditionalLikelihood("hidden"), key=ex.key(1), steps=5)
    ```

    Source: J. Lafferty, A. McCallum and F. Pereira, "Conditional random fields" (2001).
    """

    predicted: tuple[str, ...] | None
    observed: Bool[Array, "..."] | None

    def __init__(self, predicted: str | Sequence[str] | None = None, *, observed: Any = None):
        if (predicted is None) == (observed is None):
            raise ValueError("give either the names of the predicted parts, or what is observed")
        self.predicted = None if predicted is None else as_names(predicted, "predicted")
        self.observed = None if observed is None else _as_mask(observed)

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        if self.predicted is not None:
            check_predicted(energy, self.predicted)
            return AbstractObjective.prepare(self, energy, data)
        rows = AbstractObjective.prepare(self, energy, data)
        _check_graph(energy, self.observed, rows)
        return rows

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> None:
        return None

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        def loss(energy: AbstractEnergy) -> tuple[Array, dict[str, Array]]:
            def of_row(x: State) -> dict[str, Array]:
                if self.predicted is None:
                    return {"loss": _given_entries(energy, self.observed, x)}
                return _given_parts(energy, self.predicted, x)

            rows = jax.vmap(of_row)(batch)
            means = jax.tree.map(jnp.mean, rows)
            return means["loss"], means

        (_, measures), gradient = value_and_gradient(energy, loss, has_aux=True)
        return Step(gradient, None, measures)


def _given_entries(energy: AbstractEnergy, observed: Any, x: State) -> Float[Array, ""]:
    """-log p(the other entries | those observed) of one row."""
    log_z = log_partition_eliminated(condition(energy, x, observed))
    return energy.energy(x) + jnp.asarray(log_z)


def _given_parts(energy: AbstractEnergy, predicted: tuple[str, ...], x: State) -> dict[str, Array]:
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


def _as_mask(observed: Any) -> Bool[Array, "..."]:
    mask = np.asarray(observed)
    if mask.dtype != np.bool_ or mask.all():
        got = "all true" if mask.dtype == np.bool_ else str(mask.dtype)
        raise ValueError(f"observed must be booleans, false for what is predicted, got {got}")
    return jnp.asarray(mask)


def _check_graph(energy: AbstractEnergy, observed: Any, rows: State) -> None:
    """Raise `ValueError` unless the entries that are not observed can be eliminated."""
    if log_tables(energy) is None:
        raise ValueError(
            "observed entries are for energies made of tables, such as an Ising model or a factor"
            f" graph, got {type(energy).__name__}: of others CompositeLikelihood([entries]) lists"
            " the states of a few predicted entries"
        )
    shape = energy.space.structure.shape
    if observed.shape != shape:
        raise ValueError(f"observed must have shape {shape}, got {observed.shape}")
    plan = elimination_plan(condition(energy, rows[0], np.asarray(observed)))
    if plan.bytes + plan.bytes_kept > MEMORY:
        raise ValueError(
            f"the conditional likelihood would take too much memory: {plan.summary}. Use"
            " ex.PseudoLikelihood or ex.CompositeLikelihood"
        )


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
