"""Energies given by networks or any other callable."""

from energax.energies.networks._attention import AttentionBlock as AttentionBlock
from energax.energies.networks._attention import AttentionNetwork as AttentionNetwork
from energax.energies.networks._dense import DenseNetwork as DenseNetwork
from energax.energies.networks._mixed_precision import MixedPrecision as MixedPrecision
from energax.energies.networks._neural import NeuralEnergy as NeuralEnergy
from energax.energies.networks._noise_conditional import NoiseConditional as NoiseConditional
from energax.energies.networks._residual import ResidualBlock as ResidualBlock
from energax.energies.networks._residual import ResidualNetwork as ResidualNetwork
