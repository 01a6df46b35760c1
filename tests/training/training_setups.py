"""What the tests of training share: small data, models whose programs are compiled once, spies."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import energax as ex
import oracles
from energax.energies import trainable
from energax.objectives import Step

# A program is compiled anew for every optimiser object, so the tests share a few.
SGD = optax.sgd(0.1)
MOMENTUM = optax.sgd(0.05, 0.9)
STEEP = optax.sgd(4.0)
ADAM = optax.adam(0.05)

PCD = ex.PersistentContrastiveDivergence(n_steps=2, n_chains=10, centred=True)


def bars_and_stripes(side: int = 3) -> np.ndarray:
    """Every image of full rows, and every image of full columns, each once."""
    masks = np.array([[(i >> k) & 1 for k in range(side)] for i in range(2**side)], dtype=np.uint8)
    rows = np.repeat(masks, side, axis=1)
    columns = np.tile(masks, (1, side))
    return np.unique(np.concatenate([rows, columns]), axis=0)


BARS = np.tile(bars_and_stripes(), (2, 1))  # 28 rows of 9 pixels


def rbm(seed: int = 0, n_visible: int = 9, n_hidden: int = 4) -> ex.RBM:
    """A machine at the start of training."""
    return ex.RBM.init(ex.key(seed), n_visible=n_visible, n_hidden=n_hidden, scale=0.1)


def train(energy: Any = None, data: Any = BARS, objective: Any = PCD, **options: Any) -> ex.Fitted:
    """`fit` with the settings that most tests share, so that they share one program too.

    An epoch of `BARS` is four steps, and so is a chunk.
    """
    shared = {"key": ex.key(1), "optimizer": MOMENTUM, "batch_size": 7, "log_every": 4}
    options = {**shared, **options}
    return ex.fit(rbm() if energy is None else energy, data, objective, **options)


def log_likelihood(energy: Any, rows: Any) -> float:
    """Mean log p of rows, with log Z by listing the states."""
    energies = np.asarray(jax.vmap(energy.energy)(energy.space.convert(rows)), np.float64)
    return -float(energies.mean()) - oracles.log_z(energy)


def bits(tree: Any) -> list[bytes]:
    """Every array of a tree as bytes, keys by their data."""
    found = []
    for leaf in jax.tree.leaves(tree):
        if eqx.is_array(leaf):
            typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            array = np.asarray(jax.random.key_data(leaf) if typed else leaf)
            found.append(str((array.shape, array.dtype)).encode() + array.tobytes())
    assert found
    return found


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """A history apart from its clock."""
    return [{name: row[name] for name in row if name != "seconds"} for row in history]


def assert_same(a: ex.Fitted, b: ex.Fitted) -> None:
    """Two runs that ended in the very same state: parameters, optimiser, chains, key, step."""
    assert bits(a.state) == bits(b.state)
    assert bits(a.energy) == bits(b.energy)
    assert a.step == b.step
    assert without_seconds(a.history) == without_seconds(b.history)


class Spy(ex.AbstractObjective):
    """Writes down the sum of each batch's rows, and how many steps came before; gradient zero."""

    most: int = 64

    def init(self, energy, rows, *, key):
        return jnp.zeros((self.most, energy.space.shape[0])), jnp.zeros((), jnp.int32)

    def gradient(self, energy, batch, state, *, key):
        assert batch.dtype == jnp.zeros(()).dtype  # as states are, however they were kept
        seen, step = state
        still = jax.tree.map(jnp.zeros_like, eqx.filter(energy, trainable(energy)))
        measures = {"steps_before": step.astype(batch.dtype)}
        return Step(still, (seen.at[step].set(jnp.sum(batch, 0)), step + 1), measures)


class Failing(ex.AbstractObjective):
    """A gradient of ones whose number `what` goes bad at step `at`, counted from 0."""

    at: int
    what: str
    value: float

    def init(self, energy, rows, *, key):
        return jnp.zeros((), jnp.int32)

    def gradient(self, energy, batch, state, *, key):
        ones = jax.tree.map(jnp.ones_like, eqx.filter(energy, trainable(energy)))
        bad = jnp.where(state == self.at, self.value, 1.0)
        if self.what == "gradient":
            ones = jax.tree.map(lambda leaf: leaf * bad, ones)
        measures = {
            "loss": bad if self.what == "loss" else jnp.ones(()),
            "energy_data": bad if self.what == "energy_data" else jnp.ones(()),
        }
        return Step(ones, state + 1, measures)
