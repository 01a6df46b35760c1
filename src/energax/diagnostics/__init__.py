"""Arrays in, numbers out: have chains mixed, have weights collapsed."""

from energax.diagnostics._convergence import Convergence as Convergence
from energax.diagnostics._convergence import chance_rhat as chance_rhat
from energax.diagnostics._convergence import convergence as convergence
from energax.diagnostics._convergence import mean_and_error as mean_and_error
from energax.diagnostics._tail import pareto_k as pareto_k
from energax.diagnostics._weights import WeightedMean as WeightedMean
from energax.diagnostics._weights import check_level as check_level
from energax.diagnostics._weights import log_mean_weight as log_mean_weight
