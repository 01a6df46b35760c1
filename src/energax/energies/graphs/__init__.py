"""Models on lattices and graphs."""

from energax.energies.graphs._annealed import AnnealedGraph as AnnealedGraph
from energax.energies.graphs._conditioned_gaussian_mrf import (
    ConditionedGaussianMRF as ConditionedGaussianMRF,
)
from energax.energies.graphs._factor_graph import FactorGraph as FactorGraph
from energax.energies.graphs._factors import Factor as Factor
from energax.energies.graphs._gaussian_mrf import GaussianMRF as GaussianMRF
from energax.energies.graphs._graph import Graph as Graph
from energax.energies.graphs._ising import Ising as Ising
from energax.energies.graphs._lattice import Lattice as Lattice
from energax.energies.graphs._potts import Potts as Potts
