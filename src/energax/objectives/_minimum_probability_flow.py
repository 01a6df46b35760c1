"""Minimum probability flow: how fast probability would leave the data."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from energax.objectives._base import optional_count_field
from energax.objectives._single_sites import AbstractSingleSites


class MinimumProbabilityFlow(AbstractSingleSites):
    """The rate at which probability flows from the rows to the states one entry away:

    loss = mean over x of the sum over neighbours y of exp((E(x) - E(y)) / 2)

    under a dynamics of which the model is the equilibrium. A neighbour that is itself a row counts
    too: what flows there flows back as fast, at the true parameters, so that these minimise the
    loss with ever more rows. Rows the model finds unlikely weigh exponentially more than others:
    start from a model that gives every row some probability.

    The measure `pseudo_likelihood` is the log pseudo-likelihood of a row, in nats.

    **Arguments:** as for `PseudoLikelihood`.

    ```python
    import energax as ex
    import numpy as np

    rows = np.random.default_rng(0).choice([-1, 1], (200, 5))
    run = ex.fit(ex.Ising(5), rows, ex.MinimumProbabilityFlow(), key=ex.key(0), steps=10)
    ```

    Source: J. Sohl-Dickstein, P. Battaglino and M. DeWeese, "New method for parameter estimation
    in probabilistic models: minimum probability flow" (2011).
    """

    n_sites: int | None = optional_count_field("n_sites")
    sites_at_once: int | None = optional_count_field("sites_at_once")

    def site_loss(self, changes: Float[Array, " values"]) -> Float[Array, ""]:
        # The value it has is among them, with a change of 0.
        return jnp.sum(jnp.exp(-0.5 * changes)) - 1.0
