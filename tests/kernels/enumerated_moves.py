"""The transition matrix of a kernel, from the kernel's own `step`.

While `step` is traced, the functions of `jax.random` it draws with are replaced by ones that ask
which outcome to return and note its probability: a choice among n has n outcomes, and a uniform
number, which a kernel only ever compares with a probability, has two, below it and not. Running
the step over every list of outcomes gives P exactly, and nothing of the kernel is written again.
Of an ensemble kernel one chain is followed; of a ladder of replicas, all rungs at once.
"""

import contextlib
import functools
import itertools
import math
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from whole_ladder import Rungs, WholeLadder, whole

import energax as ex
import oracles
import registry
from energax.kernels import AbstractEnsembleKernel, _packed_gibbs
from energax.kernels._packed_gibbs import PackedState
from energax.spaces import Clamped

MOST_OUTCOMES = 2**12
"""Of one step: a matrix of more takes too long."""


class Moves(NamedTuple):
    """What `step` does from every state, one row a state and one column a list of outcomes."""

    reached: np.ndarray
    """The number of the state reached."""
    probability: np.ndarray
    """Of the outcomes; each row sums to 1."""
    acceptance: np.ndarray
    """As the step reports it."""
    energy: np.ndarray
    """As the step reports it."""
    target: np.ndarray
    """p of every state."""

    @property
    def matrix(self) -> np.ndarray:
        """P, a row a state."""
        n = len(self.reached)
        matrix = np.zeros((n, n))
        np.add.at(matrix, (np.arange(n)[:, None], self.reached), self.probability)
        return matrix


class NotEnumerated(Exception):
    """A kernel draws what is not enumerated here, or in too many ways."""


class _Tape:
    """Answers the draws of one traced step, in order, and multiplies their probabilities."""

    def __init__(self, answers=None):
        self.answers, self.sizes, self.probability = answers, [], 1.0

    def next(self, n_outcomes: int, probabilities):
        """Which of some outcomes, given the probability of each."""
        self.sizes.append(n_outcomes)
        if self.answers is None:
            return jnp.zeros((), jnp.int32)
        answer = self.answers[len(self.sizes) - 1]
        self.probability = self.probability * probabilities[answer]
        return answer

    def choice(self, n: int):
        return self.next(n, jnp.full((n,), 1 / n))

    def coins(self, p):
        """For each entry of p, whether a uniform number falls below it."""
        flat, p = [], jnp.asarray(p)
        for each in p.reshape(-1):
            flat.append(self.next(2, jnp.stack([1 - each, each])) == 1)
        return jnp.stack(flat).reshape(p.shape) if flat else jnp.zeros(p.shape, bool)


class _Uniform:
    """Uniform numbers, of which only comparisons with probabilities are known.

    A number of its own for each entry of what it is compared with; or, of shape (*batch, 1), one
    for each row of cumulative probabilities, of which a second comparison may ask more.
    """

    def __init__(self, tape: _Tape, shape: tuple[int, ...]):
        self.tape, self.shape, self.known = tape, shape, {}

    def __lt__(self, p):
        p = jnp.clip(p, 0.0, 1.0)
        if self.shape[-1:] != (1,) or p.shape == self.shape:
            return self._each(jnp.broadcast_to(p, self.shape))
        assert p.shape[:-1] == self.shape[:-1]
        rows = p.reshape(-1, p.shape[-1])
        return jnp.stack([self._row(i, row) for i, row in enumerate(rows)]).reshape(p.shape)

    def _each(self, p):
        # What earlier comparisons said of the same numbers leaves them uniform in an interval.
        low, high = self.known.get((), (jnp.zeros(self.shape), jnp.ones(self.shape)))
        width = high - low
        share = jnp.where(width > 0, (p - low) / jnp.where(width > 0, width, 1.0), 0.0)
        below = self.tape.coins(jnp.clip(share, 0.0, 1.0))
        inside = jnp.clip(p, low, high)
        self.known[()] = jnp.where(below, low, inside), jnp.where(below, inside, high)
        return below

    def _row(self, i: int, thresholds):
        """Between which two thresholds number i lies, given between which ends it is known to."""
        low, high = self.known.get(i, (0.0, 1.0))
        ends = jnp.concatenate([jnp.zeros((1,)), thresholds, jnp.ones((1,))])
        ends = jnp.clip(jax.lax.cummax(ends), low, high)
        width = high - low
        lengths = jnp.diff(ends) / jnp.where(width > 0, width, 1.0)
        found = self.tape.next(len(lengths), lengths)
        self.known[i] = (ends[found], ends[found + 1])
        return found <= jnp.arange(len(thresholds), dtype=found.dtype)


