"""Every space keeps its word: structure, base draws, membership, and the numbering of states."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import energax as ex
from energax.exact import all_states
from energax.spaces import Clamped
from oracles import ALARM, assert_drawn_from, assert_mean, draws, index_of, refused, states

FINITE = {
    "binary": lambda: (ex.Binary(4), 16),
    "one bit": lambda: (ex.Binary(), 2),
    "binary image": lambda: (ex.Binary((2, 3)), 64),
    "spin": lambda: (ex.Spin((3, 1)), 8),
    "one spin": lambda: (ex.Spin(), 2),
    "label": lambda: (ex.Categorical(n_states=5), 5),
    "labels": lambda: (ex.Categorical((2, 2), 3), 81),
    "one choice": lambda: (ex.Categorical(3, 1), 1),
    "count of a total": lambda: (ex.Count(3, total=4), 15),
    "count of one cell": lambda: (ex.Count((), total=4), 1),
    "count of nothing": lambda: (ex.Count((2, 2), total=0), 1),
    "count of one unit": lambda: (ex.Count((2, 2), total=1), 4),
    "joint": lambda: (
        ex.Joint(spin=ex.Spin(2), label=ex.Categorical((), 3), count=ex.Count(2, total=2)),
        36,
    ),
    "joint in a joint": lambda: (ex.Joint(a=ex.Joint(b=ex.Spin()), c=ex.Binary(2)), 8),
    "clamped binary": lambda: (
        Clamped(
            ex.Binary(4), jnp.array([1.0, 0.0, 1.0, 0.0]), jnp.array([True, False, True, False])
        ),
        4,
    ),
    "clamped spin": lambda: (
        Clamped(ex.Spin((2, 2)), -jnp.ones((2, 2)), jnp.array([[True, False], [False, False]])),
        8,
    ),
    "clamped labels": lambda: (
        Clamped(
            ex.Categorical(3, 4), jnp.array([3, 0, 2], jnp.int32), jnp.array([True, False, True])
        ),
        4,
    ),
    "all clamped": lambda: (Clamped(ex.Binary(2), jnp.array([1.0, 0.0]), jnp.ones(2, bool)), 1),
}
INFINITE = {
    "scalar": lambda: ex.Real(),
    "real": lambda: ex.Real((2, 3)),
    "box": lambda: ex.Box(3, -1.0, 2.0),
    "half line": lambda: ex.Box((2, 2), 0.5, jnp.inf),
    "box of many ends": lambda: ex.Box(
        4, [-jnp.inf, -jnp.inf, 0.0, 1.0], [jnp.inf, 1.0, 2.0, np.inf]
    ),
    "count": lambda: ex.Count((2, 2)),
    "mixed joint": lambda: ex.Joint(x=ex.Real(2), label=ex.Categorical((), 3)),
    "clamped real": lambda: Clamped(ex.Real(2), jnp.array([1.5, 0.0]), jnp.array([True, False])),
}
EVERY = {**{name: (lambda make=make: make()[0]) for name, make in FINITE.items()}, **INFINITE}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_a_draw_is_a_state_of_the_space(name, double):
    with jax.enable_x64(double):
        space = EVERY[name]()
        keys = jax.random.split(ex.key(1), 50)
        many, inside = jax.jit(
            lambda keys: (
                jax.vmap(space.draw)(keys),
                jax.vmap(lambda k: space.contains(space.draw(k)))(keys),
            )
        )(keys)
        one = jax.tree.map(lambda leaf: leaf[3], many)
        space.check(one)
        wanted = jax.tree.leaves(space.structure)
        assert [leaf.dtype for leaf in jax.tree.leaves(one)] == [leaf.dtype for leaf in wanted]
        floats = [leaf.dtype for leaf in wanted if jnp.issubdtype(leaf.dtype, jnp.floating)]
        assert all(dtype == (jnp.float64 if double else jnp.float32) for dtype in floats)
        assert inside.dtype == bool
        assert inside.shape == (50,)
        assert inside.all()


@pytest.mark.parametrize("name", FINITE)
@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_states_are_all_of_them_and_all_different(name, double):
    with jax.enable_x64(double):
        space, count = FINITE[name]()
        assert space.is_discrete
        assert space.cardinality == count
        every, inside = jax.jit(
            lambda: (all_states(space), jax.vmap(space.contains)(all_states(space)))
        )()
        rows = np.concatenate(
            [np.asarray(leaf, float).reshape(count, -1) for leaf in jax.tree.leaves(every)], 1
        )
        assert len(np.unique(rows, axis=0)) == count
        assert inside.all()
        first = jax.tree.map(lambda leaf: leaf[0], every)
        space.check(first)
        wanted = jax.tree.leaves(space.structure)
        assert [leaf.dtype for leaf in jax.tree.leaves(first)] == [leaf.dtype for leaf in wanted]


@pytest.mark.parametrize("name", ["binary image", "spin", "labels", "label"])
def test_states_agree_with_itertools(name):
    space, count = FINITE[name]()
    every = all_states(space)
    assert sorted(index_of(space, every)) == list(range(count))
    assert len(states(space)) == count


def _states(space, numbers):
    return np.asarray(jax.jit(jax.vmap(lambda i: space.state(i)))(np.array(numbers, np.uint32)))


@pytest.mark.parametrize(("cells", "total"), [(2, 7), (3, 5), (4, 3), (5, 2)])
def test_states_of_a_count_are_its_compositions(cells, total):
    space = ex.Count(cells, total=total)
    expected = {
        tuple(counts) for counts in np.ndindex(*[total + 1] * cells) if sum(counts) == total
    }
    assert space.cardinality == math.comb(total + cells - 1, cells - 1) == len(expected)
    assert list(map(tuple, np.asarray(all_states(space)).tolist())) == sorted(expected)[::-1]


def test_states_of_a_count_are_numbered_beyond_31_bits():
    space = ex.Count(8, total=60)
    big = ex.Count(6, total=350)  # 45,674,610,696 states, of which 32 bits number the first
    first, last = _states(space, [0, space.cardinality - 1]).tolist()
    assert (first, last) == ([60, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 60])
    numbers = [2**31 - 1, 2**31, 2**32 - 1]
    for number, counts in zip(numbers, _states(big, numbers), strict=True):
        left = 350 - np.cumsum(counts)  # units that go to the cells that follow
        assert left[-1] == 0
        # Those before it leave fewer units at the first cell where they differ.
        assert sum(math.comb(int(r) - 1 + 5 - i, 5 - i) for i, r in enumerate(left) if r) == number


def test_digits_number_more_than_32_entries():
    for space, low, high in ((ex.Binary(40), 0, 1), (ex.Spin((5, 8)), -1, 1)):
        assert space.cardinality == 2**40
        numbers = [0, 1, 6, 2**31 + 5, 2**32 - 1]
        expected = [[high if (n >> i) & 1 else low for i in range(40)] for n in numbers]
        assert _states(space, numbers).reshape(5, 40).tolist() == expected


def test_states_of_labels_are_digits():
    space = ex.Categorical(7, 10)
    assert _states(space, [1234567]).tolist() == [[7, 6, 5, 4, 3, 2, 1]]
    assert space.cardinality == 10**7


def test_cardinality_is_exact_however_large():
    assert ex.Binary((28, 28)).cardinality == 2**784
    assert ex.Categorical(50, 7).cardinality == 7**50
    assert ex.Count(30, total=1000).cardinality == math.comb(1029, 29)
    joint = ex.Joint(a=ex.Binary(100), b=ex.Categorical(40, 3))
    assert joint.cardinality == 2**100 * 3**40


@pytest.mark.parametrize("name", INFINITE)
def test_infinite_spaces_have_no_cardinality(name):
    space = INFINITE[name]()
    assert space.cardinality is None
    assert space.is_discrete == (name == "count")
    with refused("many"):
        all_states(space)


def test_states_without_end_are_not_numbered():
    with refused("infinitely many", "total"):
        ex.Count(2).state(jnp.uint32(0))
    with refused("infinitely many", "'x'"):
        ex.Joint(x=ex.Real(), y=ex.Binary()).state(jnp.uint32(0))
    with refused("Real", "listed"):
        Clamped(ex.Real(2), jnp.zeros(2), jnp.ones(2, bool)).state(jnp.uint32(0))


@pytest.mark.parametrize(
    ("space", "outside"),
    [
        (lambda: ex.Real(2), [[np.inf, 0.0], [0.0, np.nan], [-np.inf, 0.0]]),
        (lambda: ex.Box(2, [0.0, -1.0], 1.0), [[-0.1, 0.0], [0.0, 1.1], [np.nan, 0.0]]),
        (lambda: ex.Box(2, 0.0, np.inf), [[np.inf, 0.0], [0.0, -1.0]]),
        (lambda: ex.Binary(2), [[0.5, 0.0], [-1.0, 1.0], [2.0, 0.0]]),
        (lambda: ex.Spin(2), [[0.0, 1.0], [1.0, 2.0]]),
        (lambda: ex.Categorical(2, 3), [[0, 3], [-1, 0]]),
        (lambda: ex.Count(2), [[-1, 2]]),
        (lambda: ex.Count(2, total=3), [[1, 1], [4, -1], [3, 3]]),
    ],
)
def test_contains_refuses_what_is_outside(space, outside):
    space = space()
    assert space.contains(space.draw(ex.key(0)))
    rows = jnp.asarray(outside, space.structure.dtype)
    assert not jax.jit(jax.vmap(lambda x: space.contains(x)))(rows).any()


def test_membership_of_a_joint_needs_every_part():
    space = ex.Joint(a=ex.Binary(2), b=ex.Categorical((), 3))
    good = {"a": jnp.array([0.0, 1.0]), "b": jnp.array(2)}
    assert space.contains(good)
    assert not space.contains({**good, "a": jnp.array([0.5, 1.0])})
    assert not space.contains({**good, "b": jnp.array(3)})


def test_membership_of_a_clamped_space_needs_the_held_values():
    space = Clamped(ex.Binary(2), jnp.array([1.0, 0.0]), jnp.array([True, False]))
    assert space.contains(jnp.array([1.0, 1.0]))
    assert not space.contains(jnp.array([0.0, 1.0]))
    assert not space.contains(jnp.array([1.0, 0.5]))


def test_ends_of_a_box_are_inside():
    space = ex.Box(2, [0.1, -1.0], [0.9, 1.0])
    assert space.contains(space.low)
    assert space.contains(space.high)


def test_clamping_puts_held_values_back():
    space = Clamped(ex.Binary(3), jnp.array([1.0, 0.0, 1.0]), jnp.array([True, True, False]))
    np.testing.assert_array_equal(space.clamp(jnp.zeros(3)), [1.0, 0.0, 0.0])
    joint = ex.Joint(a=space, b=ex.Spin())
    clamped = joint.clamp({"a": jnp.zeros(3), "b": jnp.array(-1.0)})
    np.testing.assert_array_equal(clamped["a"], [1.0, 0.0, 0.0])
    assert clamped["b"] == -1
    assert ex.Real(2).clamp("anything") == "anything"


@pytest.mark.parametrize("name", ["binary", "spin", "labels", "joint in a joint", "clamped labels"])
def test_base_draws_of_bounded_discrete_spaces_are_uniform(name):
    space, count = FINITE[name]()
    drawn = draws(space, 8_000, 2)
    every = all_states(space)
    flat = [
        np.concatenate(
            [np.asarray(leaf, float).reshape(len(leaf), -1) for leaf in jax.tree.leaves(x)], 1
        )
        for x in (every, drawn)
    ]
    lookup = {row.tobytes(): i for i, row in enumerate(flat[0])}
    counts = np.bincount([lookup[row.tobytes()] for row in flat[1]], minlength=count)
    assert_drawn_from(counts, np.full(count, 1 / count))


def test_base_draws_of_counts():
    counts = draws(ex.Count(2), 4_000, 3)
    seen = np.bincount(np.minimum(np.asarray(counts).reshape(-1), 8), minlength=9)
    assert_drawn_from(seen, np.append(0.5 ** np.arange(1.0, 9.0), 0.5**8))  # geometric, mean 1
    space = ex.Count(3, total=2)
    drawn = draws(space, 4_000, 4)
    table = np.asarray(all_states(space))
    seen = [(np.asarray(drawn) == row).all(1).sum() for row in table]
    assert_drawn_from(np.array(seen), stats.multinomial(2, np.full(3, 1 / 3)).pmf(table))


@pytest.mark.parametrize(
    ("space", "law"),
    [
        (lambda: ex.Real(), stats.norm()),
        (lambda: ex.Box((), -1.0, 3.0), stats.uniform(-1, 4)),
        (lambda: ex.Box((), 2.0, np.inf), stats.expon(2.0)),
        (lambda: ex.Box((), -np.inf, np.inf), stats.norm()),
    ],
    ids=["real", "box", "half line", "line"],
)
def test_base_draws_of_continuous_spaces(space, law):
    drawn = draws(space(), 5_000, 5)
    assert stats.kstest(np.asarray(drawn), law.cdf).pvalue > ALARM


def test_base_draws_below_one_end_hang_from_it():
    drawn = draws(ex.Box((), -np.inf, 2.0), 5_000, 6)
    assert stats.kstest(2.0 - np.asarray(drawn), stats.expon.cdf).pvalue > ALARM


def test_entries_are_drawn_independently():
    drawn = draws(ex.Spin(4), 4_000, 7)
    x = np.asarray(drawn)
    products = np.stack([x[:, i] * x[:, j] for i in range(4) for j in range(i)], 1)
    assert_mean(products, 0.0)


def test_check_names_expected_and_got():
    with refused("start", "(2,)", "(3,)"):
        ex.Binary(2).check(jnp.zeros(3), name="start")
    with refused("()", "(1,)"):
        ex.Real().check(jnp.zeros(1))
    joint = ex.Joint(a=ex.Binary(2), b=ex.Real())
    with refused("PyTreeDef", "'a'", "'b'"):
        joint.check({"a": jnp.zeros(2)})
    with refused("(2,)", "(4,)"):
        joint.check({"a": jnp.zeros(4), "b": jnp.zeros(())})
    joint.check({"b": jnp.zeros(()), "a": jnp.zeros(2)})


def test_parts_of_a_joint_are_sorted_as_jax_sorts_them():
    space = ex.Joint(z=ex.Binary(2), a=ex.Spin())
    assert list(space.parts) == ["a", "z"]
    assert list(space.draw(ex.key(0))) == ["a", "z"]
    assert list(ex.Joint({"z": ex.Real(), "a": ex.Real()}).parts) == ["a", "z"]


@pytest.mark.parametrize("name", EVERY)
def test_spaces_pass_through_jax_transformations(name):
    space = EVERY[name]()
    leaves, tree = jax.tree.flatten(space)
    copy = jax.tree.unflatten(tree, leaves)
    assert jax.tree.structure(copy) == tree
    x = space.draw(ex.key(0))
    assert jax.jit(lambda s, x: s.contains(x))(copy, x)
    assert not any(isinstance(leaf, str) for leaf in leaves)


def test_ends_of_a_box_may_be_traced():
    @jax.jit
    def middle(low):
        space = ex.Box((2, 2), low, 1.0)
        assert space.low.shape == (2, 2)
        return space.contains(jnp.full((2, 2), 0.5))

    assert middle(0.2)
    assert not middle(0.7)
