"""Every format is read exactly, and every bad file gives one line that says what is wrong."""

import gzip
import struct
import sys
import zipfile

import jaxtyping
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from energax import io
from energax.energies import Gaussian

IMAGES = np.arange(5 * 3 * 4, dtype=np.uint8).reshape(5, 3, 4)
BITS = np.array([[0b10110001, 0], [255, 1], [3, 128]], np.uint8)
LABELS = np.array([3, 1, 4, 1, 5])


def idx(array, code, big):
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(big).tobytes()


def check(data, rows, *, labels=None, test_rows=None, test_labels=None):
    for got, want in (
        (data.rows, rows),
        (data.labels, labels),
        (data.test_rows, test_rows),
        (data.test_labels, test_labels),
    ):
        if want is None:
            assert got is None
        else:
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
    assert "\n" not in data.description


def refusal(tmp_path, path, *words, **options):
    """The one-line error of reading `path`, which must leave nothing behind."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        io.read(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    for word in (str(path), *words):
        assert word in message, message
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "bool", "float16"])
def test_npy_keeps_dtype_and_values(tmp_path, dtype):
    rows = (IMAGES % 2).astype(dtype)
    np.save(tmp_path / "rows.npy", rows)
    data = io.read(tmp_path / "rows.npy")
    check(data, rows)
    assert data.source == str(tmp_path / "rows.npy")
    assert dtype in data.description
    assert "(5, 3, 4)" in data.description


@pytest.mark.parametrize(
    ("name", "unpack", "unpacked"),
    [
        ("train_bits", None, True),
        ("rows", None, False),
        ("rows", True, True),
        ("bits", False, False),
    ],
)
def test_bits_are_unpacked_by_name_or_on_demand(tmp_path, name, unpack, unpacked):
    np.save(tmp_path / f"{name}.npy", BITS)
    data = io.read(tmp_path / f"{name}.npy", unpack_bits=unpack)
    check(data, np.unpackbits(BITS, axis=-1) if unpacked else BITS)
    assert ("unpacked to (3, 16)" in data.description) == unpacked


@pytest.mark.parametrize(
    ("names", "options"),
    [
        ({"rows": "only"}, {}),
        ({"rows": "X", "labels": "y"}, {}),
        ({"rows": "data", "labels": "target"}, {}),
        ({"rows": "train_images", "labels": "train_labels"}, {}),
        (
            {"rows": "x_train", "labels": "y_train", "test": "x_test", "test_labels": "y_test"},
            {},
        ),
        (
            {
                "rows": "train_images",
                "labels": "train_labels",
                "test": "test_images",
                "test_labels": "test_labels",
            },
            {},
        ),
        ({"rows": "train_foo", "test": "test_foo"}, {}),
        ({"rows": "images", "labels": "labels", "other": "folds"}, {}),
        ({"rows": "a", "other": "b"}, {"array": "a"}),
        ({"rows": "a", "test": "b", "other": "c"}, {"array": "a", "test_array": "b"}),
        ({"rows": "a", "labels": "b", "other": "c"}, {"array": "a", "label_column": "b"}),
        ({"rows": "data", "labels": "folds", "other": "c"}, {"label_column": "folds"}),
    ],
)
def test_npz_by_the_usual_names_or_the_given_ones(tmp_path, names, options):
    content = {
        "rows": IMAGES,
        "labels": LABELS,
        "test": IMAGES[:2] + np.uint8(1),
        "test_labels": LABELS[:2],
        "other": np.zeros(7),
    }
    np.savez(tmp_path / "d.npz", **{name: content[what] for what, name in names.items()})
    data = io.read(tmp_path / "d.npz", **options)
    kept = {what: content[what] for what in names if what != "other"}
    check(
        data,
        kept["rows"],
        labels=kept.get("labels"),
        test_rows=kept.get("test"),
        test_labels=kept.get("test_labels"),
    )
    assert all(name in data.description for name in names.values())


def test_npz_asked_for_another_array_leaves_labels_that_are_not_its_own(tmp_path):
    np.savez_compressed(tmp_path / "d.npz", images=IMAGES, labels=LABELS, data=np.ones(2))
    check(io.read(tmp_path / "d.npz", array="images"), IMAGES, labels=LABELS)
    check(io.read(tmp_path / "d.npz", array="data"), np.ones(2))


def test_npz_unpacks_train_and_test(tmp_path):
    np.savez(tmp_path / "d.npz", train_bits=BITS, test_bits=BITS[:1])
    unpacked = np.unpackbits(BITS, axis=-1)
    check(io.read(tmp_path / "d.npz"), unpacked, test_rows=unpacked[:1])


def test_an_array_called_bits_that_holds_bits_is_left_as_it_is(tmp_path):
    whole = np.unpackbits(BITS, axis=-1)
    np.save(tmp_path / "bits.npy", whole)
    check(io.read(tmp_path / "bits.npy"), whole)
    check(io.read(tmp_path / "bits.npy", unpack_bits=True), np.unpackbits(whole, axis=-1))
    np.savez(tmp_path / "d.npz", train_bits=whole, test_bits=whole[:1])
    check(io.read(tmp_path / "d.npz"), whole, test_rows=whole[:1])
    # What the training rows are, the test rows are too, however few of them are set.
    few = np.zeros((1, 2), np.uint8)
    np.savez(tmp_path / "d.npz", train_bits=BITS, test_bits=few)
    check(io.read(tmp_path / "d.npz"), whole, test_rows=np.zeros((1, 16), np.uint8))


def test_the_names_of_the_arrays_are_told(tmp_path):
    np.savez(tmp_path / "d.npz", train_x=IMAGES, test_x=IMAGES[:1])
    data = io.read(tmp_path / "d.npz")
    assert (data.array, data.test_array) == ("train_x", "test_x")
    np.save(tmp_path / "rows.npy", IMAGES)
    assert io.read(tmp_path / "rows.npy").array is None


def test_labels_of_whole_floats_booleans_and_bytes(tmp_path):
    for given, want in (
        (np.array([0.0, 1.0, 2.0, 1.0, 0.0]), np.array([0, 1, 2, 1, 0])),
        (np.array([[1], [0], [1], [1], [0]]), np.array([1, 0, 1, 1, 0])),
        (np.array([True, False, True, True, False]), np.array([1, 0, 1, 1, 0])),
        (np.array([b"a", b"b", b"a", b"b", b"c"]), np.array(["a", "b", "a", "b", "c"])),
        (np.array(["é", "b", "a", "b", "c"]), np.array(["é", "b", "a", "b", "c"])),
    ):
        np.savez(tmp_path / "d.npz", X=IMAGES, y=given)
        check(io.read(tmp_path / "d.npz"), IMAGES, labels=want)


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("1,2.5\n-3e2,4\n", None),
        ("a,b\n1,2.5\n-3e2,4\n", ("a", "b")),
        ("\ufeffa, b\r\n1,2.5\r\n\r\n-3e2, 4\r\n", ("a", "b")),
        ('"x_1","say ""y"""\n1,2.5\n"-3e2",4', ("x_1", 'say "y"')),
        ("id,0\n1,2.5\n-300,4", ("id", "0")),
    ],
)
def test_csv_with_and_without_names(tmp_path, text, columns):
    (tmp_path / "t.csv").write_bytes(text.encode())
    data = io.read(tmp_path / "t.csv")
    check(data, np.array([[1, 2.5], [-300, 4]]))
    assert data.columns == columns


