"""Reading data, preparing it, saving and loading models."""

from energax.io._dataset import Dataset as Dataset
from energax.io._file import is_model_file as is_model_file
from energax.io._model import load as load
from energax.io._model import read_metadata as read_metadata
from energax.io._model import save as save
from energax.io._prepare import Scaling as Scaling
from energax.io._prepare import binarise as binarise
from energax.io._prepare import scale as scale
from energax.io._prepare import split as split
from energax.io._prepare import standardise as standardise
from energax.io._prepare import to_grey as to_grey
from energax.io._read import read as read
from energax.io._registry import register as register
from energax.io._stream import Stream as Stream
from energax.io._stream import stream as stream
from energax.io._tree import read_tree as read_tree
from energax.io._tree import write_tree as write_tree
