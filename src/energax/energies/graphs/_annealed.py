"""The path of graph models from independent sites to a target."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Key

from energax.energies._base import AbstractBlocked, AbstractTractable
from energax.energies.algebra import AbstractPath, ConditionedBlocked, temper
from energax.energies.algebra._rules import PATH
from energax.energies.algebra._tempered import scaled
from energax.energies.families import ConditionedSoftmax, Softmax, Uniform
from energax.energies.graphs._factor_graph import FactorGraph
from energax.energies.graphs._ising import Ising
from energax.energies.graphs._potts import Potts
from energax.spaces import AbstractSpace, State


class AnnealedGraph(AbstractPath, AbstractBlocked):
    """A model on a graph at `beta` between independent sites (0) and the model itself (1):

    E_beta = (1 - beta) E_base + beta E_target

    At every beta it is a model on the same graph, and swept as one.
    """

    base: AbstractTractable
    target: AbstractBlocked
    beta: Float[Array, ""]

    fixed: ClassVar[tuple[str, ...]] = ("base", "beta")

    @property
    def space(self) -> AbstractSpace:
        return self.target.space

    def at(self, beta: ArrayLike) -> "AnnealedGraph":
        return AnnealedGraph(
            base=self.base, target=self.target, beta=jnp.asarray(beta, self.beta.dtype)
        )

    def energy(self, x: State) -> Float[Array, ""]:
        return self.energy_of(self.terms(x))

    def terms(self, x: State) -> tuple[Array, Array]:
        return self.base.energy(x), self.target.energy(x)

    def energy_of(self, terms: tuple[Array, Array]) -> Float[Array, ""]:
        base, target = terms
        return scaled(1 - self.beta, base) + scaled(self.beta, target)

    def log_increment(self, terms: tuple[Array, Array], beta: Float[Array, ""]) -> Float[Array, ""]:
        base, target = terms
        return scaled(beta - self.beta, base - target)

    def sweep(self, x: State, key: Key[Array, ""], held: Bool[Array, "..."] | None = None) -> State:
        base, target = self.base, self.target
        if isinstance(target, ConditionedBlocked):
            x = target.space.clamp(x)
            held = target.mask if held is None else target.mask | held
            target = target.inner
        base = base.softmax if isinstance(base, ConditionedSoftmax) else base
        model = temper(target, self.beta)
        if isinstance(model, FactorGraph) and isinstance(base, Softmax):
            field = (self.beta - 1) * jax.nn.log_softmax(base.logits)
            return model.sweep_with(field, x, key, held)
        if isinstance(base, Softmax):
            assert isinstance(model, Potts)
            field = jnp.broadcast_to(model.field, base.logits.shape)
            field = field + (1 - self.beta) * base.logits
            model = Potts(model.graph, model.n_states, model.coupling, field)
        assert isinstance(model, AbstractBlocked)
        return model.sweep(x, key, held)


def _path(base: Any, target: Any, beta: Array) -> AnnealedGraph:
    return AnnealedGraph(base=base, target=target, beta=beta)


def _path_to_factors(base: Any, target: FactorGraph, beta: Array) -> AnnealedGraph | None:
    # A base that has values which a variable of the target lacks is not swept by its factors.
    return None if target.sizes is not None else _path(base, target, beta)


def _path_to_conditioned(
    base: Any, target: ConditionedBlocked, beta: Array
) -> AnnealedGraph | None:
    inner = target.inner
    if isinstance(inner, FactorGraph):
        return None if inner.sizes is not None else _path(base, target, beta)
    if isinstance(base, ConditionedSoftmax):
        return _path(base, target, beta) if isinstance(inner, Potts) else None
    # A power of some blocked models, such as a path, is not blocked: it is not swept at every beta.
    return _path(base, target, beta) if isinstance(temper(inner, 0.5), AbstractBlocked) else None


PATH[Uniform, Ising] = _path
PATH[Uniform, Potts] = _path
PATH[Softmax, Potts] = _path
PATH[Uniform, FactorGraph] = _path_to_factors
PATH[Softmax, FactorGraph] = _path_to_factors
PATH[Uniform, ConditionedBlocked] = _path_to_conditioned
PATH[ConditionedSoftmax, ConditionedBlocked] = _path_to_conditioned