class _OneChain:
    """`jax.custom_batching.custom_vmap` without a rule for many chains."""

    def __init__(self, f):
        self.f = f

    def def_vmap(self, rule):
        return rule

    def __call__(self, *args):
        return self.f(*args)


def _unrolled_scan(f, init, xs=None, length=None, **kwargs):
    """`jax.lax.scan` with each turn traced apart, so that each has draws of its own."""
    n = length if xs is None else len(jax.tree.leaves(xs)[0])
    carry, kept = init, []
    for i in range(n):
        carry, y = f(carry, jax.tree.map(lambda leaf, i=i: leaf[i], xs))
        kept.append(y)
    return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept)


def _unrolled_loop(lower, upper, body, init, **kwargs):
    """`jax.lax.fori_loop` the same way, where the number of turns is known."""
    if isinstance(lower, jax.core.Tracer) or isinstance(upper, jax.core.Tracer):
        raise NotEnumerated("a loop of traced length")
    for i in range(lower, upper):
        init = body(jnp.asarray(i), init)
    return init


def _one_after_the_other(f, *vmap_arguments, **keywords):
    """`jax.vmap` as a loop, so that every replica's draws are enumerated on their own."""

    def looped(*given):
        n = len(jax.tree.leaves(given)[0])
        rows = [f(*jax.tree.map(lambda leaf: leaf[i], given)) for i in range(n)]  # noqa: B023
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)

    return looped


@contextlib.contextmanager
def _played(tape: _Tape, n_bits: int, alone: bool):
    """With draws answered by the tape.

    `n_bits` are in use of each packed word; `alone` are the draws of rows that step side by side.
    """

    def uniform(key, shape=(), dtype=None):
        return _Uniform(tape, tuple(shape))

    def randint(key, shape, minval, maxval, dtype=int):
        assert shape == ()
        return (minval + tape.choice(maxval - minval)).astype(dtype)

    def rademacher(key, shape=(), dtype=int):
        assert shape == ()
        return (2 * tape.choice(2) - 1).astype(dtype)

    def toss(key, masks, probability):
        bits = jnp.arange(n_bits, dtype=jnp.uint32).reshape(-1, *[1] * masks[0].ndim)
        ones = jnp.stack([(mask[None] >> bits) & 1 for mask in masks]).astype(probability.dtype)
        coins = tape.coins(jnp.tensordot(probability, ones, 1)).astype(jnp.uint32)
        return jnp.sum(coins << bits, 0, jnp.uint32)

    def refused(*args, **kwargs):
        raise NotEnumerated("a draw of another kind")

    others = ("normal", "bernoulli", "categorical", "choice", "bits", "exponential", "gumbel")
    replaced = {"uniform": uniform, "randint": randint, "rademacher": rademacher}
    loops = {"scan": _unrolled_scan, "fori_loop": _unrolled_loop}
    with (
        mock.patch.multiple(jax.random, **replaced, **dict.fromkeys(others, refused)),
        mock.patch.multiple(jax.lax, **loops),
        mock.patch.object(jax.custom_batching, "custom_vmap", _OneChain),
        mock.patch.object(_packed_gibbs, "toss", toss),
        mock.patch.object(jax, "vmap", _one_after_the_other if alone else jax.vmap),
    ):
        yield


def states_of(space) -> list:
    """`oracles.states`, with the held entries of a clamped space where they are held."""
    if isinstance(space, Rungs):
        every = itertools.product(states_of(space.space), repeat=space.n)
        return [stack(list(each)) for each in every]
    if not isinstance(space, Clamped):
        return oracles.states(space)
    held, values = np.asarray(space.mask), np.asarray(space.values)
    return [x for x in states_of(space.space) if (np.asarray(x)[held] == values[held]).all()]


def code(x) -> np.ndarray:
    """A number for each row of small integers, the same for the same state."""
    rows = np.concatenate([np.asarray(a).reshape(len(a), -1) for a in jax.tree.leaves(x)], 1)
    return (rows + 1).astype(np.int64) @ 4 ** np.arange(rows.shape[1])


