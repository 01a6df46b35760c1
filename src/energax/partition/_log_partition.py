"""`log_partition`: log Z by the best method a model allows."""

import inspect
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

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
from energax.partition._annealed import log_partition_annealed, log_partition_reverse
from energax.partition._bases import default_base
from energax.partition._bracket import log_partition_bracketed
from energax.partition._estimate import LogPartition, timed
from energax.partition._from_temperatures import (
    log_partition_bridge,
    log_partition_mbar,
    log_partition_thermodynamic,
)
from energax.partition._quadrature import by_quadrature, is_narrow
from energax.partition._sequential import log_partition_smc
from energax.partition._tempered import tempered_run
from energax.random import as_key
from energax.spaces import Clamped

AFFORDABLE = 2**22
"""States that are listed unasked: seconds on two cores (benchmarks/enumeration.py)."""

Exact = Literal["closed form", "elimination", "enumeration"]
"""Methods without an error but rounding."""

Estimated = Literal[
    "quadrature",
    "bracket",
    "annealing",
    "reverse annealing",
    "smc",
    "mbar",
    "bridge",
    "thermodynamic integration",
]
"""Methods with an interval."""

_ESTIMATORS: dict[str, Callable[..., LogPartition]] = {
    "bracket": log_partition_bracketed,
    "annealing": log_partition_annealed,
    "reverse annealing": log_partition_reverse,
    "smc": log_partition_smc,
    "mbar": log_partition_mbar,
    "bridge": log_partition_bridge,
    "thermodynamic integration": log_partition_thermodynamic,
}


def log_partition(
    energy: AbstractEnergy,
    *,
    key: Key[Array, ""],
    method: Exact | Estimated | None = None,
    base: AbstractTractable | None = None,
    level: float = 0.95,
    **options: Any,
) -> LogPartition:
    """log Z = log of the sum or integral of exp(-E(x)), with an interval.

    Without a `method`: the closed form if there is one, elimination of the variables of a factor
    graph or enumeration (an RBM by its smaller layer) if it takes seconds, quadrature over one or
    two real entries if it can be trusted there, and otherwise, or if a base or options ask for
    it, a bracket between annealing up and annealing down, checked by replica exchange.

    | `method` | what is done |
    | --- | --- |
    | `"closed form"`, `"elimination"`, `"enumeration"` | exact |
    | `"quadrature"` | `log_partition_quadrature`: in one to three or four real dimensions |
    | `"bracket"` | `log_partition_bracketed`: limits from both sides |
    | `"annealing"` | `log_partition_annealed`: a stochastic lower bound |
    | `"reverse annealing"` | `log_partition_reverse`: an upper one, from draws `x` of the model |
    | `"smc"` | `log_partition_smc`: annealing with resampling |
    | `"mbar"`, `"bridge"`, `"thermodynamic integration"` | from replica exchange |

    **Arguments:**

    - `method`: as in the table; chosen if `None`.
    - `base`: where annealing starts; if `None`, base rates or moments of a short run of chains.
    - `level`: the interval's coverage.
    - `options`: of the function that the table names, such as `n_chains`.

    **Returns:** `LogPartition`, whose `trusted` is false where a check failed.

    **Raises:** `ValueError` if the method does not fit the model or the options, or the energy is
    not one real number.

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
    given = [*(["base"] if base is not None else []), *options]
    if method is None:
        method = "bracket" if given else exact_method(model) or "bracket"
        if method == "bracket" and not given and is_narrow(model):
            found = by_quadrature(model, level=level)
            if found.trusted:
                return found
    if method in get_args(Exact):
        if given:
            raise ValueError(f"{method} takes no options, got {', '.join(given)}")
        return _exactly(model, method, level)
    if method == "quadrature":
        if base is not None:
            raise ValueError("quadrature takes no base: nothing is annealed")
        _check_options(method, by_quadrature, options)
        return by_quadrature(model, level=level, **options)
    estimator = _ESTIMATORS.get(method) if isinstance(method, str) else None
    if estimator is None:
        names = ", ".join(f'"{name}"' for name in (*get_args(Exact), *get_args(Estimated)))
        raise ValueError(f"method must be {names} or None, got {method!r}")
    _check_options(method, estimator, options)
    key_base, key_run = jax.random.split(key)
    base = default_base(model, key=key_base) if base is None else base
    if method == "reverse annealing":
        x = options.pop("x")
        return log_partition_reverse(model, base, x, key=key_run, level=level, **options)
    return estimator(model, base, key=key_run, level=level, **options)


def exact_method(energy: AbstractEnergy) -> Exact | None:
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


@timed
def _exactly(model: AbstractEnergy, method: str, level: float) -> LogPartition:
    if method == "closed form":
        if not isinstance(model, AbstractTractable):
            raise ValueError(f"{type(model).__name__} has no closed form of Z")
        return _exact(float(model.log_normaliser()), method, level, {})
    if method == "elimination":
        plan = elimination_plan(model)
        facts = {"width": plan.width, "n_operations": plan.n_operations}
        words = f"elimination, width {plan.width}"
        return _exact(float(log_partition_eliminated(model)), words, level, facts)
    # Listing the free entries of a clamped space takes the mask's values: no tracing there.
    held = isinstance(model.space, Clamped)
    count = n_enumerated(model)
    value = float((log_partition_enumerated if held else _enumerated)(model))
    return _exact(value, f"enumeration of {count} states", level, {"n_states": count})


def _check_options(method: str, estimator: Callable[..., Any], options: dict[str, Any]) -> None:
    """Every option is one of the estimator's, or of `tempered_run` where it passes them on."""
    known = inspect.signature(estimator).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        known = inspect.signature(tempered_run).parameters
    allowed = [name for name in known if name not in ("energy", "base", "key", "level")]
    wrong = [name for name in options if name not in allowed]
    if wrong:
        raise ValueError(
            f'method "{method}" knows no {", ".join(wrong)}: its options are {", ".join(allowed)}'
        )
    if method == "reverse annealing" and "x" not in options:
        raise ValueError(
            "reverse annealing starts from draws of the model: give them as x, or take"
            ' method="bracket", which makes its own'
        )


_enumerated = eqx.filter_jit(log_partition_enumerated)


def _exact(value: float, method: str, level: float, facts: dict[str, Any]) -> LogPartition:
    if not math.isfinite(value):
        reason = "log Z is not finite: the energy is not finite somewhere, or excludes every state"
        return LogPartition(
            value, -math.inf, math.inf, math.inf, True, method, False, reason, level, facts
        )
    return LogPartition(value, value, value, 0.0, True, method, True, "", level, facts)
