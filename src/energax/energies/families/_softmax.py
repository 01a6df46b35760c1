"""Independent categorical entries."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Bool, Float, Int, Key

from energax.energies._base import AbstractNormalised, AbstractSitewise
from energax.energies._parameters import finite_array, one_state
from energax.energies.algebra._conditioned import merged
from energax.energies.algebra._rules import CONDITION, POWER, PRODUCT
from energax.energies.algebra._shifted import Shifted
from energax.random import categorical
from energax.spaces import Categorical, Clamped, Numbers, float_dtype


class Softmax(AbstractNormalised, AbstractSitewise):
    """The categorical distribution: p(x = k) = exp(l_k) / sum_j exp(l_j), entry by entry.

    **Arguments:**

    - `logits`: l, shape `(*shape, n_states)`; a state has shape `shape`.
    """

    logits: Float[Array, "*shape states"]

    def __init__(self, logits: Numbers):
        self.logits = finite_array(logits, "logits")
        if self.logits.ndim == 0:
            raise ValueError("logits needs a last axis over the states, got a single number")

    @classmethod
    def from_data(cls, data: Any, space: Categorical, *, pseudo_count: float = 0.5) -> "Softmax":
        """The base-rate model: each entry's own share of every label in rows of data.

        `pseudo_count` of each label are added, so that no share is 0.

        **Raises:** `ValueError` for rows that are not states of `space`, as labels or one-hot.
        """
        if not pseudo_count > 0:
            raise ValueError(f"pseudo_count must be positive, got {pseudo_count}")
        rows = space.convert(data)
        labels = jnp.arange(space.n_states, dtype=rows.dtype)
        counts = jnp.stack([jnp.sum(rows == label, 0) for label in labels], -1)
        return cls(jnp.log(counts.astype(float_dtype()) + pseudo_count))

    @property
    def space(self) -> Categorical:
        return Categorical(self.logits.shape[:-1], self.logits.shape[-1])

    def energy(self, x: Int[Array, "*shape"]) -> Float[Array, ""]:
        x = one_state(x, self.logits.shape[:-1])
        log_probs = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.take_along_axis(log_probs, x[..., None], axis=-1))

    def site_changes(
        self, x: Int[Array, "*shape"], site: Int[Array, ""]
    ) -> Float[Array, " states"]:
        logits = self.logits.reshape(-1, self.logits.shape[-1])[site]
        return logits[x.reshape(-1)[site]] - logits

    def draw(self, key: Key[Array, ""]) -> Int[Array, "*shape"]:
        return categorical(key, self.logits).astype(jnp.int32)


class ConditionedSoftmax(AbstractNormalised):
    """Independent labels of which some are observed: a normalised model of the others.

    Made by `ex.condition`, which adds what the observed ones count.

    **Arguments:**

    - `softmax`: of all labels.
    - `values`: the observed labels, shape `(*shape,)`; what stands where `mask` is false is not
      looked at.
    - `mask`: where a label is observed, of the same shape.
    """

    softmax: Softmax
    values: Int[Array, "*shape"]
    mask: Bool[Array, "*shape"]

    fixed: ClassVar[tuple[str, ...]] = ("values", "mask")

    @property
    def space(self) -> Clamped:
        return Clamped(self.softmax.space, self.values, self.mask)

    def energy(self, x: Int[Array, "*shape"]) -> Float[Array, ""]:
        return _sum_of(self.softmax, x, ~self.mask)

    def draw(self, key: Key[Array, ""]) -> Int[Array, "*shape"]:
        return jnp.where(self.mask, self.values, self.softmax.draw(key))


def _sum_of(a: Softmax, x: Array, where: Array) -> Array:
    """The energy of some entries."""
    log_probs = jax.nn.log_softmax(a.logits)
    x = one_state(x, where.shape)
    each = jnp.take_along_axis(log_probs, x[..., None], axis=-1)[..., 0]
    return -jnp.sum(jnp.where(where, each, 0.0))


def _condition(a: Softmax, values: Array, mask: Array) -> Shifted:
    return Shifted(ConditionedSoftmax(a, values, mask), _sum_of(a, values, mask))


def _again(a: ConditionedSoftmax, values: Array, mask: Array) -> Shifted:
    values, mask = merged(a.values, a.mask, values, mask)
    seen = _sum_of(a.softmax, values, mask & ~a.mask)
    return Shifted(ConditionedSoftmax(a.softmax, values, mask), seen)


def _log_sum(logits: Array) -> Array:
    return jnp.sum(logsumexp(logits, axis=-1))


def _product(a: Softmax, b: Softmax) -> Shifted:
    merged = Softmax(a.logits + b.logits)
    return Shifted(merged, _log_sum(a.logits) + _log_sum(b.logits) - _log_sum(merged.logits))


def _power(a: Softmax, beta: Array) -> Shifted:
    powered = Softmax(beta * a.logits)
    return Shifted(powered, beta * _log_sum(a.logits) - _log_sum(powered.logits))


PRODUCT[Softmax, Softmax] = _product
POWER[Softmax] = _power
CONDITION[Softmax] = _condition
CONDITION[ConditionedSoftmax] = _again