@pytest.mark.parametrize(
    ("text", "label_column", "labels", "columns"),
    [
        ("a,kind,b\n1,x,2\n3,y,4\n", "kind", np.array(["x", "y"]), ("a", "b")),
        ("a,kind,b\n1,7,2\n3,8,4\n", "kind", np.array([7, 8]), ("a", "b")),
        ("1,2,x\n3,4,y\n", -1, np.array(["x", "y"]), None),
        ("x,1,2\ny,3,4\n", 0, np.array(["x", "y"]), None),
    ],
)
def test_csv_labels(tmp_path, text, label_column, labels, columns):
    (tmp_path / "t.csv").write_text(text)
    data = io.read(tmp_path / "t.csv", label_column=label_column)
    check(data, np.array([[1.0, 2.0], [3.0, 4.0]]), labels=labels)
    assert data.columns == columns


def test_tsv(tmp_path):
    (tmp_path / "t.tsv").write_text("a\tb\n1\t2\n")
    check(io.read(tmp_path / "t.tsv"), np.array([[1.0, 2.0]]))


def test_parquet(tmp_path):
    table = pa.table(
        {
            "a": pa.array([1, 2], pa.int16()),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "b": pa.array([0.5, 1.5], pa.float32()),
            "c": pa.array([True, False]),
        }
    )
    folder = tmp_path / "year=3"  # a name some readers turn into a column
    folder.mkdir()
    pq.write_table(table, folder / "t.parquet")
    data = io.read(folder / "t.parquet", label_column="kind")
    check(data, np.array([[1, 0.5, 1], [2, 1.5, 0]], np.float32), labels=np.array(["x", "y"]))
    assert data.columns == ("a", "b", "c")


