"""The Markov move for an energy of which nothing else is said."""

import jax

from energax.energies import AbstractBipartite, AbstractBlocked, AbstractEnergy, unfreeze
from energax.kernels import (
    HMC,
    AbstractKernel,
    Alternating,
    BlockGibbs,
    Gibbs,
    PackedGibbs,
    RandomWalkMetropolis,
)
from energax.spaces import AbstractSpace, Joint


def default_kernel(energy: AbstractEnergy, *, warmed_up: bool = False) -> AbstractKernel:
    """The Markov move that suits an energy best.

    | energy | kernel |
    | --- | --- |
    | two layers, such as an RBM | `BlockGibbs` |
    | a lattice of spins with one coupling | `PackedGibbs` |
    | on any other graph | `BlockGibbs` |
    | real entries, and a gradient | `HMC` |
    | entries of a few values | `Gibbs` |
    | a `Joint` of both | `Alternating`, of `Gibbs` and `RandomWalkMetropolis` |
    | the rest | `RandomWalkMetropolis` |

    **Arguments:**

    - `warmed_up`: whether chains take steps that are thrown away before any counts, in which a
      kernel finds its step size. Where they do not, as in annealing and training, or where a step
      is to be no more than one evaluation, `RandomWalkMetropolis` stands for the last four kinds,
      and `BlockGibbs` for all graphs.
    """
    model = unfreeze(energy)
    if isinstance(model, AbstractBipartite):
        return BlockGibbs()
    if isinstance(model, AbstractBlocked):
        return PackedGibbs() if warmed_up and _moves(PackedGibbs(), energy) else BlockGibbs()
    if not warmed_up:
        return RandomWalkMetropolis()
    if _moves(HMC(), energy) and has_gradient(energy):
        return HMC()
    if _moves(Gibbs(), energy):
        return Gibbs()
    if isinstance(energy.space, Joint):
        each = {name: _of_part(part) for name, part in energy.space.parts.items()}
        if _moves(Alternating(each), energy):
            return Alternating(each)
    return RandomWalkMetropolis()


def _of_part(space: AbstractSpace) -> AbstractKernel:
    """Nothing is asked of a part's conditional but its value."""
    return Gibbs() if space.is_discrete else RandomWalkMetropolis()


def _moves(kernel: AbstractKernel, energy: AbstractEnergy) -> bool:
    try:
        kernel.check(energy)
    except ValueError:
        return False
    return True


def has_gradient(energy: AbstractEnergy) -> bool:
    """Whether JAX can take the gradient: not of a `while_loop`, nor through a callback."""
    try:
        jax.eval_shape(jax.grad(energy.energy), energy.space.structure)
    except Exception:
        return False
    return True
