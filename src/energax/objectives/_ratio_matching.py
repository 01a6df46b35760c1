"""Ratio matching: how far each entry's conditional is from the value it has."""

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from energax.objectives._base import optional_count_field
from energax.objectives._single_sites import AbstractSingleSites


class RatioMatching(AbstractSingleSites):
    """The mean over rows of a sum over entries, for two values

    loss = mean over x of sum_i (1 - p(x_i | all other entries of x))^2

    with 1 - p = 1 / (1 + exp(E(x with i flipped) - E(x))): bounded, so that a row of which the
    model makes nothing does not rule the gradient. Of more than two values it is half the Brier
    score, sum over values k of ([x_i = k] - p(k | the others))^2 / 2, which for two is the same.
    With ever more rows the true parameters minimise it.

    The measure `pseudo_likelihood` is the log pseudo-likelihood of a row, in nats.

    **Arguments:** as for `PseudoLikelihood`.

    ```python
    import energax as ex
    import numpy as np

    rows = np.random.default_rng(0).random((200, 6)) < 0.3
    rbm = ex.RBM.init(ex.key(0), n_visible=6, n_hidden=4)
    run = ex.fit(rbm, rows, ex.RatioMatching(n_sites=3), key=ex.key(1), steps=10)
    ```

    Sources: A. Hyvärinen, "Some extensions of score matching" (2007); few entries a
    row by Y. Dauphin and Y. Bengio, "Stochastic ratio matching of RBMs for sparse
    high-dimensional inputs" (2013), without their importance weights.
    """

    n_sites: int | None = optional_count_field("n_sites")
    sites_at_once: int | None = optional_count_field("sites_at_once")

    def site_loss(self, changes: Float[Array, " values"]) -> Float[Array, ""]:
        share = jax.nn.softmax(-changes)
        own = jnp.exp(-logsumexp(-changes))
        return 0.5 * (jnp.sum(share**2) + 1.0) - own