@pytest.mark.parametrize(
    ("code", "dtype", "big"),
    [
        (0x08, "uint8", ">u1"),
        (0x09, "int8", ">i1"),
        (0x0B, "int16", ">i2"),
        (0x0C, "int32", ">i4"),
        (0x0D, "float32", ">f4"),
        (0x0E, "float64", ">f8"),
    ],
)
def test_idx(tmp_path, code, dtype, big):
    rows = (IMAGES * 2.0).astype(dtype)
    for name in ("x-idx3-ubyte", "x.idx", "without-a-suffix"):
        (tmp_path / name).write_bytes(idx(rows, code, big))
        check(io.read(tmp_path / name), rows)
    (tmp_path / "x-idx3-ubyte.gz").write_bytes(gzip.compress(idx(rows, code, big)))
    check(io.read(tmp_path / "x-idx3-ubyte.gz"), rows)


@pytest.mark.parametrize(
    ("mode", "array"),
    [
        ("L", IMAGES[0]),
        ("RGB", np.stack([IMAGES[0]] * 3, -1)),
        ("RGBA", np.stack([IMAGES[0]] * 4, -1)),
        ("I;16", IMAGES[0].astype(np.uint16) * np.uint16(300)),
        ("1", IMAGES[0] > 4),
    ],
)
def test_images_keep_their_kind(tmp_path, mode, array):
    folder = tmp_path / "all"
    folder.mkdir()
    for name in ("b.png", "a.PNG"):
        Image.fromarray(array).save(folder / name, format="png")
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_text("not an image")
    check(io.read(folder), np.stack([array] * 2))
    check(io.read(folder / "b.png"), array[None])


def test_images_of_subfolders_are_labelled(tmp_path):
    for label, number in (("cat", 2), ("ant", 1)):
        (tmp_path / label).mkdir()
        for i in range(number):
            Image.fromarray(IMAGES[i]).save(tmp_path / label / f"{i}.png")
    (tmp_path / "empty").mkdir()
    rows = np.stack([IMAGES[0], IMAGES[0], IMAGES[1]])
    check(io.read(tmp_path), rows, labels=np.array(["ant", "cat", "cat"]))


def test_a_palette_becomes_colours(tmp_path):
    colours = Image.fromarray(np.stack([IMAGES[0]] * 3, -1))
    colours.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    assert io.read(tmp_path / "a.png").rows.shape == (1, 3, 4, 3)


def arrays(**content):
    return lambda path: np.savez(path, **content)


def text(content):
    return lambda path: path.write_text(content)


def raw(content):
    return lambda path: path.write_bytes(content)


