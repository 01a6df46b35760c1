"""Markov moves: one file a move."""

from energax.kernels._base import AbstractEnsembleKernel as AbstractEnsembleKernel
from energax.kernels._base import AbstractKernel as AbstractKernel
from energax.kernels._base import AbstractKernelState as AbstractKernelState
from energax.kernels._base import AbstractTermsState as AbstractTermsState
from energax.kernels._base import AbstractTunableKernel as AbstractTunableKernel
from energax.kernels._base import Info as Info
from energax.kernels._block_gibbs import BlockGibbs as BlockGibbs
from energax.kernels._chains import n_chains_of as n_chains_of
from energax.kernels._chains import refresh_chains as refresh_chains
from energax.kernels._chains import retemper_chains as retemper_chains
from energax.kernels._chains import start_chains as start_chains
from energax.kernels._chains import step_chains as step_chains
from energax.kernels._chains import terms_of as terms_of
from energax.kernels._chains import tune_chains as tune_chains
from energax.kernels._metropolis import MetropolisHastings as MetropolisHastings
from energax.kernels._metropolis import RandomWalkMetropolis as RandomWalkMetropolis
