"""The path of machines from a base-rate model to an RBM."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key

from energax.energies._base import AbstractBipartite
from energax.energies.algebra._path import AbstractPath
from energax.energies.algebra._rules import PATH
from energax.energies.algebra._tempered import scaled
from energax.energies.families import Bernoulli
from energax.energies.machines._rbm import RBM, draw_bits
from energax.energies.machines._softplus import log_one_minus, sum_softplus
from energax.spaces import Binary

_LOG_2 = 0.6931471805599453


class AnnealedRBM(AbstractPath, AbstractBipartite):
    """An RBM at `beta` between a base-rate model (0) and the machine itself (1):

    E(v, h) = (1 - beta) E_base(v) + beta E_rbm(v, h), h uniform at beta = 0, and h summed out
    (R. Salakhutdinov and I. Murray, "On the quantitative analysis of deep belief networks",
    2008, section 4.1).

    A state's terms hold the hidden inputs c + v W at beta = 1. Every beta shares them, so an
    annealing step takes two matrix products and not three, and no weight is ever scaled.
    """

    base: Bernoulli
    rbm: RBM
    beta: Float[Array, ""]

    fixed: ClassVar[tuple[str, ...]] = ("base", "beta")

    @property
    def space(self) -> Binary:
        return self.rbm.space

    @property
    def hidden_space(self) -> Binary:
        return self.rbm.hidden_space

    def at(self, beta: ArrayLike) -> "AnnealedRBM":
        return AnnealedRBM(
            base=self.base, rbm=self.rbm, beta=jnp.asarray(beta, self.rbm.weights.dtype)
        )

    def energy(self, x: Float[Array, " visible"]) -> Float[Array, ""]:
        return self.energy_of(self.terms(x))

    def terms(self, x: Float[Array, " visible"]) -> tuple[Array, Array, Array]:
        visible, hidden_input = self.rbm.terms(x)
        return self.base.log_prob(x), visible, hidden_input

    def energy_of(self, terms: tuple[Array, Array, Array]) -> Float[Array, ""]:
        base, visible, hidden_input = terms
        uniform = (1 - self.beta) * self.rbm.n_hidden * _LOG_2
        hidden = sum_softplus(self.beta * hidden_input) - uniform
        return -scaled(1 - self.beta, base) - self.beta * visible - hidden

    def log_increment(
        self, terms: tuple[Array, Array, Array], beta: Float[Array, ""]
    ) -> Float[Array, ""]:
        base, visible, hidden_input = terms
        step = beta - self.beta
        # softplus(beta' a) - softplus(beta a) without subtracting two large numbers. With
        # softplus(x) = max(x, 0) + softplus(-|x|) it is step max(a, 0) and a rest which, from
        # the end nearer to 0, is log(1 - p (1 - exp(-|step a|))) with p <= 1/2: never near log 0.
        size = jnp.abs(hidden_input)
        share = jax.nn.sigmoid(-jnp.minimum(beta, self.beta) * size)
        rest = log_one_minus(share, jnp.abs(step) * size)
        each = step * (jnp.maximum(hidden_input, 0.0) + _LOG_2) + jnp.sign(step) * rest
        return step * (visible - base) + jnp.sum(each)

    def hidden_mean(self, terms: tuple[Array, Array, Array]) -> Float[Array, " hidden"]:
        return jax.nn.sigmoid(self.beta * terms[2])

    def draw_hidden(self, terms: Any, key: Key[Array, ""]) -> Float[Array, " hidden"]:
        return draw_bits(self.beta * terms[2], key)

    def draw_visible(self, h: Array, key: Key[Array, ""]) -> Float[Array, " visible"]:
        target = self.rbm.visible_input(h)
        return draw_bits(self.base.logits + self.beta * (target - self.base.logits), key)

    def pack(self, v: Array, h: Array) -> Array:
        return v

    def hidden_log_density(self, h: Array) -> Float[Array, ""]:
        logits = (1 - self.beta) * self.base.logits + self.beta * self.rbm.visible_input(h)
        base = (1 - self.beta) * (sum_softplus(self.base.logits) + self.rbm.n_hidden * _LOG_2)
        return self.beta * h @ self.rbm.hidden_bias + sum_softplus(logits) - base


def _from_base_rates(base: Bernoulli, target: RBM, beta: Array) -> AnnealedRBM:
    return AnnealedRBM(base=base, rbm=target, beta=beta)


PATH[Bernoulli, RBM] = _from_base_rates