def saved(array):
    return lambda path: np.save(path, array)


def cut(write, keep):
    def cut_short(path):
        write(path)
        path.write_bytes(path.read_bytes()[:keep])

    return cut_short


def table(**columns):
    return lambda path: pq.write_table(pa.table(columns), path)


class Harmful:
    def __reduce__(self):
        return (sys.exit, ("a pickle was run",))


def pickled(path):
    np.save(path, np.array([Harmful()], object), allow_pickle=True)


def pickled_archive(path):
    np.savez(path, X=np.array([Harmful()], object), allow_pickle=True)


def false_header(path):
    np.save(path, np.zeros((9, 9)))
    path.write_bytes(path.read_bytes().replace(b"(9, 9)", b"(9**9)"))


def immense_header(path):
    np.save(path, np.zeros((9, 1)))
    path.write_bytes(path.read_bytes().replace(b"(9, 1), }          ", b"(9999999999999, 1)}"))


def damaged_member(path):
    np.savez(path, X=np.zeros((50, 50)))
    content = bytearray(path.read_bytes())
    content[3000] ^= 255
    path.write_bytes(content)


def archive_of_text(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "nothing here")


def add(path):
    path.write_bytes(path.read_bytes() + b"0")


def under_another_name(path):
    np.save(path.with_suffix(".npy"), IMAGES)
    path.with_suffix(".npy").rename(path)


def with_another_checksum(path):
    content = bytearray(gzip.compress(IDX))
    content[-6] ^= 255
    path.write_bytes(content)


IDX = idx(IMAGES, 0x08, ">u1")
WITH_NAN = np.array([[1.0, 2.0], [np.nan, 3.0], [np.inf, np.nan]])

