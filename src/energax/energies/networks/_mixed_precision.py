"""A function that computes with half as many bits."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from energax.spaces import float_dtype


class MixedPrecision(eqx.Module):
    """A network whose arithmetic is in bfloat16; its parameters, what it is given and what it
    returns stay in float32 (float64 if that is JAX's default).

    For f in a `NeuralEnergy` or a `NoiseConditional`: matrices take half the bytes, and products
    less time on hardware made for it (on most CPUs more). The optimiser sees gradients in float32.
    bfloat16 has the range of float32, so that no loss has to be scaled, and eight bits of
    precision: f is off by about a part in 200 or 300. Chains that follow its gradient hardly see
    it. Those that accept moves by differences of E, such as `MALA`, do where E is large: an E of
    300 is off by a nat. Terms outside, such as a `Gaussian` that is multiplied, keep all their
    bits; so do arrays that a plain function closes over. A network's bound on how much it
    stretches holds to a percent or so.

    What was trained so may be evaluated with all bits: take `function`.

    **Arguments:**

    - `function`: a callable to one number, such as an equinox module.

    **Raises:** `ValueError` if it is not callable.

    ```python
    import energax as ex

    space = ex.Box((28, 28), 0.0, 1.0)
    network = ex.ResidualNetwork.init(ex.key(0), space.shape, channels=(8, 16))
    energy = ex.NeuralEnergy(ex.MixedPrecision(network), space)
    ```

    Source: P. Micikevicius et al., "Mixed precision training" (2018), whose master weights these
    parameters are.
    """

    function: Callable[..., Array]

    def __init__(self, function: Callable[..., Array]):
        if not callable(function):
            raise ValueError(f"function must be callable, got {type(function).__name__}")
        self.function = function

    def __call__(self, *arguments: Any) -> Float[Array, ""]:
        function, lowered = jax.tree.map(_lowered, (self.function, arguments))
        return jnp.asarray(function(*lowered)).astype(float_dtype())


def _lowered(leaf: Any) -> Any:
    is_real = eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(jnp.bfloat16) if is_real else leaf
