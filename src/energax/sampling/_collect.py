"""What is kept of every draw: x, a function of it, or a running summary of constant size."""

import abc
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from energax.spaces import AbstractSpace, State


class AbstractCollector(eqx.Module):
    """A summary of a chain's draws, brought up to date draw by draw in a memory of fixed size.

    `init` and `update` see *one* chain; many are `jax.vmap`'s job. `finish` sees them all, once,
    outside the compiled program, where NumPy and float64 are at hand.

    ```python
    import energax as ex
    import jax.numpy as jnp
    from energax.sampling import AbstractCollector

    class Largest(AbstractCollector):
        def init(self, x):
            return -jnp.inf

        def update(self, memory, x, index, n_draws):
            return jnp.maximum(memory, x)

        def finish(self, memory, healthy):
            return memory[healthy].max()

    well = ex.NeuralEnergy(lambda x: -((x**2 - 1) ** 2), ex.Real())
    ex.sample(well, 800, key=ex.key(0), start="base", collect=Largest()).collected
    ```
    """

    @abc.abstractmethod
    def init(self, x: State) -> Any:
        """The memory before the first draw: a tree of arrays. Of `x` only shapes are to be used."""

    @abc.abstractmethod
    def update(self, memory: Any, x: State, index: Int[Array, ""], n_draws: Int[Array, ""]) -> Any:
        """The memory with one more draw in it, its shapes and dtypes as they were.

        `index` counts a chain's draws from 0, `n_draws` is how many it will be; both are the same
        in all chains.
        """

    @abc.abstractmethod
    def finish(self, memory: Any, healthy: Bool[np.ndarray, " chains"]) -> Any:
        """The result: from NumPy arrays with a leading axis of chains, of which only the healthy
        ones count."""

    def convergence(self, memory: Any, healthy: Bool[np.ndarray, " chains"]) -> Any:
        """A tree of `Convergence` of what was collected; `None` if the memory cannot tell."""
        return None


class Collectors(AbstractCollector):
    """Several summaries of the same draws, by name: what a dictionary given to `sample` becomes."""

    parts: dict[str, AbstractCollector]

    def init(self, x: State) -> Any:
        return {name: part.init(x) for name, part in self.parts.items()}

    def update(self, memory: Any, x: State, index: Int[Array, ""], n_draws: Int[Array, ""]) -> Any:
        return {
            name: part.update(memory[name], x, index, n_draws) for name, part in self.parts.items()
        }

    def finish(self, memory: Any, healthy: Bool[np.ndarray, " chains"]) -> Any:
        return {name: part.finish(memory[name], healthy) for name, part in self.parts.items()}

    def convergence(self, memory: Any, healthy: Bool[np.ndarray, " chains"]) -> Any:
        every = {n: part.convergence(memory[n], healthy) for n, part in self.parts.items()}
        return {name: part for name, part in every.items() if part is not None} or None


Collect: TypeAlias = Callable[[State], Any] | AbstractCollector | Mapping[str, AbstractCollector]
"""What `sample` takes as `collect`."""


def as_collect(collect: Any, space: AbstractSpace) -> Any:
    """A function of one state, a collector, or `None`, which were tried on a state's shapes.

    **Raises:** `ValueError` saying what does not fit.
    """
    if collect is None:
        return None
    if isinstance(collect, Mapping):
        for name, part in collect.items():
            if not isinstance(part, AbstractCollector):
                raise ValueError(
                    f"collect[{name!r}] must be a collector such as ex.sampling.Mean(), got"
                    f" {type(part).__name__}"
                )
        collect = Collectors(dict(collect))
    if isinstance(collect, AbstractCollector):
        before = tried(collect.init, space.structure)
        number = jax.ShapeDtypeStruct((), jnp.int32)
        after = tried(collect.update, before, space.structure, number, number)
        if _forms(before) != _forms(after):
            raise ValueError(
                f"{type(collect).__name__}.update must return a memory with the shapes and dtypes"
                f" of init's, {_forms(before)}, got {_forms(after)}"
            )
    elif callable(collect):
        tried(collect, space.structure)
    else:
        raise ValueError(
            "collect must be a function of one state or a collector such as ex.sampling.Mean(),"
            f" got {type(collect).__name__}"
        )
    return collect


def outputs_of(function: Callable[[State], Any], x: State) -> Any:
    """What a user's function makes of one state, every leaf an array."""
    return jax.tree.map(jnp.asarray, function(x))


def tried(function: Callable[..., Any], *arguments: Any, name: str = "collect") -> Any:
    """Shapes of what a user's function returns, or a `ValueError` that calls it `name`."""
    try:
        result = jax.eval_shape(lambda *a: jax.tree.map(jnp.asarray, function(*a)), *arguments)
    except Exception as error:
        words = str(error).strip().split("\n\n")[0]
        raise ValueError(f"{name} fails on one state: {type(error).__name__}: {words}") from error
    leaves = jax.tree.leaves(result)
    if not leaves:
        raise ValueError(f"{name} returns nothing")
    for leaf in leaves:
        if not jnp.issubdtype(leaf.dtype, jnp.number) and leaf.dtype != bool:
            raise ValueError(f"{name} must return numbers, got {leaf.dtype}")
        if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
            raise ValueError(f"{name} must return real numbers, got {leaf.dtype}")
    return result


def _forms(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape)}", tree)