BAD = {
    "nothing there": ("x.npy", lambda path: None, {}, ["no such file"]),
    "empty": ("x.npy", raw(b""), {}, ["empty"]),
    "empty csv": ("x.csv", raw(b""), {}, ["empty"]),
    "blank csv": ("x.csv", text("\n\n"), {}, ["empty"]),
    "unknown": ("x.dat", raw(b"what is this"), {}, ["format is not known", ".npz"]),
    "pickle": ("x.pkl", raw(b"\x80\x04K\x01."), {}, ["pickles are never read"]),
    "npy is text": ("x.npy", text("1,2,3"), {}, ["by its name this is a numpy array"]),
    "npy is npz": ("x.npy", archive_of_text, {}, ["numpy archive"]),
    "csv is npy": ("x.csv", under_another_name, {}, ["numpy array"]),
    "idx is text": ("x-idx3-ubyte", text("1,2,3"), {}, ["IDX", "nothing that is known"]),
    "png is text": ("x.png", text("1,2,3"), {}, ["cannot be read"]),
    "objects": ("x.npy", pickled, {}, ["Python objects", "pickle"]),
    "objects in npz": ("x.npz", pickled_archive, {}, ["Python objects", "pickle"]),
    "npy cut": ("x.npy", cut(saved(IMAGES), 150), {}, ["truncated", "60 bytes"]),
    "npy too long": ("x.npy", lambda p: saved(IMAGES)(p) or add(p), {}, ["too long", "61"]),
    "npy cut in header": ("x.npy", cut(saved(IMAGES), 40), {}, ["header"]),
    "npy with code for a shape": ("x.npy", false_header, {}, ["header"]),
    "npy that promises much": ("x.npy", immense_header, {}, ["truncated"]),
    "npz cut": ("x.npz", cut(arrays(X=IMAGES), 100), {}, ["damaged"]),
    "npz damaged": ("x.npz", damaged_member, {}, ["damaged"]),
    "npz of text": ("x.npz", archive_of_text, {}, ["no arrays"]),
    "npz without rows": ("x.npz", arrays(a=IMAGES, b=IMAGES), {}, ["'a', 'b'", "array="]),
    "npz of twos": ("x.npz", arrays(X=IMAGES, data=IMAGES), {}, ["'X', 'data'", "array="]),
    "npz of two labels": ("x.npz", arrays(X=IMAGES, y=LABELS, target=LABELS), {}, ["label_column"]),
    "unknown name": ("x.npz", arrays(X=IMAGES), {"array": "Y"}, ["array='Y'", "'X'"]),
    "unknown test": ("x.npz", arrays(X=IMAGES), {"test_array": "Y"}, ["test_array='Y'"]),
    "unknown labels": ("x.npz", arrays(X=IMAGES), {"label_column": "Y"}, ["label_column='Y'"]),
    "labels too few": ("x.npz", arrays(X=IMAGES, y=LABELS[:3]), {}, ["'y'", "5 rows", "(3,)"]),
    "labels of halves": ("x.npz", arrays(X=IMAGES, y=LABELS / 2), {}, ["integers or text", "1.5"]),
    "test of another shape": (
        "x.npz",
        arrays(train_a=IMAGES, test_a=IMAGES[:, :2]),
        {},
        ["test rows", "(3, 4)", "(2, 4)"],
    ),
    "no rows": ("x.npy", saved(np.zeros((0, 3))), {}, ["empty", "(0, 3)"]),
    "one number": ("x.npy", saved(np.float64(3)), {}, ["axes"]),
    "complex": ("x.npy", saved(np.ones(3, complex)), {}, ["complex128"]),
    "strings": ("x.npy", saved(np.array(["a", "b"])), {}, ["<U1"]),
    "dates": ("x.npy", saved(np.array(["2020-01-01"], "M8[D]")), {}, ["datetime64"]),
    "records": ("x.npy", saved(np.zeros(3, [("a", "f4"), ("b", "i4")])), {}, ["dtype"]),
    "nan": ("x.npy", saved(WITH_NAN), {}, ["2 NaN", "1 infinite", "row 1"]),
    "unpack floats": ("x.npy", saved(WITH_NAN), {"unpack_bits": True}, ["uint8", "float64"]),
    "unpack a vector": ("x.npy", saved(BITS[0]), {"unpack_bits": True}, ["2 axes"]),
    "array of npy": ("x.npy", saved(IMAGES), {"array": "a"}, ["array means nothing"]),
    "bits of csv": ("x.csv", text("1,2"), {"unpack_bits": True}, ["unpack_bits means nothing"]),
    "ragged": ("x.csv", text("a,b\n1,2\n3\n4,5\n"), {}, ["line 3", "1 cells", "expected 2"]),
    "text cell": ("x.csv", text("a,b\n1,2\n3,dog\n"), {}, ["line 3", "'dog'", "'b'"]),
    "text cell, no names": ("x.csv", text("1,2\n3,dog\n"), {}, ["line 2", "'dog'", "cell 2"]),
    "underscore": ("x.csv", text("a,b\n1,1_000\n"), {}, ["line 2", "'1_000'"]),
    "empty cell": ("x.csv", text("a,b\n1,2\n3,\n"), {}, ["line 3", "nothing in column 'b'"]),
    "nan cell": ("x.csv", text("a,b\n1,2\n3,nan\n"), {}, ["1 NaN", "row 1"]),
    "names alone": ("x.csv", text("a,b\n"), {}, ["no rows"]),
    "semicolons": ("x.csv", text("1;2\n3;4\n"), {}, ["';'"]),
    "tabs": ("x.csv", text("1\t2\n3\t4\n"), {}, [".tsv"]),
    "latin": ("x.csv", raw(b"a,b\n1,\xe9\n"), {}, ["UTF-8"]),
    "no such column": ("x.csv", text("a,b\n1,2\n"), {"label_column": "c"}, ["'a', 'b'"]),
    "no names for it": ("x.csv", text("1,2\n"), {"label_column": "c"}, ["first line of names"]),
    "column too far": ("x.csv", text("1,2\n"), {"label_column": 2}, ["2 columns"]),
    "repeated column": ("x.csv", text("a,a\n1,2\n"), {"label_column": "a"}, ["one column"]),
    "empty label": ("x.csv", text("a,b\n1,x\n2,\n"), {"label_column": "b"}, ["line 3", "label"]),
    "labels alone": ("x.csv", text("a\nx\n"), {"label_column": "a"}, ["empty"]),
    "parquet cut": ("x.parquet", cut(table(a=[1, 2]), 100), {}, ["not whole parquet"]),
    "parquet of text": ("x.parquet", table(a=[1], b=["x"]), {}, ["'b'", "label_column"]),
    "parquet of lists": ("x.parquet", table(a=[[1, 2]]), {}, ["'a'", "list"]),
    "parquet with gaps": ("x.parquet", table(a=[1, None, None]), {}, ["lacks 2", "row 1"]),
    "parquet without rows": ("x.parquet", table(a=pa.array([], pa.int8())), {}, ["empty"]),
    "idx cut": ("x.idx", raw(IDX[:-1]), {}, ["truncated", "60 bytes"]),
    "idx cut in header": ("x.idx", raw(IDX[:9]), {}, ["truncated", "header"]),
    "idx too long": ("x.idx", raw(IDX + b"\0"), {}, ["too long"]),
    "idx that promises much": (
        "x.idx",
        raw(b"\0\0\x08\x03" + b"\xff" * 12 + b"abc"),
        {},
        ["truncated"],
    ),
    "gzip cut": ("x-idx3-ubyte.gz", raw(gzip.compress(IDX)[:-12]), {}, ["damaged"]),
    "gzip damaged": ("x.gz", with_another_checksum, {}, ["damaged"]),
    "gzip of text": ("x.csv.gz", raw(gzip.compress(b"1,2,3,4\n")), {}, ["not IDX", "compressed"]),
    "a model": ("x.energax", lambda p: io.save(Gaussian(), p), {}, ["saved model", "load"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path, case):
    name, make, options, words = BAD[case]
    make(tmp_path / name)
    refusal(tmp_path, tmp_path / name, *words, **options)


@pytest.mark.parametrize(
    ("path", "options", "words"),
    [
        (3, {}, "path must be a path, got int"),
        ("x.npz", {"array": 3}, "array must be a name, got 3"),
        ("x.csv", {"label_column": True}, "label_column must be a name"),
        ("x.npy", {"unpack_bits": "yes"}, "unpack_bits must be True, False or None"),
    ],
)
def test_bad_arguments_are_refused(monkeypatch, path, options, words):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # types are not checked for
    with pytest.raises(ValueError, match=words):
        io.read(path, **options)


def test_bad_folders_of_images_are_refused(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    refusal(tmp_path, folder, "no images")
    Image.fromarray(IMAGES[0]).save(folder / "a.png")
    Image.fromarray(IMAGES[0, :2]).save(folder / "b.png")
    refusal(tmp_path, folder, "one size", "a.png", "b.png", "(3, 4)", "(2, 4)")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:50])
    refusal(tmp_path, folder, "b.png", "cannot be read")
    (folder / "b.png").unlink()
    (folder / "label").mkdir()
    Image.fromarray(IMAGES[0]).save(folder / "label" / "c.png")
    refusal(tmp_path, folder, "subfolders")
    refusal(tmp_path, folder, "means nothing for a folder", array="a")
    frames = [Image.fromarray(IMAGES[i]) for i in range(3)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    refusal(tmp_path, tmp_path / "x.gif", "3 frames")


@pytest.mark.parametrize(
    ("module", "name", "write"),
    [
        ("pyarrow", "x.parquet", table(a=[1, 2])),
        ("PIL", "x.png", lambda path: Image.fromarray(IMAGES[0]).save(path)),
    ],
)
def test_a_missing_extra_is_named(tmp_path, monkeypatch, module, name, write):
    write(tmp_path / name)
    for loaded in [m for m in sys.modules if m.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    refusal(tmp_path, tmp_path / name, 'pip install "energax[files]"')
