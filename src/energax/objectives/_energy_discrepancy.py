"""Energy discrepancy: the energy of data against that of their neighbourhood."""

import math
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Key

from energax.energies import AbstractEnergy
from energax.kernels._coordinates import reflected
from energax.objectives._base import AbstractObjective, Step, count_field, value_and_gradient
from energax.random import bernoulli, is_number, normal
from energax.spaces import (
    Binary,
    Box,
    Categorical,
    Clamped,
    Joint,
    Real,
    Spin,
    State,
    float_dtype,
)


class EnergyDiscrepancy(AbstractObjective):
    """How much lower the energy of data is than that of states around them:

        J = E[ log( w / M + sum_j exp(E(x) - E(x_j)) / M ) ],

    where y is x perturbed, and x_1 to x_M are y perturbed, each anew. Up to a constant and the
    bias of a finite M, J = KL(p_data | p) - KL(q p_data | q p), with q the perturbation: no
    scores, no chains, a discrete space or a continuous one. The less q changes the nearer J is to
    score matching, and the more to maximum likelihood, whose variance it then shares. With w > 0
    a neighbour of very low energy does not take over the sum.

    Real entries are perturbed by normal noise, reflected at the ends of a `Box`; discrete ones are
    drawn anew, uniformly, with probability `redrawn`.

    **Arguments:**

    - `noise`: standard deviation of the perturbation of real entries, in units of x.
    - `redrawn`: how probably a discrete entry is drawn anew, at most 1; a bit then flips half the
      time.
    - `n_negatives`: M, at one evaluation of E each.
    - `stabilisation`: w, at least 0.

    **Raises:** `ValueError` for settings out of range; before training on a `Count`.

    ```python
    import energax as ex
    import numpy as np

    rows = np.random.default_rng(0).random((500, 16)) < 0.3
    rbm = ex.RBM.init(ex.key(0), n_visible=16, n_hidden=8)
    run = ex.fit(rbm, rows, ex.EnergyDiscrepancy(), key=ex.key(1), steps=200)
    ```

    Sources: T. Schröder, Z. Ou, J. Lim, Y. Li, S. Vollmer and A. Duncan, "Energy discrepancies: a
    score-independent loss for energy-based models" (2023), equation 10; discrete states,
    T. Schröder, Z. Ou, Y. Li and A. Duncan, "Energy-based modelling for discrete and mixed data
    via heat equations on structured spaces" (2024).
    """

    noise: float = 0.5
    redrawn: float = 0.2
    n_negatives: int = count_field("n_negatives", 16)
    stabilisation: float = 1.0

    def __check_init__(self):
        _check("noise", self.noise, "a positive number", lambda value: value > 0)
        _check("redrawn", self.redrawn, "above 0 and at most 1", lambda value: 0 < value <= 1)
        _check("stabilisation", self.stabilisation, "at least 0", lambda value: value >= 0)

    def prepare(self, energy: AbstractEnergy, data: Any) -> State:
        space = energy.space
        # Whether it can be perturbed at all: said before training.
        jax.eval_shape(lambda x: _perturbed(space, x, self, jax.random.key(0)), space.structure)
        return AbstractObjective.prepare(self, energy, data)

    def init(self, energy: AbstractEnergy, rows: State, *, key: Key[Array, ""]) -> None:
        return None

    def gradient(
        self, energy: AbstractEnergy, batch: State, state: Any, *, key: Key[Array, ""]
    ) -> Step:
        n_rows = len(jax.tree.leaves(batch)[0])
        space = energy.space

        def neighbours(x: State, key: Key[Array, ""]) -> State:
            key_there, key_back = jax.random.split(key)
            y = _perturbed(space, x, self, key_there)
            keys = jax.random.split(key_back, self.n_negatives)
            return jax.vmap(lambda key: _perturbed(space, y, self, key))(keys)

        around = jax.vmap(neighbours)(batch, jax.random.split(key, n_rows))

        def loss(energy: AbstractEnergy) -> tuple[Array, tuple[Array, Array]]:
            low = jax.vmap(energy.energy)(batch)
            high = jax.vmap(jax.vmap(energy.energy))(around)
            total = logsumexp(low[:, None] - high, axis=1)
            if self.stabilisation:
                total = jnp.logaddexp(total, math.log(self.stabilisation))
            value = jnp.mean(total) - math.log(self.n_negatives)
            return value, (jnp.mean(low), jnp.mean(high))

        (value, (low, high)), gradient = value_and_gradient(energy, loss, has_aux=True)
        measures = {"loss": value, "energy_data": low, "energy_negatives": high}
        return Step(gradient, None, measures)


def _check(name: str, value: Any, expected: str, fits: Callable[[Any], bool]) -> None:
    if not is_number(value) or not math.isfinite(value) or not fits(value):
        raise ValueError(f"{name} must be {expected}, got {value!r}")


@singledispatch
def _perturbed(space: Any, x: Any, by: EnergyDiscrepancy, key: Key[Array, ""]) -> Any:
    """A state that leads from x to y as probably as from y to x."""
    raise ValueError(
        f"EnergyDiscrepancy knows no perturbation of {space}: take"
        " ex.PersistentContrastiveDivergence"
    )


@_perturbed.register(Real)
@_perturbed.register(Box)
def _(space: Any, x: Array, by: EnergyDiscrepancy, key: Key[Array, ""]) -> Array:
    return reflected(space, x + by.noise * normal(key, x.shape, x.dtype))[0]


@_perturbed.register(Binary)
@_perturbed.register(Spin)
@_perturbed.register(Categorical)
def _(space: Any, x: Array, by: EnergyDiscrepancy, key: Key[Array, ""]) -> Array:
    key_where, key_what = jax.random.split(key)
    where = bernoulli(key_where, jnp.full(x.shape, by.redrawn, float_dtype()))
    return jnp.where(where, space.draw(key_what), x)


@_perturbed.register
def _(space: Clamped, x: Any, by: EnergyDiscrepancy, key: Key[Array, ""]) -> Any:
    return space.clamp(_perturbed(space.space, x, by, key))


@_perturbed.register
def _(space: Joint, x: dict[str, Any], by: EnergyDiscrepancy, key: Key[Array, ""]) -> Any:
    keys = jax.random.split(key, len(space.parts))
    return {
        name: _perturbed(part, x[name], by, part_key)
        for part_key, (name, part) in zip(keys, space.parts.items(), strict=True)
    }
