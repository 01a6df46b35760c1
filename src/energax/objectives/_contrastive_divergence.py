"""Contrastive divergence: chains that start at the data."""

from typing import Any

import jax
from jax import lax
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels import AbstractKernel, start_chains, step_chains
from energax.objectives._base import AbstractObjective, Step, contrast, count_field
from energax.objectives._centring import centre, check_centring, first_offsets
from energax.sampling import default_kernel
from energax.spaces import State


class ContrastiveDivergence(AbstractObjective):
    """CD-k: the model's states are the batch itself after `n_steps` steps of the kernel.

    Cheap, and biased: it sees the model only near the data, so likelihood stays behind that of
    persistent chains, by more the fewer the steps.

    **Arguments:**

    - `n_steps`: k.
    - `kernel`: the chains' moves; the energy's default if `None`.
    - `centred`: take an RBM's gradient about the units' running means.

    Source: G. Hinton, "Training products of experts by minimizing contrastive divergence"
    (2002).
    """

    n_steps: int = count_field("n_steps", 1)
    kernel: AbstractKernel | None = None
    centred: bool = False

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> Any:
        check_moves(energy, self.kernel)
        return first_offsets(energy, rows) if self.centred else None

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        check_centring(energy, self.centred)
        return AbstractObjective.prepare(self, energy, data)

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        kernel = default_kernel(energy) if self.kernel is None else self.kernel
        key_init, key_walk = jax.random.split(key)
        chains = start_chains(energy, kernel, batch, key_init)
        chains, acceptance = advance(energy, kernel, chains, self.n_steps, key_walk)
        gradient, measures = contrast(energy, batch, chains.x)
        gradient, offsets = centre(energy, gradient, batch, state)
        return Step(gradient, offsets, {**measures, "acceptance": acceptance})


def advance(
    energy: AbstractEnergy, kernel: AbstractKernel, chains: Any, n_steps: int, key: Key[Array, ""]
) -> tuple[Any, Float[Array, ""]]:
    """`n_steps` steps of every chain; the last one stands outside the loop.

    There the compiler sees that the gradient needs the very products which the last step has
    just made for the chains' new states, and makes them once.
    """

    def key_of(i: Any) -> Key[Array, ""]:
        return jax.random.fold_in(key, i)

    if n_steps > 1:

        def body(i: Array, chains: Any) -> Any:
            return step_chains(energy, kernel, chains, key_of(i))[0]

        chains = lax.fori_loop(0, n_steps - 1, body, chains)
    chains, info = step_chains(energy, kernel, chains, key_of(n_steps - 1))
    return chains, info.acceptance.mean()


def check_moves(energy: AbstractEnergy, kernel: AbstractKernel | None) -> None:
    """Raise `ValueError` if the kernel cannot move on the energy."""
    (default_kernel(energy) if kernel is None else kernel).check(energy)
