"""The record of a run of chains."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from energax.diagnostics import Convergence, chance_rhat, convergence
from energax.kernels import AbstractKernel
from energax.sampling._collect import AbstractCollector
from energax.spaces import State

_RHAT_LIMIT, _ESS_PER_CHAIN = 1.01, 50
"""Above this R-hat, or below this many effective draws a chain, chains are not said to have
converged. Vehtari et al. (2021) have the same R-hat, and 400 effective draws of four chains."""

_SHORT = 50
"""Half chains of fewer draws may differ because they are short."""


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of x with axes (chain, draw, *shape), and whether to believe them.

    Exact, independent draws have one chain: axes (1, draw, *shape). `method` says how they were
    made. Where `collect` was given there is no `x`, and `collected` holds what was made of it.
    """

    x: State
    """The draws: axes (chain, draw, *shape), or a dictionary of such; `None` with `collect`."""
    energy: Array
    """E of each draw, axes (chain, draw); with a collector of at most 1,024 draws a chain, evenly
    over the run."""
    acceptance: Array
    """Mean acceptance probability of each chain over the kept part of the run."""
    method: str
    """How they were made: the kernel, or exact draws."""
    independent: bool = False
    """Whether the draws are exact and independent, so that nothing needs to converge."""
    final: Any = field(default=None, repr=False)
    """The last state of every chain, axes (chain, *shape): a start for a further run."""
    kernel: AbstractKernel | None = field(default=None, repr=False)
    """The kernel that drew, as the warm-up tuned it: its step size, its ladder."""
    states: Any = field(default=None, repr=False)
    """The kernel's last states, one a chain."""
    start_energy: Array | None = field(default=None, repr=False)
    """E where each chain started."""
    kept: Any = field(default=None, repr=False)
    """What `collect` kept: of a function its values, axes (chain, draw, ...); of a collector its
    memory, axes (chain, ...)."""
    collector: AbstractCollector | None = field(default=None, repr=False)
    """The collector, if `collect` was one."""
    n: int = 0
    """How many draws there were in all, whether kept or not."""
    n_asked: int = 0
    """How many there were to be: more than `n` if the run was stopped before its end."""
    stopped: bool = False
    """Whether Ctrl-C ended the run, or came while it took its last draws. What it had is judged as
    any draws are, and `start=draws, kernel=draws.kernel, warmup=0` goes on from it."""

    def __post_init__(self):
        object.__setattr__(self, "n", self.n or int(np.prod(self.energy.shape)))
        object.__setattr__(self, "n_asked", self.n_asked or self.n)

    @property
    def n_chains(self) -> int:
        """How many chains."""
        return self.energy.shape[0]

    @property
    def flat(self) -> State:
        """All draws on one leading axis, a chain after the other.

        **Raises:** `ValueError` where `collect` took the place of x.
        """
        if self.x is None:
            raise ValueError("these draws hold no x: collect took its place, look at collected")
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), self.x)

    @cached_property
    def collected(self) -> Any:
        """What `collect` made of the draws: of a function its values with axes
        (chain, draw, ...), of a collector its result; `None` without `collect`."""
        if self.collector is None:
            return self.kept
        return self.collector.finish(jax.tree.map(np.asarray, self.kept), self.healthy)

    @cached_property
    def healthy(self) -> np.ndarray:
        """Which chains met finite energies and values only, shape (chain,). R-hat, effective sizes
        and a collector's result are those of the healthy chains."""
        return np.logical_not(self._failed_energies | self._failed_values)

    @cached_property
    def diagnostics(self) -> Any:
        """R-hat and effective sample sizes of every coordinate: `Convergence`, or a dictionary.

        Of x or, with `collect`, of what was collected; `None` where a collector cannot tell.
        """
        if self.collector is not None:
            memory = jax.tree.map(np.asarray, self.kept)
            return self.collector.convergence(memory, self.healthy)
        return jax.tree.map(self._convergence, self.kept if self.x is None else self.x)

    @cached_property
    def energy_diagnostics(self) -> Convergence:
        """The same of the energy, the one coordinate every model has."""
        return self._convergence(self.energy)

    @property
    def rhat(self) -> Any:
        """Rank-normalised split R-hat, one a coordinate; NaN where a coordinate is constant."""
        return self._each("rhat")

    @property
    def ess(self) -> Any:
        """Effective number of draws for the centre of the distribution, one a coordinate; NaN
        where a coordinate is constant."""
        return self._each("ess_bulk")

    @property
    def ess_tail(self) -> Any:
        """Effective number of draws for the 5% and 95% quantiles, the smaller, one a coordinate;
        NaN where a coordinate is constant, and where a collector cannot tell."""
        return self._each("ess_tail")

    @property
    def constant(self) -> Any:
        """Where a coordinate had one value in every draw of every chain: that it has mixed is not
        known, nor that it has not."""
        return self._each("constant")

    @property
    def converged(self) -> bool:
        """Whether every coordinate that moved, and the energy, has mixed over chains, and every
        chain is healthy."""
        return not self.problems

    @cached_property
    def problems(self) -> list[str]:
        """What speaks against these draws, each a sentence of advice; empty if nothing does."""
        found = self._failures()
        if self.independent or not self.healthy.any():
            return found
        if self.energy.shape[1] < 4:
            few = "fewer than 4 draws a chain: nothing can be said; ask for more or fewer chains"
            return [*found, few]
        acceptance = np.asarray(self.acceptance)
        undefined = np.flatnonzero(~np.isfinite(acceptance) & self.healthy)
        if undefined.size:
            found.append(
                f"chains {listed(undefined)} have an acceptance that is not a number: look at the"
                " energy, or at log_proposal_ratio, along them"
            )
        stuck = np.flatnonzero((acceptance < 1e-3) & self.healthy)
        if stuck.size:
            found.append(
                f"chains {listed(stuck)} hardly moved: take smaller proposals (step_size)"
                " or another kernel"
            )
        if self.healthy.sum() < 2:
            found.append("one chain alone cannot show that it has mixed: run at least 4")
        return found + self._disagreements()

    def _failures(self) -> list[str]:
        """Chains in which something was not finite."""
        found = []
        at_start, later = np.zeros_like(self._failed_energies), self._failed_energies
        if self.start_energy is not None:
            start = np.asarray(self.start_energy)
            at_start = later & (np.isnan(start) | (start == -np.inf))
        if at_start.any():
            found.append(
                f"chains {listed(np.flatnonzero(at_start))} started where the energy is NaN or"
                " -inf: look at E there, or give another start"
            )
        if self.independent and later.any():
            found.append(
                "exact draws with an energy that is not finite: look at the model's parameters, or"
                " draw in double precision"
            )
        elif (later & ~at_start).any():
            found.append(
                f"chains {listed(np.flatnonzero(later & ~at_start))} met an energy that is not"
                " finite: look at E there, or start elsewhere"
            )
        values = self._failed_values & ~later
        if values.any():
            found.append(
                f"chains {listed(np.flatnonzero(values))} have values that are not finite: look"
                f" at {'x' if self.kept is None else 'collect'} along them"
            )
        return found

    def _disagreements(self) -> list[str]:
        """What R-hat and effective sizes say of the healthy chains."""
        found = []
        parts = _parts(self.diagnostics)
        every = [*parts, self.energy_diagnostics]
        moving = [~part.constant for part in every]
        if not any(part.any() for part in moving[: len(parts) or None]):
            return ["no coordinate ever moved: this says nothing about the model"]
        rhats = np.concatenate([p.rhat[m] for p, m in zip(every, moving, strict=True)])
        undefined = int(np.isnan(rhats).sum())
        if undefined:
            found.append(
                f"{undefined} coordinates moved too seldom for an R-hat: draw more, or thin more"
            )
        rhat = np.nanmax([*rhats, 0.0])
        if rhat > _RHAT_LIMIT:
            found.append(self._on_rhat(rhat, len(rhats)))
        needed = min(_ESS_PER_CHAIN * int(self.healthy.sum()), 400)
        for of in ("bulk", "tail"):
            sizes = [getattr(p, f"ess_{of}")[m] for p, m in zip(every, moving, strict=True)]
            ess = np.nanmin([*np.concatenate(sizes), np.inf])
            if ess < needed:
                found.append(
                    f"the smallest effective sample size, of the {of}, is {ess:.0f} (at least"
                    f" {needed} wanted): draw more, or thin less"
                )
        return found

    def _on_rhat(self, rhat: float, n_coordinates: int) -> str:
        """What a largest R-hat above the limit says."""
        n_draws, n_chains = self.energy.shape[1], int(self.healthy.sum())
        head = f"R-hat is {rhat:.4g} (at most {_RHAT_LIMIT} wanted)"
        longer = "take more draws a chain, or fewer chains"
        if rhat <= chance_rhat(n_chains, n_draws, n_coordinates):
            return (
                f"{head}, no more than chance makes of the largest of {n_coordinates}: {n_draws}"
                f" draws a chain are too few to tell whether chains agree; {longer}"
            )
        if n_draws // 2 < _SHORT:
            return (
                f"{head}: chains disagree, or {n_draws} draws a chain are too few for them to"
                f" agree; {longer}, and if R-hat stays a longer warmup, or a kernel that crosses"
                " between modes"
            )
        return (
            f"{head}: chains disagree; give them a longer warmup, or a kernel that crosses"
            " between modes"
        )

    @cached_property
    def _failed_energies(self) -> np.ndarray:
        return np.asarray(~np.isfinite(np.asarray(self.energy)).all(1))

    @cached_property
    def _failed_values(self) -> np.ndarray:
        """Of x or what a function made of it whatever is not finite, of a collector's memory NaN:
        infinities may be its way to begin."""
        found = np.zeros(self.n_chains, bool)
        broken = np.isnan if self.collector is not None else lambda values: ~np.isfinite(values)
        for leaf in jax.tree.leaves(self.kept if self.x is None else self.x):
            values = np.asarray(leaf)
            if values.dtype.kind == "f":
                found |= broken(values.reshape(len(values), -1)).any(1)
        return found

    def _convergence(self, leaf: Array) -> Convergence:
        values = np.asarray(leaf, np.float64)[self.healthy]
        if not len(values):
            unknown = np.full(values.shape[2:], np.nan)
            return Convergence(unknown, unknown, unknown, np.zeros(unknown.shape, bool))
        return convergence(values)

    @property
    def summary(self) -> str:
        """One line on where the draws came from and whether to trust them."""
        head = f"{self.n} draws by {self.method}"
        if self.stopped:
            head = f"{self.n} of {self.n_asked} draws by {self.method}, stopped by the user"
        if not self.converged:
            return f"{head}: not converged. " + "; ".join(self.problems)
        if self.independent:
            return f"{head}: exact and independent"
        constant = [part.constant for part in _parts(self.diagnostics)]
        still, total = (int(sum(map(of, constant))) for of in (np.sum, np.size))
        return f"{head}: converged" + (f"; {still} of {total} coordinates constant" * (still > 0))

    def to_arviz(self) -> Any:
        """The draws as ArviZ's `InferenceData` (or `DataTree`, in its newer versions).

        With a function as `collect`, what it returned. Parts within parts are named by the path to
        them, "a.c" for c within a, and the values of a tuple "x.0", "x.1".

        **Raises:** `ImportError` naming the extra if ArviZ is missing; `ValueError` if a collector
        kept no draws, or two arrays would have one name.
        """
        try:
            import arviz
        except ImportError as error:
            raise ImportError('to_arviz needs ArviZ: pip install "energax[arviz]"') from error
        if self.x is None and self.collector is not None:
            raise ValueError("ArviZ wants draws: a collector keeps none")
        kept = self.kept if self.x is None else self.x
        posterior = {name: np.asarray(leaf) for name, leaf in named_leaves(kept).items()}
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


def _parts(diagnostics: Any) -> list[Convergence]:
    found = jax.tree.leaves(diagnostics, is_leaf=lambda node: isinstance(node, Convergence))
    return [part for part in found if part is not None]


def named_leaves(tree: Any) -> dict[str, Any]:
    """The arrays of a state or of what a function returned, by the path to each: "x" for a bare
    array, "a.c" for c within a, "x.0" for the first of a tuple."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        words = jax.tree_util.keystr(path, simple=True, separator=".")
        by_name = path and isinstance(path[0], jax.tree_util.DictKey)
        name = words if by_name else ".".join(filter(None, ("x", words)))
        if name in found:
            raise ValueError(f"two arrays are called {name!r}: no part's name may hold a dot")
        found[name] = leaf
    return found


def listed(indices: np.ndarray) -> str:
    """The first few numbers, and how many more there are."""
    shown = ", ".join(map(str, indices[:5]))
    return shown if indices.size <= 5 else f"{shown} and {indices.size - 5} more"