def index(states, x) -> np.ndarray:
    """Where each row of `x` stands among the rows of `states`."""
    known = code(states)
    order = np.argsort(known)
    seen = code(x)
    at = order[np.clip(np.searchsorted(known[order], seen), 0, len(known) - 1)]
    assert (known[at] == seen).all(), "a move left the space"
    return at


def stack(states: list):
    """The states on a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *states)


def target(energy) -> np.ndarray:
    """p of every state of `states_of(energy.space)`, in float64."""
    each = jax.jit(jax.vmap(energy.energy))
    return _normalised(each(stack(states_of(energy.space))))


def _normalised(energies) -> np.ndarray:
    e = np.asarray(energies, np.float64)
    p = np.exp(e.min() - e)
    return p / p.sum()


def moves(kernel, energy, *, start=None, states: list | None = None) -> Moves:
    """Every move of `kernel` on `energy`; `start(x, key)` makes the state a step begins from."""
    key = ex.key(0)
    start = start or (lambda x, key: kernel.init(energy, x, key))
    states = states_of(energy.space) if states is None else states
    table = stack(states)
    ensemble = isinstance(kernel, AbstractEnsembleKernel)

    def one(x, answers):
        tape = _Tape(answers)
        state = start(jax.tree.map(lambda leaf: leaf[None], x) if ensemble else x, key)
        n_bits = state.packing.n_strips if isinstance(state, PackedState) else 0
        with _played(tape, n_bits, alone=isinstance(kernel, WholeLadder)):
            new, info = kernel.step(energy, state, key)
        sizes.append(tape.sizes)
        x, info = (new.x, info) if not ensemble else jax.tree.map(lambda a: a[0], (new.x, info))
        return x, tape.probability, info

    sizes: list[list[int]] = []
    jax.eval_shape(lambda x: one(x, None), states[0])
    if math.prod(sizes[0]) > MOST_OUTCOMES:
        raise NotEnumerated(f"{math.prod(sizes[0])} outcomes of a step")
    outcomes = np.array(list(itertools.product(*map(range, sizes[0]))), np.int32)
    assert len(outcomes) == math.prod(sizes[0])
    each = jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))

    @jax.jit
    def every(x, outcomes):
        return each(x, outcomes), jax.vmap(energy.energy)(x)

    # Run once on little data: what takes time is compiling.
    compiled = every.lower(table, outcomes).compile({"xla_backend_optimization_level": 0})
    (y, probability, info), energies = compiled(table, outcomes)
    assert sizes[-1] == sizes[0]
    shape = (len(states), len(outcomes))
    probability = np.broadcast_to(np.asarray(probability, np.float64), shape)
    # What cannot happen, such as accepting a state outside the space, leads nowhere.
    possible = (probability > 0).reshape(-1)
    flat = jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:])[possible], y)
    reached = np.repeat(np.arange(shape[0]), shape[1])
    reached[possible] = index(table, flat)
    return Moves(
        reached.reshape(shape),
        probability,
        np.asarray(info.acceptance, np.float64),
        np.asarray(info.energy, np.float64),
        _normalised(energies),
    )


@functools.cache
def pairs() -> list[tuple[str, str]]:
    """Every kernel with every discrete energy its `check` accepts, by their registered names.

    Kernels of `registry.ON_A_FEW` only with those of `registry.FEW`.
    """
    found = []
    for energy_name, make in registry.DISCRETE.items():
        energy = make()
        for kernel_name, kernel in registry.KERNELS.items():
            if kernel_name in registry.ON_A_FEW and energy_name not in registry.FEW:
                continue
            with contextlib.suppress(ValueError):
                kernel(energy).check(energy)
                found.append((kernel_name, energy_name))
    return found


@functools.cache
def _registered(kernel_name: str, energy_name: str) -> Moves | None:
    with jax.enable_x64(True), contextlib.suppress(NotEnumerated):
        energy = registry.DISCRETE[energy_name]()
        return moves(*whole(registry.KERNELS[kernel_name](energy), energy))


def registered(kernel_name: str, energy_name: str) -> Moves:
    """The moves of a registered pair, in float64; the test is skipped where there are too many.

    Such kernels are left to the statistical tests of `test_invariance`.
    """
    made = _registered(kernel_name, energy_name)
    if made is None:
        pytest.skip("not enumerated: chains of exact draws are compared with p instead")
    return made
