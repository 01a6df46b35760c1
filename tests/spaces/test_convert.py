"""Rows of a user's data become states, or an error says what was expected and what came."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import energax as ex
from energax.spaces import Clamped
from oracles import as_users_run, refused

BITS = np.array([[0, 1, 1], [1, 0, 0]])


@pytest.mark.parametrize(
    "rows",
    [
        BITS,
        BITS.astype(bool),
        BITS.astype(np.uint8),
        BITS.astype(np.int8),
        BITS.astype(np.float16),
        BITS.astype(np.float32),
        BITS.astype(np.float64),
        2 * BITS - 1,
        (2 * BITS - 1).astype(np.float32),
        BITS.tolist(),
        BITS.astype(bool).tolist(),
        [tuple(row) for row in BITS.tolist()],
        BITS[:, None, :, None],
        jnp.asarray(BITS),
    ],
    ids=lambda rows: f"{type(rows).__name__}-{np.asarray(rows).dtype}-{np.shape(rows)}",
)
def test_two_values_in_any_code(rows):
    binary, spin = ex.Binary(3).convert(rows), ex.Spin(3).convert(rows)
    assert binary.dtype == spin.dtype == jnp.float32
    np.testing.assert_array_equal(binary, BITS)
    np.testing.assert_array_equal(spin, 2 * BITS - 1)


def test_one_value_alone_is_read_in_the_right_code():
    np.testing.assert_array_equal(ex.Spin(2).convert([[0, 0]]), [[-1, -1]])
    np.testing.assert_array_equal(ex.Spin(2).convert([[-1, -1]]), [[-1, -1]])
    np.testing.assert_array_equal(ex.Spin(2).convert([[1, 1]]), [[1, 1]])
    np.testing.assert_array_equal(ex.Binary(2).convert([[-1, -1]]), [[0, 0]])
    np.testing.assert_array_equal(ex.Binary(2).convert([[1, 1]]), [[1, 1]])


@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_states_have_the_dtypes_of_the_space(double):
    with jax.enable_x64(double):
        spaces = {
            "b": ex.Binary(2),
            "s": ex.Spin(2),
            "r": ex.Real(2),
            "x": ex.Box(2),
            "c": ex.Categorical(2, 2),
            "n": ex.Count(2),
        }
        data = {name: np.array([[0, 1], [1, 1]]) for name in spaces}
        space = ex.Joint(spaces)
        rows = space.convert(data)
        for name, part in space.structure.items():
            assert rows[name].dtype == part.dtype
            assert rows[name].shape == (2, *part.shape)
        assert jax.vmap(space.contains)(rows).all()


def test_images_and_flat_rows_are_one_another():
    flat = np.arange(12.0).reshape(2, 6)
    image = ex.Real((2, 3)).convert(flat)
    np.testing.assert_array_equal(image, flat.reshape(2, 2, 3))
    np.testing.assert_array_equal(ex.Real(6).convert(np.asarray(image)), flat)
    np.testing.assert_array_equal(ex.Real((2, 3, 1)).convert(flat).reshape(2, 6), flat)


def test_images_on_their_side_are_not_taken_for_upright_ones():
    images = np.zeros((2, 3, 2))
    with refused("data must have shape (rows, 2, 3)", "(2, 3, 2)"):
        ex.Real((2, 3)).convert(images)
    assert ex.Real((2, 3)).convert(np.zeros((2, 2, 3, 1))).shape == (2, 2, 3)


def test_a_column_is_rows_of_scalars():
    np.testing.assert_array_equal(ex.Real().convert([[1.5], [2.5]]), [1.5, 2.5])
    np.testing.assert_array_equal(ex.Categorical((), 3).convert(np.array([[2], [0]])), [2, 0])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_labels_and_one_hot_rows(dtype):
    one_hot = np.eye(4)[[2, 0, 3]].astype(dtype)
    np.testing.assert_array_equal(ex.Categorical((), 4).convert(one_hot), [2, 0, 3])
    table = np.eye(3)[[[0, 2], [1, 1]]].astype(dtype)
    np.testing.assert_array_equal(ex.Categorical(2, 3).convert(table), [[0, 2], [1, 1]])


def test_labels_as_whole_floats_and_small_integers():
    np.testing.assert_array_equal(ex.Categorical((), 300).convert(np.array([2.0, 299.0])), [2, 299])
    np.testing.assert_array_equal(
        ex.Categorical((), 300).convert(np.array([2, 200], np.uint8)), [2, 200]
    )
    square = np.array([[0, 1, 0], [2, 2, 1]])  # rows of three labels of three values: no one-hot
    np.testing.assert_array_equal(ex.Categorical(3, 3).convert(square), square)


def test_counts():
    rows = np.array([[0, 3], [2, 1]])
    for dtype in (np.uint8, np.int16, np.float64):
        np.testing.assert_array_equal(ex.Count(2).convert(rows.astype(dtype)), rows)
        np.testing.assert_array_equal(ex.Count(2, total=3).convert(rows.astype(dtype)), rows)
    large = np.full((1, 2), 200, np.uint8)
    np.testing.assert_array_equal(ex.Count(2, total=400).convert(large), [[200, 200]])


def test_the_ends_a_user_wrote_are_inside_the_box():
    space = ex.Box(2, 0.1, 0.9)  # neither end is a float32
    np.testing.assert_allclose(space.convert([[0.1, 0.9]]), [[0.1, 0.9]], rtol=1e-6)
    with refused("between 0.1 and 0.9", "0.9001"):
        space.convert([[0.1, 0.9001]])


def test_each_entry_of_a_box_has_its_own_ends():
    space = ex.Box(2, [0.0, -np.inf], [1.0, 0.0])
    assert space.convert([[0.5, -1e30]]).shape == (1, 2)
    with refused("-0.5", "row 1"):
        space.convert([[0.5, -1.0], [-0.5, -1.0]])


def test_joint_rows_and_clamped_rows():
    space = ex.Joint(image=ex.Binary((2, 2)), label=ex.Categorical((), 3))
    rows = space.convert({"label": np.eye(3)[[1, 2]], "image": np.ones((2, 4), bool)})
    np.testing.assert_array_equal(rows["label"], [1, 2])
    np.testing.assert_array_equal(rows["image"], np.ones((2, 2, 2)))
    held = Clamped(ex.Binary(2), jnp.array([1.0, 0.0]), jnp.array([True, False]))
    np.testing.assert_array_equal(held.convert([[1, 1], [1, 0]]), [[1, 1], [1, 0]])
    with refused("data", "observed values", "row 1"):
        held.convert([[1, 1], [0, 0]])


SPACES = {
    "real": lambda: ex.Real(2),
    "box": lambda: ex.Box(2, 0.0, 2.0),
    "binary": lambda: ex.Binary(2),
    "spin": lambda: ex.Spin(2),
    "labels": lambda: ex.Categorical(2, 3),
    "count": lambda: ex.Count(2),
    "count of a total": lambda: ex.Count(2, total=2),
    "clamped": lambda: Clamped(ex.Binary(2), jnp.zeros(2), jnp.zeros(2, bool)),
}
EVERYWHERE = {
    "nan": ([[0.0, np.nan], [1.0, 1.0]], ["rows", "NaN", "row 0"]),
    "infinity": ([[1.0, 1.0], [np.inf, 1.0]], ["rows", "inf", "row 1"]),
    "a wrong shape": (np.ones((4, 3)), ["rows", "(rows, 2)", "(4, 3)"]),
    "one row": ([1, 1], ["rows", "(rows, 2)", "(2,)", "list"]),
    "a number": (1.0, ["rows", "empty", "(2,)"]),
    "nothing": ([], ["rows", "empty", "(2,)"]),
    "no rows": (np.ones((0, 2)), ["rows", "empty", "(2,)"]),
    "rows of nothing": (np.ones((3, 0)), ["rows", "(rows, 2)", "(3, 0)"]),
    "strings": ([["a", "b"]], ["rows", "numbers", "<U1"]),
    "numbers as strings": ([["0", "1"]], ["rows", "numbers", "<U1"]),
    "objects": (np.array([[None, object()]]), ["rows", "numbers", "object"]),
    "none": (None, ["rows", "numbers", "object"]),
    "a dictionary": ({"a": [1]}, ["rows", "numbers", "object"]),
    "ragged rows": ([[1, 0], [1]], ["rows", "array"]),
    "complex numbers": ([[1j, 0]], ["rows", "numbers", "complex"]),
    "dates": (np.array([["2020-01-01"] * 2], "datetime64[D]"), ["rows", "numbers", "datetime"]),
}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("what", EVERYWHERE)
def test_every_space_refuses(space, what):
    data, words = EVERYWHERE[what]
    with refused(*words):
        SPACES[space]().convert(data, name="rows")


@pytest.mark.parametrize(
    ("space", "data", "words"),
    [
        (lambda: ex.Real(), [1e300], ["finite", "float32", "1e+300"]),
        (lambda: ex.Box(2), [[0.5, 1.5]], ["between 0 and 1", "1.5", "row 0"]),
        (lambda: ex.Box(2), [[0.5, 0.5], [-1, 0]], ["between 0 and 1", "-1", "row 1"]),
        (lambda: ex.Box((), 0.0, np.inf), [1.0, np.inf], ["between 0 and inf", "row 1"]),
        (lambda: ex.Binary(2), [[0.5, 1.0]], ["0 and 1", "0.5"]),
        (lambda: ex.Binary(2), [[0, 255]], ["0 and 1", "255"]),
        (lambda: ex.Binary(2), [[0, 1], [1, 2]], ["0 and 1", "2 in row 1", "1 such"]),
        (lambda: ex.Binary(3), [[-1, 0, 1]], ["0 and 1", "mixture of -1, 0 and 1"]),
        (lambda: ex.Spin(3), [[-1, 0, 1]], ["-1 and 1", "mixture of -1, 0 and 1"]),
        (lambda: ex.Spin(2), [[-1, 2]], ["-1 and 1", "got 2"]),
        (lambda: ex.Binary(3), [[-1, 0, 2]], ["0 and 1", "row 0"]),
        (lambda: ex.Categorical(2, 3), [[0, 3]], ["0 to 2", "got 3"]),
        (lambda: ex.Categorical(2, 3), [[0, -1]], ["0 to 2", "got -1"]),
        (lambda: ex.Categorical(2, 3), [[0.5, 1]], ["integers from 0 to 2", "got 0.5"]),
        (lambda: ex.Categorical((), 3), [[1, 1, 0]], ["one-hot", "[1 1 0]", "row 0"]),
        (lambda: ex.Categorical((), 3), [[0, 1, 0], [0, 0, 0]], ["one-hot", "[0 0 0]", "row 1"]),
        (lambda: ex.Categorical((), 3), [[0.5, 0.5, 0]], ["one-hot", "[0.5 0.5 0. ]"]),
        (lambda: ex.Categorical((), 3), [[2, 0, -1]], ["one-hot", "[ 2  0 -1]"]),
        (lambda: ex.Categorical((), 3), np.ones((2, 4)), ["(rows,)", "(2, 4)"]),
        (lambda: ex.Count(2), [[1, -1]], ["non-negative whole", "got -1"]),
        (lambda: ex.Count(2), [[1, 1.5]], ["non-negative whole", "got 1.5"]),
        (lambda: ex.Count(2), [[1, 2.0**31]], ["non-negative whole"]),
        (lambda: ex.Count(2, total=3), [[1, 2], [1, 1]], ["sum to 3", "got 2 in row 1"]),
    ],
)
def test_values_outside_a_space_are_refused(space, data, words):
    with refused("data", *words):
        space().convert(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.ones((2, 2)), ["dictionary", "'a', 'b'", "ndarray"]),
        ({"a": [[0, 1]]}, ["dictionary", "'a', 'b'", "['a']"]),
        ({"a": [[0, 1]], "b": [0], "c": [1]}, ["'a', 'b'", "'c'"]),
        ({"a": [[0, 1]], 3: [0]}, ["'a', 'b'", "'3'"]),
        ({"a": [[0, 1]], "b": [0, 1]}, ["as many rows", "'a': 1", "'b': 2"]),
        ({"a": [[0, 7]], "b": [0]}, ["data['a']", "0 and 1", "7"]),
        ({"a": [[0, 1]], "b": [9]}, ["data['b']", "0 to 2", "9"]),
    ],
)
def test_wrong_rows_of_a_joint_are_refused(data, words):
    with refused(*words):
        ex.Joint(a=ex.Binary(2), b=ex.Categorical((), 3)).convert(data)


@pytest.mark.parametrize("make", [ex.Real, ex.Binary, ex.Spin, ex.Count, ex.Box, ex.Categorical])
@pytest.mark.parametrize(
    "shape",
    [0, -1, (2, 0), (2, -3), True, (True,), 2.5, (2.5,), "12", None, [[2]], (None,), {"rows": 2}],
)
def test_shapes_are_refused(make, shape):
    with refused("shape", "integer", "got"):
        make(shape)


def test_shapes_in_any_form():
    for shape in ((2, 3), [2, 3], (np.int64(2), np.int32(3))):
        with as_users_run():
            assert ex.Binary(shape).shape == (2, 3)
    with as_users_run():
        assert ex.Real(np.int64(4)).shape == (4,)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ex.Box(2, 1.0, 1.0), ["low", "below high", "1.0"]),
        (lambda: ex.Box(2, 2.0, 1.0), ["low", "below high"]),
        (lambda: ex.Box(2, [0.0, 3.0], 1.0), ["low", "below high"]),
        (lambda: ex.Box(2, np.nan, 1.0), ["low", "below high", "nan"]),
        (lambda: ex.Box(2, [0.0, 0.0, 0.0], 1.0), ["low", "broadcast to (2,)"]),
        (lambda: ex.Box(2, 0.0, [1.0, 2.0, 3.0]), ["high", "broadcast to (2,)"]),
        (lambda: ex.Box(2, "a", 1.0), ["low", "numbers", "'a'"]),
        (lambda: ex.Box(2, 0.0, {}), ["high", "numbers", "{}"]),
        (lambda: ex.Box(2, 0.0, [[1.0], [1.0, 2.0]]), ["high", "numbers"]),
        (lambda: ex.Categorical((), 0), ["n_states", "at least 1", "0"]),
        (lambda: ex.Categorical((), -2), ["n_states", "at least 1", "-2"]),
        (lambda: ex.Categorical((), 2.0), ["n_states", "integer", "2.0"]),
        (lambda: ex.Categorical((), True), ["n_states", "integer", "True"]),
        (lambda: ex.Categorical((), "3"), ["n_states", "integer", "'3'"]),
        (lambda: ex.Count(2, total=-1), ["total", "non-negative", "-1"]),
        (lambda: ex.Count(2, total=1.5), ["total", "integer", "1.5"]),
        (lambda: ex.Count(2, total=np.inf), ["total", "integer", "inf"]),
        (lambda: ex.Count(2, total=np.nan), ["total", "integer", "nan"]),
        (lambda: ex.Count(2, total=True), ["total", "integer", "True"]),
        (lambda: ex.Count(2, total="4"), ["total", "integer", "'4'"]),
        (lambda: ex.Joint(), ["at least one"]),
        (lambda: ex.Joint({}), ["at least one"]),
        (lambda: ex.Joint(a=3), ["'a'", "space", "int"]),
        (lambda: ex.Joint(a=ex.Real), ["'a'", "space"]),
        (lambda: ex.Joint({1: ex.Real(), "a": ex.Real()}), ["strings", "1"]),
    ],
)
def test_bad_spaces_are_refused(make, words):
    with refused(*words):
        make()
