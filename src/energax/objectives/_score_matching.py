"""Score matching with the exact trace of the Hessian."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Key

from energax.energies import AbstractEnergy
from energax.objectives._base import AbstractObjective, Step, count_field, value_and_gradient
from energax.objectives._score_fields import check_continuous, dot, slope_along, weighted_score
from energax.spaces import State


class ScoreMatching(AbstractObjective):
    """The distance between the scores of the model and of the data, without Z or chains:

        J = E[ sum_i h_i (s_i^2 / 2 + ds_i/dx_i) + (dh_i/dx_i) s_i ],    s = grad log p(x).

    Up to a constant, J is half the mean of h |s - s_data|^2 over the data. On `Real` the weights h
    are 1. On a `Box` plain score matching is wrong unless p vanishes at the ends; there h is
    d d' / (d + d') with d, d' the distances to the ends (d above a single end), which vanishes
    with them. The trace is exact, one second derivative an entry of x, of which `block` are held
    at a time: `SlicedScoreMatching` costs one in all.

    Consistent, but blind to the weights of modes that lie far apart: between them there are no
    data to tell.

    **Arguments:**

    - `block`: entries whose second derivatives are taken at once; fewer take less memory.

    **Raises:** `ValueError` before training on a space with discrete entries.

    ```python
    import energax as ex
    import numpy as np

    rows = np.random.default_rng(0).normal(3.0, 0.5, (1000, 2))
    run = ex.fit(ex.Gaussian(np.zeros(2)), rows, ex.ScoreMatching(), key=ex.key(0), steps=200)
    ```

    Sources: A. Hyvärinen, "Estimation of non-normalized statistical models by score matching"
    (2005), theorem 1; with ends, A. Hyvärinen, "Some extensions of score matching" (2007), and
    S. Yu, M. Drton and A. Shojaie, "Generalized score matching for non-negative data" (2019).
    """

    minimised: ClassVar[str] = "score_matching"

    block: int = count_field("block", 16)

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        check_continuous(self, energy)
        return AbstractObjective.prepare(self, energy, data)

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> None:
        return None

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        def loss(energy: AbstractEnergy) -> Array:
            return jnp.mean(jax.vmap(lambda x: _loss(energy, x, self.block))(batch))

        value, gradient = value_and_gradient(energy, loss)
        return Step(gradient, None, {"score_matching": value})


def _loss(energy: AbstractEnergy, x: State, block: int) -> Float[Array, ""]:
    """Of one row: half the squared score and the divergence, both weighted."""
    field = weighted_score(energy)
    zeros, unravel = ravel_pytree(jax.tree.map(jnp.zeros_like, x))

    def of_entry(i: Array) -> Float[Array, ""]:
        return slope_along(field, x, unravel(zeros.at[i].set(1.0)))[0]

    entries = jnp.arange(zeros.size)
    if zeros.size <= block:
        each = jax.vmap(of_entry)(entries)
    else:
        # What a block was made of is made again for the gradient, and not kept for every block.
        each = lax.map(jax.checkpoint(of_entry), entries, batch_size=block)
    root = field(x)[1]
    return 0.5 * dot(root, root) + jnp.sum(each)
