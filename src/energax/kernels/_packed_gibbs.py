"""Gibbs sampling of Ising lattices, 32 chains in the bits of a word."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt32

from energax.energies import AbstractEnergy, Ising
from energax.energies.graphs import Lattice
from energax.kernels._base import AbstractEnsembleKernel, AbstractKernelState, Info
from energax.kernels._bit_sliced import count, equal, toss
from energax.kernels._graph_models import graph_model
from energax.kernels._packing import Packing


class PackedState(AbstractKernelState):
    """The spins of all chains, one a bit."""

    words: tuple[UInt32[Array, "..."], UInt32[Array, "..."]]
    """Of the two colours of the checkerboard, shape (words, rows / 2, *rest)."""
    packing: Packing

    def __init__(self, words: tuple[Array, Array], packing: Packing):
        self.words, self.packing = words, packing

    @property
    def x(self) -> Float[Array, "chains ..."]:
        """The spins unpacked."""
        return self.packing.unpack(self.words)


class PackedGibbs(AbstractEnsembleKernel):
    """Gibbs sampling of an Ising lattice with one coupling and one field, 32 spins at a time.

    A step draws every spin once given its neighbours, one colour of a checkerboard after the
    other, as `BlockGibbs` does. But a spin is a bit: words hold a site of 32 chains (or of 32
    strips of one lattice, where chains are few), neighbours are counted by bitwise adders, and
    the random decisions are bitwise too. Every chain has random bits of its own.

    A spin's probability is met to 2^-48, apart from the rounding of exp. The decisions of two
    chains are independent but for once in 2^32, when both depend on the 17th binary digit of
    their random number: the digits from there on are shared by the chains of a word.

    Made for the keys of `ex.key`. With JAX's own keys it is right as well, and about ten times
    slower: nearly all of its work is random bits.

    ```python
    import energax as ex

    ising = ex.Ising((8, 8), coupling=0.4)
    draws = ex.sample(ising, 64, key=ex.key(0), kernel=ex.PackedGibbs(), chains=32, warmup=10)
    ```

    Source: multi-spin coding: L. Jacobs and C. Rebbi, "Multi-spin coding: a very efficient
    technique for Monte Carlo simulations of spin systems" (1981).
    """

    is_exact: ClassVar[bool] = True

    def check(self, energy: AbstractEnergy) -> None:
        model = graph_model(energy)
        if not (isinstance(model, Ising) and isinstance(model.graph, Lattice)):
            raise ValueError(
                f"PackedGibbs needs an Ising model on a lattice, got {type(energy).__name__}: use"
                " ex.BlockGibbs()"
            )
        if not model.graph.is_even:
            raise ValueError(
                "PackedGibbs needs a checkerboard (an even first axis, and every periodic axis"
                f" even), got the shape {model.graph.shape}: use ex.BlockGibbs()"
            )
        for name in ("coupling", "field"):
            shape = getattr(model, name).shape
            if shape != ():
                raise ValueError(
                    f"PackedGibbs needs one {name} for the whole lattice, a number, got an array"
                    f" of shape {shape}: use ex.BlockGibbs()"
                )

    def init(
        self, energy: AbstractEnergy, x: Float[Array, "chains ..."], key: Key[Array, ""]
    ) -> PackedState:
        self.check(energy)
        lattice = _ising(energy).graph
        assert isinstance(lattice, Lattice)
        packing = Packing(lattice, len(x))
        return PackedState(packing.pack(x), packing)

    def step(
        self, energy: AbstractEnergy, state: PackedState, key: Key[Array, ""]
    ) -> tuple[PackedState, Info]:
        model, packing, words = _ising(energy), state.packing, list(state.words)
        for colour, key_colour in enumerate(jax.random.split(key, 2)):
            words[colour] = _drawn(model, packing, words[1 - colour], colour, key_colour)
        new = PackedState((words[0], words[1]), packing)
        value = self.energy_at(energy, new)
        return new, Info(jnp.ones_like(value), value)

    def refresh(self, energy: AbstractEnergy, state: PackedState) -> PackedState:
        return state


def _drawn(
    model: Ising, packing: Packing, other: Array, colour: int, key: Key[Array, ""]
) -> UInt32[Array, "..."]:
    """The spins of one colour given those of the other."""
    up, missing = packing.neighbours(other, colour), packing.missing(colour)
    n = len(up)
    if missing:  # a neighbour that is not there counts half: neither up nor down
        digits, counts = count([missing, up]), jnp.arange(2 * n + 1)
    else:
        digits, counts = count([up]), 2 * jnp.arange(n + 1)
    masks = [equal(digits, i) for i in range(len(counts))]
    field = model.coupling * (counts - n).astype(model.coupling.dtype) + model.field
    against = toss(key, masks, jax.nn.sigmoid(-2 * jnp.abs(field)))
    none = jnp.zeros_like(against)
    for mask, positive in zip(masks, field > 0, strict=True):
        against = against ^ jnp.where(positive, mask, none)
    return against


def _ising(energy: AbstractEnergy) -> Ising:
    model = graph_model(energy)
    assert isinstance(model, Ising)
    return model
