"""Any callable as an energy."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from energax.energies._base import AbstractEnergy
from energax.spaces import AbstractSpace, State, float_dtype


class NeuralEnergy(AbstractEnergy):
    r"""p(x) = g(f(x)) / Z, where f is any callable and g makes its output positive.

    | `positive` | g(f) | E(x) |
    | --- | --- | --- |
    | `"exp"` | $e^{f}$ | $-f(x)$ |
    | `"square"` | $f^2$ | $-2 \log |f(x)|$ |
    | `"abs"` | $|f|$ | $-\log |f(x)|$ |

    A larger output always makes x likelier for `"exp"`; where f = 0 the other two give p = 0, an
    energy of `+inf`.

    **Arguments:**

    - `function`: a callable of one unbatched state to a scalar (shape `()` or `(1,)`): an
      equinox module, a function, anything JAX can trace.
    - `space`: what x is.
    - `positive`: how g makes f positive.

    **Raises:** `ValueError` if `function` is not callable or `positive` not one of the three.

    ```python
    import energax as ex
    import equinox as eqx

    network = eqx.nn.MLP(2, "scalar", 32, 2, key=ex.key(0))
    energy = ex.NeuralEnergy(network, ex.Real(2))
    ```
    """

    function: Callable[[State], Array]
    space: AbstractSpace
    positive: Literal["exp", "square", "abs"] = eqx.field(static=True)

    def __init__(self, function: Callable[[Any], Array], space: AbstractSpace, positive="exp"):
        if not callable(function):
            raise ValueError(f"function must be callable, got {type(function).__name__}")
        if not isinstance(space, AbstractSpace):
            raise ValueError(f"space must be a space such as ex.Real(2), got {space!r}")
        if positive not in ("exp", "square", "abs"):
            raise ValueError(f'positive must be "exp", "square" or "abs", got {positive!r}')
        self.function, self.space, self.positive = function, space, positive

    def energy(self, x: State) -> Float[Array, ""]:
        output = jnp.asarray(self.function(x))
        if output.size != 1:
            raise ValueError(f"function must return one number a state, got shape {output.shape}")
        if jnp.iscomplexobj(output):
            raise ValueError(f"function must return a real number, got {output.dtype}")
        output = output.reshape(())
        if not jnp.issubdtype(output.dtype, jnp.floating):
            output = output.astype(float_dtype())  # a function that counts
        if self.positive == "exp":
            return -output
        # At f = 0 the energy is +inf; its gradient there would be 0/0, so it is cut to zero.
        zero = output == 0
        log_size = jnp.log(jnp.abs(jnp.where(zero, 1.0, output)))
        energy = -2 * log_size if self.positive == "square" else -log_size
        return jnp.where(zero, jnp.inf, energy)
