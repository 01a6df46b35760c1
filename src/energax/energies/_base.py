"""The interface of every energy: one state in, one scalar out."""

import abc
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from energax.spaces import AbstractSpace, Joint, State


class AbstractEnergy(eqx.Module):
    """A model p(x) = exp(-E(x)) / Z over the states of `space`.

    A subclass writes `energy` for *one* state; everything else is derived. Batching is
    `jax.vmap`'s job. `+inf` is a legal energy (p = 0); NaN and `-inf` are failures.

    ```python
    import energax as ex
    import jax.numpy as jnp

    class Quartic(ex.AbstractEnergy):
        space: ex.Real = ex.Real()

        def energy(self, x):
            return x**4

    Quartic().score(jnp.array(1.5))
    ```
    """

    if TYPE_CHECKING:  # a field in some energies, derived in others: type checkers see the latter

        @property
        def space(self) -> AbstractSpace: ...
    else:
        space: eqx.AbstractVar[AbstractSpace]

    fixed: ClassVar[tuple[str, ...]] = ()
    """Names of fields that hold numbers but are never trained: a temperature, observed values."""

    @abc.abstractmethod
    def energy(self, x: State) -> Float[Array, ""]:
        """E(x) of one unbatched state."""

    def log_density(self, x: State) -> Float[Array, ""]:
        """-E(x): the logarithm of p(x) up to the constant log Z."""
        return -self.energy(x)

    def score(self, x: State) -> State:
        """The gradient of log p in x. Z does not enter.

        **Raises:** `ValueError` on a space with discrete coordinates, which has no gradient.
        """
        if _has_discrete(self.space):
            raise ValueError(f"score needs a continuous space, got {self.space}")
        return jax.grad(self.log_density)(x)

    def log_ratio(self, x: State, y: State) -> Float[Array, ""]:
        """log p(x) - log p(y) = E(y) - E(x). Z cancels."""
        return self.energy(y) - self.energy(x)

    def terms(self, x: State) -> Any:
        """What a kernel keeps of x so that E at another `beta` costs no new evaluation.

        By default the energy itself. An energy with a `beta` (tempered, annealed) keeps what
        does not depend on it, and `energy_of` finishes the sum.
        """
        return self.energy(x)

    def energy_of(self, terms: Any) -> Float[Array, ""]:
        """E(x) from `terms(x)`."""
        return terms

    def __mul__(self, other: "AbstractEnergy") -> "AbstractEnergy":
        """The product of densities: energies add. Structure is kept where a rule knows it."""
        from energax.energies.algebra import multiply

        return multiply(self, other) if isinstance(other, AbstractEnergy) else NotImplemented

    def __pow__(self, beta: ArrayLike) -> "AbstractEnergy":
        """The density to a power, an inverse temperature: E becomes beta E."""
        from energax.energies.algebra import temper

        return temper(self, beta)


class AbstractTractable(AbstractEnergy):
    """An energy whose Z is known in closed form and whose states are drawn directly."""

    @abc.abstractmethod
    def log_normaliser(self) -> Float[Array, ""]:
        """log Z, exactly."""

    @abc.abstractmethod
    def draw(self, key: Key[Array, ""]) -> State:
        """One exact, independent draw."""


class AbstractNormalised(AbstractTractable):
    """A tractable energy with Z = 1, so that -E is the log-probability itself."""

    def log_prob(self, x: State) -> Float[Array, ""]:
        """log p(x): nats for a discrete state, log density for a continuous one."""
        return -self.energy(x)

    def log_normaliser(self) -> Float[Array, ""]:
        return jnp.zeros(())


class AbstractBipartite(AbstractEnergy):
    """An energy over visible units v whose hidden units h are summed out in closed form.

    Given h the visible units are independent, and the other way round: two matrix products a
    sweep. `terms(v)` holds the hidden units' inputs, so that nothing is multiplied twice.
    """

    @property
    @abc.abstractmethod
    def hidden_space(self) -> AbstractSpace:
        """The space of h."""

    @abc.abstractmethod
    def hidden_mean(self, terms: Any) -> Float[Array, " hidden"]:
        """E[h | v] from `terms(v)`."""

    @abc.abstractmethod
    def draw_hidden(self, terms: Any, key: Key[Array, ""]) -> Float[Array, " hidden"]:
        """h ~ p(h | v) from `terms(v)`."""

    @abc.abstractmethod
    def draw_visible(self, h: Array, key: Key[Array, ""]) -> State:
        """v ~ p(v | h)."""

    @abc.abstractmethod
    def pack(self, v: Array, h: Array) -> State:
        """The energy's own state from both layers: v alone, or v and h for a joint energy."""

    @abc.abstractmethod
    def hidden_log_density(self, h: Array) -> Float[Array, ""]:
        """log of the sum over v of exp(-E(v, h)): the marginal of h, unnormalised."""


class AbstractBlocked(AbstractEnergy):
    """An energy that redraws all its entries in blocks that are independent given the rest."""

    @abc.abstractmethod
    def sweep(self, x: State, key: Key[Array, ""], held: Bool[Array, "..."] | None = None) -> State:
        """Every entry of x drawn once from its distribution given all others.

        **Arguments:**

        - `held`: entries that are true in it stay as they are in x.
        """


class AbstractSitewise(AbstractEnergy):
    """An energy that knows what a change of one entry adds to it for less than an evaluation.

    What it is for: pseudo-likelihood, ratio matching and minimum probability flow, which look at
    every such change.
    """

    @abc.abstractmethod
    def site_changes(self, x: State, site: Int[Array, ""]) -> Float[Array, " values"]:
        """E with one entry at each of its values, in their order, less E(x).

        What does not depend on `site` is computed once where this is batched over sites.

        **Arguments:**

        - `site`: the entry's number in C order.
        """

    @property
    def floats_a_site(self) -> int:
        """About how many numbers `site_changes` holds for one entry, beside what all share."""
        return 2


class AbstractCentrable(AbstractBipartite):
    """A bipartite energy whose gradient can be taken about the units' means.

    Centring removes the drift of the biases from the gradient of the weights, which makes
    training several times faster (J. Melchior, A. Fischer and L. Wiskott, 2016).
    """

    @abc.abstractmethod
    def offsets(self, batch: State) -> Any:
        """The means of all units over a batch of data, hidden ones at their expectation."""

    @abc.abstractmethod
    def centred(self, gradient: Any, offsets: Any) -> Any:
        """The gradient of the parameters of the centred energy, in this one's parameters."""


def _has_discrete(space: AbstractSpace) -> bool:
    if isinstance(space, Joint):
        return any(_has_discrete(part) for part in space.parts.values())
    return space.is_discrete
