"""Perfect simulation: chains from the infinite past that have all become one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, Key

from energax.energies import AbstractBlocked, AbstractEnergy, Ising, unfreeze
from energax.energies.algebra import ConditionedBlocked
from energax.energies.graphs import Lattice
from energax.random import LARGEST_COUNT, as_count, as_key
from energax.sampling._draws import Draws
from energax.spaces import State


def coupling_from_the_past(
    energy: AbstractEnergy,
    n: int,
    *,
    key: Key[Array, ""],
    max_sweeps: int = 1 << 16,
) -> Draws:
    """`n` exact, independent draws of an attractive Ising model: no warm-up, no convergence.

    Where no coupling is negative, Gibbs sweeps that share their randomness keep states ordered.
    So a chain that began at time -T in any state lies between the two that began with all spins
    up and all spins down; if these are one at time 0, so are all, and a chain from the infinite
    past as well. T doubles until they are, each sweep keeping its random numbers.

    **Arguments:**

    - `energy`: an `Ising` model, on any graph, with any fields; observed spins are allowed
      (`ex.condition`), and so are powers.
    - `max_sweeps`: the largest T. Below the critical temperature T grows beyond all bounds with
      the number of spins.

    **Raises:** `ValueError` for another energy or a negative coupling. `RuntimeError` if some
    draw needs more than `max_sweeps`: giving out the others would bias them.

    ```python
    import energax as ex
    from energax.sampling import coupling_from_the_past

    draws = coupling_from_the_past(ex.Ising((4, 4), 0.3), 10, key=ex.key(0))
    ```

    Source: J. Propp and D. Wilson, "Exact sampling with coupled Markov chains and applications
    to statistical mechanics" (1996).
    """
    if not isinstance(energy, AbstractEnergy):
        raise ValueError(f"expected an energy, got {type(energy).__name__}")
    model = _attractive(unfreeze(energy))
    n = as_count(n, "n")
    # Twice as many are counted.
    max_sweeps = as_count(max_sweeps, "max_sweeps", most=LARGEST_COUNT // 2)
    keys = jax.random.split(as_key(key), n)
    x, found, energies = _from_the_past(model, keys, jnp.asarray(max_sweeps, jnp.int32))
    unfinished = int(np.sum(~np.asarray(found)))
    if unfinished:
        raise RuntimeError(
            f"{unfinished} of {n} draws need to come from further back than {max_sweeps} sweeps:"
            " raise max_sweeps; below the critical temperature take a Markov chain, as ex.sample"
            " does"
        )
    x, energies = jax.tree.map(lambda leaf: leaf[None], (x, energies))
    return Draws(
        x,
        energies,
        jnp.ones((1,)),
        method="coupling from the past",
        independent=True,
        final=jax.tree.map(lambda leaf: leaf[0], x),
    )


@eqx.filter_jit
def _from_the_past(
    model: AbstractBlocked, keys: Key[Array, " n"], max_sweeps: Int[Array, ""]
) -> tuple[State, Bool[Array, " n"], Array]:
    up = model.space.clamp(jnp.ones(model.space.structure.shape, model.space.structure.dtype))
    down = model.space.clamp(-jnp.ones_like(up))

    def since(sweeps, key):
        """Where all spins up and all spins down at time -sweeps are at time 0."""

        def sweep(i, pair):
            # The sweep that ends at time -(sweeps - i - 1) has one key, however far back it began.
            key_sweep = jax.random.fold_in(key, sweeps - i)
            high, low = pair
            return model.sweep(high, key_sweep), model.sweep(low, key_sweep)

        return lax.fori_loop(0, sweeps, sweep, (up, down))

    def unfinished(carry):
        sweeps, _, found = carry
        return jnp.any(~found) & (sweeps <= max_sweeps)

    def further(carry):
        sweeps, *_ = carry
        high, low = jax.vmap(since, in_axes=(None, 0))(sweeps, keys)
        one = jnp.all((high == low).reshape(len(keys), -1), axis=1)
        # Draws found before are found again, the same.
        return 2 * sweeps, high, one

    n = keys.shape[0]
    start = jnp.broadcast_to(up, (n, *up.shape))
    carry = (jnp.ones((), jnp.int32), start, jnp.zeros((n,), bool))
    _, x, found = lax.while_loop(unfinished, further, carry)
    return x, found, jax.vmap(model.energy)(x)


def _attractive(model: AbstractEnergy) -> AbstractBlocked:
    ising = model.inner if isinstance(model, ConditionedBlocked) else model
    if not (isinstance(ising, Ising) and isinstance(model, AbstractBlocked)):
        raise ValueError(f"coupling_from_the_past needs an Ising model, got {type(model).__name__}")
    coupling = np.asarray(ising.coupling)
    graph = ising.graph
    if isinstance(graph, Lattice) and coupling.ndim > 1:
        for axis, wraps in enumerate(graph.periodic):
            if not wraps:  # entries that lead out of an open end are not looked at
                coupling = coupling.copy()
                coupling[(axis, *[slice(None)] * axis, -1)] = 0
    if (coupling < 0).any():
        raise ValueError(
            "coupling_from_the_past needs an attractive model, all couplings at least 0, got"
            f" {coupling.min():.3g}: with negative ones sweeps keep no order"
        )
    return model
