"""`fit`: any energy, any objective, one loop."""

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
from energax.random import as_count, as_key, is_number
from energax.spaces import State
from energax.training._checkpoint import check_path, fingerprint, read_checkpoint, without_addresses
from energax.training._checks import Checks
from energax.training._feed import InMemory, Streamed
from energax.training._fitted import Fitted
from energax.training._logs import as_logs
from energax.training._loop import Ended, Plan, run
from energax.training._progress import Progress
from energax.training._settings import (
    as_optimizer,
    as_recipe,
    named_rate,
    total_steps,
)
from energax.training._step import TrainingState, pack
from energax.training._streamed import StreamedRows, as_streams, streamed_rows


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
    clip: float | int | None = None,
    accumulate: int = 1,
    ema: float | int | None = None,
    augment: Callable[[State, Key[Array, ""]], State] | None = None,
    steps: int | None = None,
    epochs: float | int | None = None,
    batch_size: int = 100,
    validation: Any = None,
    log_every: int = 100,
    log: Any = None,
    likelihood_every: int | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float | int = 30.0,
    resume: bool = True,
    energy_limit: float | int | None = None,
    retries: int = 3,
    progress: bool = False,
) -> Fitted:
    """Train an energy on data.

    Steps run in compiled chunks of `log_every`. Between chunks the bar moves, the checkpoint is
    written if it is due, and Ctrl-C is heeded: the run then ends with what it has, and goes on
    from its checkpoint when called again, bit for bit as if it had not stopped.

    A guard looks at every step and every chunk: numbers that are not finite, energies beyond
    `energy_limit`, chains that are stuck, all alike or far from the data, energies of data and
    chains that drift apart, a loss above its start. Then the run goes back to a state that was
    still healthy several chunks later, lowers the learning rate or the kernel's step size, and
    tries again; `alarms` and `message` tell. After `retries` tries it stops, with that state.

    **Arguments:**

    - `data`: rows of the energy's space (for `MaximumEntropy`, the moments). Those of `ex.stream`
      and of a `np.memmap` stay in their file: the rows of a chunk are read while the chunk before
      it is computed. Of arrays the run is the same as with all rows in memory, bit for bit, but
      for what an objective makes of the rows at the start, which it makes of at most 10,000 of
      them; of tables the order is another one, by row groups.
    - `objective`: what to minimise, such as `ex.PersistentContrastiveDivergence()`.
    - `optimizer`: from optax; or let `learning_rate` (a number or a schedule), `momentum` and
      `weight_decay` make one: SGD if `momentum` is given, else Adam. Weight decay shrinks
      matrices, not biases.
    - `clip`: the largest norm of the gradient; a longer one is shortened to it.
    - `accumulate`: a step takes the mean gradient of so many batches, one after another.
    - `ema`: keeps an exponential moving average of the parameters that keeps this much of itself a
      step (less in the first: min(ema, (1 + t) / (10 + t))), as `Fitted.ema`.
    - `augment`: `augment(x, key)`, one row changed at random, in every batch of every step.
    - `steps` or `epochs`: how long; an epoch is `rows // (accumulate batch_size)` steps, its rows
      in an order of their own, those that fill no step left out.
    - `validation`: held-out rows; logs `validation_gap`, their mean energy less that of as many
      training rows, which grows as a model overfits.
      Of entries that have a few values each also `validation_pseudo_likelihood`, their mean log
      pseudo-likelihood in nats, from some 4,000 values of entries, the same every time.
    - `log_every`: steps a row of the history.
    - `log`: where rows go while the run lives: a path ending in `.jsonl` (`ex.JSONLog`), a folder
      for TensorBoard (`ex.TensorBoardLog`), a log of your own, or a list of these.
    - `likelihood_every`: steps, rounded up to whole rows, after which the mean `log_likelihood` of
      at most 10,000 validation rows is found, with log Z exact where that is affordable and by a
      bracket elsewhere, which takes minutes; `log_likelihood_low` and `log_likelihood_high` are
      the ends of its interval, alone where log Z is not trusted. `seconds` do not count this time.
    - `checkpoint`: a file, written every `checkpoint_seconds` and at the end.
    - `resume`: go on from `checkpoint` if it is there. It knows the data by their bytes; streams
      by shape, dtype, the sizes of their files and the bytes of at most 10,000 rows.
    - `energy_limit`: |mean E| or loss beyond which the run has exploded; 1000 times the start's
      mean |E|, or 1000 an entry of x if that is more, if `None`.
    - `retries`: how often the guard may try again; 0 to stop at the first alarm.
    - `progress`: show a bar on standard error.

    **Returns:** `Fitted`.

    **Raises:** `ValueError` for an energy that does not return one real number, data that do not
    fit it, settings out of range, or a checkpoint of another run. A row of a stream that does not
    fit is told, with its file and number, when it is read; the checkpoint is written first.

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
    streams = as_streams(data)
    if streams is None:
        rows = known_rows = evidence = objective.prepare(energy, data)
        n_rows = len(jax.tree.leaves(rows)[0])
    else:
        known_rows = streamed_rows(objective, energy, streams)
        rows, n_rows, evidence = known_rows.sample, known_rows.n_rows, known_rows.evidence
    recipe = as_recipe(energy, n_rows, batch_size, accumulate, clip, ema, augment)
    log_every, retries = as_count(log_every, "log_every"), as_count(retries, "retries", least=0)
    total = total_steps(steps, epochs, n_rows // recipe.rows_a_step)
    optimizer = as_optimizer(objective, optimizer, learning_rate, momentum, weight_decay)
    if not is_number(checkpoint_seconds) or not checkpoint_seconds >= 0:
        raise ValueError(f"checkpoint_seconds must be at least 0, got {checkpoint_seconds!r}")
    path = None if checkpoint is None else check_path(checkpoint)
    logs = as_logs(log, path)
    key_objective, key_order, key_steps = jax.random.split(key, 3)
    checks = Checks(
        energy, objective, known_rows, validation, energy_limit, likelihood_every, key_steps
    )
    parameters = eqx.filter(energy, trainable(energy))
    if not jax.tree.leaves(parameters):
        raise ValueError("nothing to train: every parameter is frozen or fixed")
    state = TrainingState(
        energy,
        optimizer.init(parameters),
        objective.init(energy, rows, key=key_objective),
        key_steps,
        jnp.zeros((), jnp.int32),
        scale=jnp.ones(()),
        calm=jnp.ones(()),
        average=parameters if recipe.ema is not None else None,
    )
    start, settings = Progress.start(state), {}
    if path is not None:
        settings = fingerprint(
            evidence,
            key,
            energy,
            objective,
            state.optimizer,
            batch_size=recipe.batch_size,
            log_every=log_every,
            momentum=momentum,
            learning_rate=named_rate(learning_rate),
            weight_decay=weight_decay,
            clip=recipe.clip,
            accumulate=recipe.accumulate,
            ema=recipe.ema,
            augment=None if augment is None else without_addresses(augment),
        )
        if likelihood_every is not None:
            settings["likelihood_every"] = str(likelihood_every)
    if path is not None and resume and path.exists():
        start = read_checkpoint(path, start, settings)
        if start.done > total:
            raise ValueError(
                f"the checkpoint {path} has {start.done} steps behind it, more than the"
                f" {total} asked for: ask for more, or start anew with resume=False (--no-resume)"
            )
    if isinstance(known_rows, StreamedRows):
        feed = Streamed(known_rows, key_order, recipe, log_every)
    else:
        feed = InMemory(
            pack(energy.space, rows) if objective.learns_from_rows else rows, n_rows, key_order
        )
    plan = Plan(
        objective,
        optimizer,
        recipe,
        feed,
        n_rows,
        total,
        log_every,
        retries,
        checks,
        path,
        float(checkpoint_seconds),
        settings,
        progress,
        logs,
    )
    return _fitted(objective, run(plan, start))


def _fitted(objective: AbstractObjective, ended: Ended) -> Fitted:
    """The record, with what speaks against the result in its message."""
    state, history, alarms, *_ = ended.progress
    words = [ended.message]
    if ended.status == "finished":
        words += [alarm["text"] for alarm in alarms]
        if history:
            words.append(objective.complaint({n: float(v) for n, v in history[-1].items()}))
    average = None
    if state.average is not None:
        rest = eqx.filter(state.energy, trainable(state.energy), inverse=True)
        average = eqx.combine(state.average, rest)
    return Fitted(
        energy=state.energy,
        history=history,
        status=ended.status,
        message="; ".join(word for word in words if word),
        step=ended.progress.done,
        state=state,
        alarms=alarms,
        ema=average,
    )
