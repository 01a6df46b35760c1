"""Several variables together."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from energax.spaces._base import AbstractDiscreteSpace, AbstractSpace


class Joint(AbstractDiscreteSpace):
    """Named parts, each in a space of its own: a state is a dictionary, its keys sorted.

    ```python
    import energax as ex

    space = ex.Joint(image=ex.Box((28, 28)), label=ex.Categorical(n_states=10))
    ```
    """

    parts: dict[str, AbstractSpace]

    def __init__(self, parts: dict[str, AbstractSpace] | None = None, **named: AbstractSpace):
        parts = {**(parts or {}), **named}
        if not parts:
            raise ValueError("Joint needs at least one named part")
        for name, part in parts.items():
            if not isinstance(name, str):
                raise ValueError(f"the names of parts must be strings, got {name!r}")
            if not isinstance(part, AbstractSpace):
                raise ValueError(f"part {name!r} must be a space, got {type(part).__name__}")
        self.parts = {name: parts[name] for name in sorted(parts)}

    @property
    def structure(self) -> dict[str, Any]:
        return {name: part.structure for name, part in self.parts.items()}

    @property
    def is_discrete(self) -> bool:
        return all(part.is_discrete for part in self.parts.values())

    @property
    def cardinality(self) -> int | None:
        counts = [part.cardinality for part in self.parts.values()]
        known = [n for n in counts if n is not None]
        return math.prod(known) if len(known) == len(counts) else None

    def draw(self, key: Key[Array, ""]) -> dict[str, Any]:
        keys = jax.random.split(key, len(self.parts))
        return {
            name: part.draw(k) for k, (name, part) in zip(keys, self.parts.items(), strict=True)
        }

    def contains(self, x: dict[str, Any]) -> Bool[Array, ""]:
        each = [part.contains(x[name]) for name, part in self.parts.items()]
        return jnp.all(jnp.stack(each))

    def state(self, index: Array) -> dict[str, Any]:
        rest, result = jnp.asarray(index, jnp.uint32), {}
        for name, part in self.parts.items():
            if not isinstance(part, AbstractDiscreteSpace) or part.cardinality is None:
                raise ValueError(f"part {name!r} has infinitely many states: {part}")
            if part.cardinality >= 2**32:  # then its number is all of the index
                result[name], rest = part.state(rest), jnp.zeros_like(rest)
                continue
            count = jnp.asarray(part.cardinality, jnp.uint32)
            result[name], rest = part.state(rest % count), rest // count
        return result

    def clamp(self, x: dict[str, Any]) -> dict[str, Any]:
        return {name: part.clamp(x[name]) for name, part in self.parts.items()}

    def convert(self, data: Any, *, name: str = "data") -> dict[str, Any]:
        if not isinstance(data, dict) or set(data) != set(self.parts):
            got = sorted(map(str, data)) if isinstance(data, dict) else type(data).__name__
            raise ValueError(f"{name} must be a dictionary of {list(self.parts)}, got {got}")
        rows = {
            part_name: part.convert(data[part_name], name=f"{name}[{part_name!r}]")
            for part_name, part in self.parts.items()
        }
        lengths = {part_name: len(jax.tree.leaves(part)[0]) for part_name, part in rows.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the parts of {name} must have as many rows each, got {lengths}")
        return rows
