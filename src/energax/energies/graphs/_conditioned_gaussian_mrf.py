"""Gaussian fields of which some entries are observed: interpolation with its uncertainty."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from energax.energies._base import AbstractBlocked, AbstractTractable
from energax.energies._parameters import is_traced
from energax.energies.algebra import temper
from energax.energies.algebra._conditioned import AbstractConditioned, merged
from energax.energies.algebra._rules import CONDITION, POWER
from energax.energies.graphs._gaussian_mrf import GaussianMRF
from energax.energies.graphs._precision import (
    Factor,
    backward,
    check_band,
    factor,
    forward,
    known_factor,
    known_solution,
    log_determinant,
    narrow_order,
    without_lost_digits,
)
from energax.random import normal

_LOG_2PI = math.log(2 * math.pi)


class ConditionedGaussianMRF(AbstractConditioned, AbstractTractable, AbstractBlocked):
    """A `GaussianMRF` of which some entries are observed: a normal field of the others, with exact
    log Z, draws and mean.

    Given x_o the free entries have the precision Q_ff and the mean m_f - Q_ff^-1 Q_fo (x_o - m_o):
    in the language of geostatistics, simple kriging. Made by `ex.condition`.

    ```python
    import energax as ex
    import numpy as np

    values, seen = np.zeros((16, 16)), np.zeros((16, 16), bool)
    values[3, 4], seen[3, 4] = 2.0, True
    field = ex.condition(ex.GaussianMRF((16, 16), mass=0.1), values, seen)
    field.mean[3, 5]
    ```

    Source: H. Rue and L. Held, "Gaussian Markov random fields" (2005), theorem 2.5.
    """

    inner: GaussianMRF
    values: Float[Array, "..."]
    mask: Bool[Array, "..."]
    position: Int[Array, " nodes"]
    """Each node's place in the band that is factored."""
    width: int = eqx.field(static=True)
    """Of a block of the band."""

    fixed: ClassVar[tuple[str, ...]] = ("values", "mask")

    def __check_init__(self):
        if not self._is_traced:
            graph = self.inner.graph
            edges, position = np.asarray(graph.edges), np.asarray(self.position)
            check_band(edges, position, self.width, graph.n_nodes)

    @property
    def _is_traced(self) -> bool:
        return is_traced(*jax.tree.leaves(self))

    @property
    def mean(self) -> Float[Array, "..."]:
        """The exact mean: observed entries at their values, the others at their expectation."""
        if not self._is_traced:
            apart, _ = self._known_solution()
            shift = jnp.asarray(apart.reshape(self.mask.shape), self.inner.mass.dtype)
            return jnp.where(self.mask, self.values, self.inner.mean + shift)
        with jax.default_matmul_precision("highest"):
            return self._mean(self._factor())

    def log_normaliser(self) -> Float[Array, ""]:
        n_free = jnp.sum(~self.mask)
        dtype = self.inner.mass.dtype
        if not self._is_traced:
            apart, log_det = self._known_solution()
            off, mass, _ = self.inner._known_entries()
            i, j = np.asarray(self.inner.graph.edges).T
            energy = 0.5 * (mass @ apart**2 - off @ (apart[i] - apart[j]) ** 2)
            known = 0.5 * (int(np.sum(~np.asarray(self.mask))) * _LOG_2PI - log_det) - energy
            return jnp.asarray(known, dtype)
        with jax.default_matmul_precision("highest"):
            made = self._factor()
            free = 0.5 * (n_free.astype(dtype) * _LOG_2PI - log_determinant(made))
            return free - self.inner.energy(self._mean(made))

    def draw(self, key: Key[Array, ""]) -> Float[Array, "..."]:
        # What is observed has a block of its own in the factor, the identity's.
        with jax.default_matmul_precision("highest"):
            made = self._factor()
            z = normal(key, made.diagonal.shape[:2], made.diagonal.dtype)
            noise = backward(made, z, self.position).reshape(self.mask.shape)
            return jnp.where(self.mask, self.values, self._mean(made) + noise)

    def sweep(
        self,
        x: Num[Array, "..."],
        key: Key[Array, ""],
        held: Bool[Array, "..."] | None = None,
    ) -> Float[Array, "..."]:
        mask = self.mask if held is None else self.mask | held
        return self.inner.sweep(self.space.clamp(x), key, mask)

    def _known_entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of Q_ff, with the identity where x is observed: edges, beside the diagonal, on it."""
        off, _, diagonal = self.inner._known_entries()
        edges, held = np.asarray(self.inner.graph.edges), np.asarray(self.mask).reshape(-1)
        return edges, np.where(held[edges].any(1), 0.0, off), np.where(held, 1.0, diagonal)

    def _known_solution(self) -> tuple[np.ndarray, float]:
        """The mean's distance from that of the whole field, flat, and log det Q_ff."""
        edges, off, diagonal = self._known_entries()
        all_off, _, all_diagonal = self.inner._known_entries()
        held = np.asarray(self.mask).reshape(-1)
        mean = np.broadcast_to(np.asarray(self.inner.mean, float), self.mask.shape).reshape(-1)
        seen = np.where(held, np.asarray(self.values, float).reshape(-1) - mean, 0.0)
        i, j = edges.T
        pull = all_diagonal * seen
        pull += np.bincount(i, all_off * seen[j], len(held))
        pull += np.bincount(j, all_off * seen[i], len(held))
        right = np.where(held, 0.0, -pull)
        position = np.asarray(self.position)
        solved, log_det = known_solution(edges, position, self.width, off, diagonal, right)
        return seen + solved, log_det

    def _factor(self) -> Factor:
        position = self.position
        if not self._is_traced:
            edges, off, diagonal = self._known_entries()
            made = known_factor(edges, np.asarray(position), self.width, off, diagonal)
            return jax.tree.map(lambda a: jnp.asarray(a, self.inner.mass.dtype), made)
        edges, off, diagonal = self.inner._entries()
        held = self.mask.reshape(-1)
        off = jnp.where(held[edges[:, 0]] | held[edges[:, 1]], 0.0, off)
        diagonal = jnp.where(held, 1.0, diagonal)
        made = factor(edges, position, self.width, off, diagonal)
        return without_lost_digits(made, position, diagonal)

    def _mean(self, made: Factor) -> Array:
        seen = jnp.where(self.mask, self.values - self.inner.mean, 0.0)
        right = jnp.where(self.mask, 0.0, -self.inner._times(seen)).reshape(-1)
        solved = backward(made, forward(made, right, self.position), self.position)
        shift = solved.reshape(self.mask.shape)
        return jnp.where(self.mask, self.values, self.inner.mean + shift)


def _condition(a: GaussianMRF, values: Array, mask: Array) -> ConditionedGaussianMRF:
    position, width = a.position, a.width
    if position is None:  # where transforms do it, which know no observed entries
        order, width = narrow_order(np.asarray(a.graph.edges), a.graph.n_nodes)
        position = jnp.asarray(order)
    return ConditionedGaussianMRF(a, values, mask, position, width)


def _again(a: ConditionedGaussianMRF, values: Array, mask: Array) -> ConditionedGaussianMRF:
    both = merged(a.values, a.mask, values, mask)
    return ConditionedGaussianMRF(a.inner, *both, a.position, a.width)


def _power(a: ConditionedGaussianMRF, beta: Array) -> ConditionedGaussianMRF | None:
    inner = temper(a.inner, beta)
    if not isinstance(inner, GaussianMRF):
        return None  # flat: no Gaussian
    return ConditionedGaussianMRF(inner, a.values, a.mask, a.position, a.width)


CONDITION[GaussianMRF] = _condition
CONDITION[ConditionedGaussianMRF] = _again
POWER[ConditionedGaussianMRF] = _power
