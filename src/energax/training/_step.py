"""Steps of training as one compiled program, with the guard's first look inside."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from energax.energies import AbstractEnergy, trainable
from energax.exact import sum_of_squares
from energax.objectives import AbstractObjective, Step
from energax.random import permutation
from energax.spaces import AbstractSpace, Binary, Spin, State, float_dtype
from energax.training._mixing import Mixing
from energax.training._watch import Watch, spread_of_chains


class TrainingState(eqx.Module):
    """All that training carries from step to step."""

    energy: AbstractEnergy
    optimizer: Any
    objective: Any
    key: Key[Array, ""]
    """Never used up: the key of step i is `fold_in(key, i)`."""
    step: Int[Array, ""]
    scale: Float[Array, ""]
    """What updates are multiplied by: 1 until the guard lowers it."""
    calm: Float[Array, ""]
    """What the chains' step size is multiplied by: 1 until the guard lowers it."""
    average: Any
    """The parameters' exponential moving average; `None` if none was asked for."""


class Recipe(eqx.Module):
    """What a step does with the objective's gradient."""

    batch_size: int = eqx.field(static=True)
    accumulate: int = eqx.field(default=1, static=True)
    """Batches whose mean gradient makes a step."""
    clip: float | None = eqx.field(default=None, static=True)
    """The largest norm of a gradient; a longer one is shortened to it."""
    ema: float | None = eqx.field(default=None, static=True)
    """What the average keeps of itself a step."""
    augment: Callable[[State, Key[Array, ""]], State] | None = eqx.field(default=None, static=True)

    @property
    def rows_a_step(self) -> int:
        """How many rows a step sees."""
        return self.batch_size * self.accumulate


class Order(eqx.Module):
    """The order of the rows in an epoch: a function of a key and the epoch alone."""

    rows: Int[Array, " rows"]
    epoch: Int[Array, ""]

    @classmethod
    def unknown(cls, n_rows: int) -> "Order":
        """Of no epoch yet."""
        return cls(jnp.zeros((n_rows,), jnp.int32), jnp.asarray(-1, jnp.int32))

    def of(self, epoch: Int[Array, ""], key: Key[Array, ""] | None) -> "Order":
        """The order in `epoch`: this one if it is or there is no key, else made anew."""
        if key is None:
            return Order(self.rows, epoch)

        def anew() -> Int[Array, " rows"]:
            return epoch_order(key, epoch, self.rows.size)

        return Order(lax.cond(epoch == self.epoch, lambda: self.rows, anew), epoch)


def epoch_order(key: Key[Array, ""], epoch: Any, n_rows: int) -> Int[Array, " rows"]:
    """The numbers of all rows, as an epoch sees them one after another."""
    return permutation(jax.random.fold_in(key, epoch), n_rows)


class Seen(eqx.Module):
    """What is kept of a step beside where it led."""

    measures: dict[str, Float[Array, ""]]
    gradient: Any
    chain_energies: Float[Array, " chains"] | None


class Chunk(eqx.Module):
    """Where a chunk of steps ended."""

    state: TrainingState
    order: Order
    """That of the last epoch, for the next chunk to go on with."""
    watch: Watch
    """Measures over the chunk's healthy steps."""
    healthy: Bool[Array, ""]
    """False if a number that is not finite or an exploding energy was met."""
    norm: Float[Array, ""]
    """Of the parameters."""
    chain_spread: Float[Array, ""] | None
    """The variance of chains that live on over that of the rows; `None` without such chains."""
    mixing: dict[str, Float[Array, ""]]
    """R-hat and effective number of draws of their energies; empty without such chains."""


def pack(space: AbstractSpace, rows: State) -> State:
    """States as they wait on the device: one byte an entry for two-valued spaces."""
    return rows.astype(jnp.int8) if isinstance(space, Binary | Spin) else rows


