"""What an optimiser may change."""

from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from energax.energies._base import AbstractEnergy
from energax.energies.algebra._frozen import Frozen
from energax.spaces import AbstractSpace


def trainable(energy: AbstractEnergy) -> PyTree[bool]:
    """A tree of booleans, one a leaf: which leaves of `energy` an optimiser may change.

    Inexact arrays train, except the bounds of spaces, fields an energy names in its `fixed`
    (temperatures, observed values, masks) and everything inside `freeze`.

    ```python
    import energax as ex
    import equinox as eqx
    from energax.energies import trainable

    energy = ex.RBM.init(ex.key(0), n_visible=4, n_hidden=3) ** 0.5
    parameters, rest = eqx.partition(energy, trainable(energy))  # beta is in the rest
    ```
    """
    return _mark(energy)


def _mark(node: Any) -> Any:
    if isinstance(node, AbstractSpace | Frozen):
        return jax.tree.map(lambda _: False, node)
    children, rebuild = jax.tree.flatten_with_path(node, is_leaf=lambda n: n is not node)
    if len(children) == 1 and children[0][1] is node:
        return eqx.is_inexact_array(node)
    fixed = node.fixed if isinstance(node, AbstractEnergy) else ()
    marks = [
        jax.tree.map(lambda _: False, child)
        if path and getattr(path[0], "name", None) in fixed
        else _mark(child)
        for path, child in children
    ]
    return jax.tree.unflatten(rebuild, marks)
