"""The classes a file may name. A name that is not here is never looked up anywhere else."""

from typing import Any, TypeVar

import equinox as eqx

from energax import energies, spaces

_Class = TypeVar("_Class", bound=type[eqx.Module])

CLASSES: dict[str, type[eqx.Module]] = {}
"""name -> class: every final class of `energax.spaces` and `energax.energies`, and a user's own."""

INFINITE: dict[type, frozenset[str]] = {
    spaces.Box: frozenset(("low", "high")),
    energies.FactorGraph: frozenset(("tables",)),
}
"""class -> the names of its fields whose arrays may hold infinities."""


def register(cls: _Class, *, infinite: tuple[str, ...] = ()) -> _Class:
    """Let `save` and `load` store objects of a class of your own by its name.

    Loading makes the object without calling its `__init__`: the fields are set as they were saved,
    then `__check_init__` runs, if the class has one. Register the class again, under the same
    name, in every program that loads it.

    **Arguments:**

    - `cls`: an `eqx.Module`, such as an energy or a space; usable as a decorator.
    - `infinite`: names of fields whose arrays may hold infinities. Others must be finite.

    **Returns:** `cls`.

    **Raises:** `ValueError` if it is no module, or another class has its name already.

    ```python
    import energax as ex
    from energax import io

    @io.register
    class Quartic(ex.AbstractEnergy):
        space: ex.Real = ex.Real()

        def energy(self, x):
            return x**4

    io.save(Quartic(), "quartic.energax")
    io.load("quartic.energax")
    ```
    """
    given: Any = cls
    if not isinstance(given, type) or not issubclass(given, eqx.Module):
        raise ValueError(f"register needs a class that is an eqx.Module, got {given!r}")
    name, present = given.__name__, CLASSES.get(given.__name__)
    again = present is not None and (present.__module__, present.__qualname__) == (
        cls.__module__,  # defined anew, as in a notebook
        cls.__qualname__,
    )
    if present is not None and not again:
        raise ValueError(
            f"the name {name!r} belongs to {present.__module__}.{present.__qualname__}: rename"
            " the class"
        )
    CLASSES[name] = given
    INFINITE[given] = frozenset(infinite)
    return cls


def is_registered(value: Any) -> bool:
    """Whether the exact class of `value` has a name in files."""
    return CLASSES.get(type(value).__name__) is type(value)


def _final_classes(module: Any) -> list[type[eqx.Module]]:
    return [
        value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, eqx.Module)
        and not name.startswith(("_", "Abstract"))
    ]


for _cls in (*_final_classes(spaces), *_final_classes(energies)):
    CLASSES[_cls.__name__] = _cls
