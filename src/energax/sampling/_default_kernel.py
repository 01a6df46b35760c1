"""The Markov move for an energy of which nothing else is said."""

from energax.energies import AbstractBipartite, AbstractBlocked, AbstractEnergy, unfreeze
from energax.kernels import AbstractKernel, BlockGibbs, RandomWalkMetropolis


def default_kernel(energy: AbstractEnergy) -> AbstractKernel:
    """The Markov move that suits an energy best."""
    if isinstance(unfreeze(energy), AbstractBipartite | AbstractBlocked):
        return BlockGibbs()
    return RandomWalkMetropolis()
