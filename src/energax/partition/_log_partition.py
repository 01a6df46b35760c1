"""`log_partition`: log Z by the best method a model allows."""

import math
from typing import Any, Literal

import equinox as eqx
import jax
from jaxtyping import Array, Key

from energax.diagnostics import check_level
from energax.energies import AbstractEnergy, AbstractTractable, check_energy, unfreeze
from energax.exact import (
    affordable_plan,
    elimination_plan,
    log_partition_eliminated,
    log_partition_enumerated,
    n_enumerated,
)
from energax.partition._annealed import log_partition_annealed
from energax.partition._bases import default_base
from energax.partition._estimate import LogPartition
from energax.random import as_key
from energax.spaces import Clamped

AFFORDABLE = 2**22
"""States that are listed unasked: seconds on two cores (benchmarks/enumeration.py)."""


def log_partition(
    energy: AbstractEnergy,
    *,
    key: Key[Array, ""],
    method: Literal["closed form", "elimination", "enumeration", "annealing"] | None = None,
    base: AbstractTractable | None = None,
    level: float = 0.95,
    **options: Any,
) -> LogPartition:
    """log Z = log of the sum or integral of exp(-E(x)), with an interval.

    Without a `method`: the closed form if there is one, elimination of the variables of a factor
    graph or enumeration (an RBM by its smaller layer) if it takes seconds, and otherwise, or if a
    base or options ask for it, annealed importance sampling.

    **Arguments:**

    - `method`: `"closed form"`, `"elimination"`, `"enumeration"` or `"annealing"`; chosen if
      `None`.
    - `base`: where annealing starts; if `None`, base rates or moments of a short run of chains.
    - `level`: the interval's coverage.
    - `options`: for annealing, as in `log_partition_annealed`: `n_chains`, `n_temperatures`,
      `betas`, `kernel`.

    **Returns:** `LogPartition`, whose `trusted` is false where a check failed.

    **Raises:** `ValueError` if the method does not fit the model, or its energy is not one real
    number.

    ```python
    import energax as ex

    ex.log_partition(ex.RBM.init(ex.key(0), n_visible=20, n_hidden=10), key=ex.key(1)).value
    ```
    """
    if not isinstance(energy, AbstractEnergy):
        raise ValueError(f"log_partition needs an energy, got {type(energy).__name__}")
    key = as_key(key)
    check_level(level)
    check_energy(energy)
    model = unfreeze(energy)
    count = n_enumerated(model)
    given = [*(["base"] if base is not None else []), *options]
    if method is None:
        method = "annealing" if given else exact_method(model) or "annealing"
    if method in ("closed form", "elimination", "enumeration") and given:
        raise ValueError(f"{method} takes no options, got {', '.join(given)}")
    if method == "closed form":
        if not isinstance(model, AbstractTractable):
            raise ValueError(f"{type(model).__name__} has no closed form of Z")
        return _exact(float(model.log_normaliser()), method, level, {})
    if method == "elimination":
        plan = elimination_plan(model)
        facts = {"width": plan.width, "n_operations": plan.n_operations}
        words = f"elimination, width {plan.width}"
        return _exact(float(log_partition_eliminated(model)), words, level, facts)
    if method == "enumeration":
        # Listing the free entries of a clamped space takes the mask's values: no tracing there.
        held = isinstance(model.space, Clamped)
        value = float((log_partition_enumerated if held else _enumerated)(model))
        return _exact(value, f"enumeration of {count} states", level, {"n_states": count})
    if method != "annealing":
        raise ValueError(
            'method must be "closed form", "elimination", "enumeration", "annealing" or None, got'
            f" {method!r}"
        )
    key_base, key_anneal = jax.random.split(key)
    base = default_base(model, key=key_base) if base is None else base
    return log_partition_annealed(model, base, key=key_anneal, level=level, **options)


def exact_method(
    energy: AbstractEnergy,
) -> Literal["closed form", "elimination", "enumeration"] | None:
    """How log Z is found exactly in seconds; `None` if it has to be estimated.

    ```python
    import energax as ex
    from energax.partition import exact_method

    exact_method(ex.RBM.init(ex.key(0), n_visible=784, n_hidden=10))  # "enumeration"
    ```
    """
    model = unfreeze(energy)
    if isinstance(model, AbstractTractable):
        return "closed form"
    if affordable_plan(model) is not None:
        return "elimination"
    count = n_enumerated(model)
    return "enumeration" if count is not None and count <= AFFORDABLE else None


_enumerated = eqx.filter_jit(log_partition_enumerated)


def _exact(value: float, method: str, level: float, facts: dict[str, Any]) -> LogPartition:
    if not math.isfinite(value):
        reason = "log Z is not finite: the energy is not finite somewhere, or excludes every state"
        return LogPartition(
            value, -math.inf, math.inf, math.inf, True, method, False, reason, level, facts
        )
    return LogPartition(value, value, value, 0.0, True, method, True, "", level, facts)