def unpack(rows: State) -> State:
    """`pack` undone: bytes become floats again."""
    return jax.tree.map(
        lambda leaf: leaf.astype(float_dtype()) if leaf.dtype == jnp.int8 else leaf, rows
    )


@eqx.filter_jit
def run_chunk(
    state: TrainingState,
    objective: AbstractObjective,
    optimizer: optax.GradientTransformation,
    recipe: Recipe,
    rows: State,
    sample: State,
    order: Order,
    key_order: Key[Array, ""] | None,
    n_steps: Array,
    energy_limit: Array,
) -> Chunk:
    """`n_steps` steps, from epoch to epoch, each epoch's rows in an order of their own.

    Without a key an epoch is a chunk, and `order` is its order. `sample` is what chains are held
    against.

    The number of steps is traced, so chunks of any length share one program. A step that meets a
    non-finite gradient or measure, or an energy or a loss beyond `energy_limit`, changes nothing
    but the objective's state and ends the chunk. A chunk that ends in parameters that are not
    finite is not healthy either.
    """
    per_epoch = order.rows.size // recipe.rows_a_step
    mask = trainable(state.energy)
    arrays, static = eqx.partition(state, eqx.is_array)

    def one(state: TrainingState, order: Int[Array, " rows"]) -> tuple[TrainingState, Any]:
        key = jax.random.fold_in(state.key, state.step)
        first = (state.step % per_epoch) * recipe.rows_a_step
        at = lax.dynamic_slice_in_dim(order, first, recipe.rows_a_step)
        batch = unpack(jax.tree.map(lambda leaf: leaf[at], rows))
        if recipe.augment is not None:
            key, key_augment = jax.random.split(key)
            batch = jax.vmap(recipe.augment)(batch, jax.random.split(key_augment, at.size))
        result = _gradient(objective, recipe, state.energy, batch, state.objective, key)
        norm = _norm(result.gradient)
        gradient = result.gradient
        if recipe.clip is not None:
            shorter = recipe.clip / jnp.maximum(norm, recipe.clip)
            gradient = jax.tree.map(lambda g: g * shorter.astype(g.dtype), gradient)
        parameters, rest = eqx.partition(state.energy, mask)
        # optax itself mixes dtypes: a decay rate to the power of an integer count.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, optimizer_state = optimizer.update(gradient, state.optimizer, parameters)
        updates = jax.tree.map(lambda u: u * state.scale.astype(u.dtype), updates)
        parameters = optax.apply_updates(parameters, updates)
        energy: Any = eqx.combine(parameters, rest)
        measures = {**result.measures, "gradient_norm": norm}
        new = TrainingState(
            energy,
            optimizer_state,
            result.state,
            state.key,
            state.step + 1,
            state.scale,
            state.calm,
            _averaged(recipe.ema, state.average, parameters, state.step),
        )
        return new, Seen(measures, result.gradient, result.chain_energies)

    like = jax.eval_shape(lambda a: one(eqx.combine(a, static), order.rows)[1], arrays)
    watch = Watch.none(like.measures, like.gradient)
    mixing = None if like.chain_energies is None else Mixing.none(like.chain_energies)
    limits = jnp.where(
        jnp.asarray([is_limited(name) for name in watch.names]), energy_limit, jnp.inf
    )

    def steps(order: Int[Array, " rows"], until: Array, carry: Any) -> Any:
        def proceed(carry):
            *_, i, healthy = carry
            return (i < until) & healthy

        def body(carry):
            arrays, (watch, mixing), i, _ = carry
            new, seen = one(eqx.combine(arrays, static), order)
            vector = watch.vector(seen.measures)
            healthy = jnp.all(jnp.isfinite(vector) & (jnp.abs(vector) <= limits))
            new_arrays = eqx.filter(new, eqx.is_array)
            kept = jax.tree.map(lambda a, b: jnp.where(healthy, a, b), new_arrays, arrays)
            # A buffer is written to where it lies: kept too, all of it would be copied.
            arrays = eqx.tree_at(
                lambda s: s.objective, kept, new_arrays.objective, is_leaf=lambda node: node is None
            )
            watch = watch.after(vector, seen.gradient, healthy)
            if mixing is not None:
                mixing = mixing.after(seen.chain_energies, i, n_steps, healthy)
            return arrays, (watch, mixing), i + 1, healthy

        return lax.while_loop(proceed, body, carry)

    def proceed(carry):
        *_, i, healthy = carry[1]
        return (i < n_steps) & healthy

    def epoch(carry):
        order, (arrays, sums, i, healthy) = carry
        step = eqx.combine(arrays, static).step
        order = order.of(step // per_epoch, key_order)
        until = jnp.minimum(n_steps, i + per_epoch - step % per_epoch)
        return order, steps(order.rows, until, (arrays, sums, i, healthy))

    start = (arrays, (watch, mixing), jnp.zeros((), jnp.int32), jnp.asarray(True))
    order, (arrays, sums, _, healthy) = lax.while_loop(proceed, epoch, (order, start))
    watch, mixing = sums
    end = eqx.combine(arrays, static)
    # A last step may leave parameters that only the next gradient would show to be infinite.
    norm = _norm(eqx.filter(end.energy, mask))
    healthy = healthy & jnp.isfinite(norm)
    spread = spread_of_chains(objective.chains(end.objective), sample)
    mixed = {} if mixing is None else mixing.measures(n_steps)
    return Chunk(end, order, watch, healthy, norm, spread, mixed)


def _gradient(
    objective: AbstractObjective,
    recipe: Recipe,
    energy: AbstractEnergy,
    batch: State,
    state: Any,
    key: Key[Array, ""],
) -> Step:
    """The gradient on all rows of a step: on each batch in turn, if there are several. Of chains,
    the energies are those after the last batch."""
    if recipe.accumulate == 1:
        return objective.gradient(energy, batch, state, key=key)
    n, size = recipe.accumulate, recipe.batch_size
    batches = jax.tree.map(lambda leaf: leaf.reshape(n, size, *leaf.shape[1:]), batch)
    arrays, static = eqx.partition(state, eqx.is_array)
    zeros = jax.tree.map(jnp.zeros_like, eqx.filter(energy, trainable(energy)))

    def body(carry: Any, given: Any) -> Any:
        (arrays, total), (batch, i) = carry, given
        state = eqx.combine(arrays, static)
        step = objective.gradient(energy, batch, state, key=jax.random.fold_in(key, i))
        total = jax.tree.map(lambda t, g: t + g / n, total, step.gradient)
        return (eqx.filter(step.state, eqx.is_array), total), (step.measures, step.chain_energies)

    (arrays, gradient), told = lax.scan(body, (arrays, zeros), (batches, jnp.arange(n)))
    measures, energies = told
    return Step(
        gradient,
        eqx.combine(arrays, static),
        jax.tree.map(jnp.mean, measures),
        None if energies is None else energies[-1],
    )


def _averaged(ema: float | None, average: Any, parameters: Any, step: Int[Array, ""]) -> Any:
    """The moving average with one step more: it keeps less of itself while there are few."""
    if ema is None:
        return average
    done = step.astype(float_dtype())
    keep = jnp.minimum(ema, (1 + done) / (10 + done))
    return jax.tree.map(lambda a, p: a + (1 - keep).astype(a.dtype) * (p - a), average, parameters)


def _norm(tree: Any) -> Float[Array, ""]:
    """The Euclidean norm of all numbers in a tree."""
    squares = [sum_of_squares(leaf) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(jnp.sum(jnp.stack(squares)))


def is_limited(name: str) -> bool:
    """Whether a measure is one whose size says that training explodes: an energy, a loss."""
    return name.startswith(("energy_", "loss_")) or name in ("loss", "conditional_loss")
