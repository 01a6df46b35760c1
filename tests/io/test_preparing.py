"""Preparing data: exact values, sizes and inverses; the law of random binarising."""

import jax
import jaxtyping
import numpy as np
import pytest
from PIL import Image

from energax import io
from energax.random import key

ROWS = np.random.default_rng(0).normal(size=(50, 3)) * [1.0, 100.0, 1e-3] + [0.0, 5.0, 1e3]


@pytest.mark.parametrize(
    ("rows", "options", "want"),
    [
        (np.array([[0, 127, 128, 255]], np.uint8), {}, [[0, 0, 1, 1]]),
        (np.array([[0, 25, 26, 255]], np.uint8), {"threshold": 0.1}, [[0, 0, 1, 1]]),
        (np.array([[0, 32767, 32768]], np.uint16), {}, [[0, 0, 1]]),
        (np.array([[-128, -1, 0, 127]], np.int8), {}, [[0, 0, 1, 1]]),
        (np.array([[0, 63, 64, 127]], np.int8), {}, [[0, 0, 1, 1]]),
        (np.array([[5, 16383, 16384]], np.int16), {}, [[0, 0, 1]]),
        (np.array([[0.2, 0.5, 0.51, 1.0]]), {}, [[0, 0, 1, 1]]),
        (np.array([[0, 7, 8, 15]]), {"low": 0, "high": 15}, [[0, 0, 1, 1]]),
        (np.array([[-1.0, 0.2, 1.0]]), {"low": -1, "high": 1}, [[0, 1, 1]]),
        (np.array([[0, 1]]), {"low": 0, "high": 255}, [[0, 0]]),
    ],
)
def test_binarise_at_a_threshold(rows, options, want):
    bits = io.binarise(rows, **options)
    assert bits.dtype == np.uint8
    np.testing.assert_array_equal(bits, want)


@pytest.mark.parametrize(
    ("rows", "want"),
    [
        (np.array([[0, 1, 1]]), [[0, 1, 1]]),
        (np.array([[0.0, 1.0]]), [[0, 1]]),
        (np.array([[-1, 1]]), [[0, 1]]),
        (np.array([[-1.0, -1.0]]), [[0, 0]]),
        (np.array([[True, False]]), [[1, 0]]),
        (np.zeros((2, 2), np.uint8), [[0, 0], [0, 0]]),
        (np.ones((1, 2)), [[1, 1]]),
    ],
)
@pytest.mark.parametrize("options", [{}, {"threshold": 0.3}, {"key": 0}])
def test_two_valued_rows_become_zeros_and_ones_as_they_stand(rows, want, options):
    if "key" in options:
        options = {"key": key(0)}
    result = io.binarise(rows, **options)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, want)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_a_scale_that_is_not_the_datas_is_refused(dtype):
    digits = np.arange(17, dtype=dtype).reshape(1, -1)
    with pytest.raises(ValueError, match=r"from 0 to 16.*come out as 0.*high=16 \(--low 0 --hi"):
        io.binarise(digits)
    np.testing.assert_array_equal(io.binarise(digits, low=0, high=16), digits > 8)
    assert io.binarise(digits, key=key(0)).shape == (1, 17)  # draws are few, and lawful


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[0.1, 0.3]], r"from 0.1 to 0.3.*as 0.*low=0 and high=0.3"),
        ([[0.7, 0.9]], r"as 1 on a scale from 0 to 1.*low=0.7 and high=0.9"),
        (np.array([[200, 255]], np.uint8), "as 1.*low=200 and high=255"),
    ],
)
def test_a_cut_that_makes_all_alike_is_refused(rows, words):
    with pytest.raises(ValueError, match=words):
        io.binarise(rows)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_grey_is_what_pillow_makes_of_colour(dtype):
    scale = {np.uint8: 1, np.uint16: 257, np.float32: 1 / 255}[dtype]
    colours = np.random.default_rng(0).integers(0, 256, (1030, 3, 5, 3), np.uint8)
    grey = io.to_grey((colours.astype(float) * scale).astype(dtype))
    assert grey.dtype == dtype
    assert grey.shape == (1030, 3, 5)
    pillow = np.stack([Image.fromarray(image).convert("L") for image in colours])
    assert np.abs(grey / scale - pillow).max() <= 1.0  # it rounds in another way
    opaque = np.concatenate([colours, np.full((1030, 3, 5, 1), 255, np.uint8)], axis=-1)
    np.testing.assert_array_equal(io.to_grey(opaque), io.to_grey(colours))


