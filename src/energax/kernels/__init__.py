"""Markov moves: one file a move."""

from energax.kernels._base import AbstractKernel as AbstractKernel
from energax.kernels._base import AbstractKernelState as AbstractKernelState
from energax.kernels._base import Info as Info
from energax.kernels._block_gibbs import BlockGibbs as BlockGibbs
from energax.kernels._metropolis import MetropolisHastings as MetropolisHastings
from energax.kernels._metropolis import RandomWalkMetropolis as RandomWalkMetropolis
