"""E(x): the base, closed-form families, machines, networks, and the algebra of them."""

from energax.energies._base import AbstractBipartite as AbstractBipartite
from energax.energies._base import AbstractCentrable as AbstractCentrable
from energax.energies._base import AbstractEnergy as AbstractEnergy
from energax.energies._base import AbstractNormalised as AbstractNormalised
from energax.energies._base import AbstractTractable as AbstractTractable
from energax.energies._trainable import trainable as trainable
from energax.energies.algebra import *  # noqa: F403
from energax.energies.families import *  # noqa: F403
from energax.energies.machines import *  # noqa: F403
from energax.energies.networks import *  # noqa: F403
