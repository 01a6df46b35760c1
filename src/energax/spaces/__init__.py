"""What x is: the set of states an energy is defined on."""

from energax.spaces._base import AbstractDiscreteSpace as AbstractDiscreteSpace
from energax.spaces._base import AbstractSpace as AbstractSpace
from energax.spaces._base import Numbers as Numbers
from energax.spaces._base import State as State
from energax.spaces._base import float_dtype as float_dtype
from energax.spaces._categorical import Categorical as Categorical
from energax.spaces._clamped import Clamped as Clamped
from energax.spaces._count import Count as Count
from energax.spaces._joint import Joint as Joint
from energax.spaces._real import Box as Box
from energax.spaces._real import Real as Real
from energax.spaces._two_valued import Binary as Binary
from energax.spaces._two_valued import Spin as Spin
