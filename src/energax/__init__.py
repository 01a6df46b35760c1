"""Energy-based models: say how plausible something is, get all a probability model can do."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _version

from energax.energies import RBM as RBM
from energax.energies import AbstractEnergy as AbstractEnergy
from energax.energies import AbstractNormalised as AbstractNormalised
from energax.energies import AbstractTractable as AbstractTractable
from energax.energies import AttentionNetwork as AttentionNetwork
from energax.energies import Banana as Banana
from energax.energies import Bernoulli as Bernoulli
from energax.energies import DenseNetwork as DenseNetwork
from energax.energies import DoubleWell as DoubleWell
from energax.energies import Exponential as Exponential
from energax.energies import ExponentialFamily as ExponentialFamily
from energax.energies import Factor as Factor
from energax.energies import FactorGraph as FactorGraph
from energax.energies import Funnel as Funnel
from energax.energies import Gaussian as Gaussian
from energax.energies import GaussianMixture as GaussianMixture
from energax.energies import GaussianMRF as GaussianMRF
from energax.energies import Graph as Graph
from energax.energies import Ising as Ising
from energax.energies import Lattice as Lattice
from energax.energies import MuellerBrown as MuellerBrown
from energax.energies import MultivariateGaussian as MultivariateGaussian
from energax.energies import NeuralEnergy as NeuralEnergy
from energax.energies import Poisson as Poisson
from energax.energies import Potts as Potts
from energax.energies import ResidualNetwork as ResidualNetwork
from energax.energies import Ring as Ring
from energax.energies import Softmax as Softmax
from energax.energies import Uniform as Uniform
from energax.energies import condition as condition
from energax.energies import freeze as freeze
from energax.energies import mixture as mixture
from energax.energies import path as path
from energax.energies import product as product
from energax.exact import log_partition_on_grid as log_partition_on_grid
from energax.exact import log_partition_quadrature as log_partition_quadrature
from energax.io import load as load
from energax.io import read as read
from energax.io import save as save
from energax.kernels import HMC as HMC
from energax.kernels import MALA as MALA
from energax.kernels import NUTS as NUTS
from energax.kernels import AbstractKernel as AbstractKernel
from energax.kernels import Alternating as Alternating
from energax.kernels import BlockGibbs as BlockGibbs
from energax.kernels import DiscreteLangevin as DiscreteLangevin
from energax.kernels import Gibbs as Gibbs
from energax.kernels import GibbsWithGradients as GibbsWithGradients
from energax.kernels import MetropolisHastings as MetropolisHastings
from energax.kernels import PackedGibbs as PackedGibbs
from energax.kernels import RandomWalkMetropolis as RandomWalkMetropolis
from energax.kernels import ReplicaExchange as ReplicaExchange
from energax.kernels import SwendsenWang as SwendsenWang
from energax.kernels import UnadjustedLangevin as UnadjustedLangevin
from energax.kernels import UnderdampedLangevin as UnderdampedLangevin
from energax.kernels import Wolff as Wolff
from energax.objectives import AbstractObjective as AbstractObjective
from energax.objectives import ContrastiveDivergence as ContrastiveDivergence
from energax.objectives import MaximumEntropy as MaximumEntropy
from energax.objectives import MaximumLikelihood as MaximumLikelihood
from energax.objectives import MonteCarloMaximumLikelihood as MonteCarloMaximumLikelihood
from energax.objectives import PersistentContrastiveDivergence as PersistentContrastiveDivergence
from energax.partition import Evaluation as Evaluation
from energax.partition import LikelihoodRatio as LikelihoodRatio
from energax.partition import LogLikelihood as LogLikelihood
from energax.partition import LogPartition as LogPartition
from energax.partition import LogProbabilities as LogProbabilities
from energax.partition import evaluate as evaluate
from energax.partition import likelihood_ratio as likelihood_ratio
from energax.partition import log_likelihood as log_likelihood
from energax.partition import log_partition as log_partition
from energax.partition import log_prob as log_prob
from energax.random import key as key
from energax.sampling import Draws as Draws
from energax.sampling import sample as sample
from energax.spaces import Binary as Binary
from energax.spaces import Box as Box
from energax.spaces import Categorical as Categorical
from energax.spaces import Count as Count
from energax.spaces import Joint as Joint
from energax.spaces import Real as Real
from energax.spaces import Spin as Spin
from energax.training import Fitted as Fitted
from energax.training import fit as fit

try:
    __version__ = _version("energax")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
