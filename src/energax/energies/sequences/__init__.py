"""Energies of sequences of tokens, of different lengths by padding."""

from energax.energies.sequences._n_gram import NGramEnergy as NGramEnergy
from energax.energies.sequences._network import SequenceNetwork as SequenceNetwork
from energax.energies.sequences._unigram import UnigramSequences as UnigramSequences
