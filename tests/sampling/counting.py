"""Kernels of which it is known what every draw is: one counts its steps, one stays."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from energax.kernels import AbstractKernel, AbstractKernelState, Info


class CountState(AbstractKernelState):
    x: Any


class Counter(AbstractKernel):
    """Adds one a step, so that a draw says after how many steps it was kept."""

    is_exact: ClassVar[bool] = False
    traced: ClassVar[list] = []

    def init(self, energy, x, key) -> Any:
        return CountState(x)

    def step(self, energy, state, key) -> Any:
        self.traced.append(1)
        x = jax.tree.map(lambda leaf: leaf + 1, state.x)
        return CountState(x), Info(x / 1000, energy.energy(x))

    def refresh(self, energy, state) -> Any:
        return state


class Still(AbstractKernel):
    """Never moves: its states are the arrays it was given."""

    is_exact: ClassVar[bool] = True

    def init(self, energy, x, key) -> Any:
        return CountState(x)

    def step(self, energy, state, key) -> Any:
        value = energy.energy(state.x)
        return state, Info(jnp.ones_like(value), value)

    def refresh(self, energy, state) -> Any:
        return state
