"""`fit`: any energy, any objective, one loop."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key

from energax.energies import AbstractEnergy, check_energy, trainable
from energax.objectives import AbstractObjective
from energax.partition import energies_of
from energax.random import as_count, as_key
from energax.sampling._progress import Bar
from energax.spaces import State
from energax.training._checkpoint import (
    check_path,
    fingerprint,
    read_checkpoint,
    write_checkpoint,
)
from energax.training._fitted import Fitted
from energax.training._step import Chunk, Order, TrainingState, is_limited, pack, run_chunk

_EXPLODED = 1000.0
"""An energy this many times larger than at the start (or than one an entry) has exploded."""

_MOST_STEPS = 2**31 - 1
"""Steps are counted in 32 bits."""

_VALIDATION_ROWS = 2000
"""Rows of either side that the validation gap is taken over."""


def fit(
    energy: AbstractEnergy,
    data: Any,
    objective: AbstractObjective,
    *,
    key: Key[Array, ""],
    optimizer: optax.GradientTransformation | None = None,
    learning_rate: float | int | Callable[[Any], Any] | None = None,
    momentum: float | int | None = None,
    weight_decay: float | int = 0.0,
    steps: int | None = None,
    epochs: float | int | None = None,
    batch_size: int = 100,
    validation: Any = None,
    log_every: int = 100,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float | int = 30.0,
    resume: bool = True,
    energy_limit: float | int | None = None,
    progress: bool = False,
) -> Fitted:
    """Train an energy on data.

    Steps run in compiled chunks of `log_every`. Between chunks the bar moves, the checkpoint is
    written if it is due, and Ctrl-C is heeded: the run then ends with what it has, and goes on
    from its checkpoint when called again, bit for bit as if it had not stopped.

    A guard looks at every step. If the gradient or a measure is not finite, or energies exceed
    `energy_limit`, training stops, the parameters go back to the last good chunk's, and
    `message` says what was met and what to try.

    **Arguments:**

    - `data`: rows of the energy's space (for `MaximumEntropy`, the moments).
    - `objective`: what to minimise, such as `ex.PersistentContrastiveDivergence()`.
    - `optimizer`: from optax; or let `learning_rate` (a number or a schedule), `momentum` and
      `weight_decay` make one: SGD if `momentum` is given, else Adam. Weight decay shrinks
      matrices, not biases.
    - `steps` or `epochs`: how long; an epoch is `rows // batch_size` steps, its rows in an order
      of their own, those that fill no batch left out.
    - `validation`: held-out rows; logs `validation_gap`, their mean energy less that of as many
      training rows, which grows as a model overfits.
    - `checkpoint`: a file, written every `checkpoint_seconds` and at the end.
    - `resume`: go on from `checkpoint` if it is there.
    - `energy_limit`: |mean E| or loss beyond which the run has exploded; 1000 times the start's
      mean |E|, or 1000 an entry of x if that is more, if `None`.
    - `progress`: show a bar on standard error.

    **Returns:** `Fitted`.

    **Raises:** `ValueError` for an energy that does not return one real number, data that do not
    fit it, settings out of range, or a checkpoint of another run.

    ```python
    import energax as ex
    import numpy as np

    rows = np.random.default_rng(0).random((500, 16)) < 0.3
    rbm = ex.RBM.init(ex.key(0), n_visible=16, n_hidden=8)
    run = ex.fit(rbm, rows, ex.PersistentContrastiveDivergence(), key=ex.key(1), steps=200)
    ```
    """
    if not isinstance(energy, AbstractEnergy):
        raise ValueError(f"fit needs an energy, got {type(energy).__name__}")
    if not isinstance(objective, AbstractObjective):
        raise ValueError(f"objective must be an objective, got {type(objective).__name__}")
    key = as_key(key)
    check_energy(energy)
    # Checkpoints hold JAX arrays, and after a step an array of numpy would have become one.
    energy = jax.tree.map(
        lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, energy
    )
    rows = objective.prepare(energy, data)
    n_rows = len(jax.tree.leaves(rows)[0])
    batch_size = min(as_count(batch_size, "batch_size"), n_rows)
    log_every = as_count(log_every, "log_every")
    per_epoch = n_rows // batch_size
    total = _total_steps(steps, epochs, per_epoch)
    optimizer = _optimizer(objective, optimizer, learning_rate, momentum, weight_decay)
    if not _is_number(checkpoint_seconds) or not checkpoint_seconds >= 0:
        raise ValueError(f"checkpoint_seconds must be at least 0, got {checkpoint_seconds!r}")
    path = None if checkpoint is None else check_path(checkpoint)
    checks = _Checks(energy, objective, rows, validation, energy_limit)

    key_objective, key_order, key_steps = jax.random.split(key, 3)
    parameters = eqx.filter(energy, trainable(energy))
    if not jax.tree.leaves(parameters):
        raise ValueError("nothing to train: every parameter is frozen or fixed")
    state = TrainingState(
        energy,
        optimizer.init(parameters),
        objective.init(energy, rows, key=key_objective),
        key_steps,
        jnp.zeros((), jnp.int32),
    )
    history: list[dict[str, float | int]] = []
    run = (
        {}
        if path is None
        else fingerprint(
            rows,
            key,
            energy,
            objective,
            state.optimizer,
            batch_size=batch_size,
            log_every=log_every,
            momentum=momentum,
            learning_rate=_named(learning_rate),
            weight_decay=weight_decay,
        )
    )
    if path is not None and resume and path.exists():
        state, history = read_checkpoint(path, state, run)
        if int(state.step) > total:
            raise ValueError(
                f"the checkpoint {path} has {int(state.step)} steps behind it, more than the"
                f" {total} asked for: ask for more, or start anew with resume=False (--no-resume)"
            )
    if objective.learns_from_rows:
        rows = pack(energy.space, rows)

    status, message = "finished", f"{total} steps"
    done, began = int(state.step), time.monotonic()
    first_step, elapsed = done, history[-1]["seconds"] if history else 0.0
    saved_at, saved_step = began, done if history else -1
    order = Order.unknown(n_rows)

    def save() -> None:
        nonlocal saved_at, saved_step
        if path is not None and saved_step != done:
            write_checkpoint(path, state, history, run)
            saved_at, saved_step = time.monotonic(), done

    with Bar(total, done, show=progress) as bar:
        try:
            while done < total:
                n_steps = min(log_every - done % log_every, total - done)
                chunk = run_chunk(
                    state,
                    objective,
                    optimizer,
                    rows,
                    order,
                    key_order,
                    jnp.asarray(n_steps),
                    jnp.asarray(checks.energy_limit, jnp.zeros(()).dtype),
                    batch_size=batch_size,
                )
                if not bool(chunk.healthy):
                    status = "diverged"
                    message = _diagnosis(chunk, done, n_steps, checks.energy_limit)
                    break
                at, seconds = done + n_steps, elapsed + time.monotonic() - began
                if objective.learns_from_rows:
                    measures = {k: float(v) / n_steps for k, v in sorted(chunk.totals.items())}
                else:  # a search for one answer: where it is, and not where it was on average
                    measures = {k: float(chunk.last[k]) for k in sorted(chunk.totals)}
                row = {"step": at, "epoch": at / per_epoch, "seconds": seconds, **measures}
                row |= checks.measures(chunk.state.energy)
                order = chunk.order
                history.append(row)
                state, done = chunk.state, at
                rate = (done - first_step) / max(time.monotonic() - began, 1e-9)
                bar.update(done, measures, rate)
                if time.monotonic() - saved_at >= checkpoint_seconds:
                    save()
        except KeyboardInterrupt:
            status = "interrupted"
            if history and history[-1]["step"] > done:
                history.pop()  # Ctrl-C came between the row and its state
            message = f"stopped by the user after {done} of {total} steps"
            if path is not None:
                message += f"; run again with the same settings to go on from {path}"
        save()
    if status == "finished" and history:
        complaint = objective.complaint({n: float(v) for n, v in history[-1].items()})
        message = f"{message}; {complaint}" if complaint else message
    return Fitted(state.energy, history, status, message, done, state)


class _Checks:
    """What is looked at between chunks: the size of energies, and validation rows."""

    def __init__(
        self,
        energy: AbstractEnergy,
        objective: AbstractObjective,
        rows: Any,
        validation: Any,
        energy_limit: float | int | None,
    ):
        self.energy_limit, self._pair = np.inf, None
        if energy_limit is not None and not (_is_number(energy_limit) and energy_limit > 0):
            raise ValueError(f"energy_limit must be positive, got {energy_limit!r}")
        if not objective.learns_from_rows:
            if validation is not None:
                raise ValueError(f"{type(objective).__name__} takes no validation rows")
            return
        start = _finite_energies(energy, rows, "data")
        n_entries = sum(leaf.size for leaf in jax.tree.leaves(energy.space.structure))
        limit = _EXPLODED * max(float(np.abs(start).mean()), float(n_entries))
        self.energy_limit = limit if energy_limit is None else float(energy_limit)
        if validation is not None:
            held_out = energy.space.convert(jax.tree.map(np.asarray, validation), name="validation")
            _finite_energies(energy, held_out, "validation")
            n = min(_VALIDATION_ROWS, *(len(jax.tree.leaves(part)[0]) for part in (held_out, rows)))
            self._pair = _spread(held_out, n), _spread(rows, n)

    def measures(self, energy: AbstractEnergy) -> dict[str, float]:
        """The validation gap, if there are validation rows."""
        if self._pair is None:
            return {}
        held_out, seen = self._pair
        gap = energies_of(energy, held_out).mean() - energies_of(energy, seen).mean()
        return {"validation_gap": float(gap)}


def _spread(rows: State, most: int) -> State:
    """At most so many rows, evenly spread, since rows may come sorted."""
    at = _evenly(len(jax.tree.leaves(rows)[0]), most)
    return jax.tree.map(lambda leaf: leaf[at], rows)


def _evenly(n: int, most: int) -> np.ndarray:
    return np.linspace(0, n - 1, min(n, most)).astype(int)


def _finite_energies(energy: AbstractEnergy, rows: State, name: str) -> np.ndarray:
    """E of some of the rows, or a `ValueError` where it is not finite."""
    energies = energies_of(energy, _spread(rows, _VALIDATION_ROWS))
    bad = np.flatnonzero(~np.isfinite(energies))
    if bad.size:
        row = _evenly(len(jax.tree.leaves(rows)[0]), _VALIDATION_ROWS)[bad[0]]
        raise ValueError(
            f"the energy of {name} row {row} is {energies[bad[0]]} before training: the model"
            " must give every row a finite energy"
        )
    return energies


def _named(learning_rate: Any) -> str:
    """A learning rate in words; a schedule by where it starts, as more steps may stretch it."""
    if not callable(learning_rate):
        return str(learning_rate)
    first: Any = learning_rate(jnp.zeros((), jnp.int32))
    return f"schedule from {float(first):.6g}"


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float | np.integer | np.floating)
    return number and not isinstance(value, bool)


def _total_steps(steps: int | None, epochs: float | int | None, per_epoch: int) -> int:
    if (steps is None) == (epochs is None):
        raise ValueError("give either steps or epochs")
    if steps is not None:
        total = as_count(steps, "steps")
    elif epochs is None or not _is_number(epochs) or not 0 < epochs < math.inf:
        raise ValueError(f"epochs must be a positive number, got {epochs!r}")
    else:
        total = max(1, round(min(epochs * per_epoch, 2.0 * _MOST_STEPS)))
    if total > _MOST_STEPS:
        raise ValueError(f"at most {_MOST_STEPS} steps can be taken, asked for {total:.6g}")
    return total


def _optimizer(
    objective: AbstractObjective,
    optimizer: optax.GradientTransformation | None,
    learning_rate: Any,
    momentum: float | int | None,
    weight_decay: float | int,
) -> optax.GradientTransformation:
    if optimizer is not None:
        if learning_rate is not None or momentum is not None or weight_decay:
            raise ValueError("give an optimizer, or learning_rate, momentum and weight_decay")
        if not isinstance(optimizer, optax.GradientTransformation):
            raise ValueError(f"optimizer must come from optax, got {type(optimizer).__name__}")
        return optimizer
    if not _is_number(weight_decay) or not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay must be a number of at least 0, got {weight_decay!r}")
    if momentum is not None and not (_is_number(momentum) and 0 <= momentum < 1):
        raise ValueError(f"momentum must lie in [0, 1), got {momentum!r}")
    if (
        learning_rate is not None
        and not callable(learning_rate)
        and not (_is_number(learning_rate) and 0 < learning_rate < math.inf)
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


def _matrices(parameters: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, parameters)


def _diagnosis(chunk: Chunk, done: int, n_steps: int, energy_limit: float) -> str:
    """What the guard met, from the measures of the step it refused."""
    refused = min(int(chunk.state.step) + 1, done + n_steps)
    last = {name: float(value) for name, value in chunk.last.items()}
    bad = sorted(name for name, value in last.items() if not math.isfinite(value))
    if bad:
        met = f"{', '.join(bad)} stopped being finite"
    else:
        name = max(filter(is_limited, last), key=lambda name: abs(last[name]))
        met = f"{name} reached {last[name]:.3g}, beyond the limit of {energy_limit:.3g}"
    return (
        f"diverged at step {refused}: {met}. The parameters are those after step {done}."
        " Try a smaller learning rate, more steps of the kernel, or weight decay"
    )
