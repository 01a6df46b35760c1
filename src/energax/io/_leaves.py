"""Leaves of a tree as JSON and tensors: arrays of any dtype, random keys, Python scalars."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from energax.energies._parameters import is_traced
from energax.random import GENERATOR, GENERATOR_VERSION

# What every version of safetensors stores as itself. The rest is stored as its bytes.
_NATIVE = frozenset(
    ["bool", "bfloat16", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_AS_BYTES = {
    np.dtype(dtype).name: np.dtype(dtype)
    for dtype in (
        np.complex64,
        np.complex128,
        jnp.int4,
        jnp.uint4,
        jnp.float8_e4m3fn,
        jnp.float8_e4m3fnuz,
        jnp.float8_e4m3b11fnuz,
        jnp.float8_e5m2,
        jnp.float8_e5m2fnuz,
    )
}
_IMPLEMENTATIONS = ("threefry2x32", "rbg", "unsafe_rbg")


class Tensors:
    """The named tensors of a file, to be filled or to be taken from, each exactly once."""

    def __init__(self, content: dict[str, np.ndarray] | None = None):
        self.content = {} if content is None else content
        self._taken: set[str] = set()

    def put(self, name: str, array: np.ndarray) -> str:
        """Add a tensor and return the name it got, which is unique."""
        unique, count = name, 2
        while unique in self.content or unique in ("", "__metadata__"):
            unique, count = f"{name}#{count}", count + 1
        self.content[unique] = np.asarray(array, order="C")
        return unique

    def take(self, name: Any, where: str) -> np.ndarray:
        """The tensor of this name."""
        if not isinstance(name, str) or name not in self.content:
            raise ValueError(f"the file lacks the array {name!r} of {where}")
        if name in self._taken:
            raise ValueError(f"the description is malformed: array {name!r} is used twice")
        self._taken.add(name)
        return self.content[name]

    def check_all_taken(self) -> None:
        """Raise if the file holds tensors the description does not speak of."""
        extra = sorted(set(self.content) - self._taken)
        if extra:
            raise ValueError(f"the file holds arrays that belong nowhere: {', '.join(extra[:5])}")


def is_key(value: Any) -> bool:
    """Whether `value` is an array (or the structure of one) of typed random keys."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def is_array(value: Any) -> bool:
    """Whether `value` is an array of JAX or numpy, or a numpy scalar."""
    return isinstance(value, jax.Array | np.ndarray | np.generic)


def is_scalar(value: Any) -> bool:
    """Whether `value` is exactly a Python scalar that JSON keeps, or `None`."""
    return value is None or type(value) in (bool, int, float, str)


def encode_leaf(value: Any, where: str, tensors: Tensors) -> Any:
    """The JSON of an array, key or scalar, its numbers put among the tensors."""
    if is_scalar(value):
        if type(value) is float and not math.isfinite(value):
            return {"float": repr(value)}
        return value
    if is_traced(value):
        raise ValueError(f"{where} is known only inside a compiled function: save outside of it")
    if isinstance(value, jax.Array) and not value.is_fully_addressable:
        raise ValueError(f"{where} lies on several hosts: gather it on one first")
    if is_key(value):
        implementation = _implementation(value, where)
        data = np.asarray(jax.random.key_data(value))
        version = GENERATOR_VERSION if implementation == "energax" else None
        name = tensors.put(where, data)
        return {"key": name, "implementation": implementation, "version": version}
    array = np.asarray(value)
    node: dict[str, Any] = {}
    if not isinstance(value, jax.Array):
        node["holder"] = "numpy" if isinstance(value, np.ndarray) else "scalar"
    if array.dtype.isnative and array.dtype.name in _NATIVE:
        return {"array": tensors.put(where, array), **node}
    if array.dtype.isnative and array.dtype.name in _AS_BYTES:
        data = np.frombuffer(array.tobytes(), np.uint8)
        data = data.reshape(*array.shape, array.dtype.itemsize)
        return {"array": tensors.put(where, data), "dtype": array.dtype.name, **node}
    raise ValueError(f"{where} has dtype {array.dtype}, which cannot be stored: convert it")


