"""How well chains that live on mix while training goes on, from their energies over a chunk."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Mixing(eqx.Module):
    """Sums over steps of each chain's energy less the mean over all chains, which is no chain's
    doing: the energy itself changes from step to step.
    """

    sums: Float[Array, "2 chains"]
    """Over the first half of the steps and over the second."""
    squares: Float[Array, " 2"]
    """Over all chains as well."""

    @classmethod
    def none(cls, energies: Any) -> "Mixing":
        """Of no step yet; the argument tells shape and dtype."""
        zeros = jnp.zeros((2, *energies.shape), energies.dtype)
        return cls(zeros, zeros[:, 0])

    def after(
        self,
        energies: Float[Array, " chains"],
        i: Int[Array, ""],
        n_steps: Int[Array, ""],
        counts: Bool[Array, ""],
    ) -> "Mixing":
        """With step `i` of `n_steps`, if it counts. Of an odd number the last one does not."""
        each = energies - jnp.mean(energies)
        half = jnp.asarray(n_steps // 2, i.dtype)
        in_half = counts & (jnp.arange(2, dtype=i.dtype) == jnp.where(half > 0, i // half, 2))
        return Mixing(
            self.sums + jnp.where(in_half[:, None], each[None], 0),
            self.squares + jnp.where(in_half, jnp.sum(each * each), 0),
        )

    def measures(self, n_steps: Int[Array, ""]) -> dict[str, Float[Array, ""]]:
        """`chain_rhat`, split R-hat without ranks, and `chain_ess`, the effective number of draws
        of all chains together: NaN of fewer than two chains or four steps.

        With B the variance of the chains' means over N steps and V the marginal variance, chains
        times min(N, V / B): all draws where chains are as near to each other as independent draws
        would be, one a chain where they stay apart.

        Source: A. Gelman, J. Carlin, H. Stern and D. Rubin, "Bayesian data analysis" (second
        edition, 2004), section 11.6.
        """
        dtype = self.sums.dtype
        half = (n_steps // 2).astype(dtype)
        n_chains = self.sums.shape[1]
        # The mean over chains, taken off at every step, has used up one chain's worth of freedom.
        freedom = max(n_chains - 1, 0)

        def variances(sums: Array, squares: Array, n: Array) -> tuple[Array, Array]:
            """Within series of n steps, and of the means of as many series as there are sums."""
            within = (jnp.sum(squares) - jnp.sum(sums * sums) / n) / (n - 1)
            return within, jnp.sum((sums / n) ** 2)

        within, between = variances(self.sums, self.squares, half)
        within, between = within / (2 * freedom), between / (2 * freedom)
        rhat = jnp.sqrt((half - 1) / half + between / within)
        n = 2 * half
        within, between = variances(jnp.sum(self.sums, 0), jnp.sum(self.squares), n)
        within, between = within / freedom, between / freedom
        marginal = (n - 1) / n * within + between
        ess = n_chains * jnp.minimum(n, marginal / between)
        enough = (half >= 2) & (n_chains >= 2)
        found = {"chain_rhat": rhat, "chain_ess": ess}
        return {name: jnp.where(enough, value, jnp.nan) for name, value in found.items()}
