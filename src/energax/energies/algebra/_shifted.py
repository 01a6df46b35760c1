"""A tractable energy plus a constant."""

from typing import Any, ClassVar

from jaxtyping import Array, Float, Key

from energax.energies._base import AbstractTractable
from energax.spaces import AbstractSpace, State


class Shifted(AbstractTractable):
    """E(x) + constant: the same distribution, with log Z lower by the constant.

    This is how a product of Gaussians stays a Gaussian and still has the log Z of the product.
    """

    inner: AbstractTractable
    constant: Float[Array, ""]

    fixed: ClassVar[tuple[str, ...]] = ("constant",)

    @property
    def space(self) -> AbstractSpace:
        return self.inner.space

    def energy(self, x: State) -> Float[Array, ""]:
        return self.inner.energy(x) + self.constant

    def terms(self, x: State) -> Any:
        return self.inner.terms(x)

    def energy_of(self, terms: Any) -> Float[Array, ""]:
        return self.inner.energy_of(terms) + self.constant

    def log_normaliser(self) -> Float[Array, ""]:
        return self.inner.log_normaliser() - self.constant

    def draw(self, key: Key[Array, ""]) -> State:
        return self.inner.draw(key)
