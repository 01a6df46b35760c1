"""Where chains start that are to find every mode."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.sampling import has_gradient
from energax.spaces import Real, State
from energax.spaces._base import size_of

_SCALES = (1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0)
"""Standard deviations of the places from which modes are sought."""

_ENTRIES, _FEWEST, _MOST = 1 << 17, 128, 8192
"""So many places as have this many entries together, but at least and at most so many."""

_DESCENTS = 100
"""Steps downhill from each."""

_TIMES = 3
"""How often each of the most unlike ends is taken: one chain alone in its mode is hardly seen."""


@eqx.filter_jit
def dispersed_starts(energy: AbstractEnergy, key: Key[Array, ""], n: int) -> State:
    """`n` states from which chains lead to the modes there are.

    Draws of the space; where its entries are real and the energy has a gradient, the ends of
    descents from thousands of places (near and far: 8,192 in up to 16 dimensions). The first half
    are chosen so that each is as far as can be from those before, three times each: a mode that
    one descent in a thousand leads to is among them. One that none leads to is not.
    """
    space = energy.space
    if not isinstance(space, Real) or not has_gradient(energy):
        return jax.vmap(space.draw)(jax.random.split(key, n))
    size = max(size_of(space.shape), 1)
    n_places = max(n, min(_MOST, max(_FEWEST, _ENTRIES // size)))
    key_draw, key_pick = jax.random.split(key)
    near = jax.vmap(space.draw)(jax.random.split(key_draw, n_places))
    scale = jnp.asarray(_SCALES, near.dtype)[jnp.arange(n_places) % len(_SCALES)]
    far = near * scale.reshape(-1, *[1] * (near.ndim - 1))
    ends, level = _descended(energy, far)
    rows = ends.reshape(n_places, -1)
    # Ends still high up a slope, or nowhere, are no modes.
    level = jnp.where(jnp.isfinite(level), level, jnp.inf)
    low = level <= jnp.nanquantile(jnp.where(jnp.isinf(level), jnp.nan, level), 0.9)
    unlike = jnp.repeat(_unlike(rows, low, max(2, n // 6)), _TIMES)[: n // 2]
    anyhow = jax.random.choice(key_pick, n_places, (n - len(unlike),), p=low.astype(rows.dtype))
    picked = jnp.concatenate([unlike, anyhow])
    # Where no descent came to a finite energy, the space's own draws are as good as any.
    return jnp.where(jnp.any(low), ends[picked], near[:n])


def _descended(
    energy: AbstractEnergy, x: Float[Array, "places ..."]
) -> tuple[Float[Array, "places ..."], Float[Array, " places"]]:
    """Downhill along the gradient, each with a step of its own that grows while it leads down."""
    look = jax.vmap(jax.value_and_grad(energy.energy))

    def step(_, carry):
        x, level, slope, size = carry
        wide = size.reshape(-1, *[1] * (x.ndim - 1))
        there = x - wide * slope
        found, steeper = look(there)
        down = found < level
        chosen = down.reshape(wide.shape)
        return (
            jnp.where(chosen, there, x),
            jnp.where(down, found, level),
            jnp.where(chosen, steeper, slope),
            jnp.where(down, 2 * size, size / 4),
        )

    level, slope = look(x)
    norm = jnp.sqrt(jnp.sum(slope.reshape(len(x), -1) ** 2, 1))
    size = 0.1 / jnp.maximum(norm, 1e-6)
    x, level, *_ = lax.fori_loop(0, _DESCENTS, step, (x, level, slope, size))
    return x, level


def _unlike(rows: Float[Array, "places entries"], among: Array, n: int) -> Array:
    """Indices of `n` rows, each the farthest from all before it."""

    def step(nearest, _):
        index = jnp.argmax(jnp.where(among, nearest, -1.0))
        away = jnp.sum((rows - rows[index][None]) ** 2, 1)
        return jnp.minimum(nearest, away), index

    first = jnp.full((len(rows),), jnp.inf, rows.dtype)
    return lax.scan(step, first, length=n)[1]
