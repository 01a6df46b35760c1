"""The arguments of `fit`, checked: how long, by which optimiser, and what is done to a gradient."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import energax.random
from energax.energies import AbstractEnergy
from energax.objectives import AbstractObjective
from energax.random import as_count, is_number
from energax.training._step import Recipe

_MOST_STEPS = 2**31 - 1
"""Steps are counted in 32 bits."""


def total_steps(steps: int | None, epochs: float | int | None, per_epoch: int) -> int:
    """How many steps are asked for."""
    if (steps is None) == (epochs is None):
        raise ValueError("give either steps or epochs")
    if steps is not None:
        total = as_count(steps, "steps")
    elif epochs is None or not is_number(epochs) or not 0 < epochs < math.inf:
        raise ValueError(f"epochs must be a positive number, got {epochs!r}")
    else:
        total = max(1, round(min(epochs * per_epoch, 2.0 * _MOST_STEPS)))
    if total > _MOST_STEPS:
        raise ValueError(f"at most {_MOST_STEPS} steps can be taken, asked for {total:.6g}")
    return total


def as_recipe(
    energy: AbstractEnergy,
    n_rows: int,
    batch_size: int,
    accumulate: int,
    clip: float | int | None,
    ema: float | int | None,
    augment: Callable[..., Any] | None,
) -> Recipe:
    """What a step does with the objective's gradient."""
    batch_size = min(as_count(batch_size, "batch_size"), n_rows)
    accumulate = as_count(accumulate, "accumulate")
    if accumulate * batch_size > n_rows:
        raise ValueError(
            f"accumulate={accumulate} batches of {batch_size} are more than the {n_rows} rows:"
            " take smaller batches, or fewer"
        )
    if clip is not None and not (is_number(clip) and 0 < clip < math.inf):
        raise ValueError(f"clip must be a positive norm, got {clip!r}")
    if ema is not None and not (is_number(ema) and 0 < ema < 1):
        raise ValueError(f"ema must lie between 0 and 1, such as 0.999, got {ema!r}")
    if augment is not None:
        _check_augment(energy, augment)
    return Recipe(
        batch_size,
        accumulate,
        None if clip is None else float(clip),
        None if ema is None else float(ema),
        augment,
    )


def _check_augment(energy: AbstractEnergy, augment: Any) -> None:
    if not callable(augment):
        raise ValueError(f"augment must be a function of a row and a key, got {augment!r}")
    x = energy.space.structure
    try:
        y = jax.eval_shape(augment, x, energax.random.key(0))
    except Exception as error:
        raise ValueError(f"augment(x, key) failed on one row {x}: {error}") from None
    told = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(y)]
    if told != [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(x)]:
        raise ValueError(f"augment(x, key) must return a row like x, {x}, got {y}")


def as_optimizer(
    objective: AbstractObjective,
    optimizer: optax.GradientTransformation | None,
    learning_rate: Any,
    momentum: float | int | None,
    weight_decay: float | int,
) -> optax.GradientTransformation:
    """The optimiser that was given, or the one that the other settings make."""
    if optimizer is not None:
        if learning_rate is not None or momentum is not None or weight_decay:
            raise ValueError("give an optimizer, or learning_rate, momentum and weight_decay")
        if not isinstance(optimizer, optax.GradientTransformation):
            raise ValueError(f"optimizer must come from optax, got {type(optimizer).__name__}")
        return optimizer
    if not is_number(weight_decay) or not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay must be a number of at least 0, got {weight_decay!r}")
    if momentum is not None and not (is_number(momentum) and 0 <= momentum < 1):
        raise ValueError(f"momentum must lie in [0, 1), got {momentum!r}")
    if (
        learning_rate is not None
        and not callable(learning_rate)
        and not (is_number(learning_rate) and 0 < learning_rate < math.inf)
    ):
        raise ValueError(f"learning_rate must be positive or a schedule, got {learning_rate!r}")
    rate: Any = learning_rate
    if rate is None and momentum is None:
        step = objective.default_optimizer()
    elif momentum is None:
        step = optax.adam(1e-3 if rate is None else rate)
    else:
        step = optax.sgd(0.01 if rate is None else rate, momentum or None)
    if not weight_decay:
        return step
    decay = optax.add_decayed_weights(weight_decay, mask=_matrices)
    return optax.chain(decay, step)


def named_rate(learning_rate: Any) -> str:
    """A learning rate in words; a schedule by where it starts, as more steps may stretch it."""
    if not callable(learning_rate):
        return str(learning_rate)
    first: Any = learning_rate(jnp.zeros((), jnp.int32))
    return f"schedule from {float(first):.6g}"


def _matrices(parameters: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, parameters)
