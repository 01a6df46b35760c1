"""Energies given by networks or any other callable."""

from energax.energies.networks._neural import NeuralEnergy as NeuralEnergy