def decode_leaf(node: Any, where: str, tensors: Tensors) -> Any:
    """The leaf that `encode_leaf` described."""
    if is_scalar(node):
        return node
    if not isinstance(node, dict):
        raise malformed(where)
    if set(node) == {"float"} and node["float"] in ("nan", "inf", "-inf"):
        return float(node["float"])
    if set(node) == {"key", "implementation", "version"}:
        return _key(node, where, tensors)
    if "array" not in node or not set(node) <= {"array", "dtype", "holder"}:
        raise malformed(where)
    array = tensors.take(node["array"], where)
    if "dtype" in node:
        dtype = _AS_BYTES.get(node["dtype"]) if isinstance(node["dtype"], str) else None
        if dtype is None or array.dtype != np.uint8 or array.shape[-1:] != (dtype.itemsize,):
            raise malformed(where)
        array = np.frombuffer(array.tobytes(), dtype).reshape(array.shape[:-1])
    holder = node.get("holder", "jax")
    if holder == "jax":
        return as_jax(array, where)
    if holder == "numpy":
        return np.array(array)
    if holder == "scalar" and array.shape == ():
        return array[()]
    raise malformed(where)


def as_jax(array: np.ndarray, where: str) -> jax.Array:
    """The same bits as a JAX array, or a `ValueError` if JAX would round them."""
    result = jnp.array(array)
    if result.dtype != array.dtype:
        raise ValueError(
            f"{where} holds {array.dtype}, which JAX now rounds to {result.dtype}: set"
            ' jax.config.update("jax_enable_x64", True) before loading'
        )
    return result


def fitted(value: Any, like: Any, where: str) -> Any:
    """`value` as the kind of leaf `like` is, or a `ValueError` if it does not fit there."""
    if is_array(value) and (is_array(like) or isinstance(like, jax.ShapeDtypeStruct)):
        if value.shape != like.shape or value.dtype != like.dtype:
            raise ValueError(
                f"{where} must be {like.dtype} of shape {like.shape} as in `like`, the file holds"
                f" {value.dtype} of shape {value.shape}"
            )
        if isinstance(like, np.ndarray):
            return np.array(value)
        if isinstance(like, np.generic):
            return np.asarray(value)[()]
        return value if isinstance(value, jax.Array) else as_jax(np.asarray(value), where)
    if type(value) is not type(like):
        raise ValueError(
            f"{where} must be {type(like).__name__} as in `like`, the file holds"
            f" {type(value).__name__}"
        )
    return value


def malformed(where: str) -> ValueError:
    """The error for a description that no version of energax writes."""
    return ValueError(f"the description of {where or 'the model'} is malformed")


def _implementation(key: jax.Array, where: str) -> str:
    implementation = jax.random.key_impl(key)
    if implementation == GENERATOR:
        return "energax"
    if str(implementation) in _IMPLEMENTATIONS:
        return str(implementation)
    raise ValueError(f"{where} is a key of the generator {implementation}, which is not stored")


def _key(node: dict[str, Any], where: str, tensors: Tensors) -> jax.Array:
    data, name = tensors.take(node["key"], where), node["implementation"]
    if name == "energax":
        if node["version"] != GENERATOR_VERSION:
            raise ValueError(
                f"{where} is a key of version {node['version']} of the generator, this energax has"
                f" version {GENERATOR_VERSION}: its draws would differ"
            )
    elif name not in _IMPLEMENTATIONS or node["version"] is not None:
        raise malformed(where)
    try:
        if data.dtype != np.uint32:
            raise TypeError(f"keys are made of uint32, got {data.dtype}")
        return jax.random.wrap_key_data(
            jnp.array(data), impl=GENERATOR if name == "energax" else name
        )
    except TypeError as error:
        raise ValueError(f"{where} does not hold a random key: {error}") from None
