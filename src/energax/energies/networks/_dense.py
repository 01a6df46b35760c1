"""A network of dense layers."""

from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from energax.energies.networks._features import features, n_features
from energax.energies.networks._layers import (
    ACTIVATIONS,
    Activation,
    check_activation,
    check_limit,
    limited,
    weight,
)
from energax.random import as_count
from energax.spaces import AbstractSpace, State, float_dtype


class DenseNetwork(eqx.Module):
    r"""Dense layers over all entries of a state, to one number: the f of a `NeuralEnergy`.

    $$f(x) = w \cdot h_n, \qquad h_i = \phi(W_i h_{i-1} + b_i), \qquad h_0 = x$$

    Labels enter one-hot and the parts of a `Joint` one after another, so that it takes rows of
    tables as they are.

    ```python
    import energax as ex

    space = ex.Joint(sizes=ex.Real(3), colour=ex.Categorical((), 4))
    network = ex.DenseNetwork.init(ex.key(0), space, width=32)
    energy = ex.NeuralEnergy(network, space)
    ```
    """

    weights: list[Array]
    """A matrix a layer, of shape (in, out)."""
    biases: list[Float[Array, " width"]]
    readout: Float[Array, "last 1"]
    space: AbstractSpace
    activation: Activation = eqx.field(static=True)
    lipschitz: float | None = eqx.field(static=True)

    @classmethod
    def init(
        cls,
        key: Key[Array, ""],
        space: AbstractSpace,
        *,
        width: int = 128,
        depth: int = 2,
        activation: Activation = "silu",
        lipschitz: float | int | None = None,
    ) -> "DenseNetwork":
        """A network with random weights.

        **Arguments:**

        - `space`: what x is.
        - `width`, `depth`: units of a hidden layer, and how many of those.
        - `activation`: `"silu"`, `"softplus"`, `"gelu"` or `"tanh"`, all smooth.
        - `lipschitz`: a bound on how much each matrix stretches, in the Euclidean norm; `None`
          leaves them free. The slope of `"silu"` reaches 1.1 and that of `"gelu"` 1.13.

        **Raises:** `ValueError` for numbers out of range or an unknown activation.
        """
        if not isinstance(space, AbstractSpace):
            raise ValueError(f"space must be a space such as ex.Real(2), got {space!r}")
        width, depth = as_count(width, "width"), as_count(depth, "depth")
        check_activation(activation)
        sizes = [n_features(space), *[width] * depth]
        keys = jax.random.split(key, depth + 1)
        return cls(
            weights=[weight(k, *pair) for k, pair in zip(keys[:-1], pairwise(sizes), strict=True)],
            biases=[jnp.zeros(width, float_dtype()) for _ in range(depth)],
            readout=weight(keys[-1], width, 1),
            space=space,
            activation=activation,
            lipschitz=check_limit(lipschitz),
        )

    def __call__(self, x: State) -> Float[Array, ""]:
        activation = ACTIVATIONS[self.activation]
        hidden = features(self.space, x, self.readout.dtype)
        for matrix, bias in zip(self.weights, self.biases, strict=True):
            half = 0.5 * limited(matrix, self.lipschitz)
            hidden = activation(hidden @ half + 0.5 * bias)
        return (hidden @ limited(self.readout, self.lipschitz))[0]
