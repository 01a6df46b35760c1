"""Pseudo-likelihood: each entry's probability given all the others."""

from jax.scipy.special import logsumexp
from jaxtyping import Array, Float

from energax.objectives._base import optional_count_field
from energax.objectives._single_sites import AbstractSingleSites


class PseudoLikelihood(AbstractSingleSites):
    """The mean over rows of minus the log pseudo-likelihood, a sum over the entries of a state:

    loss = mean over x of - sum_i log p(x_i | all other entries of x)

    in nats a row. No Z and no chains. With ever more rows the true parameters minimise it, at a
    somewhat larger spread than that of maximum likelihood; of independent entries it is the
    likelihood. Fits energies whose entries have a few values each; those with a sum over single
    changes of their own (machines, graphs, n-grams) take a fraction of an evaluation an entry.

    The measure `pseudo_likelihood` is the log pseudo-likelihood of a row, in nats.

    **Arguments:**

    - `n_sites`: entries a row, drawn anew at every step and weighed so that the loss and its
      gradient stay right on average; all if `None`.
    - `sites_at_once`: entries evaluated side by side; as many as fit into 64 MiB if `None`.

    ```python
    import energax as ex
    import numpy as np

    rows = np.random.default_rng(0).choice([-1, 1], (200, 5))
    run = ex.fit(ex.Ising(5), rows, ex.PseudoLikelihood(), key=ex.key(0), steps=10)
    ```

    Source: J. Besag, "Statistical analysis of non-lattice data" (1975).
    """

    n_sites: int | None = optional_count_field("n_sites")
    sites_at_once: int | None = optional_count_field("sites_at_once")

    def site_loss(self, changes: Float[Array, " values"]) -> Float[Array, ""]:
        return logsumexp(-changes)
