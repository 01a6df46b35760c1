"""Steps of training as one compiled program, with the guard inside."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from energax.energies import AbstractEnergy, trainable
from energax.objectives import AbstractObjective
from energax.spaces import AbstractSpace, Binary, Spin, State, float_dtype

_SLICES, _SUMMED_AS_ONE = 28, 1024


class TrainingState(eqx.Module):
    """All that training carries from step to step; a checkpoint is this and nothing less."""

    energy: AbstractEnergy
    optimizer: Any
    objective: Any
    key: Key[Array, ""]
    """Never used up: the key of step i is `fold_in(key, i)`."""
    step: Int[Array, ""]


class Chunk(eqx.Module):
    """Where a chunk of steps ended."""

    state: TrainingState
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
def epoch_order(key: Key[Array, ""], epoch: Array, *, n_rows: int) -> Int[Array, " rows"]:
    """The order of the rows in an epoch: a function of the key and the epoch alone."""
    return jax.random.permutation(jax.random.fold_in(key, epoch), n_rows)


@eqx.filter_jit
def run_chunk(
    state: TrainingState,
    objective: AbstractObjective,
    optimizer: optax.GradientTransformation,
    rows: State,
    order: Int[Array, " rows"],
    first: Array,
    n_steps: Array,
    energy_limit: Array,
    *,
    batch_size: int,
) -> Chunk:
    """`n_steps` steps, the i-th on the batch that starts at row `first + i batch_size` of `order`.

    The number of steps is traced, so chunks of any length share one program. A step that meets a
    non-finite gradient or measure, or an energy or a loss beyond `energy_limit`, changes nothing
    and ends the chunk. A chunk that ends in parameters that are not finite is not healthy either.
    """
    mask = trainable(state.energy)
    arrays, static = eqx.partition(state, eqx.is_array)

    def one(state: TrainingState, i: Array) -> tuple[TrainingState, dict[str, Array], Array]:
        key = jax.random.fold_in(state.key, state.step)
        at = lax.dynamic_slice_in_dim(order, first + i * batch_size, batch_size)
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

    shapes = jax.eval_shape(
        lambda a: one(eqx.combine(a, static), jnp.zeros((), jnp.int32))[1], arrays
    )
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def proceed(carry):
        _, _, _, i, healthy = carry
        return (i < n_steps) & healthy

    def body(carry):
        arrays, totals, _, i, _ = carry
        new, measures, healthy = one(eqx.combine(arrays, static), i)
        new_arrays = eqx.filter(new, eqx.is_array)
        arrays = jax.tree.map(lambda a, b: jnp.where(healthy, a, b), new_arrays, arrays)
        totals = jax.tree.map(lambda t, m: t + jnp.where(healthy, m, 0), totals, measures)
        return arrays, totals, measures, i + 1, healthy

    start = (arrays, zeros, zeros, jnp.zeros((), jnp.int32), jnp.asarray(True))
    arrays, totals, last, _, healthy = lax.while_loop(proceed, body, start)
    end = eqx.combine(arrays, static)
    # A last step may leave parameters that only the next gradient would show to be infinite.
    norm = _norm(eqx.filter(end.energy, mask))
    return Chunk(end, totals, healthy & jnp.isfinite(norm), {**last, "parameters": norm})


def _norm(tree: Any) -> Float[Array, ""]:
    """The Euclidean norm of all numbers in a tree."""
    squares = [_sum(jnp.ravel(leaf * leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.sqrt(jnp.sum(jnp.stack(squares)))


def _sum(x: Float[Array, " n"]) -> Float[Array, ""]:
    """The sum of many numbers, slices of them added to one another first.

    XLA on a CPU adds a large array to one number an entry at a time: for the gradient of
    784 x 500 weights that took a tenth of the whole CD-1 update. Whole slices it adds as vectors.
    """
    while x.size > _SUMMED_AS_ONE:
        length = x.size // _SLICES
        parts = [x[i * length : (i + 1) * length] for i in range(_SLICES)]
        x = jnp.concatenate([sum(parts[1:], parts[0]), x[_SLICES * length :]])
    return jnp.sum(x)


def is_limited(name: str) -> bool:
    """Whether a measure is one whose size says that training explodes: an energy, a loss."""
    return name.startswith("energy_") or name == "loss"