def test_random_bits_have_the_entries_as_probabilities():
    n = 40_000
    levels = np.array([0, 51, 128, 255], np.uint8)
    bits = io.binarise(np.tile(levels, (n, 1)), key=key(3))
    share, p = bits.mean(0), levels / 255
    # Five standard errors, two sides, two columns: a false alarm in about 10^6 seeds.
    assert np.all(np.abs(share - p) <= 5 * np.sqrt(p * (1 - p) / n))
    assert share[0] == 0
    assert share[3] == 1
    np.testing.assert_array_equal(bits, io.binarise(np.tile(levels, (n, 1)), key=key(3)))


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (0.1, 0.7)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_scale_reaches_both_ends_exactly_and_inverts(low, high, dtype):
    rows = np.abs(ROWS).astype(dtype)
    scaled, scaling = io.scale(rows, low=low, high=high)
    assert scaled.dtype == (np.float64 if dtype == np.float64 else np.float32)
    ends = np.asarray([low, high], scaled.dtype)
    varying = rows.min(0) < rows.max(0)
    np.testing.assert_array_equal(scaled.min(0)[varying], ends[0])
    np.testing.assert_array_equal(scaled.max(0)[varying], ends[1])
    np.testing.assert_allclose(scaling.invert(scaled), rows, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(scaling.apply(rows), scaled)


def test_standardise_gives_mean_0_and_deviation_1():
    standardised, scaling = io.standardise(ROWS)
    np.testing.assert_allclose(standardised.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(standardised.std(0), 1, rtol=1e-9)
    np.testing.assert_allclose(scaling.invert(standardised), ROWS, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 1e17, 1e-300])
@pytest.mark.parametrize("prepare", [io.scale, io.standardise])
def test_constant_columns_become_0_and_come_back(prepare, value):
    rows = np.full((7, 2), value)
    prepared, scaling = prepare(rows)
    np.testing.assert_array_equal(prepared, 0)
    np.testing.assert_array_equal(scaling.invert(prepared), rows)


@pytest.mark.parametrize("prepare", [io.scale, io.standardise])
def test_a_reference_sets_the_scale(prepare):
    _, scaling = prepare(ROWS)
    other, again = prepare(ROWS[:4] * 3, reference=ROWS)
    np.testing.assert_array_equal(again.spread, scaling.spread)
    np.testing.assert_array_equal(other, scaling.apply(ROWS[:4] * 3))


def test_scale_keeps_shapes_beyond_one_axis():
    images = np.random.default_rng(1).random((5, 2, 3, 1))
    scaled, scaling = io.scale(images)
    assert scaled.shape == images.shape
    assert scaling.centre.shape == (2, 3, 1)


@pytest.mark.parametrize(
    ("n", "fractions", "sizes"),
    [
        (10, [0.8, 0.2], [8, 2]),
        (10, [0.7, 0.2, 0.1], [7, 2, 1]),
        (7, [1 / 3, 1 / 3, 1 / 3], [2, 3, 2]),
        (10, [0.5], [5]),
        (10, [1.0], [10]),
        (10, [0.1] * 10, [1] * 10),
    ],
)
def test_split_is_disjoint_with_exact_sizes(n, fractions, sizes):
    rows = np.arange(n * 2).reshape(n, 2)
    parts = io.split(rows, fractions, key=key(1))
    assert [len(part) for part in parts] == sizes
    together = np.concatenate(parts)
    assert len(np.unique(together[:, 0])) == sum(sizes)
    assert set(together[:, 0]) <= set(rows[:, 0])
    pairs = io.split(rows, fractions, key=key(1), labels=np.arange(n))
    for part, (same, labels) in zip(parts, pairs, strict=True):
        np.testing.assert_array_equal(part, same)
        np.testing.assert_array_equal(part[:, 0], 2 * labels)


def test_split_depends_on_the_key():
    rows = np.arange(10)
    first, again = (io.split(rows, [0.5], key=key(0))[0] for _ in range(2))
    other = io.split(rows, [0.5], key=key(1))[0]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


K = key(0)
NAN = np.array([[1.0], [np.nan]])
BAD = {
    "both": (io.binarise, [[0.3]], {"threshold": 0.5, "key": K}, "not both"),
    "threshold of 1": (io.binarise, [[0.3]], {"threshold": 1.0}, "between 0 and 1"),
    "threshold of text": (io.binarise, [[0.3]], {"threshold": "a"}, "must be a number"),
    "threshold of nan": (io.binarise, [[0.3]], {"threshold": np.nan}, "finite"),
    "no key": (io.binarise, [[0.3]], {"key": 3}, "one random key"),
    "many keys": (io.binarise, [[0.3]], {"key": jax.random.split(K)}, r"shape \(2,\)"),
    "low alone": (io.binarise, [[0.3]], {"low": 0}, "both low and high"),
    "low above high": (io.binarise, [[0.3]], {"low": 1, "high": 0}, "low must be below high"),
    "beyond 1": (io.binarise, [[0.3], [2.0]], {}, "1 entries do not.*row 1.*give low and high"),
    "beyond high": (io.binarise, [[3], [20]], {"low": 0, "high": 9}, "between 0 and 9.*row 1"),
    "wide integers": (io.binarise, [[3], [20]], {}, "int64.*low and high"),
    "grey of grey": (io.to_grey, np.zeros((2, 4, 4)), {}, r"3 or 4\), got \(2, 4, 4\)"),
    "transparent": (io.to_grey, np.zeros((1, 2, 2, 4), np.uint8), {}, "transparent"),
    "nan": (io.binarise, NAN, {}, "1 NaN.*row 1"),
    "strings": (io.binarise, [["a"]], {}, "dtype <U1"),
    "ragged": (io.binarise, [[1, 0], [1]], {}, "cannot be read as an array"),
    "objects": (io.binarise, np.array([[None]]), {}, "dtype object"),
    "dates": (io.scale, np.array(["2020-01-01"], "M8[D]"), {}, "datetime64"),
    "complex": (io.scale, np.ones((2, 2), complex), {}, "complex128"),
    "scale low": (io.scale, [[0.3]], {"low": 1.0}, "below high"),
    "scale inf": (io.scale, [[0.3]], {"high": np.inf}, "finite"),
    "scale none": (io.scale, np.zeros((0, 3)), {}, "empty"),
    "scale one number": (io.scale, 3.0, {}, "axes"),
    "scale nan": (io.scale, NAN, {}, "1 NaN"),
    "scale reference": (io.scale, [[1.0, 2.0]], {"reference": [[1.0]]}, r"\(n, 1\).*\(1, 2\)"),
    "scale reference nan": (io.scale, [[1.0]], {"reference": NAN}, "reference holds 1 NaN"),
    "scale beyond floats": (io.scale, [[-1e308], [1e308]], {}, "beyond what floats hold"),
    "standardise nan": (io.standardise, NAN, {}, "1 NaN"),
    "split above 1": (io.split, [[1]] * 10, {"fractions": [0.9, 0.2], "key": K}, "at most 1"),
    "split of 0": (io.split, [[1]] * 10, {"fractions": [1, 0], "key": K}, "positive"),
    "split of nothing": (io.split, [[1]] * 10, {"fractions": [], "key": K}, "positive"),
    "split of a number": (io.split, [[1]] * 10, {"fractions": 0.5, "key": K}, "a list"),
    "split of text": (io.split, [[1]] * 10, {"fractions": "ab", "key": K}, "a list"),
    "split too fine": (io.split, [[1]] * 10, {"fractions": [0.01, 0.5], "key": K}, "leaves none"),
    "split no rows": (io.split, [], {"fractions": [0.5], "key": K}, "at least one row"),
    "split no key": (io.split, [[1]] * 10, {"fractions": [0.5], "key": 0}, "one random key"),
    "split labels": (
        io.split,
        [[1]] * 10,
        {"fractions": [0.5], "key": K, "labels": [1]},
        "10 rows",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_refused_in_one_line(case, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # types are not checked for
    function, rows, options, words = BAD[case]
    with pytest.raises(ValueError, match=words) as caught:
        function(rows, **options)
    assert "\n" not in str(caught.value)


def test_scaling_refuses_other_columns():
    _, scaling = io.scale(ROWS)
    with pytest.raises(ValueError, match=r"rows must have shape \(n, 3\).*got \(50, 2\)"):
        scaling.apply(ROWS[:, :2])
    with pytest.raises(ValueError, match="1 NaN"):
        scaling.invert(np.array([[np.nan, 0, 0]]))
