"""The last few draws of every chain."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int

from energax.random import as_count
from energax.sampling._collect import AbstractCollector
from energax.spaces import State


class Last(AbstractCollector):
    """The last draws of every chain: to look at, beside a `Mean` of them all.

    The result has axes (chain, n, *shape), the oldest first, fewer if there were fewer draws.

    ```python
    import energax as ex
    from energax.sampling import Last, Mean

    rbm = ex.RBM.init(ex.key(0), n_visible=20, n_hidden=15)
    collect = {"mean": Mean(), "last": Last(3)}
    draws = ex.sample(rbm, 3200, key=ex.key(1), collect=collect)
    draws.collected["last"].shape  # (16, 3, 20)
    ```

    **Arguments:**

    - `n`: how many a chain.
    """

    n: int = eqx.field(static=True)

    def __init__(self, n: int = 1):
        self.n = as_count(n, "n")

    def init(self, x: State) -> Any:
        rows = jax.tree.map(lambda leaf: jnp.zeros((self.n, *leaf.shape), leaf.dtype), x)
        return jnp.zeros((), jnp.int32), rows

    def update(self, memory: Any, x: State, index: Int[Array, ""], n_draws: Int[Array, ""]) -> Any:
        _, rows = memory
        place = jnp.mod(index, self.n)
        rows = jax.tree.map(
            lambda kept, leaf: lax.dynamic_update_index_in_dim(kept, leaf, place, 0), rows, x
        )
        return jnp.asarray(index + 1, jnp.int32), rows

    def finish(self, memory: Any, healthy: Bool[np.ndarray, " chains"]) -> Any:
        count, rows = memory
        seen = int(np.asarray(count)[0])
        order = np.arange(max(seen - self.n, 0), seen) % self.n
        return jax.tree.map(lambda leaf: np.asarray(leaf)[:, order], rows)
