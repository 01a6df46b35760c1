"""The Bernoulli restricted Boltzmann machine."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from energax.energies._base import AbstractBipartite, AbstractCentrable, AbstractSitewise
from energax.energies._parameters import finite_array
from energax.energies.algebra._conditioned import merged
from energax.energies.algebra._rules import CONDITION, POWER, PRODUCT
from energax.energies.families import Bernoulli
from energax.energies.machines._softplus import sum_softplus
from energax.random import as_count, as_key, bernoulli
from energax.spaces import Binary, Clamped, Joint, Numbers


class RBM(AbstractCentrable, AbstractSitewise):
    """The energy of the visible units of a Bernoulli RBM, its free energy:

    E(v) = -b . v - sum_j log(1 + exp(c_j + (v W)_j))

    which is what is left of E(v, h) = -b . v - c . h - v W h when h in {0, 1} is summed out
    (P. Smolensky, 1986). `rbm.joint` is the energy of both layers.

    **Arguments:**

    - `weights`: W, shape (visible, hidden).
    - `visible_bias`: b, shape (visible,).
    - `hidden_bias`: c, shape (hidden,).

    **Raises:** `ValueError` if shapes do not fit or a number is not finite.

    ```python
    import energax as ex

    rbm = ex.RBM.init(ex.key(0), n_visible=784, n_hidden=500)
    ```
    """

    weights: Float[Array, "visible hidden"]
    visible_bias: Float[Array, " visible"]
    hidden_bias: Float[Array, " hidden"]

    def __init__(self, weights: Numbers, visible_bias: Numbers, hidden_bias: Numbers):
        self.weights = finite_array(weights, "weights")
        if self.weights.ndim != 2:
            raise ValueError(f"weights must have shape (visible, hidden), got {self.weights.shape}")
        n_visible, n_hidden = self.weights.shape
        dtype = self.weights.dtype
        self.visible_bias = finite_array(
            visible_bias, "visible_bias", shape=(n_visible,), dtype=dtype
        )
        self.hidden_bias = finite_array(hidden_bias, "hidden_bias", shape=(n_hidden,), dtype=dtype)

    @classmethod
    def init(
        cls,
        key: Key[Array, ""],
        *,
        n_visible: int,
        n_hidden: int,
        scale: float = 0.01,
        base: Bernoulli | None = None,
    ) -> "RBM":
        """A machine to start training from: small normal weights, no hidden bias.

        **Arguments:**

        - `scale`: the weights' standard deviation (G. Hinton, "A practical guide to training
          restricted Boltzmann machines", 2010, section 8).
        - `base`: the base rates of the data, `ex.Bernoulli.from_data(rows)`; its log-odds become
          the visible biases. Zero if `None`.

        **Raises:** `ValueError` for sizes that are no positive integers, a key that is none, or a
        base of another size.
        """
        n_visible, n_hidden = as_count(n_visible, "n_visible"), as_count(n_hidden, "n_hidden")
        visible_bias = jnp.zeros((n_visible,)) if base is None else base.logits.reshape(-1)
        return cls(
            scale * jax.random.normal(as_key(key), (n_visible, n_hidden)),
            visible_bias,
            jnp.zeros((n_hidden,)),
        )

    @property
    def n_visible(self) -> int:
        """How many visible units."""
        return self.weights.shape[0]

    @property
    def n_hidden(self) -> int:
        """How many hidden units."""
        return self.weights.shape[1]

    @property
    def space(self) -> Binary:
        return Binary(self.visible_bias.shape)

    @property
    def hidden_space(self) -> Binary:
        return Binary(self.hidden_bias.shape)

    @property
    def joint(self) -> "JointRBM":
        """The energy of visible and hidden units together."""
        return JointRBM(self)

    def hidden_input(self, v: Float[Array, " visible"]) -> Float[Array, " hidden"]:
        """c + v W: the log-odds of each hidden unit given v."""
        return v @ self.weights + self.hidden_bias

    def visible_input(self, h: Float[Array, " hidden"]) -> Float[Array, " visible"]:
        """b + W h: the log-odds of each visible unit given h."""
        return h @ self.weights.T + self.visible_bias

    def energy(self, x: Float[Array, " visible"]) -> Float[Array, ""]:
        return self.energy_of(self.terms(x))

    def terms(self, x: Float[Array, " visible"]) -> tuple[Array, Array]:
        return x @ self.visible_bias, self.hidden_input(x)

    def energy_of(self, terms: tuple[Array, Array]) -> Float[Array, ""]:
        visible, hidden_input = terms
        return -visible - sum_softplus(hidden_input)

    def hidden_mean(self, terms: tuple[Array, Array]) -> Float[Array, " hidden"]:
        return jax.nn.sigmoid(terms[1])

    def draw_hidden(
        self, terms: tuple[Array, Array], key: Key[Array, ""]
    ) -> Float[Array, " hidden"]:
        return draw_bits(terms[1], key)

    def draw_visible(
        self, h: Float[Array, " hidden"], key: Key[Array, ""]
    ) -> Float[Array, " visible"]:
        return draw_bits(self.visible_input(h), key)

    def pack(self, v: Float[Array, " visible"], h: Float[Array, " hidden"]) -> Array:
        return v

    def hidden_log_density(self, h: Float[Array, " hidden"]) -> Float[Array, ""]:
        return h @ self.hidden_bias + sum_softplus(self.visible_input(h))

    def site_changes(self, x: Float[Array, " visible"], site: Int[Array, ""]) -> Float[Array, "2"]:
        # One row of the weights more or less in every hidden unit's input.
        step = 1 - 2 * x[site]
        before = self.hidden_input(x)
        after = sum_softplus(before + step * self.weights[site])
        change = sum_softplus(before) - after - step * self.visible_bias[site]
        values = jnp.arange(2, dtype=change.dtype)
        return jnp.where(values == x[site], 0.0, change)

    @property
    def floats_a_site(self) -> int:
        return self.n_hidden

    def offsets(self, batch: Float[Array, "rows visible"]) -> tuple[Array, Array]:
        hidden = jax.nn.sigmoid(jax.vmap(self.hidden_input)(batch))
        return jnp.mean(batch, 0), jnp.mean(hidden, 0)

    def centred(self, gradient: "RBM", offsets: tuple[Array, Array]) -> "RBM":
        visible, hidden = offsets
        weights = (
            gradient.weights
            - jnp.outer(gradient.visible_bias, hidden)
            - jnp.outer(visible, gradient.hidden_bias)
        )
        return RBM(
            weights,
            gradient.visible_bias - weights @ hidden,
            gradient.hidden_bias - visible @ weights,
        )


class JointRBM(AbstractBipartite):
    """E(v, h) = -b . v - c . h - v W h, over {"hidden": h, "visible": v}."""

    rbm: RBM

    @property
    def space(self) -> Joint:
        return Joint(hidden=self.rbm.hidden_space, visible=self.rbm.space)

    @property
    def hidden_space(self) -> Binary:
        return self.rbm.hidden_space

    def energy(self, x: dict[str, Array]) -> Float[Array, ""]:
        return self.energy_of(self.terms(x))

    def terms(self, x: dict[str, Array]) -> tuple[Array, Array, Array]:
        return *self.rbm.terms(x["visible"]), x["hidden"]

    def energy_of(self, terms: tuple[Array, Array, Array]) -> Float[Array, ""]:
        visible, hidden_input, h = terms
        return -visible - hidden_input @ h

    def hidden_mean(self, terms: tuple[Array, Array, Array]) -> Float[Array, " hidden"]:
        return self.rbm.hidden_mean(terms[:2])

    def draw_hidden(self, terms: Any, key: Key[Array, ""]) -> Float[Array, " hidden"]:
        return self.rbm.draw_hidden(terms[:2], key)

    def draw_visible(self, h: Array, key: Key[Array, ""]) -> Float[Array, " visible"]:
        return self.rbm.draw_visible(h, key)

    def pack(self, v: Array, h: Array) -> dict[str, Array]:
        return {"hidden": h, "visible": v}

    def hidden_log_density(self, h: Array) -> Float[Array, ""]:
        return self.rbm.hidden_log_density(h)


class ConditionedRBM(AbstractBipartite, AbstractSitewise):
    """An RBM some of whose visible units are observed: still sampled in two products."""

    rbm: RBM
    values: Float[Array, " visible"]
    mask: Bool[Array, " visible"]

    fixed: ClassVar[tuple[str, ...]] = ("values", "mask")

    @property
    def space(self) -> Clamped:
        return Clamped(self.rbm.space, self.values, self.mask)

    @property
    def hidden_space(self) -> Binary:
        return self.rbm.hidden_space

    def energy(self, x: Float[Array, " visible"]) -> Float[Array, ""]:
        return self.energy_of(self.terms(x))

    def terms(self, x: Float[Array, " visible"]) -> tuple[Array, Array]:
        return self.rbm.terms(self.space.clamp(x))

    def energy_of(self, terms: tuple[Array, Array]) -> Float[Array, ""]:
        return self.rbm.energy_of(terms)

    def hidden_mean(self, terms: tuple[Array, Array]) -> Float[Array, " hidden"]:
        return self.rbm.hidden_mean(terms)

    def draw_hidden(
        self, terms: tuple[Array, Array], key: Key[Array, ""]
    ) -> Float[Array, " hidden"]:
        return self.rbm.draw_hidden(terms, key)

    def draw_visible(self, h: Array, key: Key[Array, ""]) -> Float[Array, " visible"]:
        return self.space.clamp(self.rbm.draw_visible(h, key))

    def pack(self, v: Array, h: Array) -> Array:
        return v

    def site_changes(self, x: Float[Array, " visible"], site: Int[Array, ""]) -> Float[Array, "2"]:
        return self.rbm.site_changes(self.space.clamp(x), site)

    @property
    def floats_a_site(self) -> int:
        return self.rbm.n_hidden

    def hidden_log_density(self, h: Array) -> Float[Array, ""]:
        total = self.rbm.visible_input(h)
        seen = jnp.sum(jnp.where(self.mask, self.values * total, 0.0))
        unseen = sum_softplus(jnp.where(self.mask, -jnp.inf, total))
        return h @ self.rbm.hidden_bias + seen + unseen


def draw_bits(log_odds: Array, key: Key[Array, ""]) -> Array:
    """Independent 0/1 entries with these log-odds, as floats."""
    return bernoulli(key, jax.nn.sigmoid(log_odds)).astype(log_odds.dtype)


def _product(a: RBM, b: RBM) -> RBM:
    # Each machine is a product of experts, one a hidden unit: together they have all of them.
    return RBM(
        jnp.concatenate([a.weights, b.weights], axis=1),
        a.visible_bias + b.visible_bias,
        jnp.concatenate([a.hidden_bias, b.hidden_bias]),
    )


def _again(a: ConditionedRBM, values: Array, mask: Array) -> ConditionedRBM:
    return ConditionedRBM(a.rbm, *merged(a.values, a.mask, values, mask))


def _joint_power(a: JointRBM, beta: Array) -> JointRBM:
    rbm = a.rbm
    return JointRBM(RBM(beta * rbm.weights, beta * rbm.visible_bias, beta * rbm.hidden_bias))


PRODUCT[RBM, RBM] = _product
POWER[JointRBM] = _joint_power
CONDITION[RBM] = ConditionedRBM
CONDITION[ConditionedRBM] = _again
