"""Boltzmann machines."""

from energax.energies.machines._annealed import AnnealedRBM as AnnealedRBM
from energax.energies.machines._rbm import RBM as RBM
from energax.energies.machines._rbm import ConditionedRBM as ConditionedRBM
from energax.energies.machines._rbm import JointRBM as JointRBM
