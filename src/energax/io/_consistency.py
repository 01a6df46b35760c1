"""Whether an object that was put together from a file is one its class would have made."""

import dataclasses
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from energax.energies import (
    AbstractEnergy,
    AbstractPath,
    AbstractTractable,
    Mixture,
    MixtureOfEnergies,
    Product,
)
from energax.io._leaves import is_array, is_key
from energax.io._registry import INFINITE, is_registered
from energax.spaces import AbstractSpace, Box


def check_finite(value: Any, where: str = "", *, may_be_infinite: bool = False) -> None:
    """Raise if an array in the model holds NaN, or an infinity where none may be."""
    if is_registered(value):
        allowed = INFINITE.get(type(value), frozenset())
        for field in dataclasses.fields(value):
            inner = f"{where}.{field.name}" if where else field.name
            check_finite(getattr(value, field.name), inner, may_be_infinite=field.name in allowed)
        return
    for key_path, leaf in jax.tree_util.tree_flatten_with_path(
        value, is_leaf=lambda node: node is not value and is_registered(node)
    )[0]:
        name = where + jax.tree_util.keystr(key_path)
        if is_registered(leaf):
            check_finite(leaf, name)
        elif is_array(leaf) and not is_key(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact):
            array = np.asarray(leaf)
            bad = np.isnan(array) if may_be_infinite else ~np.isfinite(array)
            if bad.any():
                what = "NaN" if may_be_infinite else "NaN or infinite"
                raise ValueError(f"{name} holds {int(bad.sum())} {what} entries")


def check_consistent(value: Any) -> None:
    """Raise unless every energy and space in the model fits together, tried on abstract shapes."""
    for part in _parts(value):
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            try:
                _check_as_built(part)
                if isinstance(part, AbstractSpace):
                    _check_space(part)
                elif isinstance(part, AbstractEnergy):
                    _check_energy(part)
            except Exception as error:  # a wrong shape or type may fail anywhere, in any way
                raise ValueError(
                    f"this does not hold a consistent model: {type(part).__name__}: {error}"
                ) from None


def _parts(value: Any) -> list[Any]:
    """Every registered object in the model, inner ones first."""
    if is_registered(value):
        inside = [getattr(value, field.name) for field in dataclasses.fields(value)]
        return [*(part for inner in inside for part in _parts(inner)), value]
    leaves = jax.tree.leaves(value, is_leaf=lambda node: node is not value and is_registered(node))
    return [part for leaf in leaves if is_registered(leaf) for part in _parts(leaf)]


def _check_as_built(value: Any) -> None:
    """Make the object again by its own constructor, where that takes just the fields."""
    if isinstance(value, Box) and not value.low.shape == value.high.shape == value.shape:
        raise ValueError(f"the ends must have shape {value.shape}")
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    own = type(value).__module__.split(".")[0] == __name__.split(".")[0]
    parameters = inspect.signature(type(value)).parameters.values()
    names = {p.name for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}
    if not own or names != set(fields):
        return
    built = type(value)(**fields)
    if _shapes(built) != _shapes(value) or _are_floats(built) != _are_floats(value):
        raise ValueError("its fields are not as the class makes them")


def _check_space(space: AbstractSpace) -> None:
    if _shapes(jax.eval_shape(lambda: space.draw(jax.random.key(0)))) != _shapes(space.structure):
        raise ValueError("its states do not have its own shape")


def _check_energy(energy: AbstractEnergy) -> None:
    structure = energy.space.structure
    _check_space(energy.space)
    if isinstance(energy, Product | Mixture | MixtureOfEnergies | AbstractPath):
        for field in dataclasses.fields(energy):
            for member in _energies(getattr(energy, field.name)):
                if _shapes(member.space.structure) != _shapes(structure):
                    raise ValueError(f"{field.name} are over different spaces")
    if isinstance(energy, Mixture | MixtureOfEnergies):
        count = len(energy.members)
        if energy.log_weights.shape != (count,):
            raise ValueError(f"log_weights must have shape ({count},)")
    if isinstance(energy, AbstractPath) and energy.beta.shape != ():
        raise ValueError("beta must be one number")
    result = jax.eval_shape(energy.energy, structure)
    if getattr(result, "shape", None) != () or not jnp.issubdtype(result.dtype, jnp.floating):
        raise ValueError(f"the energy of a state must be one float, got {result}")
    if isinstance(energy, AbstractTractable):
        drawn = jax.eval_shape(lambda: energy.draw(jax.random.key(0)))
        if _shapes(drawn) != _shapes(structure):
            raise ValueError("its draws do not have the shape of its states")


def _energies(value: Any) -> list[AbstractEnergy]:
    members = value if isinstance(value, tuple) else (value,)
    return [member for member in members if isinstance(member, AbstractEnergy)]


def _are_floats(tree: Any) -> list[bool]:
    arrays = [leaf for leaf in jax.tree.leaves(tree) if is_array(leaf)]
    return [jnp.issubdtype(array.dtype, jnp.inexact) for array in arrays]


def _shapes(tree: Any) -> Any:
    """What two trees of the same build share, and abstract ones too."""
    shapes = [getattr(leaf, "shape", ()) for leaf in jax.tree.leaves(tree)]
    return shapes, jax.tree.structure(tree)
