"""The potential of Mueller and Brown."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from energax.energies._base import AbstractEnergy
from energax.energies._parameters import as_floats, one_state
from energax.spaces import Real, float_dtype

# The table of the source, an entry a term: A, a, b, c and the centre (X, Y) of the class below.
_A = np.array([-200.0, -100.0, -170.0, 15.0])
_XX = np.array([-1.0, -1.0, -6.5, 0.7])
_XY = np.array([0.0, 0.0, 11.0, 0.6])
_YY = np.array([-10.0, -10.0, -6.5, 0.7])
_X0 = np.array([1.0, 0.0, -0.5, -1.0])
_Y0 = np.array([0.0, 0.5, 1.5, 1.0])

_FAR = 1e15


class MuellerBrown(AbstractEnergy):
    """A chemist's reaction in the plane: three minima, and a bent way over two saddles.

    E(x) = sum_k A_k exp(a_k (x_0 - X_k)^2 + b_k (x_0 - X_k)(x_1 - Y_k) + c_k (x_1 - Y_k)^2)

    The deepest minimum is -146.70, at (-0.558, 1.442), and the barrier out of it is 106: as a
    density it is sampled at an inverse temperature, `MuellerBrown() ** 0.05`. It has no
    parameters; the constants are those of the source.

    ```python
    import energax as ex
    import jax.numpy as jnp

    energy = ex.MuellerBrown()
    energy.energy(jnp.array([-0.558, 1.442]))
    draws = ex.sample(energy**0.05, 100, key=ex.key(0), warmup=100)
    ```

    Source: K. Mueller and L. Brown, "Location of saddle points and minimum energy paths by a
    constrained simplex optimization procedure" (1979), Theoretica Chimica Acta 53.
    """

    @property
    def space(self) -> Real:
        return Real(2)

    def energy(self, x: Float[Array, " 2"]) -> Float[Array, ""]:
        x = as_floats(one_state(x, (2,)), float_dtype())
        a, xx, xy, yy, x0, y0 = (
            jnp.asarray(each, x.dtype) for each in (_A, _XX, _XY, _YY, _X0, _Y0)
        )
        # Far out E is +inf; the squares must not overflow with both signs on the way there.
        dx, dy = (jnp.clip(d, -_FAR, _FAR) for d in (x[0] - x0, x[1] - y0))
        return jnp.sum(a * jnp.exp(xx * dx**2 + xy * dx * dy + yy * dy**2))
