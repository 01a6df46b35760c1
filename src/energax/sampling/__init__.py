"""Running kernels: chains, draws, what is kept of them, the choice of a kernel."""

from energax.sampling._annealed_langevin import annealed_langevin as annealed_langevin
from energax.sampling._chains import Run as Run
from energax.sampling._chains import run_chains as run_chains
from energax.sampling._collect import AbstractCollector as AbstractCollector
from energax.sampling._coupling_from_the_past import (
    coupling_from_the_past as coupling_from_the_past,
)
from energax.sampling._default_kernel import default_kernel as default_kernel
from energax.sampling._default_kernel import has_gradient as has_gradient
from energax.sampling._diffused import Diffused as Diffused
from energax.sampling._draws import Draws as Draws
from energax.sampling._histogram import Binned as Binned
from energax.sampling._histogram import Histogram as Histogram
from energax.sampling._last import Last as Last
from energax.sampling._mean import Averages as Averages
from energax.sampling._mean import Mean as Mean
from energax.sampling._reverse_diffusion import reverse_diffusion as reverse_diffusion
from energax.sampling._sample import sample as sample
from energax.sampling._sample import start_states as start_states
from energax.sampling._simulated_annealing import Cooled as Cooled
from energax.sampling._simulated_annealing import simulated_annealing as simulated_annealing
from energax.sampling._unbiased import Unbiased as Unbiased
from energax.sampling._unbiased import unbiased as unbiased
from energax.sampling._walk import Walked as Walked
from energax.sampling._walk import walk_chains as walk_chains
