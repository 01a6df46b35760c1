"""The training loop: compiled chunks, a guard against divergence, checkpoints."""

from energax.training._fit import fit as fit
from energax.training._fitted import Fitted as Fitted
