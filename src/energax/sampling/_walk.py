"""Steps of many chains, of which nothing is kept but where they got to."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.kernels import AbstractKernel, energies_of, walk


class Walked(eqx.Module):
    """Where chains got to."""

    states: Any
    """The kernel's states, one a chain."""
    acceptance: Float[Array, " chains"]
    """The mean acceptance of each chain's steps."""
    energy: Float[Array, " chains"]
    """E of each chain's last state."""


def walk_chains(
    energy: AbstractEnergy, kernel: AbstractKernel, states: Any, n_steps: Any, key: Key[Array, ""]
) -> Walked:
    """`n_steps` steps of every chain.

    `n_steps` may be traced: another number of steps compiles nothing.
    """
    states, acceptance = walk(energy, kernel, states, n_steps, key)
    return Walked(states, acceptance, energies_of(energy, kernel, states))
