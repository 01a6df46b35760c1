"""Exact answers for small models: log Z, probabilities, expectations, draws."""

from energax.energies._summing import pairwise_sum as pairwise_sum
from energax.energies._summing import sum_of_squares as sum_of_squares
from energax.exact._answers import Mode as Mode
from energax.exact._answers import draw_eliminated as draw_eliminated
from energax.exact._answers import marginals as marginals
from energax.exact._answers import mode_eliminated as mode_eliminated
from energax.exact._cubature import Quadrature as Quadrature
from energax.exact._cubature import log_partition_quadrature as log_partition_quadrature
from energax.exact._elimination import affordable_plan as affordable_plan
from energax.exact._elimination import elimination_plan as elimination_plan
from energax.exact._elimination import log_partition_eliminated as log_partition_eliminated
from energax.exact._enumeration import all_states as all_states
from energax.exact._enumeration import draw_enumerated as draw_enumerated
from energax.exact._enumeration import expectation as expectation
from energax.exact._enumeration import log_partition_enumerated as log_partition_enumerated
from energax.exact._enumeration import n_enumerated as n_enumerated
from energax.exact._enumeration import probabilities as probabilities
from energax.exact._order import Plan as Plan
from energax.exact._quadrature import log_partition_on_grid as log_partition_on_grid
