"""Energies in closed form, normalised: known Z, exact draws."""

from energax.energies.families._bernoulli import Bernoulli as Bernoulli
from energax.energies.families._exponential import Exponential as Exponential
from energax.energies.families._exponential_family import ExponentialFamily as ExponentialFamily
from energax.energies.families._gaussian import Gaussian as Gaussian
from energax.energies.families._gaussian import MultivariateGaussian as MultivariateGaussian
from energax.energies.families._poisson import Poisson as Poisson
from energax.energies.families._softmax import ConditionedSoftmax as ConditionedSoftmax
from energax.energies.families._softmax import Softmax as Softmax
from energax.energies.families._uniform import Uniform as Uniform
