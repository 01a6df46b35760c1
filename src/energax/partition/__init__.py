"""log Z: exact when it can be, estimated when it cannot, and what follows from it."""

from energax.partition._anneal import Annealed as Annealed
from energax.partition._anneal import anneal as anneal
from energax.partition._annealed import log_partition_annealed as log_partition_annealed
from energax.partition._annealed import log_partition_reverse as log_partition_reverse
from energax.partition._bases import base_rates as base_rates
from energax.partition._bases import default_base as default_base
from energax.partition._bracket import log_partition_bracketed as log_partition_bracketed
from energax.partition._estimate import LogPartition as LogPartition
from energax.partition._evaluation import Evaluation as Evaluation
from energax.partition._evaluation import evaluate as evaluate
from energax.partition._from_temperatures import log_partition_bridge as log_partition_bridge
from energax.partition._from_temperatures import log_partition_mbar as log_partition_mbar
from energax.partition._from_temperatures import (
    log_partition_thermodynamic as log_partition_thermodynamic,
)
from energax.partition._held_out import LogLikelihood as LogLikelihood
from energax.partition._held_out import LogProbabilities as LogProbabilities
from energax.partition._held_out import energies_of as energies_of
from energax.partition._held_out import log_likelihood as log_likelihood
from energax.partition._held_out import log_prob as log_prob
from energax.partition._likelihood_ratio import LikelihoodRatio as LikelihoodRatio
from energax.partition._likelihood_ratio import likelihood_ratio as likelihood_ratio
from energax.partition._log_partition import AFFORDABLE as AFFORDABLE
from energax.partition._log_partition import exact_method as exact_method
from energax.partition._log_partition import log_partition as log_partition
from energax.partition._sequential import adaptive_ladder as adaptive_ladder
from energax.partition._sequential import log_partition_smc as log_partition_smc
from energax.partition._tempered import TemperedRun as TemperedRun
from energax.partition._tempered import tempered_run as tempered_run
