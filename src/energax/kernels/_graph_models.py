"""The Ising or Potts model inside an energy."""

from energax.energies import AbstractEnergy, Ising, Potts, unfreeze
from energax.energies.algebra import temper
from energax.energies.families import Uniform
from energax.energies.graphs import AnnealedGraph


def graph_model(energy: AbstractEnergy) -> Ising | Potts | None:
    """The model on a graph that an energy is (frozen, or on its way from the uniform
    distribution), or `None`."""
    model = unfreeze(energy)
    if isinstance(model, AnnealedGraph) and isinstance(model.base, Uniform):
        return graph_model(temper(model.target, model.beta))
    return model if isinstance(model, Ising | Potts) else None
