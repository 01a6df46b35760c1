"""What every verb asks of an energy before anything is compiled."""

from typing import Any

import jax
import jax.numpy as jnp

from energax.energies._base import AbstractEnergy


def check_energy(energy: Any) -> None:
    """Raise `ValueError` unless `energy` gives one real number, of 32 bits or more, for a state
    of its space.

    The energy is traced on the shapes of one state and not evaluated: milliseconds, and nothing
    is compiled.

    ```python
    import energax as ex
    from energax.energies import check_energy

    check_energy(ex.NeuralEnergy(lambda x: -x @ x, ex.Real(3)))
    ```
    """
    if not isinstance(energy, AbstractEnergy):
        raise ValueError(f"expected an energy, got {type(energy).__name__}")
    name, space = type(energy).__name__, energy.space
    try:
        result = jax.eval_shape(energy.energy, space.structure)
    except Exception as error:
        words = str(error).strip().split("\n\n")[0]
        raise ValueError(
            f"{name} fails on one state of its space {space}: {type(error).__name__}: {words}"
        ) from error
    if not isinstance(result, jax.ShapeDtypeStruct) or result.shape != ():
        got = getattr(result, "shape", type(result).__name__)
        raise ValueError(
            f"{name}.energy must return one number for one state, got shape {got}: sum over the"
            " entries, and leave batches to jax.vmap"
        )
    if not jnp.issubdtype(result.dtype, jnp.floating):
        raise ValueError(f"{name}.energy must return a real floating number, got {result.dtype}")
    if result.dtype.itemsize < 4:
        raise ValueError(
            f"{name}.energy returns {result.dtype}, whose rounding of E would be an error of p:"
            " cast the result up, as in energy.astype(jnp.float32)"
        )
