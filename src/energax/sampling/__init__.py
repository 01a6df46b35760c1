"""Running kernels: chains and what came of them."""

from energax.sampling._chains import Walked as Walked
from energax.sampling._chains import run_chains as run_chains
from energax.sampling._chains import walk_chains as walk_chains
from energax.sampling._draws import Draws as Draws
from energax.sampling._sample import default_kernel as default_kernel
from energax.sampling._sample import sample as sample
from energax.sampling._sample import start_states as start_states
