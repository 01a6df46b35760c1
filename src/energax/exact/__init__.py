"""Exact answers for small models: log Z, probabilities, expectations, draws."""

from energax.energies._summing import pairwise_sum as pairwise_sum
from energax.exact._enumeration import all_states as all_states
from energax.exact._enumeration import draw_enumerated as draw_enumerated
from energax.exact._enumeration import expectation as expectation
from energax.exact._enumeration import log_partition_enumerated as log_partition_enumerated
from energax.exact._enumeration import n_enumerated as n_enumerated
from energax.exact._enumeration import probabilities as probabilities
from energax.exact._quadrature import log_partition_on_grid as log_partition_on_grid
