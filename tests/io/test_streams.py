"""Rows read from their files by number are the rows of the file."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import energax as ex

RNG = np.random.default_rng(0)
NUMBERS = [0, 1, 2, 7, 7, 499, 3, 250, 249, 0]


def saved(path, array):
    np.save(path, array)
    return path


def written(path, *, rows=100, group=30, seed=0, **more):
    rng = np.random.default_rng(seed)
    columns = {"a": rng.normal(size=rows), "b": rng.normal(size=rows), **more}
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path, np.stack([columns["a"], columns["b"]], axis=1)


ARRAYS = {
    "bytes": RNG.integers(0, 256, (500, 3, 5), np.uint8),
    "booleans": RNG.random((500, 9)) < 0.5,
    "floats": RNG.normal(size=(500, 4)),
    "big-endian": RNG.normal(size=(500, 4)).astype(">f4"),
    "labels": RNG.integers(-5, 5, 500),
    "long rows": RNG.normal(size=(500, 3000)),  # longer than what is read over
}


@pytest.mark.parametrize("name", ARRAYS)
def test_rows_of_an_array_are_those_of_the_file(name, tmp_path):
    array = ARRAYS[name]
    path = saved(tmp_path / "x.npy", array)
    for rows in (ex.stream(path), ex.stream(np.load(path, mmap_mode="r")), ex.stream(array)):
        assert len(rows) == 500
        taken = rows.take(NUMBERS)
        assert taken.dtype == array.dtype
        np.testing.assert_array_equal(taken, array[NUMBERS])
        assert rows.take([]).shape == (0, *array.shape[1:])
        np.testing.assert_array_equal(rows.take(np.arange(500)), array)


@pytest.mark.parametrize("part", [slice(3, 400), slice(400, 10, -3), slice(None, None, 7)])
def test_a_view_of_a_memory_map_is_read_where_it_lies(part, tmp_path):
    array = ARRAYS["floats"]
    whole = np.load(saved(tmp_path / "x.npy", array), mmap_mode="r")
    numbers = [0, 5, 5, 40, 1]
    np.testing.assert_array_equal(ex.stream(whole[part]).take(numbers), array[part][numbers])
    again = whole[10:][part]
    np.testing.assert_array_equal(ex.stream(again).take(numbers), array[10:][part][numbers])


def test_a_raw_memory_map_with_an_offset(tmp_path):
    array = ARRAYS["bytes"].reshape(500, -1)
    (tmp_path / "raw").write_bytes(b"head" + array.tobytes())
    rows = np.memmap(tmp_path / "raw", np.uint8, "r", 4, array.shape)
    np.testing.assert_array_equal(ex.stream(rows).take(NUMBERS), array[NUMBERS])


def test_bits_are_unpacked_and_rows_transformed(tmp_path):
    packed = ARRAYS["bytes"].reshape(500, -1)
    path = saved(tmp_path / "x.npy", packed)
    bits = np.unpackbits(packed, axis=-1)
    np.testing.assert_array_equal(ex.stream(path, unpack_bits=True).take(NUMBERS), bits[NUMBERS])
    flipped = ex.stream(path, unpack_bits=True, transform=lambda rows: 1 - rows)
    np.testing.assert_array_equal(flipped.take(NUMBERS), 1 - bits[NUMBERS])


def test_tables_are_read_one_after_another(tmp_path):
    tables = [written(tmp_path / f"{i}.parquet", rows=100 + i, seed=i) for i in range(3)]
    paths, arrays = zip(*tables, strict=True)
    whole = np.concatenate(arrays)
    numbers = [302, 0, 5, 101, 5, 299, 100]
    for rows in (ex.stream(tmp_path), ex.stream(list(paths)), ex.stream(tmp_path, window=10)):
        assert len(rows) == 303
        assert rows.columns == ("a", "b")
        np.testing.assert_array_equal(rows.take(numbers), whole[numbers])
        np.testing.assert_array_equal(rows.take(np.arange(303)), whole)
    assert ex.stream(tmp_path).place(101) == f"row 1 of {paths[1]}"
    swapped = ex.stream(paths[0], columns=["b", "a"])
    np.testing.assert_array_equal(swapped.take([4, 3]), arrays[0][[4, 3], ::-1])


def test_tables_keep_no_more_groups_than_a_window_needs(tmp_path):
    path, _ = written(tmp_path / "x.parquet", rows=1000, group=50)
    rows = ex.stream(path, window=100)
    rows.take(np.arange(1000))
    assert sum(map(len, rows.source._kept.values())) <= 150


@pytest.mark.parametrize("kind", ["array", "table"])
def test_some_rows_can_be_selected(kind, tmp_path):
    if kind == "array":
        whole = ARRAYS["floats"][:100]
        path = saved(tmp_path / "x.npy", whole)
    else:
        path, whole = written(tmp_path / "x.parquet")
    numbers = np.array([70, 3, 99, 31, 30, 0])
    rows = ex.stream(path).select(numbers)
    kept = whole[numbers] if kind == "array" else whole[np.sort(numbers)]
    assert len(rows) == 6
    np.testing.assert_array_equal(rows.take([5, 0, 0, 2]), kept[[5, 0, 0, 2]])
    assert rows.place(1) == f"row 3 of {path}"
    if kind == "table":
        assert rows.source.edges.tolist() == [0, 2, 4, 5, 6]
    with pytest.raises(ValueError, match="from 0 to 99"):
        ex.stream(path).select([100])


# --- what cannot be streamed -------------------------------------------------------------------


def test_a_file_that_shrinks_is_told_and_kills_nothing(tmp_path):
    path = saved(tmp_path / "x.npy", ARRAYS["floats"])
    rows = ex.stream(np.load(path, mmap_mode="r"))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"x\.npy has changed its size"):
        rows.take([0])
    path.unlink()
    with pytest.raises(ValueError, match=r"x\.npy cannot be read any more"):
        rows.take([0])


def refused(words, data, **options):
    with pytest.raises(ValueError, match=words) as caught:
        ex.stream(data, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("as_users_call")
def test_arrays_that_cannot_be_streamed_are_refused(tmp_path):
    array = ARRAYS["floats"]
    path = saved(tmp_path / "x.npy", array)
    whole = path.read_bytes()
    refused("no such file", tmp_path / "none.npy")
    refused("path, a list of paths or an array, got int", 3)
    (tmp_path / "cut.npy").write_bytes(whole[:-5])
    refused(r"cut\.npy.*truncated", tmp_path / "cut.npy")
    (tmp_path / "noise.npy").write_bytes(RNG.bytes(100))
    refused(r"noise\.npy.*expected a \.npy or a \.parquet", tmp_path / "noise.npy")
    refused(r"f\.npy is stored column by column", saved(tmp_path / "f.npy", array.T.copy().T))
    refused("must hold numbers", saved(tmp_path / "c.npy", array.astype(complex)))
    refused("must hold numbers", saved(tmp_path / "t.npy", array.astype(str)))
    refused("is empty", saved(tmp_path / "e.npy", array[:0]))
    refused("is empty", saved(tmp_path / "s.npy", np.array(3.0)))
    refused("copy-on-write", np.load(path, mmap_mode="c"))
    refused("one piece", np.load(path, mmap_mode="r")[:, ::2])
    refused("one piece", np.load(path, mmap_mode="r").T)
    refused("unpack_bits needs bytes", path, unpack_bits=True)
    refused("unpack_bits must be", path, unpack_bits=None)
    refused("transform must be", path, transform=3)
    refused("columns means nothing for an array", path, columns=["a"])
    refused("window means nothing for an array", path, window=10)
    refused(r"list must be one of paths", [array, array])
    with pytest.raises(ValueError, match="as many rows as it is given, 2"):
        ex.stream(path, transform=lambda rows: rows[:1]).take([0, 1])
    with pytest.raises(ValueError, match="from 0 to 499"):
        ex.stream(path).take([500])
    with pytest.raises(ValueError, match="list of integers"):
        ex.stream(path).take([0.5])


@pytest.mark.usefixtures("as_users_call")
def test_tables_that_cannot_be_streamed_are_refused(tmp_path):
    path, _ = written(tmp_path / "x.parquet", word=["a"] * 100)
    refused("column 'word' holds string, not numbers: leave it out by columns=", path)
    assert ex.stream(path, columns=["a"]).take([0]).shape == (1, 1)
    refused("one column 'c', it has 'a', 'b', 'word'", path, columns=["c"])
    refused("must be a list of names", path, columns="a")
    refused("must differ", path, columns=["a", "a"])
    refused("window must be", path, columns=["a"], window=0)
    (tmp_path / "empty").mkdir()
    refused(r"empty: the folder holds no \.parquet", tmp_path / "empty")
    whole = path.read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20])
    refused(r"cut\.parquet is not whole parquet", tmp_path / "cut.parquet")
    other, _ = written(tmp_path / "other.parquet", c=[1] * 100)
    plain, _ = written(tmp_path / "plain.parquet")
    refused(r"other\.parquet has the columns 'a', 'b', 'c', ", [plain, other])
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "whole.parquet")
    refused(r"whole\.parquet holds int64", [plain, tmp_path / "whole.parquet"])
    holes = pa.table({"a": [1.0, None, 3.0, None], "b": [1.0] * 4})
    pq.write_table(holes, tmp_path / "holes.parquet", row_group_size=3)
    rows = ex.stream(tmp_path / "holes.parquet")
    with pytest.raises(ValueError, match=r"holes\.parquet: column 'a' lacks 1 .* in row 3"):
        rows.take([3])
    pq.write_table(holes.slice(0, 0), tmp_path / "none.parquet")
    refused(r"none\.parquet is empty", tmp_path / "none.parquet")


def test_parquet_names_the_extra(tmp_path, monkeypatch):
    path, _ = written(tmp_path / "x.parquet")
    for loaded in [m for m in sys.modules if m.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused(r"energax\[files\]", path)
