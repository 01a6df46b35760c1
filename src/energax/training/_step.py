"""Steps of training as one compiled program, with the guard inside."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from energax.energies import AbstractEnergy, trainable
from energax.exact import pairwise_sum
from energax.objectives import AbstractObjective
from energax.spaces import AbstractSpace, Binary, Spin, State, float_dtype


class TrainingState(eqx.Module):
    """All that training carries from step to step; a checkpoint is this and nothing less."""

    energy: AbstractEnergy
    optimizer: Any
    objective: Any
    key: Key[Array, ""]
    """Never used up: the key of step i is `fold_in(key, i)`."""
    step: Int[Array, ""]


class Order(eqx.Module):
    """The order of the rows in an epoch: a function of a key and the epoch alone."""

    rows: Int[Array, " rows"]
    epoch: Int[Array, ""]

    @classmethod
    def unknown(cls, n_rows: int) -> "Order":
        """Of no epoch yet."""
        return cls(jnp.zeros((n_rows,), jnp.int32), jnp.asarray(-1, jnp.int32))

    def of(self, epoch: Int[Array, ""], key: Key[Array, ""]) -> "Order":
        """The order in `epoch`: this one if it is, else made anew."""

        def anew() -> Int[Array, " rows"]:
            rows = jax.random.permutation(jax.random.fold_in(key, epoch), self.rows.size)
            return rows.astype(jnp.int32)

        return Order(lax.cond(epoch == self.epoch, lambda: self.rows, anew), epoch)


class Chunk(eqx.Module):
    """Where a chunk of steps ended."""

    state: TrainingState
    order: Order
    """That of the last epoch, for the next chunk to go on with."""
    totals: dict[str, Float[Array, ""]]
    """Measures summed over the chunk's healthy steps."""
    healthy: Bool[Array, ""]
    """False if a number that is not finite or an exploding energy was met."""
    last: dict[str, Float[Array, ""]]
    """The measures of the last step tried, and the norm of the parameters."""


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
    rows: State,
    order: Order,
    key_order: Key[Array, ""],
    n_steps: Array,
    energy_limit: Array,
    *,
    batch_size: int,
) -> Chunk:
    """`n_steps` steps, from epoch to epoch, each epoch's rows in an order of their own.

    The number of steps is traced, so chunks of any length share one program. A step that meets a
    non-finite gradient or measure, or an energy or a loss beyond `energy_limit`, changes nothing
    and ends the chunk. A chunk that ends in parameters that are not finite is not healthy either.
    """
    per_epoch = order.rows.size // batch_size
    mask = trainable(state.energy)
    arrays, static = eqx.partition(state, eqx.is_array)

    def one(
        state: TrainingState, order: Int[Array, " rows"]
    ) -> tuple[TrainingState, dict[str, Array], Array]:
        key = jax.random.fold_in(state.key, state.step)
        first = (state.step % per_epoch) * batch_size
        at = lax.dynamic_slice_in_dim(order, first, batch_size)
        batch = unpack(jax.tree.map(lambda leaf: leaf[at], rows))
        result = objective.gradient(state.energy, batch, state.objective, key=key)
        parameters, rest = eqx.partition(state.energy, mask)
        # optax itself mixes dtypes: a decay rate to the power of an integer count.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            updates, optimizer_state = optimizer.update(
                result.gradient, state.optimizer, parameters
            )
        energy: Any = eqx.combine(optax.apply_updates(parameters, updates), rest)
        norm = _norm(result.gradient)
        measures = {**result.measures, "gradient_norm": norm}
        finite = jnp.all(jnp.stack([jnp.isfinite(value) for value in measures.values()]))
        sizes = [jnp.abs(v) for name, v in measures.items() if is_limited(name)]
        bounded = jnp.all(jnp.stack([*sizes, jnp.zeros_like(norm)]) <= energy_limit)
        new = TrainingState(energy, optimizer_state, result.state, state.key, state.step + 1)
        return new, measures, finite & bounded

    shapes = jax.eval_shape(lambda a: one(eqx.combine(a, static), order.rows)[1], arrays)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def steps(order: Int[Array, " rows"], until: Array, carry: Any) -> Any:
        def proceed(carry):
            *_, i, healthy = carry
            return (i < until) & healthy

        def body(carry):
            arrays, totals, _, i, _ = carry
            new, measures, healthy = one(eqx.combine(arrays, static), order)
            new_arrays = eqx.filter(new, eqx.is_array)
            arrays = jax.tree.map(lambda a, b: jnp.where(healthy, a, b), new_arrays, arrays)
            totals = jax.tree.map(lambda t, m: t + jnp.where(healthy, m, 0), totals, measures)
            return arrays, totals, measures, i + 1, healthy

        return lax.while_loop(proceed, body, carry)

    def proceed(carry):
        *_, i, healthy = carry[1]
        return (i < n_steps) & healthy

    def epoch(carry):
        order, (arrays, totals, last, i, healthy) = carry
        step = eqx.combine(arrays, static).step
        order = order.of(step // per_epoch, key_order)
        until = jnp.minimum(n_steps, i + per_epoch - step % per_epoch)
        return order, steps(order.rows, until, (arrays, totals, last, i, healthy))

    start = (arrays, zeros, zeros, jnp.zeros((), jnp.int32), jnp.asarray(True))
    order, (arrays, totals, last, _, healthy) = lax.while_loop(proceed, epoch, (order, start))
    end = eqx.combine(arrays, static)
    # A last step may leave parameters that only the next gradient would show to be infinite.
    norm = _norm(eqx.filter(end.energy, mask))
    healthy = healthy & jnp.isfinite(norm)
    return Chunk(end, order, totals, healthy, {**last, "parameters": norm})


def _norm(tree: Any) -> Float[Array, ""]:
    """The Euclidean norm of all numbers in a tree."""
    squares = [pairwise_sum(jnp.ravel(leaf * leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(jnp.sum(jnp.stack(squares)))


def is_limited(name: str) -> bool:
    """Whether a measure is one whose size says that training explodes: an energy, a loss."""
    return name.startswith("energy_") or name == "loss"
