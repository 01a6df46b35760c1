"""The record of a run of chains."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from energax.diagnostics import Convergence, convergence
from energax.spaces import State

_RHAT_LIMIT, _ESS_PER_CHAIN = 1.01, 50
"""Above this R-hat, or below this many effective draws a chain, chains are not said to have
converged: the thresholds of Vehtari et al. (2021), with 50 a split chain."""


@dataclass(frozen=True)
class Draws:
    """Draws of x with axes (chain, draw, *shape), and whether to believe them.

    Exact, independent draws have one chain: axes (1, draw, *shape). `method` says how they were
    made.
    """

    x: State
    """The draws: axes (chain, draw, *shape), or a dictionary of such."""
    energy: Array
    """E of each draw, axes (chain, draw)."""
    acceptance: Array
    """Mean acceptance probability of each chain over the kept part of the run."""
    method: str
    """How they were made: the kernel, or exact draws."""
    independent: bool = False
    """Whether the draws are exact and independent, so that nothing needs to converge."""
    final: Any = field(default=None, repr=False)
    """The last state of every chain, axes (chain, *shape): a start for a further run."""

    @property
    def n_chains(self) -> int:
        """How many chains."""
        return self.energy.shape[0]

    @property
    def flat(self) -> State:
        """All draws on one leading axis, a chain after the other."""
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), self.x)

    @cached_property
    def diagnostics(self) -> Any:
        """R-hat and effective sample sizes of every coordinate: `Convergence`, or a dictionary."""
        return jax.tree.map(lambda leaf: convergence(np.asarray(leaf, np.float64)), self.x)

    @cached_property
    def energy_diagnostics(self) -> Convergence:
        """The same of the energy, the one coordinate every model has."""
        return convergence(np.asarray(self.energy))

    @property
    def rhat(self) -> Any:
        """Rank-normalised split R-hat, one a coordinate; NaN where a coordinate is constant."""
        return self._each("rhat")

    @property
    def ess(self) -> Any:
        """Effective number of draws, one a coordinate; NaN where a coordinate is constant."""
        return self._each("ess_bulk")

    @property
    def converged(self) -> bool:
        """Whether every coordinate that moved, and the energy, has mixed over chains."""
        return not self.problems

    @cached_property
    def problems(self) -> list[str]:
        """What speaks against these draws, each a sentence of advice; empty if nothing does."""
        energy = np.asarray(self.energy)
        broken = np.flatnonzero(~np.isfinite(energy).all(1))
        if broken.size:
            return [
                f"chains {_listed(broken)} met an energy that is not finite: look at E there, or"
                " start elsewhere"
            ]
        if self.independent:
            return []
        if energy.shape[1] < 4:
            return ["fewer than 4 draws a chain: nothing can be said; ask for more or fewer chains"]
        found = []
        acceptance = np.asarray(self.acceptance)
        undefined = np.flatnonzero(~np.isfinite(acceptance))
        if undefined.size:
            found.append(
                f"chains {_listed(undefined)} have an acceptance that is not a number: look at the"
                " energy, or at log_proposal_ratio, along them"
            )
        stuck = np.flatnonzero(acceptance < 1e-3)
        if stuck.size:
            found.append(
                f"chains {_listed(stuck)} hardly moved: take smaller proposals (step_size)"
                " or another kernel"
            )
        if self.n_chains < 2:
            found.append("one chain alone cannot show that it has mixed: run at least 4")
        parts = jax.tree.leaves(self.diagnostics, is_leaf=lambda n: isinstance(n, Convergence))
        every = [*parts, self.energy_diagnostics]
        moving = [~part.constant for part in every]
        if not any(part.any() for part in moving[:-1]):
            found.append("no coordinate ever moved: this says nothing about the model")
            return found
        rhats = np.concatenate([p.rhat[m] for p, m in zip(every, moving, strict=True)])
        sizes = np.concatenate([p.ess_bulk[m] for p, m in zip(every, moving, strict=True)])
        undefined = int(np.isnan(rhats).sum())
        if undefined:
            found.append(
                f"{undefined} coordinates moved too seldom for an R-hat: draw more, or thin more"
            )
        rhat, ess = np.nanmax([*rhats, 0.0]), np.nanmin([*sizes, np.inf])
        if rhat > _RHAT_LIMIT:
            found.append(
                f"R-hat is {rhat:.3g} (at most {_RHAT_LIMIT} wanted): chains disagree; give them a"
                " longer warmup, or a kernel that crosses between modes"
            )
        needed = _ESS_PER_CHAIN * self.n_chains
        if ess < min(needed, 400):
            found.append(
                f"the smallest effective sample size is {ess:.0f} (at least {min(needed, 400)}"
                " wanted): draw more, or thin less"
            )
        return found

    @property
    def summary(self) -> str:
        """One line on where the draws came from and whether to trust them."""
        n = int(np.prod(self.energy.shape))
        head = f"{n} draws by {self.method}"
        if self.converged:
            return f"{head}: {'exact and independent' if self.independent else 'converged'}"
        return f"{head}: not converged. " + "; ".join(self.problems)

    def to_arviz(self) -> Any:
        """The draws as ArviZ's `InferenceData` (or `DataTree`, in its newer versions).

        **Raises:** `ImportError` naming the extra if ArviZ is missing.
        """
        try:
            import arviz
        except ImportError as error:
            raise ImportError('to_arviz needs ArviZ: pip install "energax[arviz]"') from error
        x = self.x if isinstance(self.x, dict) else {"x": self.x}
        posterior = {name: np.asarray(leaf) for name, leaf in x.items()}
        stats = {
            "energy": np.asarray(self.energy),
            "lp": -np.asarray(self.energy),
        }
        if int(arviz.__version__.split(".")[0]) >= 1:
            return arviz.from_dict({"posterior": posterior, "sample_stats": stats})
        return arviz.from_dict(posterior=posterior, sample_stats=stats)

    def _each(self, name: str) -> Any:
        return jax.tree.map(
            lambda part: getattr(part, name),
            self.diagnostics,
            is_leaf=lambda node: isinstance(node, Convergence),
        )


def _listed(indices: np.ndarray) -> str:
    shown = ", ".join(map(str, indices[:5]))
    return shown if indices.size <= 5 else f"{shown} and {indices.size - 5} more"
