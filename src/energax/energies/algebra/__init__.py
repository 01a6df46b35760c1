"""New models made of old ones, with a table of rules by which structure survives."""

from energax.energies.algebra._conditioned import AbstractConditioned as AbstractConditioned
from energax.energies.algebra._conditioned import Conditioned as Conditioned
from energax.energies.algebra._conditioned import ConditionedBlocked as ConditionedBlocked
from energax.energies.algebra._conditioned import ConditionedParts as ConditionedParts
from energax.energies.algebra._conditioned import condition as condition
from energax.energies.algebra._frozen import Frozen as Frozen
from energax.energies.algebra._frozen import freeze as freeze
from energax.energies.algebra._frozen import unfreeze as unfreeze
from energax.energies.algebra._marginal import Marginal as Marginal
from energax.energies.algebra._marginal import marginal as marginal
from energax.energies.algebra._mixture import Mixture as Mixture
from energax.energies.algebra._mixture import MixtureOfEnergies as MixtureOfEnergies
from energax.energies.algebra._mixture import mixture as mixture
from energax.energies.algebra._path import AbstractPath as AbstractPath
from energax.energies.algebra._path import GeometricPath as GeometricPath
from energax.energies.algebra._path import keeps_terms as keeps_terms
from energax.energies.algebra._path import path as path
from energax.energies.algebra._product import Product as Product
from energax.energies.algebra._product import check_same_space as check_same_space
from energax.energies.algebra._product import multiply as multiply
from energax.energies.algebra._product import product as product
from energax.energies.algebra._shifted import Shifted as Shifted
from energax.energies.algebra._tempered import Tempered as Tempered
from energax.energies.algebra._tempered import temper as temper
