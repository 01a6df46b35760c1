"""Classic test densities: two wells, a ring, a banana, a funnel, and what is exact about them."""

from energax.energies.densities._banana import Banana as Banana
from energax.energies.densities._double_well import DoubleWell as DoubleWell
from energax.energies.densities._funnel import Funnel as Funnel
from energax.energies.densities._gaussian_mixture import GaussianMixture as GaussianMixture
from energax.energies.densities._mueller_brown import MuellerBrown as MuellerBrown
from energax.energies.densities._ring import Ring as Ring
