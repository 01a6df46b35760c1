"""The training loop: compiled chunks, a guard against divergence, checkpoints, logs."""

from energax.training._fit import fit as fit
from energax.training._fitted import Fitted as Fitted
from energax.training._json_log import JSONLog as JSONLog
from energax.training._logs import AbstractLog as AbstractLog
from energax.training._tensorboard_log import TensorBoardLog as TensorBoardLog
